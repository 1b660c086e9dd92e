#include "transport/transfer_agent.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <vector>

#include "rt/random.h"
#include "unit/transport/agents.h"

namespace pixii::transport {
namespace {

using rt::operator""s;
using rt::operator""ms;

class OverBackend : public testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(All, OverBackend,
                         testing::Values("memory", "shm", "tcp", "tcp_unchecked", "ucx",
                                         "libfabric"),
                         [](const auto& info) { return std::string(info.param); });

/// A random list of pairs that do not overlap where they are written.
struct Lists {
  std::vector<Descriptor> local;
  std::vector<Descriptor> remote;
};

Lists DrawLists(rt::Random& random, const Memory& local, const Memory& remote,
                std::uint64_t count) {
  Lists lists;
  // Both memories are cut at the same number of places, and pieces matched in another order.
  const std::uint64_t piece = local.bytes.size() / count;
  std::vector<std::uint64_t> order(count);
  for (std::uint64_t i = 0; i < count; ++i) {
    order[i] = i;
  }
  for (std::uint64_t i = count; i > 1; --i) {
    std::swap(order[i - 1], order[random.Below(i)]);
  }
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t size = 1 + random.Below(piece);
    const std::uint64_t skip = random.Below(piece - size + 1);
    lists.local.push_back(local.At(i * piece + skip, size));
    lists.remote.push_back(remote.At(order[i] * piece + random.Below(piece - size + 1), size));
  }
  return lists;
}

std::vector<std::byte> Copy(const Memory& memory) {
  return {memory.bytes.begin(), memory.bytes.end()};
}

TEST_P(OverBackend, RandomListsEqualCopiesOfMemory) {
  constexpr std::uint64_t kSeed = 20'261'122;
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  Agents agents(GetParam());
  rt::Random random(kSeed);
  const Memory local = agents.MakeMemory(agents.client(), 3 << 20, 1);
  const Memory remote = agents.MakeMemory(agents.server(), 3 << 20, 2);
  remote.Open(agents.server(), 1, Access::kReadWrite);
  for (int round = 0; round < 60; ++round) {
    const std::uint64_t counts[] = {1, 2, 7, 64, 300};
    const Lists lists = DrawLists(random, local, remote, counts[random.Below(5)]);
    const bool reads = random.Chance(0.5);
    std::vector<std::byte> local_wanted = Copy(local);
    std::vector<std::byte> remote_wanted = Copy(remote);
    for (std::size_t i = 0; i < lists.local.size(); ++i) {
      std::byte* here = local_wanted.data() + lists.local[i].offset;
      std::byte* there = remote_wanted.data() + lists.remote[i].offset;
      std::copy_n(reads ? there : here, lists.local[i].size_bytes, reads ? here : there);
    }
    const TransferStatus status =
        agents.Run(reads ? Operation::kRead : Operation::kWrite, lists.local, lists.remote);
    ASSERT_EQ(status.state, TransferState::kDone) << status.error->ToString();
    ASSERT_EQ(Copy(local), local_wanted) << "round " << round;
    ASSERT_EQ(Copy(remote), remote_wanted) << "round " << round;
    // Other bytes for the next one.
    for (int i = 0; i < 1000; ++i) {
      local.bytes[random.Below(local.bytes.size())] = static_cast<std::byte>(random.Next());
    }
  }
  const AgentCounters counters = agents.client().counters();
  EXPECT_EQ(counters.transfers_done, 60u);
  EXPECT_EQ(counters.transfers_running, 0u);
  EXPECT_GT(counters.read_bytes, 0u);
  EXPECT_GT(counters.written_bytes, 0u);
}

TEST_P(OverBackend, ManyTransfersRunBesideOneAnother) {
  Agents agents(GetParam(), {.wake = nullptr, .inline_bytes_max = 0});
  constexpr std::uint64_t kCount = 200;
  constexpr std::uint64_t kSize = 40'000;
  const Memory local = agents.MakeMemory(agents.client(), kCount * kSize, 1);
  const Memory remote = agents.MakeMemory(agents.server(), kCount * kSize, 2);
  remote.Open(agents.server(), 1, Access::kRead);
  std::vector<TransferId> ids;
  for (std::uint64_t i = 0; i < kCount; ++i) {
    const Descriptor here = local.At(i * kSize, kSize);
    const Descriptor there = remote.At((kCount - 1 - i) * kSize, kSize);
    Result<TransferId> id = agents.client().Post({.operation = Operation::kRead,
                                                  .peer = agents.peer(),
                                                  .local = {&here, 1},
                                                  .remote = {&there, 1},
                                                  .notification = std::to_string(i),
                                                  .deadline = In(15s)});
    ASSERT_TRUE(id) << id.error().ToString();
    ids.push_back(*id);
  }
  for (std::uint64_t i = 0; i < kCount; ++i) {
    const TransferStatus status = agents.Await(ids[i]);
    ASSERT_EQ(status.state, TransferState::kDone) << status.error->ToString();
    EXPECT_TRUE(std::equal(local.bytes.begin() + i * kSize, local.bytes.begin() + (i + 1) * kSize,
                           remote.bytes.begin() + (kCount - 1 - i) * kSize));
  }
  std::vector<bool> heard(kCount);
  for (std::uint64_t i = 0; i < kCount; ++i) {
    const std::optional<Notification> notification = agents.AwaitNotification(agents.server());
    ASSERT_TRUE(notification);
    EXPECT_EQ(notification->from, agents.client().id());
    heard[std::stoull(notification->bytes)] = true;
  }
  EXPECT_EQ(std::count(heard.begin(), heard.end(), true), static_cast<std::ptrdiff_t>(kCount));
}

TEST_P(OverBackend, ANotificationComesAfterTheBytesOfItsWrite) {
  Agents agents(GetParam());
  const Memory local = agents.MakeMemory(agents.client(), 100'000, 1);
  const Memory remote = agents.MakeMemory(agents.server(), 100'000, 2);
  remote.Open(agents.server(), 1, Access::kWrite);
  for (int round = 0; round < 50; ++round) {
    std::ranges::fill(local.bytes, static_cast<std::byte>(round));
    const Descriptor here = local.At(0, 100'000);
    const Descriptor there = remote.At(0, 100'000);
    Result<TransferId> id = agents.client().Post({.operation = Operation::kWrite,
                                                  .peer = agents.peer(),
                                                  .local = {&here, 1},
                                                  .remote = {&there, 1},
                                                  .notification = "written",
                                                  .deadline = In(15s)});
    ASSERT_TRUE(id);
    const std::optional<Notification> notification = agents.AwaitNotification(agents.server());
    ASSERT_TRUE(notification);
    EXPECT_EQ(notification->bytes, "written");
    EXPECT_EQ(std::ranges::count(remote.bytes, static_cast<std::byte>(round)), 100'000);
    EXPECT_EQ(agents.Await(*id).state, TransferState::kDone);
  }
}

TEST_P(OverBackend, WhatIsNotOpenWithThisGenerationIsNeitherReadNorWritten) {
  Agents agents(GetParam());
  constexpr std::uint64_t kWindow = 4096;
  const Memory local = agents.MakeMemory(agents.client(), 16 * kWindow, 1);
  const Memory remote = agents.MakeMemory(agents.server(), 16 * kWindow, 2, kWindow);
  ASSERT_TRUE(agents.server().Open(remote.key, {.first = 0, .count = 8}, 5, Access::kRead));
  ASSERT_TRUE(agents.server().Open(remote.key, {.first = 8, .count = 8}, 5, Access::kWrite));
  const std::vector<std::byte> before = Copy(remote);
  const auto refused = [&](Operation operation, Descriptor there) {
    Descriptor here = local.At(0, there.size_bytes);
    const TransferStatus status = agents.Run(operation, {here}, {there}, "never told");
    EXPECT_EQ(status.state, TransferState::kFailed);
    EXPECT_EQ(status.error ? status.error->code() : Code::kInternal, Code::kNotFound)
        << (status.error ? status.error->ToString() : "");
  };
  EXPECT_EQ(agents.Run(Operation::kRead, {local.At(0, kWindow)}, {remote.At(0, kWindow, 5)}).state,
            TransferState::kDone);
  refused(Operation::kRead, remote.At(0, kWindow, 4));
  refused(Operation::kRead, remote.At(0, kWindow, 6));
  refused(Operation::kRead, remote.At(8 * kWindow, kWindow, 5));
  refused(Operation::kRead, remote.At(7 * kWindow, 2 * kWindow, 5));
  refused(Operation::kWrite, remote.At(0, kWindow, 5));
  refused(Operation::kWrite, remote.At(8 * kWindow, kWindow, 4));
  refused(Operation::kRead, remote.At(16 * kWindow - 1, 2, 5));
  Descriptor unknown = remote.At(0, 1, 5);
  unknown.region = RegionKey{12345};
  refused(Operation::kRead, unknown);
  ASSERT_TRUE(agents.server().Close(remote.key, {.first = 0, .count = 16}));
  refused(Operation::kRead, remote.At(0, kWindow, 5));
  refused(Operation::kWrite, remote.At(8 * kWindow, kWindow, 5));
  EXPECT_EQ(Copy(remote), before);
  Notification none;
  EXPECT_FALSE(agents.server().TakeNotification(none)) << "nothing is told of what failed";
}

TEST_P(OverBackend, LateWritesChangeNothing) {
  Agents agents(GetParam(), {.wake = nullptr, .inline_bytes_max = 0});
  constexpr std::size_t kSize = 4 << 20;
  const Memory local = agents.MakeMemory(agents.client(), kSize, 1);
  const Memory remote = agents.MakeMemory(agents.server(), kSize, 2);
  std::ranges::fill(local.bytes, std::byte{1});
  int refused = 0;
  for (std::uint64_t round = 1; refused < 20; ++round) {
    ASSERT_LT(round, 2'000u) << "no round closed in time to mean anything";
    remote.Open(agents.server(), round, Access::kWrite);
    const Descriptor here = local.At(0, kSize);
    const Descriptor there = remote.At(0, kSize, round);
    Result<TransferId> id = agents.client().Post({.operation = Operation::kWrite,
                                                  .peer = agents.peer(),
                                                  .local = {&here, 1},
                                                  .remote = {&there, 1},
                                                  .notification = std::nullopt,
                                                  .deadline = In(15s)});
    ASSERT_TRUE(id);
    // Before it or somewhere in the midst of it.
    const rt::Time until = Now() + rt::Duration(round % 40 * 25'000);
    while (Now() < until) {
    }
    while (!agents.server().Close(remote.key, {.first = 0, .count = 1})) {
    }
    std::ranges::fill(remote.bytes, std::byte{9});
    const TransferStatus status = agents.Await(*id);
    EXPECT_EQ(std::ranges::count(remote.bytes, std::byte{9}), static_cast<std::ptrdiff_t>(kSize));
    if (status.state != TransferState::kDone) {
      ++refused;
      EXPECT_EQ(status.error->code(), Code::kNotFound) << status.error->ToString();
    }
  }
}

TEST_P(OverBackend, AReadOfMemoryThatIsReusedMeanwhileIsNeverTakenForWhole) {
  Agents agents(GetParam(), {.wake = nullptr, .inline_bytes_max = 0});
  constexpr std::size_t kSize = 4 << 20;
  const Memory local = agents.MakeMemory(agents.client(), kSize, 1);
  const Memory remote = agents.MakeMemory(agents.server(), kSize, 2);
  for (std::uint64_t round = 1; round <= 40; ++round) {
    std::ranges::fill(remote.bytes, std::byte{1});
    remote.Open(agents.server(), round, Access::kRead);
    const Descriptor here = local.At(0, kSize);
    const Descriptor there = remote.At(0, kSize, round);
    Result<TransferId> id = agents.client().Post({.operation = Operation::kRead,
                                                  .peer = agents.peer(),
                                                  .local = {&here, 1},
                                                  .remote = {&there, 1},
                                                  .notification = std::nullopt,
                                                  .deadline = In(15s)});
    ASSERT_TRUE(id);
    const rt::Time until = Now() + rt::Duration(round * 25'000);
    while (Now() < until) {
    }
    while (!agents.server().Close(remote.key, {.first = 0, .count = 1})) {
    }
    std::ranges::fill(remote.bytes, std::byte{2});
    const TransferStatus status = agents.Await(*id);
    if (status.state == TransferState::kDone) {
      EXPECT_EQ(std::ranges::count(local.bytes, std::byte{1}), static_cast<std::ptrdiff_t>(kSize));
    } else {
      EXPECT_EQ(status.error->code(), Code::kNotFound) << status.error->ToString();
    }
  }
}

TEST_P(OverBackend, AListThatIsNoListOfPairsIsRefusedByName) {
  Agents agents(GetParam());
  const Memory local = agents.MakeMemory(agents.client(), 100, 1);
  const Memory remote = agents.MakeMemory(agents.server(), 100, 2);
  const auto param = [&](std::vector<Descriptor> here, std::vector<Descriptor> there) {
    return agents.Run(Operation::kRead, std::move(here), std::move(there)).error->param();
  };
  EXPECT_EQ(param({local.At(0, 10)}, {}), "local");
  EXPECT_EQ(param({local.At(0, 10)}, {remote.At(0, 9)}), "remote");
  EXPECT_EQ(param({local.At(0, 0)}, {remote.At(0, 0)}), "remote");
  EXPECT_EQ(param({local.At(91, 10)}, {remote.At(0, 10)}), "local");
  EXPECT_EQ(param({remote.At(0, 10)}, {remote.At(0, 10)}), "local") << "not a region of ours";
  EXPECT_EQ(param({local.At(0, 10)}, {remote.At(~std::uint64_t{0}, 10)}), "remote");
  const Result<TransferId> endless = agents.client().Post({.operation = Operation::kRead,
                                                           .peer = agents.peer(),
                                                           .local = {},
                                                           .remote = {},
                                                           .notification = "x",
                                                           .deadline = rt::kNever});
  EXPECT_EQ(endless.error().param(), "deadline");
  EXPECT_EQ(agents.client().Poll(TransferId{999}).error->code(), Code::kNotFound);
}

TEST_P(OverBackend, TransfersToAPeerThatIsGoneFailInTime) {
  Agents agents(GetParam());
  const Memory local = agents.MakeMemory(agents.client(), 1000, 1);
  const Memory remote = agents.MakeMemory(agents.server(), 1000, 2);
  remote.Open(agents.server(), 1, Access::kRead);
  const TransferStatus before = agents.Run(Operation::kRead, {local.At(0, 10)}, {remote.At(0, 10)});
  ASSERT_EQ(before.state, TransferState::kDone) << before.error->ToString();
  agents.StopServer();
  bool failed = false;
  // A peer that is gone may be seen a moment later where memory is shared.
  EXPECT_TRUE(agents.bell().WaitFor([&] {
    const TransferStatus status =
        agents.Run(Operation::kRead, {local.At(0, 10)}, {remote.At(0, 10)});
    failed = status.state == TransferState::kFailed;
    return failed && (status.error->code() == Code::kDisconnected ||
                      status.error->code() == Code::kUnavailable);
  }));
}

TEST_P(OverBackend, CancelledAndReleasedTransfersLeaveNothing) {
  Agents agents(GetParam(), {.wake = nullptr, .inline_bytes_max = 0});
  constexpr std::size_t kSize = 8 << 20;
  const Memory local = agents.MakeMemory(agents.client(), kSize, 1);
  const Memory unpolled = agents.MakeMemory(agents.client(), kSize, 1);
  const Memory remote = agents.MakeMemory(agents.server(), kSize, 2);
  remote.Open(agents.server(), 1, Access::kReadWrite);
  for (int round = 0; round < 30; ++round) {
    const Descriptor here = (round % 3 == 0 ? unpolled : local).At(0, kSize);
    const Descriptor there = remote.At(0, kSize);
    Result<TransferId> id =
        agents.client().Post({.operation = round % 2 == 0 ? Operation::kRead : Operation::kWrite,
                              .peer = agents.peer(),
                              .local = {&here, 1},
                              .remote = {&there, 1},
                              .notification = std::nullopt,
                              .deadline = In(15s)});
    ASSERT_TRUE(id);
    if (round % 3 == 0) {
      agents.client().Release(*id);
    } else {
      agents.client().Cancel(*id);
      const TransferStatus status = agents.Await(*id);
      EXPECT_NE(status.state, TransferState::kFailed);
      // Ours again.
      std::ranges::fill(local.bytes, static_cast<std::byte>(round));
      EXPECT_EQ(std::ranges::count(local.bytes, static_cast<std::byte>(round)),
                static_cast<std::ptrdiff_t>(kSize));
    }
  }
  EXPECT_TRUE(
      agents.bell().WaitFor([&] { return agents.client().counters().transfers_running == 0; }));
  for (const Memory* memory : {&local, &unpolled}) {
    EXPECT_TRUE(
        agents.bell().WaitFor([&] { return agents.client().Deregister(memory->key).has_value(); }));
  }
  EXPECT_TRUE(
      agents.bell().WaitFor([&] { return agents.server().Deregister(remote.key).has_value(); }));
}

TEST_P(OverBackend, NotificationsAloneKeepTheirOrder) {
  Agents agents(GetParam());
  ASSERT_TRUE(agents.bell().WaitFor(
      [&] { return agents.client().peer(agents.peer()).state == PeerState::kConnected; }));
  for (int i = 0; i < 300; ++i) {
    const std::string bytes =
        std::to_string(i) + std::string(static_cast<std::size_t>(i * 13), '.');
    ASSERT_TRUE(agents.bell().WaitFor([&] {
      const Result<void> sent = agents.client().Notify(agents.peer(), bytes);
      EXPECT_TRUE(sent || sent.error().code() == Code::kResourceExhausted);
      return sent.has_value();
    }));
    if (i % 7 == 0 || i == 299) {
      continue;
    }
    const std::optional<Notification> heard = agents.AwaitNotification(agents.server());
    ASSERT_TRUE(heard);
  }
  int last = -1;
  std::optional<Notification> heard;
  while (last < 299 && (heard = agents.AwaitNotification(agents.server()))) {
    const int now = std::stoi(heard->bytes);
    EXPECT_GT(now, last);
    EXPECT_EQ(heard->bytes.size(), std::to_string(now).size() + static_cast<std::size_t>(now * 13));
    last = now;
  }
  EXPECT_EQ(last, 299);
  const std::string long_one(kNotificationBytesMax + 1, 'x');
  EXPECT_EQ(agents.client().Notify(agents.peer(), long_one).error().param(), "bytes");
}

// Over shm the thread that posts copies by itself, from memory that the loop unmaps.
TEST(SharedMemory, RegionsGoWhileAnotherThreadReadsThem) {
  constexpr std::uint64_t kSize = 120'000;
  constexpr std::uint64_t kReadsPerRegion = 20;
  Agents agents("shm");
  const Memory local = agents.MakeMemory(agents.client(), kSize, 1);
  std::atomic<std::uint64_t> key{0};
  std::atomic<std::uint64_t> reads{0};
  std::atomic<bool> over{false};
  rt::Thread reader("reader", [&] {
    while (!over.load()) {
      const TransferStatus status = agents.Run(Operation::kRead, {local.At(0, kSize)},
                                               {{.region = static_cast<RegionKey>(key.load()),
                                                 .offset = 0,
                                                 .size_bytes = kSize,
                                                 .generation = 1}});
      if (status.state != TransferState::kDone) {
        EXPECT_EQ(status.error->code(), Code::kNotFound) << status.error->ToString();
      }
      reads.fetch_add(1);
    }
  });
  for (int round = 0; round < 100; ++round) {
    const Memory remote = agents.MakeMemory(agents.server(), kSize, 2);
    remote.Open(agents.server(), 1, Access::kRead);
    key.store(static_cast<std::uint64_t>(remote.key));
    const std::uint64_t before = reads.load();
    EXPECT_TRUE(agents.bell().WaitFor([&] { return reads.load() >= before + kReadsPerRegion; }));
    EXPECT_TRUE(agents.server().Deregister(remote.key));
  }
  over.store(true);
  reader.Join();
  EXPECT_GE(agents.client().counters().transfers_done, 100u);
}

}  // namespace
}  // namespace pixii::transport
