#include "model/diffusion/diffusion_check.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>

#include "support/golden.h"

namespace pixii::model {
namespace {

struct Case {
  std::string folder;
  std::string backend;
};

std::unique_ptr<kernels::Operators> MakeBackend(const std::string& name) {
  if (name == "ref") {
    return kernels::MakeReferenceOperators();
  }
  return std::move(*kernels::MakeCpuOperators({.thread_count = name == "cpu1" ? 1 : 2}));
}

class DiffusionGoldens : public ::testing::TestWithParam<Case> {};

TEST_P(DiffusionGoldens, EveryPartAndEveryStepAgree) {
  const auto shared = pixii::testing::GoldenDir();
  std::string folder = pixii::testing::OwnGoldenDir() + "/diffusion/" + GetParam().folder;
  if (!IsDiffusionFolder(folder)) {
    folder = shared.value_or("") + "/models/" + GetParam().folder;
  }
  if (!IsDiffusionFolder(folder)) {
    GTEST_SKIP() << folder << " is not here";
  }
  const auto operators = MakeBackend(GetParam().backend);
  const Result<CheckReport> report = CheckDiffusionFolder(folder, *operators);
  ASSERT_TRUE(report.has_value()) << report.error().ToString();
  EXPECT_TRUE(report->passed()) << report->ToText();
  EXPECT_GE(report->lines.size(), 12U) << report->ToText();
}

INSTANTIATE_TEST_SUITE_P(All, DiffusionGoldens,
                         ::testing::Values(Case{"wan-unipc", "cpu"}, Case{"wan-unipc", "cpu1"},
                                           Case{"wan-euler", "cpu"}, Case{"wan-euler", "ref"},
                                           Case{"wan-i2v", "cpu"}, Case{"wan-i2v", "ref"},
                                           Case{"flux", "cpu"}, Case{"flux", "ref"}),
                         [](const auto& info) {
                           std::string name = info.param.folder + "_" + info.param.backend;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace pixii::model
