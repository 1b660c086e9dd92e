#include "model/stored_linear.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "unit/model/checkpoint_writer.h"

namespace pixii::model {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryFolder;
using testing::WrittenTensor;

std::string Find(const std::string& quantization, const std::vector<WrittenTensor>& tensors) {
  const TemporaryFolder temporary;
  temporary.Write("model.safetensors", testing::Safetensors(tensors));
  const auto checkpoint = Checkpoint::Open(*CheckpointFolder::Open(temporary.path()));
  const auto json =
      ParseConfigJson(R"({"quantization_config": )" + quantization + "}", "config.json");
  const auto spec = ReadQuantization(ConfigReader(*json, "config.json"));
  const auto found = FindLinear(*spec, *checkpoint, "m.weight", 8, 16);
  return found ? "found" : found.error().detail();
}

const std::string kGptq = R"({"quant_method": "gptq", "bits": 4, "group_size": 8})";
const std::vector<WrittenTensor> kGptqTensors = {{"m.qweight", "I32", {2, 8}, std::string(64, 'a')},
                                                 {"m.qzeros", "I32", {2, 1}, std::string(8, 'a')},
                                                 {"m.scales", "F16", {2, 8}, std::string(32, 'a')}};

TEST(StoredLinear, FindsAllTensorsOfALinear) { EXPECT_EQ(Find(kGptq, kGptqTensors), "found"); }

TEST(StoredLinear, NamesTheTensorThatIsMissing) {
  for (std::size_t i = 1; i < kGptqTensors.size(); ++i) {
    auto tensors = kGptqTensors;
    const std::string name = tensors[i].name;
    tensors.erase(tensors.begin() + static_cast<std::ptrdiff_t>(i));
    EXPECT_THAT(Find(kGptq, tensors), HasSubstr("tensor " + name + " of shape"));
  }
}

TEST(StoredLinear, NamesAnotherShapeOrTypeWithFileAndOffset) {
  auto tensors = kGptqTensors;
  tensors[1].shape = {1, 2};
  EXPECT_THAT(Find(kGptq, tensors),
              HasSubstr("\"m.qzeros\" has shape [1, 2], config.json asks for [2, 1]"));
  tensors = kGptqTensors;
  tensors[0].dtype = "U32";
  EXPECT_THAT(Find(kGptq, tensors), HasSubstr("model.safetensors: offset "));
  EXPECT_THAT(Find(kGptq, tensors), HasSubstr("\"m.qweight\" has dtype U32"));
}

TEST(StoredLinear, RefusesAQuantisedModuleThatTheConfigExcludes) {
  const std::string excluding =
      R"({"quant_method": "fp8", "modules_to_not_convert": ["m"], "weight_block_size": [8, 8]})";
  EXPECT_THAT(Find(excluding, {{"m.weight", "F8_E4M3", {8, 16}, std::string(128, 'a')},
                               {"m.weight_scale_inv", "F32", {1, 2}, std::string(8, 'a')}}),
              HasSubstr("quantization_config excludes it"));
}

TEST(StoredLinear, RefusesAPackedShapeThatContradictsTheConfig) {
  const std::string packed =
      R"({"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"g":
         {"targets": ["Linear"], "weights": {"num_bits": 4, "strategy": "channel"}}}})";
  std::string shape(16, '\0');
  shape[0] = 8;
  shape[8] = 15;
  EXPECT_THAT(Find(packed, {{"m.weight_packed", "I32", {8, 2}, std::string(64, 'a')},
                            {"m.weight_scale", "F32", {8, 1}, std::string(32, 'a')},
                            {"m.weight_shape", "I64", {2}, shape}}),
              HasSubstr("says [8, 15], config.json asks for [8, 16]"));
}

TEST(StoredLinear, ToleratesABiasOfZerosAsGptqWritersAddIt) {
  auto tensors = kGptqTensors;
  tensors.push_back({"m.bias", "F16", {8}, std::string(16, '\0')});
  EXPECT_EQ(Find(kGptq, tensors), "found");
}

TEST(StoredLinear, FindsNoQuantisedTensorWithoutAScheme) {
  EXPECT_THAT(Find("null", {{"m.weight", "F8_E4M3", {8, 16}, std::string(128, 'a')}}),
              HasSubstr("has dtype F8_E4M3"));
}

}  // namespace
}  // namespace pixii::model
