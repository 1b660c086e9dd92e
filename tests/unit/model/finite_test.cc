#include "model/finite.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/operators.h"
#include "model/language_model.h"
#include "support/golden.h"
#include "unit/model/checkpoint_writer.h"

namespace pixii::model {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryFolder;

struct Form {
  StoredType type;
  std::size_t size;
  std::vector<std::uint32_t> finite;
  std::vector<std::uint32_t> not_finite;
};

const std::vector<Form>& Forms() {
  static const std::vector<Form> kForms = {
      {StoredType::kF32,
       4,
       {0, 0x80000000, 0x7F7FFFFF, 0xFF7FFFFF, 1},
       {0x7F800000, 0xFF800000, 0x7FC00000, 0xFFFFFFFF, 0x7F800001}},
      {StoredType::kF16,
       2,
       {0, 0x8000, 0x7BFF, 0xFBFF, 1},
       {0x7C00, 0xFC00, 0x7E00, 0xFFFF, 0x7C01}},
      {StoredType::kBf16,
       2,
       {0, 0x8000, 0x7F7F, 0xFF7F, 1},
       {0x7F80, 0xFF80, 0x7FC0, 0xFFFF, 0x7F81}},
      {StoredType::kF8E4m3, 1, {0, 0x80, 0x7E, 0xFE, 1}, {0x7F, 0xFF}},
  };
  return kForms;
}

void Put(std::vector<std::byte>& bytes, std::size_t at, std::uint32_t bits, std::size_t size) {
  std::memcpy(bytes.data() + at, &bits, size);
}

TEST(Finite, FindsTheFirstOfAnyKindAtAnyPlaceAndAlignment) {
  constexpr std::size_t kCount = 20'000;
  for (const Form& form : Forms()) {
    for (const std::size_t shift : {0U, 1U}) {
      std::vector<std::byte> bytes(kCount * form.size + shift);
      for (std::size_t i = 0; i < kCount; ++i) {
        Put(bytes, shift + i * form.size, form.finite[i % form.finite.size()], form.size);
      }
      const auto values = std::span(bytes).subspan(shift);
      EXPECT_EQ(FirstNotFinite(form.type, values), std::nullopt);
      for (const std::uint32_t bad : form.not_finite) {
        for (const std::size_t at :
             {std::size_t{0}, std::size_t{8191}, std::size_t{8192}, kCount - 1}) {
          std::vector<std::byte> spoilt = bytes;
          Put(spoilt, shift + (kCount - 1) * form.size, bad, form.size);
          Put(spoilt, shift + at * form.size, bad, form.size);
          EXPECT_EQ(FirstNotFinite(form.type, std::span(spoilt).subspan(shift)), at);
        }
      }
    }
  }
}

TEST(Finite, CodesHaveNone) {
  const std::vector<std::byte> bytes(64, std::byte{0xFF});
  for (const StoredType type :
       {StoredType::kI8, StoredType::kI32, StoredType::kU8, StoredType::kQ4_0}) {
    EXPECT_EQ(FirstNotFinite(type, bytes), std::nullopt);
  }
}

/// What loading says of a copy whose first tensor named after `part` ends in a NaN (bf16 or fp32).
std::string LoadingSpoilt(const std::string& model, const std::string& part) {
  const std::string source = pixii::testing::OwnGoldenDir() + "/models/" + model;
  const TemporaryFolder copy;
  copy.Write("config.json", pixii::testing::ReadFileOrFail(source + "/config.json"));
  std::vector<testing::WrittenTensor> tensors =
      testing::ReadSafetensors(source + "/model.safetensors");
  bool done = false;
  for (testing::WrittenTensor& tensor : tensors) {
    if (!done && tensor.name.find(part) != std::string::npos) {
      tensor.bytes.back() = '\x7F';
      tensor.bytes[tensor.bytes.size() - 2] = '\xC0';
      done = true;
    }
  }
  EXPECT_TRUE(done) << part;
  copy.Write("model.safetensors", testing::Safetensors(tensors));
  const auto operators = kernels::MakeReferenceOperators();
  const auto loaded = LanguageModel::Load(copy.path(), *operators, {.step_tokens_max = 16});
  return loaded ? "loaded" : loaded.error().detail();
}

TEST(Finite, ACheckpointWithAValueThatIsNotIsRefusedByTensor) {
  for (const auto& [model, part] : std::vector<std::pair<std::string, std::string>>{
           {"llama-gqa", "embed_tokens.weight"},
           {"llama-gqa", "layers.1.mlp.down_proj.weight"},
           {"llama-gqa", "model.norm.weight"},
           {"qwen2-bias", "k_proj.bias"},
           {"mixtral", "experts.1.w2.weight"},
           {"bert-mean", "word_embeddings.weight"},
           {"bert-mean", "LayerNorm.bias"}}) {
    const std::string said = LoadingSpoilt(model, part);
    EXPECT_THAT(said, HasSubstr("is NaN or infinite"));
    EXPECT_THAT(said, HasSubstr(part));
    EXPECT_THAT(said, HasSubstr("model.safetensors: offset"));
  }
}

TEST(Finite, ALargeTensorOfNoFiniteValuesIsRefusedAndOneInOrderIsNot) {
  constexpr std::size_t kSize = (3 << 20) + 2;  // no multiple of the pieces
  std::string bytes(kSize, 'w');
  const auto check = [&bytes]() -> std::string {
    const TemporaryFolder temporary;
    temporary.Write(
        "model.safetensors",
        testing::Safetensors({{"a", "BF16", {static_cast<std::int64_t>(kSize / 2)}, bytes}}));
    const auto folder = CheckpointFolder::Open(temporary.path());
    const auto checkpoint = Checkpoint::Open(*folder);
    const CheckpointTensor& tensor = *checkpoint->Find("a");
    const auto checked = CheckFinite(*checkpoint, tensor, tensor.bytes);
    return checked ? "finite" : checked.error().detail();
  };
  EXPECT_EQ(check(), "finite");
  for (std::size_t i = (1 << 20) + 2; i + 1 < kSize; i += 2) {  // from past a piece's start on
    bytes[i] = '\xC0';
    bytes[i + 1] = '\x7F';
  }
  EXPECT_THAT(check(), HasSubstr("tensor \"a\" is NaN or infinite at element 524289"));
}

}  // namespace
}  // namespace pixii::model
