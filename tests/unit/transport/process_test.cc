// Transfers between real processes, of which one is stopped or killed in the midst of a write.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "rt/random.h"
#include "transport/choice.h"
#include "transport/metadata.h"
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

/// In a process of its own, which ends with 4 if the transfer does not.
TransferStatus Move(Agent& agent, Bell& bell, const TransferRequest& request) {
  const Result<TransferId> id = agent.Post(request);
  TransferStatus status;
  const bool ended = id && bell.WaitFor([&] {
    status = agent.Poll(*id);
    return status.state != TransferState::kInProgress;
  });
  if (!ended) {
    ::_exit(4);
  }
  agent.Release(*id);
  return status;
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
    const TransferStatus status = Move(agent, bell,
                                       {.operation = Operation::kWrite,
                                        .peer = peer,
                                        .local = {&here, 1},
                                        .remote = {&there, 1},
                                        .notification = std::nullopt,
                                        .deadline = In(15s)});
    if (status.state != TransferState::kDone) {
      ::_exit(status.error->code() == Code::kNotFound ? 0 : 5);
    }
    if (::write(began, "x", 1) != 1) {
      ::_exit(6);
    }
  }
}

constexpr std::uint64_t kLives = 300;  // of the memory in the test below

std::byte ByteOf(std::uint64_t life) { return static_cast<std::byte>(life % 251 + 1); }

/// In a process of its own: reads what the generation in turn holds, until that is the last one.
[[noreturn]] void ReadEveryLife(const ChoiceOptions& choice, const std::string& metadata,
                                Descriptor there) {
  Bell bell;
  AgentOptions options;
  options.wake = [&bell] { bell.Ring(); };
  options.inline_bytes_max = kSize;
  Result<std::unique_ptr<AgentThread>> thread =
      AgentThread::Start(std::move(options), ChooseTransports(TestKey(), choice));
  if (!thread) {
    ::_exit(3);
  }
  Agent& agent = (*thread)->agent();
  std::vector<std::byte> memory(there.size_bytes);
  const Descriptor here{.region = *agent.Register(memory, {}),
                        .offset = 0,
                        .size_bytes = there.size_bytes,
                        .generation = 0};
  const PeerId peer = *agent.Connect(metadata);
  for (std::uint64_t life = 1; true; life = life % kLives + 1) {
    there.generation = life;
    const TransferStatus status = Move(agent, bell,
                                       {.operation = Operation::kRead,
                                        .peer = peer,
                                        .local = {&here, 1},
                                        .remote = {&there, 1},
                                        .notification = std::nullopt,
                                        .deadline = In(15s)});
    if (status.state != TransferState::kDone) {
      if (status.error->code() != Code::kNotFound) {
        ::_exit(5);
      }
      continue;
    }
    if (!std::ranges::all_of(memory, [life](std::byte byte) { return byte == ByteOf(life); })) {
      ::_exit(6);
    }
    if (life == kLives) {
      ::_exit(0);
    }
  }
}

TEST(SparseMemory, AReaderOfWhatIsGivenBackLivesAndReadsNothingElse) {
  constexpr std::uint64_t kSeed = 7;
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  rt::Random random(kSeed);
  std::string folder = ::testing::TempDir() + "pixii-transfer-XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const ChoiceOptions choice = OptionsOf(Backend::kShm, folder);
  int pipe[2] = {};
  ASSERT_EQ(::pipe(pipe), 0);
  // Before this process has threads.
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
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
    ReadEveryLife(choice, metadata, there);
  }
  {
    Result<std::unique_ptr<AgentThread>> thread =
        AgentThread::Start({}, ChooseTransports(TestKey(), choice));
    ASSERT_TRUE(thread) << thread.error().ToString();
    Agent& agent = (*thread)->agent();
    const auto file =
        std::make_shared<const rt::MemoryFile>(std::move(*rt::MemoryFile::CreateSparse(1 << 20)));
    const std::span<std::byte> memory = file->bytes().first(1 << 20);
    const RegionKey key = *agent.Register(memory, {.window_bytes = 0, .file = file});
    const Descriptor there{
        .region = key, .offset = 0, .size_bytes = memory.size(), .generation = 0};
    const std::string metadata = agent.Metadata();
    const auto size = static_cast<std::uint32_t>(metadata.size());
    ASSERT_EQ(::write(pipe[1], &there, sizeof(there)), static_cast<ssize_t>(sizeof(there)));
    ASSERT_EQ(::write(pipe[1], &size, sizeof(size)), static_cast<ssize_t>(sizeof(size)));
    ASSERT_EQ(::write(pipe[1], metadata.data(), size), static_cast<ssize_t>(size));
    for (std::uint64_t life = 1; life <= kLives; ++life) {
      std::ranges::fill(memory, ByteOf(life));
      ASSERT_TRUE(agent.Open(key, {}, life, Access::kRead));
      const rt::Time until = Now() + rt::Duration(random.Below(3'000'000));
      while (Now() < until) {
      }
      if (life == kLives) {
        break;
      }
      const bool stops = random.Chance(0.2);
      if (stops) {
        ASSERT_EQ(::kill(child, SIGSTOP), 0);
      }
      ASSERT_TRUE(agent.Close(key, {})) << "nobody waits for readers";
      ASSERT_TRUE(file->GiveBack());
      if (stops) {
        ASSERT_EQ(::kill(child, SIGCONT), 0);
      }
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
    EXPECT_EQ(WEXITSTATUS(status), 0);
    EXPECT_TRUE(agent.Deregister(key));
  }
  std::filesystem::remove_all(folder);
}

