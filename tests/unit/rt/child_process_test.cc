#include "rt/child_process.h"

#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "rt/file.h"

namespace pixii::rt {
namespace {

TEST(ChildProcess, WritesIntoItsFileAndItsStatusIsSeen) {
  const std::string output = testing::TempDir() + "child_output";
  {
    ChildProcess child =
        ChildProcess::Start({.arguments = {"sh", "-c", "echo out; echo err >&2"}, .output = output})
            .value();
    while (child.running()) {
    }
  }
  EXPECT_EQ(ReadFile(output, 100).value(), "out\nerr\n");
  ChildProcess child =
      ChildProcess::Start({.arguments = {"sh", "-c", "trap 'exit 7' TERM; while :; do :; done"}})
          .value();
  while (child.CpuTime() == Duration::zero()) {
  }
  EXPECT_TRUE(child.running());
  const int status = child.Stop(SIGTERM);
  EXPECT_TRUE(status == 7 || status == 128 + SIGTERM) << status;  // before or behind the trap
  EXPECT_FALSE(child.running());
  EXPECT_EQ(child.CpuTime(), Duration::zero());
}

TEST(ChildProcess, WhatWasWrittenBeforeStaysUntilItIsTooMuch) {
  std::string folder = testing::TempDir() + "child_XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const std::string output = folder + "/log";
  const auto write = [&](const std::string& text) {
    ChildProcess child =
        ChildProcess::Start(
            {.arguments = {"echo", "-n", text}, .output = output, .output_bytes_max = 10})
            .value();
    while (child.running()) {
    }
  };
  write("first,");
  write("second,");
  EXPECT_EQ(ReadFile(output, 100).value(), "first,second,");
  write("third");
  EXPECT_EQ(ReadFile(output, 100).value(), "third");
  EXPECT_EQ(ReadFile(output + ".1", 100).value(), "first,second,");
  std::filesystem::remove_all(folder);
}

TEST(ChildProcess, OneThatIsLeftAloneIsKilled) {
  ChildProcess moved;
  ChildProcess child = ChildProcess::Start({.arguments = {"sleep", "1000"}}).value();
  moved = std::move(child);
  EXPECT_TRUE(moved.running());
  EXPECT_FALSE(child.running());  // NOLINT: moved from, and empty
}

TEST(ChildProcess, AProgramThatIsNotThereIsNamed) {
  const Result<ChildProcess> child = ChildProcess::Start({.arguments = {"/nowhere/at-all"}});
  ASSERT_FALSE(child);
  EXPECT_EQ(child.error().code(), Code::kNotFound);
  EXPECT_NE(child.error().detail().find("/nowhere/at-all"), std::string::npos);
}

}  // namespace
}  // namespace pixii::rt
