#include "transport/shm_folder.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "transport/choice.h"
#include "unit/transport/agents.h"

namespace pixii::transport {
namespace {

class ShmFolder : public testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(::mkdtemp(folder_.data()), nullptr); }

  void TearDown() override { std::filesystem::remove_all(folder_); }

  ChoiceOptions Options() const {
    ChoiceOptions options{.backend = Backend::kShm};
    options.shm.folder = folder_;
    return options;
  }

  std::unique_ptr<AgentThread> Start() const {
    Result<std::unique_ptr<AgentThread>> made =
        AgentThread::Start({}, ChooseTransports(TestKey(), Options()));
    EXPECT_TRUE(made) << made.error().ToString();
    return std::move(*made);
  }

  std::vector<std::string> Names() const {
    std::vector<std::string> out;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      out.push_back(entry.path().filename().string());
    }
    std::ranges::sort(out);
    return out;
  }

  std::string folder_ = ::testing::TempDir() + "pixii-sockets-XXXXXX";
};

TEST_F(ShmFolder, WhatADeadAgentLeftGoesAndALivingOnesStays) {
  int pipe[2] = {};
  ASSERT_EQ(::pipe(pipe), 0);
  // Before this process has threads.
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const auto agent = Start();
    if (::write(pipe[1], "x", 1) == 1) {
      ::pause();
    }
    ::_exit(1);
  }
  char ready = 0;
  ASSERT_EQ(::read(pipe[0], &ready, 1), 1);
  const std::vector<std::string> of_child = Names();
  ASSERT_EQ(of_child.size(), 2U);
  EXPECT_EQ(of_child[1], of_child[0] + ".held");
  EXPECT_EQ(SweepShmSockets(folder_), 0U) << "it lives";
  ASSERT_EQ(::kill(child, SIGSTOP), 0);
  EXPECT_EQ(SweepShmSockets(folder_), 0U) << "it stands still";
  ASSERT_EQ(::kill(child, SIGKILL), 0);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(Names(), of_child);
  auto next = Start();  // sweeps
  const std::vector<std::string> of_next = Names();
  ASSERT_EQ(of_next.size(), 2U);
  EXPECT_NE(of_next, of_child);
  const auto last = Start();
  EXPECT_EQ(Names().size(), 4U);
  next.reset();
  EXPECT_EQ(Names().size(), 2U) << "who ends takes its own along";
}

TEST_F(ShmFolder, WhatHasNoLockOrAnotherNameStays) {
  const std::vector<std::string> names = {"pixii-0123456789abcdef", "pixii-0123456789abcdeX.held",
                                          "pixii-0123.held", "other-0123456789abcdef.held"};
  for (const std::string& name : names) {
    std::ofstream(folder_ + "/" + name) << "x";
  }
  EXPECT_EQ(SweepShmSockets(folder_), 0U);
  EXPECT_EQ(Names().size(), names.size());
  std::ofstream(folder_ + "/pixii-0123456789abcdef.held") << "";
  EXPECT_EQ(SweepShmSockets(folder_), 1U) << "a lock that nobody holds proves it";
  EXPECT_EQ(Names().size(), names.size() - 1);
  EXPECT_EQ(SweepShmSockets(folder_ + "/missing"), 0U);
}

}  // namespace
}  // namespace pixii::transport
