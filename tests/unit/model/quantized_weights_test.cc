// Every stored form against its definition, worked out element by element.
#include "model/quantized_weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "kernels/weight_source.h"
#include "model/weights.h"
#include "unit/model/checkpoint_writer.h"

namespace pixii::model {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::TemporaryFolder;
using testing::WrittenTensor;

constexpr std::int64_t kRows = 32;
constexpr std::int64_t kCols = 96;

template <class T>
std::string Bytes(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

/// A linear "m" as a scheme stores it, and what each element is worth.
struct Stored {
  std::string config;
  std::vector<WrittenTensor> tensors;
  std::function<float(std::int64_t row, std::int64_t col)> value;
};

class Draw final {
 public:
  std::vector<std::int32_t> Codes(std::int64_t count, std::int32_t low, std::int32_t high) {
    std::vector<std::int32_t> out(static_cast<std::size_t>(count));
    for (auto& value : out) {
      value = low + static_cast<std::int32_t>(engine_() % static_cast<unsigned>(high - low + 1));
    }
    return out;
  }

  /// Values that f16 and bf16 hold exactly, so that no formula rounds.
  std::vector<float> Scales(std::int64_t count) {
    std::vector<float> out;
    for (const std::int32_t code : Codes(count, 1, 127)) {
      out.push_back(static_cast<float>(code) / 1024.0F);
    }
    return out;
  }

 private:
  std::mt19937 engine_{7};
};

std::string Half(const std::vector<float>& values) {
  std::vector<std::uint16_t> out;
  for (const float value : values) {
    out.push_back(kernels::F16FromFloat(value));
  }
  return Bytes(out);
}

/// `count` codes of `bits` to a word, low first; code(i) gives them.
std::vector<std::uint32_t> Pack(
    std::int64_t words, std::int64_t lanes, unsigned bits,
    const std::function<std::int32_t(std::int64_t, std::int64_t)>& code) {
  std::vector<std::uint32_t> out(static_cast<std::size_t>(words));
  for (std::int64_t word = 0; word < words; ++word) {
    for (std::int64_t lane = 0; lane < lanes; ++lane) {
      out[static_cast<std::size_t>(word)] |= static_cast<std::uint32_t>(code(word, lane))
                                             << static_cast<unsigned>(lane) * bits;
    }
  }
  return out;
}

std::string CompressedConfig(const std::string& format, const std::string& weights) {
  return R"({"quantization_config": {"quant_method": "compressed-tensors", "format": ")" + format +
         R"(", "config_groups": {"g": {"targets": ["Linear"], "weights": )" + weights + "}}}}";
}

Stored Fp8(std::int64_t block_rows, std::int64_t block_cols) {
  Draw draw;
  const std::int64_t scale_cols = (kCols + block_cols - 1) / block_cols;
  const std::int64_t scale_rows = (kRows + block_rows - 1) / block_rows;
  const auto codes = draw.Codes(kRows * kCols, 0, 0x7E);
  const auto scales = draw.Scales(scale_rows * scale_cols);
  const std::vector<std::uint8_t> bytes(codes.begin(), codes.end());
  return {
      R"({"quantization_config": {"quant_method": "fp8", "weight_block_size": [)" +
          std::to_string(block_rows) + ", " + std::to_string(block_cols) + "]}}",
      {{"m.weight", "F8_E4M3", {kRows, kCols}, Bytes(bytes)},
       {"m.weight_scale_inv", "F32", {scale_rows, scale_cols}, Bytes(scales)}},
      [=](std::int64_t row, std::int64_t col) {
        const std::int32_t code = codes[static_cast<std::size_t>(row * kCols + col)];
        const int exponent = code >> 3;
        const double mantissa = code & 7;
        const double magnitude = exponent == 0 ? std::ldexp(mantissa / 8, -6)
                                               : std::ldexp(1 + mantissa / 8, exponent - 7);
        return static_cast<float>(magnitude) *
               scales[static_cast<std::size_t>(row / block_rows * scale_cols + col / block_cols)];
      }};
}

