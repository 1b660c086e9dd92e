#include <gtest/gtest.h>

#include <filesystem>

#include "support/golden.h"
#include "wire/json.h"

namespace pixii::wire {
namespace {

TEST(Json, HoldsTheJsonParsingSuite) {
  auto data = pixii::testing::DataDir();
  if (!data) {
    GTEST_SKIP() << "no shared data folder";
  }
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(*data + "/json-parsing")) {
    std::string name = entry.path().filename().string();
    if (!name.ends_with(".json")) {
      continue;
    }
    bool accepted = ParseJson(pixii::testing::ReadFileOrFail(entry.path().string())).has_value();
    // Two keys of one name are the suite's "accept"; here they are refused, because readers
    // disagree on them.
    bool duplicate =
        name == "y_object_duplicated_key.json" || name == "y_object_duplicated_key_and_value.json";
    if (name.starts_with("y_")) {
      EXPECT_EQ(accepted, !duplicate) << name;
    } else if (name.starts_with("n_")) {
      EXPECT_FALSE(accepted) << name;
    }
    ++count;
  }
  EXPECT_EQ(count, 318);
}

}  // namespace
}  // namespace pixii::wire
