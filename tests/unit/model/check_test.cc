#include "model/check.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>

#include "support/golden.h"

namespace pixii::model {
namespace {

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

/// Where a golden model lies: ours in the tree, third-party ones beside it; empty if absent.
std::string FindModel(const std::string& name) {
  const auto shared = testing::GoldenDir();
  for (const std::string& folder :
       {testing::OwnGoldenDir() + "/models/" + name, testing::OwnGoldenDir() + "/" + name,
        shared ? *shared + "/models/" + name : std::string()}) {
    std::error_code ignored;
    if (!folder.empty() && std::filesystem::exists(folder + "/golden.safetensors", ignored)) {
      return folder;
    }
  }
  return {};
}

class CheckGolden : public ::testing::TestWithParam<Case> {};

TEST_P(CheckGolden, ReproducesTheReferenceImplementation) {
  const std::string folder = FindModel(GetParam().model);
  if (folder.empty()) {
    GTEST_SKIP() << "no golden model " << GetParam().model << " here";
  }
  const auto operators = MakeBackend(GetParam().backend);
  ASSERT_NE(operators, nullptr);
  const auto report = CheckFolder(folder, *operators);
  ASSERT_TRUE(report.has_value()) << report.error().ToString();
  EXPECT_TRUE(report->passed()) << report->ToText();
  EXPECT_GE(report->lines.size(), 3U);
}

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const char* backend : {"ref", "cpu"}) {
    for (const char* model : {"llama-gqa", "llama3-rope", "mistral-window", "qwen2-bias",
                              "qwen3-qknorm", "stories260K", "tiny-chat"}) {
      cases.push_back({model, backend});
    }
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Models, CheckGolden, ::testing::ValuesIn(Cases()),
                         [](const auto& parameters) {
                           std::string name =
                               parameters.param.model + "_" + parameters.param.backend;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace pixii::model
