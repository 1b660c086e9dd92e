#include "model/fingerprint.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "unit/model/checkpoint_writer.h"

namespace pixii::model {
namespace {

using testing::TemporaryFolder;
using testing::WrittenTensor;

std::string FingerprintOf(std::string_view config, const std::vector<WrittenTensor>& tensors) {
  const TemporaryFolder temporary;
  temporary.Write("model.safetensors", testing::Safetensors(tensors));
  const auto folder = CheckpointFolder::Open(temporary.path());
  const auto checkpoint = Checkpoint::Open(*folder);
  EXPECT_TRUE(checkpoint.has_value()) << checkpoint.error().ToString();
  return Fingerprint(config, *checkpoint);
}

TEST(Fingerprint, ChangesWithEverythingThatMakesAModel) {
  const std::vector<WrittenTensor> base = {{"a", "F32", {2, 2}, std::string(16, 'a')},
                                           {"b", "BF16", {4}, std::string(8, 'b')}};
  std::set<std::string> seen = {FingerprintOf("{}", base)};
  EXPECT_TRUE(seen.insert(FingerprintOf("{ }", base)).second) << "config";
  for (const int edit : {0, 1, 2, 3}) {
    auto changed = base;
    switch (edit) {
      case 0:
        changed[0].name = "c";
        break;
      case 1:
        changed[0].shape = {4, 1};
        break;
      case 2:
        changed[1].dtype = "F16";
        break;
      default:
        changed[1].bytes.back() = 'x';
    }
    EXPECT_TRUE(seen.insert(FingerprintOf("{}", changed)).second) << edit;
  }
}

TEST(Fingerprint, DoesNotDependOnOrderOrShards) {
  const WrittenTensor a = {"a", "F32", {2, 2}, std::string(16, 'a')};
  const WrittenTensor b = {"b", "F32", {2, 2}, std::string(16, 'b')};
  const std::string whole = FingerprintOf("{}", {a, b});
  EXPECT_EQ(whole, FingerprintOf("{}", {b, a}));
  const TemporaryFolder temporary;
  temporary.Write("1.safetensors", testing::Safetensors({a}));
  temporary.Write("2.safetensors", testing::Safetensors({b}));
  temporary.Write("model.safetensors.index.json",
                  R"({"weight_map":{"a":"1.safetensors","b":"2.safetensors"}})");
  const auto folder = CheckpointFolder::Open(temporary.path());
  const auto checkpoint = Checkpoint::Open(*folder);
  ASSERT_TRUE(checkpoint.has_value()) << checkpoint.error().ToString();
  EXPECT_EQ(Fingerprint("{}", *checkpoint), whole);
}

TEST(Fingerprint, SamplesFirstAndLastBytesOfLargeCheckpoints) {
  const std::size_t size = kFingerprintWholeMax + 4096;
  const auto with = [&](std::size_t changed) {
    std::string bytes(size, 'a');
    bytes[changed] = 'x';
    return FingerprintOf("{}", {{"a", "U8", {static_cast<std::int64_t>(size)}, std::move(bytes)}});
  };
  const std::set<std::string> seen = {with(0), with(1), with(size - 1), with(size - 2)};
  EXPECT_EQ(seen.size(), 4U);
}

}  // namespace
}  // namespace pixii::model