Stored Fp8Tensor() {
  Stored out = Fp8(kRows, kCols);
  out.config = R"({"quantization_config": {"quant_method": "fp8", "activation_scheme": "static"}})";
  out.tensors[1].name = "m.weight_scale";
  out.tensors[1].shape = {};
  const float input = 0.5F;
  out.tensors.push_back({"m.input_scale", "F32", {1}, Bytes(std::vector<float>{input})});
  return out;
}

Stored Int8(bool zeros) {
  Draw draw;
  const auto codes = draw.Codes(kRows * kCols, -128, 127);
  const auto scales = draw.Scales(kRows);
  const auto zero = draw.Codes(kRows, -100, 100);
  Stored out{CompressedConfig("int-quantized", std::string(R"({"num_bits": 8, "strategy": "channel",
                                                             "symmetric": )") +
                                                   (zeros ? "false}" : "true}")),
             {{"m.weight",
               "I8",
               {kRows, kCols},
               Bytes(std::vector<std::int8_t>(codes.begin(), codes.end()))},
              {"m.weight_scale", "F16", {kRows, 1}, Half(scales)}},
             [=](std::int64_t row, std::int64_t col) {
               return static_cast<float>(codes[static_cast<std::size_t>(row * kCols + col)] -
                                         (zeros ? zero[static_cast<std::size_t>(row)] : 0)) *
                      scales[static_cast<std::size_t>(row)];
             }};
  if (zeros) {
    out.tensors.push_back({"m.weight_zero_point",
                           "I8",
                           {kRows, 1},
                           Bytes(std::vector<std::int8_t>(zero.begin(), zero.end()))});
  }
  return out;
}

Stored Packed(std::int32_t bits, std::int64_t group, bool zeros, bool ordered) {
  Draw draw;
  const std::int32_t half = 1 << (bits - 1);
  const std::int64_t lanes = 32 / bits;
  const std::int64_t groups = kCols / group;
  const auto codes = draw.Codes(kRows * kCols, -half, half - 1);
  const auto scales = draw.Scales(kRows * groups);
  const auto zero = draw.Codes(kRows * groups, -half, half - 1);
  const auto order = draw.Codes(kCols, 0, static_cast<std::int32_t>(groups) - 1);
  Stored out;
  out.config = CompressedConfig(
      "pack-quantized", R"({"num_bits": )" + std::to_string(bits) +
                            R"(, "strategy": "group", "group_size": )" + std::to_string(group) +
                            (ordered ? R"(, "actorder": "group")" : "") + R"(, "symmetric": )" +
                            (zeros ? "false}" : "true}"));
  out.tensors = {{"m.weight_packed",
                  "I32",
                  {kRows, kCols / lanes},
                  Bytes(Pack(kRows * kCols / lanes, lanes, static_cast<unsigned>(bits),
                             [&](std::int64_t word, std::int64_t lane) {
                               return codes[static_cast<std::size_t>(word * lanes + lane)] + half;
                             }))},
                 {"m.weight_scale", "F16", {kRows, groups}, Half(scales)},
                 {"m.weight_shape", "I64", {2}, Bytes(std::vector<std::int64_t>{kRows, kCols})}};
  if (zeros) {
    out.tensors.push_back(
        {"m.weight_zero_point",
         "I32",
         {kRows / lanes, groups},
         Bytes(Pack(kRows / lanes * groups, lanes, static_cast<unsigned>(bits),
                    [&](std::int64_t word, std::int64_t lane) {
                      const std::int64_t row = word / groups * lanes + lane;
                      return zero[static_cast<std::size_t>(row * groups + word % groups)] + half;
                    }))});
  }
  if (ordered) {
    out.tensors.push_back({"m.weight_g_idx", "I32", {kCols}, Bytes(order)});
  }
  out.value = [=](std::int64_t row, std::int64_t col) {
    const std::int64_t at = ordered ? order[static_cast<std::size_t>(col)] : col / group;
    const auto scale = static_cast<std::size_t>(row * groups + at);
    return static_cast<float>(codes[static_cast<std::size_t>(row * kCols + col)] -
                              (zeros ? zero[scale] : 0)) *
           scales[scale];
  };
  return out;
}

