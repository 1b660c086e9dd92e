#include "rt/file_lock.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <optional>
#include <string>

namespace pixii::rt {
namespace {

TEST(FileLock, BelongsToOneOwnerUntilThatEnds) {
  const std::string folder = ::testing::TempDir() + "file-lock-test";
  std::filesystem::create_directories(folder);
  const std::string path = folder + "/lock";
  std::optional<Result<FileLock>> first(FileLock::Take(path));
  ASSERT_TRUE(*first) << first->error().ToString();
  Result<FileLock> second = FileLock::Take(path);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), Code::kUnavailable);
  EXPECT_NE(second.error().detail().find(path), std::string::npos);
  first.reset();
  EXPECT_TRUE(FileLock::Take(path));
}

TEST(FileLock, SaysWhyAFileCannotBeMade) {
  Result<FileLock> lock = FileLock::Take("/nowhere/lock");
  ASSERT_FALSE(lock);
  EXPECT_NE(lock.error().detail().find("/nowhere/lock"), std::string::npos);
}

}  // namespace
}  // namespace pixii::rt
