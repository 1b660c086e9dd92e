// Every backend that this host can run, against ref, on every case of the table.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <span>

#include "base/stream_hash.h"
#include "compare/operator_cases.h"

namespace pixii::kernels::testing {

std::vector<OperatorCase> AllCases() {
  std::vector<OperatorCase> out = LinearCases();
  for (auto* more :
       {&CodedCases, &RowCases, &AttentionCases, &ExpertCases, &LoraCases, &DiffusionCases}) {
    for (OperatorCase& one : more()) {
      out.push_back(std::move(one));
    }
  }
  return out;
}

double Nmse(const std::vector<float>& expected, const std::vector<float>& actual) {
  double error = 0.0;
  double power = 0.0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double difference = double{actual[i]} - double{expected[i]};
    error += difference * difference;
    power += double{expected[i]} * double{expected[i]};
  }
  return error == 0.0 ? 0.0 : error / power;
}

std::ptrdiff_t FirstDifference(const std::vector<float>& a, const std::vector<float>& b) {
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::bit_cast<std::uint32_t>(a[i]) != std::bit_cast<std::uint32_t>(b[i])) {
      return static_cast<std::ptrdiff_t>(i);
    }
  }
  return -1;
}

namespace {

constexpr double kDotNmse = 1e-11;  // bf16 dot instructions sum in an order of their own

struct Backends {
  std::unique_ptr<Operators> ref = MakeReferenceOperators();
  std::map<CpuIsa, std::unique_ptr<Operators>> alone;
  std::map<CpuIsa, std::unique_ptr<Operators>> shared;  // three workers

  Backends() {
    for (const CpuIsa isa : AvailableIsas()) {
      alone[isa] = std::move(*MakeCpuOperators({.thread_count = 1, .isa = isa}));
      shared[isa] = std::move(*MakeCpuOperators({.thread_count = 3, .isa = isa}));
    }
  }

  static const Backends& Get() {
    static const Backends backends;
    return backends;
  }
};

class OperatorCompare : public ::testing::TestWithParam<OperatorCase> {};

TEST_P(OperatorCompare, EveryBackendOfThisHostAgreesWithTheReference) {
  const OperatorCase& one = GetParam();
  const std::vector<float> expected = one.run(*Backends::Get().ref);
  ASSERT_FALSE(expected.empty());
  std::map<std::string, std::vector<float>> by_numerics;
  for (const auto& [isa, operators] : Backends::Get().alone) {
    SCOPED_TRACE(operators->name());
    const std::vector<float> actual = one.run(*operators);
    ASSERT_EQ(actual.size(), expected.size());
    const bool fused = operators->numerics().starts_with("fma-");
    if (one.nmse_max == 0.0 && fused) {
      const std::ptrdiff_t at = FirstDifference(expected, actual);
      ASSERT_EQ(at, -1) << "is " << actual[at] << ", ref says " << expected[at];
    } else {
      ASSERT_LE(Nmse(expected, actual), std::max(one.nmse_max, fused ? 0.0 : kDotNmse));
    }
    const std::vector<float> shared = one.run(*Backends::Get().shared.at(isa));
    ASSERT_EQ(FirstDifference(actual, shared), -1) << "three workers give other bits than one";
    const auto [first, inserted] = by_numerics.emplace(operators->numerics(), actual);
    ASSERT_EQ(FirstDifference(first->second, actual), -1) << "other bits under the same numerics";
  }
}

INSTANTIATE_TEST_SUITE_P(Table, OperatorCompare, ::testing::ValuesIn(AllCases()),
                         [](const auto& test) {
                           std::string name = test.param.name;
                           for (char& c : name) {
                             c = std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
                           }
                           return name;
                         });

TEST(OperatorCompareTable, HoldsAtLeastFourHundredCasesWithUniqueNames) {
  std::map<std::string, int> names;
  for (const OperatorCase& one : AllCases()) {
    EXPECT_EQ(++names[one.name], 1) << one.name;
  }
  EXPECT_GE(names.size(), 400U);
}

/// Of all bits that the first instruction set of this architecture gives; whichever NaN counts as
/// one.
std::uint64_t FusedDigest(const std::vector<OperatorCase>& cases) {
  Operators& operators = *Backends::Get().alone.begin()->second;
  StreamHash64 hash;
  for (const OperatorCase& one : cases) {
    std::vector<float> out = one.run(operators);
    for (float& value : out) {
      value = std::isnan(value) ? std::numeric_limits<float>::quiet_NaN() : value;
    }
    hash.Update(std::as_bytes(std::span(out)));
  }
  return hash.Value();
}

TEST(FusedNumerics, AreTheSameBitsOnX86AndArm) {
  ASSERT_EQ(Backends::Get().alone.begin()->second->numerics(), "fma-2");
  // The same on all architectures: they change with the cases and the name of the numerics only.
  EXPECT_EQ(FusedDigest(LinearCases()), 0x61420A61E44FE110U);
  EXPECT_EQ(FusedDigest(CodedCases()), 0x529CAAD11A47B708U);
  EXPECT_EQ(FusedDigest(RowCases()), 0x1CFE2E51329CEAB2U);
  EXPECT_EQ(FusedDigest(AttentionCases()), 0x0E15F69BD61D02F3U);
  EXPECT_EQ(FusedDigest(ExpertCases()), 0xFEE69B7D6BB0BD82U);
  EXPECT_EQ(FusedDigest(LoraCases()), 0x21CD659A08522AA0U);
  EXPECT_EQ(FusedDigest(DiffusionCases()), 0x0A9EBACED3E36078U);
}

class IsaCoverage : public ::testing::TestWithParam<CpuIsa> {};

TEST_P(IsaCoverage, TheTableRanOnThisInstructionSet) {
  const std::span<const CpuIsa> available = AvailableIsas();
  if (std::find(available.begin(), available.end(), GetParam()) == available.end()) {
    GTEST_SKIP() << "not executed: this host's processor or kernel has no " << IsaName(GetParam());
  }
  EXPECT_TRUE(Backends::Get().alone.contains(GetParam()));
}

INSTANTIATE_TEST_SUITE_P(Isas, IsaCoverage,
                         ::testing::Values(CpuIsa::kAvx2, CpuIsa::kAvx512, CpuIsa::kAvx512Vnni,
                                           CpuIsa::kAvx512Bf16, CpuIsa::kAmx, CpuIsa::kNeon,
                                           CpuIsa::kNeonI8mm),
                         [](const auto& test) { return std::string(IsaName(test.param)); });

}  // namespace
}  // namespace pixii::kernels::testing