Stored Gptq(std::int32_t bits, std::int64_t group, bool second_version, bool ordered) {
  Draw draw;
  const std::int32_t top = (1 << bits) - 1;
  const std::int64_t lanes = 32 / bits;
  const std::int64_t groups = kCols / group;
  const auto codes = draw.Codes(kRows * kCols, 0, top);
  const auto scales = draw.Scales(kRows * groups);       // [groups, rows]
  const auto zero = draw.Codes(kRows * groups, 1, top);  // [groups, rows]
  auto order = draw.Codes(kCols, 0, static_cast<std::int32_t>(groups) - 1);
  if (!ordered) {
    for (std::int64_t i = 0; i < kCols; ++i) {
      order[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(i / group);
    }
  }
  Stored out;
  out.config = R"({"quantization_config": {"quant_method": "gptq", "bits": )" +
               std::to_string(bits) + R"(, "group_size": )" + std::to_string(group) +
               R"(, "desc_act": )" + (ordered ? "true" : "false") + R"(, "checkpoint_format": ")" +
               (second_version ? "gptq_v2" : "gptq") + R"("}})";
  out.tensors = {{"m.qweight",
                  "I32",
                  {kCols / lanes, kRows},
                  Bytes(Pack(kCols / lanes * kRows, lanes, static_cast<unsigned>(bits),
                             [&](std::int64_t word, std::int64_t lane) {
                               const std::int64_t col = word / kRows * lanes + lane;
                               return codes[static_cast<std::size_t>(word % kRows * kCols + col)];
                             }))},
                 {"m.qzeros",
                  "I32",
                  {groups, kRows / lanes},
                  Bytes(Pack(groups * kRows / lanes, lanes, static_cast<unsigned>(bits),
                             [&](std::int64_t word, std::int64_t lane) {
                               return zero[static_cast<std::size_t>(word * lanes + lane)] -
                                      (second_version ? 0 : 1);
                             }))},
                 {"m.scales", "F16", {groups, kRows}, Half(scales)},
                 {"m.g_idx", "I32", {kCols}, Bytes(order)}};
  out.value = [=](std::int64_t row, std::int64_t col) {
    const auto at = static_cast<std::size_t>(order[static_cast<std::size_t>(col)] * kRows + row);
    return static_cast<float>(codes[static_cast<std::size_t>(row * kCols + col)] - zero[at]) *
           scales[at];
  };
  return out;
}

Stored Awq() {
  constexpr std::int64_t kGroup = 32;
  constexpr std::int64_t kOrder[8] = {0, 2, 4, 6, 1, 3, 5, 7};
  Draw draw;
  const std::int64_t groups = kCols / kGroup;
  const auto codes = draw.Codes(kRows * kCols, 0, 15);
  const auto scales = draw.Scales(kRows * groups);      // [groups, rows]
  const auto zero = draw.Codes(kRows * groups, 0, 15);  // [groups, rows]
  Stored out;
  out.config =
      R"({"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm"}})";
  out.tensors = {
      {"m.qweight",
       "I32",
       {kCols, kRows / 8},
       Bytes(Pack(kCols * kRows / 8, 8, 4,
                  [&](std::int64_t word, std::int64_t lane) {
                    const std::int64_t row = word % (kRows / 8) * 8 + kOrder[lane];
                    return codes[static_cast<std::size_t>(row * kCols + word / (kRows / 8))];
                  }))},
      {"m.qzeros",
       "I32",
       {groups, kRows / 8},
       Bytes(Pack(groups * kRows / 8, 8, 4,
                  [&](std::int64_t word, std::int64_t lane) {
                    return zero[static_cast<std::size_t>(word * 8 + kOrder[lane])];
                  }))},
      {"m.scales", "F16", {groups, kRows}, Half(scales)}};
  out.value = [=](std::int64_t row, std::int64_t col) {
    const auto at = static_cast<std::size_t>(col / kGroup * kRows + row);
    return static_cast<float>(codes[static_cast<std::size_t>(row * kCols + col)] - zero[at]) *
           scales[at];
  };
  return out;
}

