#include "rt/allowed_folder.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace pixii::rt {
namespace {

class AllowedFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string folder = ::testing::TempDir() + "allowed_XXXXXX";
    ASSERT_NE(::mkdtemp(folder.data()), nullptr);
    top_ = folder;
    std::filesystem::create_directories(top_ + "/in/deep");
    std::ofstream(top_ + "/in/deep/file") << "inside";
    std::ofstream(top_ + "/secret") << "outside";
    std::filesystem::create_symlink(top_ + "/in/deep/file", top_ + "/in/to_inside");
    std::filesystem::create_symlink("../secret", top_ + "/in/to_outside");
    std::filesystem::create_symlink(top_, top_ + "/in/up");
    std::filesystem::create_symlink(top_ + "/in", top_ + "/linked");
  }

  void TearDown() override { std::filesystem::remove_all(top_); }

  Result<std::string> Read(const std::string& path) {
    return ReadFileBelow(top_ + "/in", path, 100);
  }

  std::string top_;
};

TEST_F(AllowedFolder, FilesInsideAreReadAlsoByLinksThatStayInside) {
  EXPECT_EQ(Read(top_ + "/in/deep/file").value(), "inside");
  EXPECT_EQ(Read(top_ + "/in/deep/../deep/file").value(), "inside");
  EXPECT_EQ(Read(top_ + "/in/to_inside").value(), "inside");
  EXPECT_EQ(ReadFileBelow(top_ + "/linked", top_ + "/in/deep/file", 100).value(), "inside");
  EXPECT_EQ(Read(top_ + "/in/up/in/deep/file").value(), "inside") << "out and in again";
}

TEST_F(AllowedFolder, WhatLiesOutsideAndWhatLiesNowhereLookTheSame) {
  const std::string outside = Read(top_ + "/secret").error().ToString();
  EXPECT_EQ(Read(top_ + "/secret").error().code(), Code::kForbidden);
  for (const std::string& path :
       {top_ + "/in/to_outside", top_ + "/in/../secret", top_ + "/in/up/secret", top_ + "/in",
        top_ + "/inside_by_name", top_ + "/in/nothing", std::string("/etc/passwd"),
        std::string("/proc/self/environ"), std::string("")}) {
    Result<std::string> read = Read(path);
    ASSERT_FALSE(read.has_value()) << path;
    EXPECT_EQ(read.error().ToString(), outside) << path;
  }
}

TEST_F(AllowedFolder, FoldersPipesAndLargeFilesAreRefused) {
  EXPECT_EQ(Read(top_ + "/in/deep").error().code(), Code::kInvalidArgument);
  ASSERT_EQ(::mkfifo((top_ + "/in/pipe").c_str(), 0600), 0);
  EXPECT_EQ(Read(top_ + "/in/pipe").error().code(), Code::kInvalidArgument);
  std::ofstream(top_ + "/in/large") << std::string(101, 'x');
  EXPECT_EQ(Read(top_ + "/in/large").error().code(), Code::kTooLarge);
}

}  // namespace
}  // namespace pixii::rt
