#include "rt/shared_folder.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "unit/rt/world.h"

namespace pixii::rt {
namespace {

class SharedFolderTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(::mkdtemp(folder_.data()), nullptr); }

  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string In(const std::string& name) const { return folder_ + "/" + name; }

  void WriteFile(const std::string& name, const std::string& text) const {
    std::ofstream(In(name)) << text;
  }

  std::string folder_ = testing::TempDir() + "pixii-shared-XXXXXX";
};

TEST_F(SharedFolderTest, AHeldFileShowsItsTextAndThatItsHolderLives) {
  EXPECT_FALSE(LookAtHeldFile(In("held"))->has_value());
  {
    auto held = HeldFile::Create(In("held"));
    ASSERT_TRUE(held);
    ASSERT_TRUE(held->Write("12345"));
    ASSERT_TRUE(held->Write("67"));
    const auto state = LookAtHeldFile(In("held"));
    ASSERT_TRUE(state && *state);
    EXPECT_TRUE((*state)->held);
    EXPECT_EQ((*state)->text, "67");
    EXPECT_TRUE(held->linked());
    EXPECT_FALSE(HeldFile::TakeOver(In("held"))->has_value());
    EXPECT_FALSE(HeldFile::Create(In("held")));
  }
  const auto state = LookAtHeldFile(In("held"));
  ASSERT_TRUE(state && *state);
  EXPECT_FALSE((*state)->held);
}

TEST_F(SharedFolderTest, WhatADeadProcessHeldCanBeTakenOverOnce) {
  const pid_t child = ::fork();
  if (child == 0) {
    const auto held = HeldFile::Create(In("held"));
    ::raise(held ? SIGKILL : SIGABRT);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(WTERMSIG(status), SIGKILL);
  const auto first = HeldFile::TakeOver(In("held"));
  ASSERT_TRUE(first && *first);
  EXPECT_FALSE(HeldFile::TakeOver(In("held"))->has_value());
  std::filesystem::remove(In("held"));
  EXPECT_FALSE((*first)->linked());
}

TEST_F(SharedFolderTest, AStampTellsThatAFileIsAnotherOne) {
  WriteFile("a", "1");
  WriteFile("b", "1");
  std::filesystem::create_directory(In("folder"));
  const auto before = ListStamped(folder_, 10);
  ASSERT_TRUE(before);
  ASSERT_EQ(before->size(), 2U);
  EXPECT_EQ((*before)[0].name, "a");
  WriteFile("new", "1");
  std::filesystem::rename(In("new"), In("b"));
  const auto after = ListStamped(folder_, 10);
  ASSERT_TRUE(after);
  EXPECT_EQ((*before)[0].stamp, (*after)[0].stamp);
  EXPECT_FALSE((*before)[1].stamp == (*after)[1].stamp);
  EXPECT_EQ(ListStamped(folder_, 1).error().code(), Code::kTooLarge);
  EXPECT_EQ(ListStamped(In("none"), 1).error().code(), Code::kNotFound);
}

TEST_F(SharedFolderTest, AFolderMadeAnewIsAnother) {
  std::filesystem::create_directory(In("one"));
  std::filesystem::create_directory(In("two"));
  EXPECT_NE(FolderInode(In("one")).value(), FolderInode(In("two")).value());
  EXPECT_EQ(FolderInode(In("none")).error().code(), Code::kNotFound);
}

TEST_F(SharedFolderTest, ChangesAreToldAndWritesAloneAreNot) {
  RealWorld world;
  auto held = HeldFile::Create(In("held"));
  ASSERT_TRUE(held);
  WriteFile("file", "1");
  int changes = 0;
  const auto watch = WatchFolder(world.loop(), folder_, [&] { ++changes; });
  ASSERT_TRUE(watch) << watch.error().detail();
  const auto wait_for_one = [&] {
    changes = 0;
    world.RunUntil([&] { return changes > 0; });
  };

  ASSERT_TRUE(held->Write("beat"));
  std::filesystem::rename(In("file"), In("other"));
  wait_for_one();
  ASSERT_TRUE(held->Write("beat"));
  world.RunFor(50ms);
  EXPECT_EQ(changes, 1);
  std::filesystem::remove(In("other"));
  wait_for_one();
  held = Fail(Code::kCancelled, "closed");  // as the end of its process does
  wait_for_one();
  std::filesystem::remove_all(folder_);
  wait_for_one();
}

TEST_F(SharedFolderTest, WhatCannotBeWatchedIsSaid) {
  RealWorld world;
  EXPECT_EQ(WatchFolder(world.loop(), In("none"), [] {}).error().code(), Code::kNotFound);
  SimTestWorld sim;
  EXPECT_EQ(WatchFolder(sim.loop(), folder_, [] {}).error().code(), Code::kUnsupported);
}

}  // namespace
}  // namespace pixii::rt