/// The rows of linear "m", or why not.
Result<std::vector<float>> ReadLinear(const Stored& stored) {
  const TemporaryFolder temporary;
  temporary.Write("model.safetensors", testing::Safetensors(stored.tensors));
  PX_TRY(const auto folder, CheckpointFolder::Open(temporary.path()));
  PX_TRY(const auto checkpoint, Checkpoint::Open(folder));
  PX_TRY(const wire::Json json, ParseConfigJson(stored.config, "config.json"));
  PX_TRY(QuantizationSpec spec, ReadQuantization(ConfigReader(json, "config.json")));
  const auto weights = MakeCheckpointWeights(checkpoint, std::move(spec));
  PX_TRY(const kernels::WeightPart part, weights->Part("m.weight", kRows, kCols));
  PX_CHECK_OK(kernels::CheckParts({&part, 1}, {}));
  std::vector<float> out(kRows * kCols);
  for (std::int64_t row = 0; row < kRows; ++row) {
    kernels::ReadRow(part, row, out.data() + row * kCols);
  }
  return out;
}

void ExpectValues(const std::string& name, const Stored& stored) {
  const auto values = ReadLinear(stored);
  ASSERT_TRUE(values.has_value()) << name << ": " << values.error().ToString();
  for (std::int64_t row = 0; row < kRows; ++row) {
    for (std::int64_t col = 0; col < kCols; ++col) {
      ASSERT_EQ((*values)[static_cast<std::size_t>(row * kCols + col)], stored.value(row, col))
          << name << " row " << row << " column " << col;
    }
  }
}

TEST(QuantizedWeights, Fp8TakesTheScaleOfItsBlock) {
  ExpectValues("blocks", Fp8(16, 32));
  ExpectValues("cut blocks", Fp8(7, 40));
  ExpectValues("one scale", Fp8Tensor());
}

TEST(QuantizedWeights, Int8IsCodeLessZeroTimesScale) {
  ExpectValues("symmetric", Int8(false));
  ExpectValues("zero points", Int8(true));
}

TEST(QuantizedWeights, PackedIntegersAreReadWithTheirOffset) {
  ExpectValues("4 bits", Packed(4, 32, false, false));
  ExpectValues("8 bits", Packed(8, 32, false, false));
  ExpectValues("4 bits, zeros", Packed(4, 48, true, false));
  ExpectValues("8 bits, zeros", Packed(8, 16, true, false));
  ExpectValues("4 bits, columns in any order", Packed(4, 32, true, true));
}

TEST(QuantizedWeights, GptqIsTransposedAndKnowsBothZeroConventions) {
  ExpectValues("4 bits", Gptq(4, 32, false, false));
  ExpectValues("4 bits, second version", Gptq(4, 32, true, false));
  ExpectValues("8 bits", Gptq(8, 96, false, false));
  ExpectValues("2 bits", Gptq(2, 32, true, false));
  ExpectValues("descending activations", Gptq(4, 32, false, true));
}

TEST(QuantizedWeights, AwqHasItsOwnOrderOfNibbles) { ExpectValues("awq", Awq()); }

TEST(QuantizedWeights, AlignedCodesAreMappedNotCopied) {
  const Stored stored = Packed(4, 32, false, false);
  const TemporaryFolder temporary;
  temporary.Write("model.safetensors", testing::Safetensors(stored.tensors));
  const auto checkpoint = Checkpoint::Open(*CheckpointFolder::Open(temporary.path()));
  const auto json = ParseConfigJson(stored.config, "config.json");
  const auto weights =
      MakeCheckpointWeights(*checkpoint, *ReadQuantization(ConfigReader(*json, "config.json")));
  const auto part = weights->Part("m.weight", kRows, kCols);
  EXPECT_EQ(part->data, checkpoint->Find("m.weight_packed")->bytes.data());
}

TEST(QuantizedWeights, APlainLinearUnderAQuantisedConfigStaysPlain) {
  std::vector<float> values(kRows * kCols);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(i);
  }
  Stored stored = Gptq(4, 32, false, false);
  stored.tensors = {{"m.weight", "F32", {kRows, kCols}, Bytes(values)}};
  EXPECT_EQ(*ReadLinear(stored), values);
}

