#include "model/checkpoint_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "unit/model/checkpoint_writer.h"

namespace pixii::model {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::TemporaryFolder;

CheckpointFolder OpenOrFail(const std::string& path) {
  auto folder = CheckpointFolder::Open(path);
  EXPECT_TRUE(folder.has_value()) << folder.error().ToString();
  return *std::move(folder);
}

TEST(CheckpointFolder, ReadsAndMapsFiles) {
  const TemporaryFolder temporary;
  temporary.Write("a.json", "{}");
  const CheckpointFolder folder = OpenOrFail(temporary.path());
  EXPECT_TRUE(folder.Has("a.json"));
  EXPECT_FALSE(folder.Has("b.json"));
  const auto text = folder.ReadText("a.json", 2);
  ASSERT_TRUE(text.has_value());
  EXPECT_EQ(*text, "{}");
  const auto file = folder.Map("a.json");
  ASSERT_TRUE(file.has_value());
  EXPECT_EQ(file->bytes().size(), 2U);
}

TEST(CheckpointFolder, RefusesWhatIsNoFolder) {
  const TemporaryFolder temporary;
  temporary.Write("file", "x");
  EXPECT_EQ(CheckpointFolder::Open(temporary.path() + "/file").error().code(), Code::kNotFound);
  EXPECT_EQ(CheckpointFolder::Open(temporary.path() + "/none").error().code(), Code::kNotFound);
}

TEST(CheckpointFolder, RefusesATextPastItsLimitNamingBoth) {
  const TemporaryFolder temporary;
  temporary.Write("a.json", "12345");
  const auto text = OpenOrFail(temporary.path()).ReadText("a.json", 4);
  ASSERT_FALSE(text.has_value());
  EXPECT_EQ(text.error().code(), Code::kTooLarge);
  EXPECT_THAT(text.error().detail(), HasSubstr("more than the 4 bytes allowed"));
}

TEST(CheckpointFolder, RefusesEmptyMapsFoldersAndDevices) {
  const TemporaryFolder temporary;
  temporary.Write("empty", "");
  fs::create_directory(temporary.path() + "/inner");
  const CheckpointFolder folder = OpenOrFail(temporary.path());
  EXPECT_EQ(folder.Map("empty").error().code(), Code::kDataCorrupt);
  EXPECT_FALSE(folder.Map("inner").has_value());
  EXPECT_FALSE(folder.ReadText("inner", 100).has_value());
}

TEST(CheckpointFolder, RefusesNamesThatAreNoPlainFile) {
  const TemporaryFolder temporary;
  temporary.Write("a", "x");
  const CheckpointFolder folder = OpenOrFail(temporary.path());
  for (const std::string& name :
       {std::string("../a"), std::string("/etc/passwd"), std::string(".."), std::string("."),
        std::string(), std::string("./a"), std::string("a\0b", 3)}) {
    const auto file = folder.Map(name);
    ASSERT_FALSE(file.has_value()) << name;
    EXPECT_EQ(file.error().code(), Code::kDataCorrupt) << name;
  }
}

TEST(CheckpointFolder, RefusesALinkThatLeavesTheFolder) {
  const TemporaryFolder outside;
  outside.Write("secret", "x");
  const TemporaryFolder temporary;
  fs::create_symlink(outside.path() + "/secret", temporary.path() + "/direct");
  fs::create_symlink("direct", temporary.path() + "/indirect");
  const CheckpointFolder folder = OpenOrFail(temporary.path());
  for (const char* name : {"direct", "indirect"}) {
    const auto file = folder.Map(name);
    ASSERT_FALSE(file.has_value()) << name;
    EXPECT_EQ(file.error().code(), Code::kDataCorrupt);
    EXPECT_THAT(file.error().detail(), HasSubstr("leaves the folder"));
  }
}

TEST(CheckpointFolder, FollowsTheLinksOfAHubCache) {
  const TemporaryFolder cache;
  fs::create_directories(cache.path() + "/snapshots/abc");
  fs::create_directories(cache.path() + "/blobs");
  cache.Write("blobs/123", "bytes");
  fs::create_symlink("../../blobs/123", cache.path() + "/snapshots/abc/config.json");
  const auto text = OpenOrFail(cache.path() + "/snapshots/abc").ReadText("config.json", 100);
  ASSERT_TRUE(text.has_value()) << text.error().ToString();
  EXPECT_EQ(*text, "bytes");
}

TEST(CheckpointFolder, MayItselfBeReachedThroughALink) {
  const TemporaryFolder temporary;
  temporary.Write("a", "x");
  const TemporaryFolder links;
  fs::create_symlink(temporary.path(), links.path() + "/model");
  EXPECT_TRUE(OpenOrFail(links.path() + "/model").ReadText("a", 10).has_value());
}

}  // namespace
}  // namespace pixii::model