constexpr uid_t kNobody = 65'534;

/// In a process of its own, of another user: 0 if it read over tcp what shm could not have given.
int ReadAsNobody(const ChoiceOptions& choice, const std::string& metadata, Descriptor there) {
  if (::setuid(kNobody) != 0) {
    return 2;
  }
  Bell bell;
  AgentOptions options;
  options.wake = [&bell] { bell.Ring(); };
  Result<std::unique_ptr<AgentThread>> thread =
      AgentThread::Start(std::move(options), ChooseTransports(TestKey(), choice));
  if (!thread) {
    return 3;
  }
  Agent& agent = (*thread)->agent();
  std::vector<std::byte> memory(there.size_bytes);
  const Descriptor here{.region = *agent.Register(memory, {}),
                        .offset = 0,
                        .size_bytes = there.size_bytes,
                        .generation = 0};
  const Result<TransferId> id = agent.Post({.operation = Operation::kRead,
                                            .peer = *agent.Connect(metadata),
                                            .local = {&here, 1},
                                            .remote = {&there, 1},
                                            .notification = std::nullopt,
                                            .deadline = In(15s)});
  TransferStatus status;
  const bool ended = id && bell.WaitFor([&] {
    status = agent.Poll(*id);
    return status.state != TransferState::kInProgress;
  });
  if (!ended || status.state != TransferState::kDone) {
    return 4;
  }
  const AgentCounters counters = agent.counters();
  const bool fell = counters.transports[0].transport == "shm" &&
                    counters.transports[0].fallbacks == 1 && counters.transports[1].reads == 1;
  return fell && memory[0] == std::byte{5} ? 0 : 5;
}

TEST(OtherUsers, ReadOverTcpWhetherTheyCanKnockAtTheSocketOrNot) {
  if (::geteuid() != 0) {
    GTEST_SKIP() << "only root can be another user";
  }
  for (const bool can_knock : {false, true}) {
    std::string folder = "/tmp/pixii-users-XXXXXX";
    ASSERT_NE(::mkdtemp(folder.data()), nullptr);
    ASSERT_EQ(::chmod(folder.c_str(), 0777), 0);
    ChoiceOptions choice = OptionsOf(Backend::kDefault, folder);
    int pipe[2] = {};
    ASSERT_EQ(::pipe(pipe), 0);
    // Before this process has threads.
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      Descriptor there;
      char metadata[kMetadataBytesMax];
      const bool told = ::read(pipe[0], &there, sizeof(there)) == sizeof(there);
      const ssize_t size = told ? ::read(pipe[0], metadata, sizeof(metadata)) : 0;
      ::_exit(ReadAsNobody(choice, {metadata, static_cast<std::size_t>(size)}, there));
    }
    {
      Result<std::unique_ptr<AgentThread>> thread =
          AgentThread::Start({}, ChooseTransports(TestKey(), choice));
      ASSERT_TRUE(thread) << thread.error().ToString();
      Agent& agent = (*thread)->agent();
      for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        ASSERT_EQ(::chmod(entry.path().c_str(), can_knock ? 0777 : 0700), 0);
      }
      const auto file =
          std::make_shared<const rt::MemoryFile>(std::move(*rt::MemoryFile::CreateSparse(4096)));
      file->bytes()[0] = std::byte{5};
      const RegionKey key = *agent.Register(file->bytes().first(4096), {.file = file});
      ASSERT_TRUE(agent.Open(key, {}, 1, Access::kRead));
      const Descriptor there{.region = key, .offset = 0, .size_bytes = 4096, .generation = 1};
      const std::string metadata = agent.Metadata();
      ASSERT_EQ(::write(pipe[1], &there, sizeof(there)), static_cast<ssize_t>(sizeof(there)));
      ASSERT_EQ(::write(pipe[1], metadata.data(), metadata.size()),
                static_cast<ssize_t>(metadata.size()));
      int status = 0;
      ASSERT_EQ(::waitpid(child, &status, 0), child);
      EXPECT_TRUE(WIFEXITED(status));
      EXPECT_EQ(WEXITSTATUS(status), 0) << can_knock;
      const AgentCounters counters = agent.counters();
      EXPECT_EQ(counters.transports[0].strangers_refused > 0, can_knock);
    }
    std::filesystem::remove_all(folder);
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