TEST(QuantizedWeights, RefusesScalesThatAreNotNumbersAndGroupsThatAreNot) {
  Stored stored = Int8(false);
  stored.tensors[1].bytes[5] = '\x7C';  // infinity
  stored.tensors[1].bytes[4] = '\0';
  auto values = ReadLinear(stored);
  ASSERT_FALSE(values.has_value());
  EXPECT_THAT(values.error().detail(),
              AllOf(HasSubstr("model.safetensors: offset "), HasSubstr("scale 2 is inf")));
  stored = Gptq(4, 32, false, true);
  stored.tensors[3].bytes[3] = '\x7F';
  values = ReadLinear(stored);
  ASSERT_FALSE(values.has_value());
  EXPECT_THAT(values.error().detail(), HasSubstr("column 0 is of group"));
}

// -------------------------------------------------------------------------------------------------
// Stacks

TEST(QuantizedWeights, Mxfp4StacksGiveEachExpertAndEveryOtherRow) {
  constexpr std::int64_t kCount = 3;
  constexpr float kFp4[16] = {0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6};
  Draw draw;
  const auto codes = draw.Codes(kCount * kRows * kCols, 0, 15);
  const auto exponents = draw.Codes(kCount * kRows * kCols / 32, 110, 140);
  std::vector<std::uint8_t> blocks;
  for (std::size_t i = 0; i < codes.size(); i += 2) {
    blocks.push_back(static_cast<std::uint8_t>(codes[i] | codes[i + 1] << 4));
  }
  const TemporaryFolder temporary;
  temporary.Write("model.safetensors",
                  testing::Safetensors(
                      {{"e_blocks", "U8", {kCount, kRows, kCols / 32, 16}, Bytes(blocks)},
                       {"e_scales",
                        "U8",
                        {kCount, kRows, kCols / 32},
                        Bytes(std::vector<std::uint8_t>(exponents.begin(), exponents.end()))}}));
  const auto checkpoint = Checkpoint::Open(*CheckpointFolder::Open(temporary.path()));
  const auto json =
      ParseConfigJson(R"({"quantization_config": {"quant_method": "mxfp4"}})", "config.json");
  const auto weights =
      MakeCheckpointWeights(*checkpoint, *ReadQuantization(ConfigReader(*json, "config.json")));
  for (const std::int64_t step : {1, 2}) {
    const StackedSlice slice{.name = "e",
                             .index = 2,
                             .count = kCount,
                             .stored_rows = kRows,
                             .cols = kCols,
                             .row_begin = step - 1,
                             .row_step = step};
    const auto part = weights->Slice(slice);
    ASSERT_TRUE(part.has_value()) << part.error().ToString();
    ASSERT_EQ(part->rows, kRows / step);
    for (std::int64_t row = 0; row < part->rows; ++row) {
      std::vector<float> values(kCols);
      kernels::ReadRow(*part, row, values.data());
      for (std::int64_t col = 0; col < kCols; ++col) {
        const std::int64_t at = (2 * kRows + step - 1 + row * step) * kCols + col;
        EXPECT_EQ(values[static_cast<std::size_t>(col)],
                  std::ldexp(kFp4[codes[static_cast<std::size_t>(at)]],
                             exponents[static_cast<std::size_t>(at / 32)] - 127));
      }
    }
  }
}

TEST(QuantizedWeights, PlainStacksMayBeStoredTransposed) {
  std::vector<float> values(2 * 4 * 6);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(i);
  }
  const TemporaryFolder temporary;
  temporary.Write("model.safetensors",
                  testing::Safetensors({{"e", "F32", {2, 6, 4}, Bytes(values)}}));
  const auto checkpoint = Checkpoint::Open(*CheckpointFolder::Open(temporary.path()));
  const auto weights = MakeCheckpointWeights(*checkpoint, {});
  const auto part = weights->Slice({.name = "e",
                                    .index = 1,
                                    .count = 2,
                                    .stored_rows = 4,
                                    .cols = 6,
                                    .row_begin = 1,
                                    .row_step = 2,
                                    .transposed = true});
  ASSERT_TRUE(part.has_value()) << part.error().ToString();
  float row[6];
  kernels::ReadRow(*part, 1, row);  // stored row 3 of matrix 1
  EXPECT_THAT(row, ::testing::ElementsAre(27, 31, 35, 39, 43, 47));
}

}  // namespace
}  // namespace pixii::model
