#include "transport/faulty_transport.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <vector>

#include "rt/random.h"
#include "unit/transport/agents.h"

namespace pixii::transport {
namespace {

using rt::operator""s;
using rt::operator""ms;

class WithFaultsOver : public testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(All, WithFaultsOver, testing::Values("memory", "shm", "tcp"),
                         [](const auto& info) { return std::string(info.param); });

/// Random transfers, each of its own windows; what they ended with.
std::map<Code, int> Storm(Agents& agents, int count, std::uint64_t seed, bool expect_equal) {
  constexpr std::uint64_t kWindow = 16 << 10;
  constexpr std::uint64_t kWindows = 64;
  rt::Random random(seed);
  const Memory local = agents.MakeMemory(agents.client(), kWindow * kWindows, 1);
  const Memory remote = agents.MakeMemory(agents.server(), kWindow * kWindows, 2, kWindow);
  std::map<Code, int> ended;
  std::ranges::fill(remote.bytes, std::byte{0x5A});
  for (int i = 0; i < count; ++i) {
    const auto window = static_cast<std::uint32_t>(random.Below(kWindows));
    const auto generation = static_cast<std::uint64_t>(i) + 1;
    const bool reads = random.Chance(0.5);
    EXPECT_TRUE(agents.server().Open(remote.key, {.first = window, .count = 1}, generation,
                                     reads ? Access::kRead : Access::kWrite));
    const std::uint64_t at = window * kWindow;
    std::ranges::fill(local.bytes.subspan(at, kWindow), static_cast<std::byte>(random.Next()));
    const Descriptor here = local.At(at, kWindow);
    const Descriptor there = remote.At(at, kWindow, generation);
    const rt::Time begin = Now();
    const Result<TransferId> id = agents.client().Post({
        .operation = reads ? Operation::kRead : Operation::kWrite,
        .peer = agents.peer(),
        .local = {&here, 1},
        .remote = {&there, 1},
        .notification = std::nullopt,
        .deadline = begin + 150ms,
    });
    if (!id) {
      ++ended[id.error().code()];
      continue;
    }
    const TransferStatus status = agents.Await(*id);
    EXPECT_LT(Now() - begin, 5s) << "far behind its deadline";
    EXPECT_TRUE(agents.bell().WaitFor([&] {
      return agents.server().Close(remote.key, {.first = window, .count = 1}).has_value();
    }));
    if (status.state == TransferState::kDone) {
      const bool equal =
          std::ranges::equal(local.bytes.subspan(at, kWindow), remote.bytes.subspan(at, kWindow));
      EXPECT_TRUE(equal || !expect_equal) << "transfer " << i;
      ++ended[equal ? Code::kInternal : Code::kDataCorrupt];  // kInternal: it was right
    } else {
      ++ended[status.error->code()];
    }
    // Ours again: whatever comes late must change nothing.
    std::ranges::fill(remote.bytes.subspan(at, kWindow), std::byte{0x5A});
  }
  // Long enough for everything that was delayed or doubled.
  EXPECT_TRUE(agents.bell().WaitFor([limit = In(100ms)] { return Now() > limit; }));
  EXPECT_EQ(std::ranges::count(remote.bytes, std::byte{0x5A}),
            static_cast<std::ptrdiff_t>(remote.bytes.size()));
  EXPECT_EQ(agents.client().counters().transfers_running, 0u);
  EXPECT_TRUE(
      agents.bell().WaitFor([&] { return agents.client().Deregister(local.key).has_value(); }));
  EXPECT_TRUE(
      agents.bell().WaitFor([&] { return agents.server().Deregister(remote.key).has_value(); }));
  return ended;
}

constexpr Code kRight = Code::kInternal;

TEST_P(WithFaultsOver, EveryTransferEndsInTimeWithBytesOrATypedError) {
  constexpr std::uint64_t kSeed = 31;
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  Agents agents(GetParam(), {},
                FaultOptions{.seed = kSeed,
                             .drop = 0.02,
                             .delay = 0.2,
                             .duplicate = 0.3,
                             .cut = 0.05,
                             .delay_max = 10ms});
  std::map<Code, int> ended = Storm(agents, 300, kSeed, true);
  EXPECT_GT(ended[kRight], 200);
  EXPECT_GT(ended[Code::kDisconnected], 0);
  EXPECT_GT(ended[Code::kDeadlineExceeded], 0);
  for (const auto& [code, count] : ended) {
    EXPECT_TRUE(code == kRight || code == Code::kDisconnected || code == Code::kUnavailable ||
                code == Code::kDeadlineExceeded)
        << CodeName(code) << " " << count;
  }
}

TEST_P(WithFaultsOver, LateDoublesOfWritesChangeNothing) {
  Agents agents(GetParam(), {}, FaultOptions{.seed = 7, .duplicate = 1, .delay_max = 30ms});
  const Memory local = agents.MakeMemory(agents.client(), 4096, 1);
  const Memory remote = agents.MakeMemory(agents.server(), 4096, 2);
  for (std::uint64_t round = 1; round <= 10; ++round) {
    remote.Open(agents.server(), round, Access::kWrite);
    ASSERT_EQ(agents.Run(Operation::kWrite, {local.At(0, 4096)}, {remote.At(0, 4096, round)}).state,
              TransferState::kDone);
    ASSERT_TRUE(agents.bell().WaitFor(
        [&] { return agents.server().Close(remote.key, {.first = 0, .count = 1}).has_value(); }));
  }
  // Open again, for another content: doubles of the ten writes arrive meanwhile.
  remote.Open(agents.server(), 99, Access::kWrite);
  std::ranges::fill(remote.bytes, std::byte{0x5A});
  const std::uint64_t before = agents.server().counters().stale_refused;
  EXPECT_TRUE(agents.bell().WaitFor([limit = In(60ms)] { return Now() > limit; }));
  EXPECT_EQ(std::ranges::count(remote.bytes, std::byte{0x5A}), 4096);
  if (std::string_view(GetParam()) != "shm") {
    EXPECT_GT(agents.server().counters().stale_refused, before) << "they came";
  }
}

TEST_P(WithFaultsOver, BitsThatChangeUnseenAreForTheUsersOwnChecks) {
  Agents agents(GetParam(), {}, FaultOptions{.seed = 3, .corrupt = 0.5});
  std::map<Code, int> ended = Storm(agents, 60, 3, false);
  EXPECT_GT(ended[Code::kDataCorrupt], 10) << "bytes that differ under a transfer that is done";
  EXPECT_GT(ended[kRight], 10);
}

TEST_P(WithFaultsOver, ASlowLinkTakesItsTime) {
  Agents agents(GetParam(), {}, FaultOptions{.bytes_per_s_max = 10'000'000});
  const Memory local = agents.MakeMemory(agents.client(), 300'000, 1);
  const Memory remote = agents.MakeMemory(agents.server(), 300'000, 2);
  remote.Open(agents.server(), 1, Access::kRead);
  const rt::Time begin = Now();
  ASSERT_EQ(agents.Run(Operation::kRead, {local.At(0, 300'000)}, {remote.At(0, 300'000)}).state,
            TransferState::kDone);
  EXPECT_GE(Now() - begin, 30ms);
}

}  // namespace
}  // namespace pixii::transport
