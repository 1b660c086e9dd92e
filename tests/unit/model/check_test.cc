#include "model/check.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/families.h"
#include "support/golden.h"
#include "unit/model/checkpoint_writer.h"

namespace pixii::model {
namespace {

using testing::TemporaryFolder;

struct Case {
  std::string model;
  std::string backend;  // "ref" or "cpu"
};

std::unique_ptr<kernels::Operators> MakeBackend(const std::string& name) {
  if (name == "ref") {
    return kernels::MakeReferenceOperators();
  }
  auto operators = kernels::MakeCpuOperators({.thread_count = 2, .isa = kernels::CpuIsa::kAuto});
  EXPECT_TRUE(operators.has_value()) << operators.error().ToString();
  return operators ? *std::move(operators) : nullptr;
}

struct Place {
  std::string model;   // folder of config.json and weights; empty if the case is absent
  std::string golden;  // folder of the golden files
};

/// Ours in the tree, third-party ones beside it. A bundled model keeps its golden files with the
/// tests.
Place FindModel(const std::string& name) {
  const auto shared = pixii::testing::GoldenDir();
  const std::string own = pixii::testing::OwnGoldenDir();
  const auto has = [](const std::string& path) {
    std::error_code ignored;
    return std::filesystem::exists(path, ignored);
  };
  for (const std::string& folder :
       {own + "/models/" + name, own + "/" + name, shared ? *shared + "/models/" + name : own}) {
    if (!has(folder + "/golden.safetensors")) {
      continue;
    }
    if (has(folder + "/config.json")) {
      return {folder, folder};
    }
    const std::string bundled = pixii::testing::SourceDir() + "/models/" + name;
    if (has(bundled + "/model.safetensors")) {
      return {bundled, folder};
    }
  }
  return {};
}

class CheckGolden : public ::testing::TestWithParam<Case> {};

TEST_P(CheckGolden, ReproducesTheReferenceImplementation) {
  const Place place = FindModel(GetParam().model);
  if (place.model.empty()) {
    GTEST_SKIP() << "no golden model " << GetParam().model << " here";
  }
  const auto operators = MakeBackend(GetParam().backend);
  ASSERT_NE(operators, nullptr);
  const auto report = CheckFolder(place.model, *operators, {.golden_folder = place.golden});
  ASSERT_TRUE(report.has_value()) << report.error().ToString();
  EXPECT_TRUE(report->passed()) << report->ToText();
  EXPECT_GE(report->lines.size(), 3U);
}

/// With towers. Beside the tree, but for one that is in it.
constexpr std::array<const char*, 4> kVisionModels = {"llava-siglip", "qwen2-vl", "qwen2-5-vl",
                                                      "qwen3-vl"};

std::vector<std::string> OwnCases() {
  std::vector<std::string> names;
  for (const auto& entry :
       std::filesystem::directory_iterator(pixii::testing::OwnGoldenDir() + "/models")) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<Case> Cases() {
  std::vector<std::string> models = OwnCases();
  models.emplace_back("stories260K");
  models.insert(models.end(), kVisionModels.begin(), kVisionModels.end());
  std::vector<Case> cases;
  for (const char* backend : {"ref", "cpu"}) {
    for (const std::string& model : models) {
      cases.push_back({model, backend});
    }
  }
  cases.push_back({"tiny-chat", "cpu"});  // plain loops would take most of the unit tests' minute
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Models, CheckGolden, ::testing::ValuesIn(Cases()),
                         [](const auto& parameters) {
                           std::string name =
                               parameters.param.model + "_" + parameters.param.backend;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(Check, EveryDecoderFamilyHasACase) {
  std::string configs;
  for (const std::string& name : OwnCases()) {
    configs += pixii::testing::ReadFileOrFail(pixii::testing::OwnGoldenDir() + "/models/" + name +
                                              "/config.json");
  }
  for (const Family& family : Families()) {
    EXPECT_NE(configs.find(fmt::format("\"{}\"", family.architecture)), std::string::npos)
        << family.architecture;
  }
}

/// A copy of llama-gqa with `edit` applied to its weights.
Result<CheckReport> CheckEdited(const std::function<void(std::string&)>& edit) {
  const std::string source = pixii::testing::OwnGoldenDir() + "/models/llama-gqa/";
  const TemporaryFolder temporary;
  for (const char* name :
       {"config.json", "golden.json", "golden.safetensors", "model.safetensors"}) {
    std::string content = pixii::testing::ReadFileOrFail(source + name);
    if (std::string_view(name) == "model.safetensors") {
      edit(content);
    }
    temporary.Write(name, content);
  }
  return CheckFolder(temporary.path(), *kernels::MakeReferenceOperators());
}

TEST(Check, SeesAChangedWeight) {
  const auto same = CheckEdited([](std::string&) {});
  ASSERT_TRUE(same.has_value()) << same.error().ToString();
  EXPECT_TRUE(same->passed());
  // The last value of the last norm, halved or doubled: one exponent bit.
  const auto changed = CheckEdited([](std::string& file) { file[file.size() - 2] ^= '\x80'; });
  ASSERT_TRUE(changed.has_value()) << changed.error().ToString();
  EXPECT_FALSE(changed->passed());
  EXPECT_NE(changed->ToText().find("FAILED"), std::string::npos);
}

TEST(Check, ReportsTheLargestErrorOfEachTensor) {
  const auto report = CheckEdited([](std::string&) {});
  ASSERT_TRUE(report.has_value()) << report.error().ToString();
  std::vector<std::string> names;
  for (const CheckLine& line : report->lines) {
    names.push_back(line.name);
    EXPECT_LE(line.error_max, line.limit) << line.name;
  }
  EXPECT_THAT(names,
              ::testing::IsSupersetOf({"p1.logits", "p7.logits", "p33.logits", "p100.logits",
                                       "p7.hidden.0", "p7.hidden.3", "greedy.p7", "greedy.p33",
                                       "p100 in chunks", "p33 beside others"}));
}

/// The lines of llava-clip by name, with `edit` applied to its files.
std::map<std::string, bool> CheckVisionEdited(
    const std::function<void(std::string_view name, std::string& file)>& edit,
    const CheckOptions& options = {}) {
  const std::string source = pixii::testing::OwnGoldenDir() + "/models/llava-clip/";
  const TemporaryFolder temporary;
  for (const char* name : {"config.json", "preprocessor_config.json", "golden.json",
                           "golden.safetensors", "model.safetensors"}) {
    std::string content = pixii::testing::ReadFileOrFail(source + name);
    edit(name, content);
    temporary.Write(name, content);
  }
  const auto report = CheckFolder(temporary.path(), *kernels::MakeReferenceOperators(), options);
  EXPECT_TRUE(report.has_value()) << report.error().ToString();
  std::map<std::string, bool> out;
  for (const CheckLine& line : report ? report->lines : std::vector<CheckLine>()) {
    out[line.name] = line.passed;
  }
  return out;
}

TEST(Check, LooksAtTowerChoicesCutsAndNeighbours) {
  const auto lines = CheckVisionEdited([](std::string_view, std::string&) {});
  for (const char* name : {"dog.features", "dog pictures reversed", "chart+cars.features",
                           "dog.logits", "dog.choices", "dog in chunks", "chart+cars in chunks",
                           "chart+cars beside others", "text.logits", "text beside others"}) {
    ASSERT_TRUE(lines.contains(name)) << name;
    EXPECT_TRUE(lines.at(name)) << name;
  }
}

TEST(Check, SeesAnotherActivationOfTheTower) {
  const auto lines = CheckVisionEdited([](std::string_view name, std::string& file) {
    if (name == "config.json") {
      const auto at = file.find("quick_gelu");
      ASSERT_NE(at, std::string::npos);
      file.replace(at, 10, "gelu");
    }
  });
  EXPECT_FALSE(lines.at("dog.features"));
  EXPECT_FALSE(lines.at("dog.logits"));
  EXPECT_TRUE(lines.at("text.logits"));
  EXPECT_TRUE(lines.at("dog in chunks"));
}

TEST(Check, ATowersTensorsMayHaveTheNamesOfEitherDialect) {
  using Renaming = std::vector<std::pair<std::string, std::string>>;
  for (const Renaming& renaming :
       {Renaming{{"vision_tower.", "vision_tower.vision_model."}},
        Renaming{{"vision_tower.", "model.vision_tower."},
                 {"multi_modal_projector.", "model.multi_modal_projector."},
                 {"language_model.lm_head.", "lm_head."},
                 {"language_model.model.", "model.language_model."}}}) {
    const std::string model = pixii::testing::OwnGoldenDir() + "/models/llava-clip/";
    std::vector<testing::WrittenTensor> tensors =
        testing::ReadSafetensors(model + "model.safetensors");
    for (testing::WrittenTensor& tensor : tensors) {
      for (const auto& [from, to] : renaming) {
        if (tensor.name.starts_with(from)) {
          tensor.name.replace(0, from.size(), to);
          break;
        }
      }
    }
    const auto lines = CheckVisionEdited([&](std::string_view name, std::string& file) {
      if (name == "model.safetensors") {
        file = testing::Safetensors(tensors);
      }
    });
    EXPECT_TRUE(lines.contains("dog.features") && lines.at("dog.features"));
    EXPECT_TRUE(lines.contains("dog.logits") && lines.at("dog.logits"));
  }
}

TEST(Check, ATensorOfTheTowerThatNobodyReadsIsRefused) {
  const TemporaryFolder temporary;
  const std::string model = pixii::testing::OwnGoldenDir() + "/models/llava-clip/";
  std::vector<testing::WrittenTensor> tensors =
      testing::ReadSafetensors(model + "model.safetensors");
  tensors.push_back({.name = "vision_tower.adapter.weight",
                     .dtype = "F32",
                     .shape = {1},
                     .bytes = std::string(4, '\0')});
  temporary.Write("model.safetensors", testing::Safetensors(tensors));
  for (const char* name :
       {"config.json", "preprocessor_config.json", "golden.json", "golden.safetensors"}) {
    temporary.Write(name, pixii::testing::ReadFileOrFail(model + name));
  }
  const auto report = CheckFolder(temporary.path(), *kernels::MakeReferenceOperators());
  ASSERT_FALSE(report.has_value());
  EXPECT_EQ(report.error().code(), Code::kUnsupported);
  EXPECT_NE(report.error().detail().find("vision_tower.adapter.weight"), std::string::npos);
}

TEST(Check, ComparesPixelsInGreyLevels) {
  int read = 0;
  const auto lines =
      CheckVisionEdited([](std::string_view, std::string&) {},
                        {.read_image = [&](const std::string& path) -> Result<media::Image> {
                          if (path.find("/../") != std::string::npos) {
                            return Fail(Code::kNotFound, path);
                          }
                          ++read;
                          media::Image black;
                          black.size = {80, 60};
                          black.rgb.resize(black.size.pixel_count() * media::kImageChannels);
                          return black;
                        }});
  EXPECT_EQ(read, 3);
  EXPECT_FALSE(lines.at("dog.pixels.0"));
  EXPECT_FALSE(lines.at("chart+cars.pixels.1"));
}

TEST(Check, NamesAMissingGoldenFile) {
  const TemporaryFolder temporary;
  for (const char* name : {"config.json", "model.safetensors"}) {
    temporary.Write(name, pixii::testing::ReadFileOrFail(pixii::testing::OwnGoldenDir() +
                                                         "/models/llama-gqa/" + name));
  }
  const auto report = CheckFolder(temporary.path(), *kernels::MakeReferenceOperators());
  ASSERT_FALSE(report.has_value());
  EXPECT_EQ(report.error().code(), Code::kNotFound);
  EXPECT_NE(report.error().detail().find("golden.json"), std::string::npos);
}

}  // namespace
}  // namespace pixii::model
