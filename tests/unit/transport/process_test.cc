// Transfers between real processes, of which one is stopped or killed in the midst of a write.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "rt/random.h"
#include "transport/choice.h"
#include "unit/transport/agents.h"

namespace pixii::transport {
namespace {

using rt::operator""s;
using rt::operator""ms;

constexpr std::size_t kSize = 8 << 20;

/// Sockets lie in a folder of their own: who is killed leaves its behind.
ChoiceOptions OptionsOf(Backend backend, const std::string& folder) {
  ChoiceOptions options{.backend = backend};
  options.shm.folder = folder;
  return options;
}

/// In a process of its own: writes to the one window until it is refused, and says when it began.
[[noreturn]] void WriteForEver(const ChoiceOptions& choice, const std::string& metadata,
                               Descriptor there, int began) {
  Bell bell;
  AgentOptions options;
  options.wake = [&bell] { bell.Ring(); };
  Result<std::unique_ptr<AgentThread>> thread =
      AgentThread::Start(std::move(options), ChooseTransports(TestKey(), choice));
  if (!thread) {
    ::_exit(3);
  }
  Agent& agent = (*thread)->agent();
  std::vector<std::byte> memory(kSize, std::byte{1});
  const Descriptor here{
      .region = *agent.Register(memory, {}), .offset = 0, .size_bytes = kSize, .generation = 0};
  const PeerId peer = *agent.Connect(metadata);
  while (true) {
    const Result<TransferId> id = agent.Post({.operation = Operation::kWrite,
                                              .peer = peer,
                                              .local = {&here, 1},
                                              .remote = {&there, 1},
                                              .notification = std::nullopt,
                                              .deadline = In(15s)});
    TransferStatus status;
    const bool ended = id && bell.WaitFor([&] {
      status = agent.Poll(*id);
      return status.state != TransferState::kInProgress;
    });
    if (!ended) {
      ::_exit(4);
    }
    agent.Release(*id);
    if (status.state != TransferState::kDone) {
      ::_exit(status.error->code() == Code::kNotFound ? 0 : 5);
    }
    if (::write(began, "x", 1) != 1) {
      ::_exit(6);
    }
  }
}

class Processes : public testing::TestWithParam<Backend> {};

INSTANTIATE_TEST_SUITE_P(All, Processes, testing::Values(Backend::kShm, Backend::kTcp),
                         [](const auto& info) {
                           return std::string(info.param == Backend::kShm ? "shm" : "tcp");
                         });

TEST_P(Processes, AWriterThatIsStoppedOrKilledInTheMidstChangesNothingLater) {
  constexpr std::uint64_t kSeed = 99;
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  rt::Random random(kSeed);
  std::string folder = ::testing::TempDir() + "pixii-transfer-XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const ChoiceOptions choice = OptionsOf(GetParam(), folder);
  int went_on = 0;
  for (int round = 0; round < 12; ++round) {
    int pipe[2] = {};
    int answer[2] = {};
    ASSERT_EQ(::pipe(pipe), 0);
    ASSERT_EQ(::pipe(answer), 0);
    // Before this process has threads.
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      ::close(pipe[1]);
      Descriptor there;
      std::uint32_t size = 0;
      if (::read(pipe[0], &there, sizeof(there)) != sizeof(there) ||
          ::read(pipe[0], &size, sizeof(size)) != sizeof(size)) {
        ::_exit(7);
      }
      std::string metadata(size, '\0');
      if (::read(pipe[0], metadata.data(), size) != static_cast<ssize_t>(size)) {
        ::_exit(8);
      }
      WriteForEver(choice, metadata, there, answer[1]);
    }
    ::close(pipe[0]);
    ::close(answer[1]);
    {
      Bell bell;
      AgentOptions options;
      options.wake = [&bell] { bell.Ring(); };
      Result<std::unique_ptr<AgentThread>> thread =
          AgentThread::Start(std::move(options), ChooseTransports(TestKey(), choice));
      ASSERT_TRUE(thread) << thread.error().ToString();
      Agent& agent = (*thread)->agent();
      const auto file = std::make_shared<const rt::MemoryFile>(
          std::move(*rt::MemoryFile::Create(kSize, rt::Sharing::kOthersWrite)));
      const std::span<std::byte> memory = file->bytes();
      const RegionKey key = *agent.Register(memory, {.window_bytes = 0, .file = file});
      ASSERT_TRUE(agent.Open(key, {}, 1, Access::kWrite));
      const Descriptor there{.region = key, .offset = 0, .size_bytes = kSize, .generation = 1};
      const std::string metadata = agent.Metadata();
      const auto size = static_cast<std::uint32_t>(metadata.size());
      ASSERT_EQ(::write(pipe[1], &there, sizeof(there)), static_cast<ssize_t>(sizeof(there)));
      ASSERT_EQ(::write(pipe[1], &size, sizeof(size)), static_cast<ssize_t>(sizeof(size)));
      ASSERT_EQ(::write(pipe[1], metadata.data(), size), static_cast<ssize_t>(size));
      char began = 0;
      ASSERT_EQ(::read(answer[0], &began, 1), 1) << "it never wrote";
      const rt::Time until = Now() + rt::Duration(random.Below(3'000'000));
      while (Now() < until) {
      }
      ASSERT_EQ(::kill(child, round % 3 == 0 ? SIGKILL : SIGSTOP), 0);
      Result<void> closed = agent.Close(key, {});
      if (!closed) {
        EXPECT_EQ(closed.error().code(), Code::kUnavailable);
        EXPECT_EQ(::kill(child, SIGKILL), 0);
        EXPECT_TRUE(bell.WaitFor([&] { return agent.Close(key, {}).has_value(); }));
      }
      std::ranges::fill(memory, std::byte{9});
      ::kill(child, SIGCONT);
      int status = 0;
      ASSERT_EQ(::waitpid(child, &status, 0), child);
      if (WIFEXITED(status)) {
        EXPECT_EQ(WEXITSTATUS(status), 0) << "it went on, and was refused";
        ++went_on;
      }
      EXPECT_EQ(std::ranges::count(memory, std::byte{9}), static_cast<std::ptrdiff_t>(kSize));
      EXPECT_TRUE(bell.WaitFor([&] { return agent.counters().connections == 0; }));
      EXPECT_TRUE(bell.WaitFor([&] { return agent.Deregister(key).has_value(); }));
    }
    ::close(pipe[1]);
    ::close(answer[0]);
  }
  EXPECT_GT(went_on, 0);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace pixii::transport
