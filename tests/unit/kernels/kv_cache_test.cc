#include "kernels/kv_cache.h"

#include <gtest/gtest.h>

#include "kernels/weight_source.h"

namespace pixii::kernels {
namespace {

TEST(KvLayout, ASliceOfCodesEndsWithOneAlignedScaleForEachToken) {
  const KvLayout layout{.layer_count = 3,
                        .kv_head_count = 2,
                        .key_dim = 7,
                        .value_dim = 5,
                        .block_tokens = 2,
                        .dtype = KvDType::kInt8};
  EXPECT_EQ(layout.scales_offset_bytes(7), 16);  // 14 bytes of codes
  EXPECT_EQ(layout.slice_size_bytes(7), 24);
  EXPECT_EQ(layout.slice_size_bytes(5), 12 + 8);
  EXPECT_EQ(layout.value_offset_bytes(0), 2 * 24);
  EXPECT_EQ(layout.key_offset_bytes(1), 2 * 24 + 2 * 20);
  EXPECT_EQ(layout.block_size_bytes(), 3U * 88);
}

TEST(KvLayout, ALatentIsStoredOnce) {
  const KvLayout layout{.layer_count = 2,
                        .kv_head_count = 1,
                        .key_dim = 576,
                        .value_dim = 512,
                        .value_in_key = true,
                        .block_tokens = 16};
  EXPECT_EQ(layout.block_size_bytes(), 2U * 16 * 576 * 2);
  EXPECT_EQ(layout.value_offset_bytes(1), layout.key_offset_bytes(1));
  EXPECT_EQ(layout.token_size_bytes(), 2U * 576 * 2);
}

TEST(KvDType, NamesLeadBackToTheirTypes) {
  for (const KvDType dtype :
       {KvDType::kF32, KvDType::kBf16, KvDType::kF16, KvDType::kFp8E4m3, KvDType::kInt8}) {
    EXPECT_EQ(KvDTypeOf(KvDTypeName(dtype)), dtype);
  }
  EXPECT_EQ(KvDTypeOf("auto"), std::nullopt);
}

TEST(Fp8E4m3, EveryCodeSurvivesAndHalvesGoToTheEvenCode) {
  for (int bits = 0; bits < 256; ++bits) {
    const auto code = static_cast<std::uint8_t>(bits);
    EXPECT_EQ(Fp8E4m3FromFloat(FloatFromFp8E4m3(code)), code) << bits;
    if ((bits & 0x7F) < 0x7E) {
      const auto next = static_cast<std::uint8_t>(bits + 1);
      const float half = (FloatFromFp8E4m3(code) + FloatFromFp8E4m3(next)) / 2;
      EXPECT_EQ(Fp8E4m3FromFloat(half), bits % 2 == 0 ? code : next) << bits;
    }
  }
  EXPECT_EQ(Fp8E4m3FromFloat(1e9F), 0x7E);
  EXPECT_EQ(Fp8E4m3FromFloat(-1e9F), 0xFE);
}

}  // namespace
}  // namespace pixii::kernels
