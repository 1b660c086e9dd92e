#include "kernels/collective.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace pixii::kernels {
namespace {

enum class Kind : std::uint8_t { kThreads, kShared, kSharedSmallWindow };

std::string Path() {
  std::string name = ::testing::UnitTest::GetInstance()->current_test_info()->name();
  std::ranges::replace(name, '/', '-');
  return ::testing::TempDir() + "collective-" + name;
}

std::vector<std::byte> RandomBytes(std::size_t size, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> out(size);
  for (std::byte& byte : out) {
    byte = static_cast<std::byte>(random());
  }
  return out;
}

std::vector<float> RandomFloats(std::size_t size, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<float> values(-1000.0F, 1000.0F);
  std::vector<float> out(size);
  for (float& value : out) {
    value = values(random) * (random() % 3 == 0 ? 1e-6F : 1.0F);
  }
  return out;
}

// The tree of a sum, level by level, as the header says it.
float TreeSum(std::vector<float> values) {
  while (values.size() > 1) {
    std::vector<float> next;
    for (std::size_t i = 0; i < values.size(); i += 2) {
      next.push_back(i + 1 < values.size() ? values[i] + values[i + 1] : values[i]);
    }
    values = std::move(next);
  }
  return values[0];
}

bool SameBits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

class CollectiveTest : public ::testing::TestWithParam<Kind> {
 protected:
  using Body = std::function<void(Collective&)>;

  // `body` on a thread for each member. In shared memory each maps it anew, as a process would.
  void RunMembers(std::uint32_t size, const Body& body,
                  rt::Duration timeout = std::chrono::seconds(60)) {
    const CollectiveOptions options{.size = size, .timeout = timeout};
    std::vector<std::unique_ptr<Collective>> members;
    if (GetParam() == Kind::kThreads) {
      members = std::move(*MakeThreadCollective(options));
    }
    members.resize(size);
    std::vector<std::thread> threads;
    for (std::uint32_t rank = 0; rank < size; ++rank) {
      threads.emplace_back([&, rank] {
        if (members[rank] == nullptr) {
          auto joined = JoinSharedCollective({.group = options,
                                              .path = Path(),
                                              .rank = rank,
                                              .window_bytes = GetParam() == Kind::kSharedSmallWindow
                                                                  ? std::size_t{24}
                                                                  : std::size_t{4096}});
          ASSERT_TRUE(joined) << joined.error().ToString();
          members[rank] = std::move(*joined);
        }
        EXPECT_EQ(members[rank]->rank(), rank);
        EXPECT_EQ(members[rank]->size(), size);
        body(*members[rank]);
        members[rank].reset();
      });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
    EXPECT_FALSE(std::filesystem::exists(Path()));
  }

  std::atomic<bool> late_ = false;
};

TEST_P(CollectiveTest, EveryVerbGivesEveryMemberWhatItSays) {
  for (const std::uint32_t size : {1U, 2U, 3U, 5U, 8U}) {
    RunMembers(size, [&](Collective& member) {
      const std::uint32_t rank = member.rank();
      for (std::uint64_t round = 0; round < 20; ++round) {
        ASSERT_TRUE(member.Barrier());
        // Broadcast.
        const std::uint32_t root = static_cast<std::uint32_t>(round) % size;
        const std::vector<std::byte> said = RandomBytes(round * 37, round);
        std::vector<std::byte> data = rank == root ? said : std::vector<std::byte>(said.size());
        ASSERT_TRUE(member.Broadcast(root, data));
        EXPECT_EQ(data, said);
        // Gather, of different sizes and none.
        const auto part_of = [&](std::uint32_t of) {
          return RandomBytes((of * 131 + round * 17) % 300, of * 1000 + round);
        };
        std::vector<std::byte> expected;
        for (std::uint32_t of = 0; of < size; ++of) {
          const std::vector<std::byte> part = part_of(of);
          expected.insert(expected.end(), part.begin(), part.end());
        }
        std::vector<std::byte> gathered(expected.size());
        ASSERT_TRUE(member.AllGather(part_of(rank), gathered));
        EXPECT_EQ(gathered, expected);
        std::vector<std::size_t> sizes;
        ASSERT_TRUE(member.AllGatherAny(part_of(rank), gathered, sizes));
        EXPECT_EQ(gathered, expected);
        EXPECT_EQ(sizes.at(size - 1), part_of(size - 1).size());
        // All to all: from a to b goes something of their own.
        const auto sent = [&](std::uint32_t from, std::uint32_t to) {
          return RandomBytes((from * 53 + to * 29 + round) % 120, from * 100 + to + round * 10'000);
        };
        std::vector<std::vector<std::byte>> out;
        std::vector<std::vector<std::byte>> in;
        for (std::uint32_t other = 0; other < size; ++other) {
          out.push_back(sent(rank, other));
          in.emplace_back(sent(other, rank).size());
        }
        ASSERT_TRUE(member.AllToAll(std::vector<std::span<const std::byte>>(out.begin(), out.end()),
                                    std::vector<std::span<std::byte>>(in.begin(), in.end())));
        for (std::uint32_t other = 0; other < size; ++other) {
          EXPECT_EQ(in[other], sent(other, rank)) << other << " to " << rank;
        }
      }
    });
  }
}

TEST_P(CollectiveTest, SumsHaveTheBitsOfTheirTreeWhoeverComesFirst) {
  constexpr std::size_t kPart = 33;
  for (const std::uint32_t size : {1U, 2U, 3U, 6U, 8U}) {
    std::vector<float> expected;
    for (std::size_t i = 0; i < size * kPart; ++i) {
      std::vector<float> column;
      for (std::uint32_t rank = 0; rank < size; ++rank) {
        column.push_back(RandomFloats(size * kPart, rank)[i]);
      }
      expected.push_back(TreeSum(column));
    }
    RunMembers(size, [&](Collective& member) {
      std::mt19937_64 random(member.rank());
      for (int round = 0; round < 30; ++round) {
        for (std::uint64_t spin = random() % 3000; spin > 0; --spin) {
          std::atomic_signal_fence(std::memory_order_seq_cst);
        }
        std::vector<float> values = RandomFloats(size * kPart, member.rank());
        std::vector<float> part(kPart);
        ASSERT_TRUE(member.ReduceScatter(values, part));
        EXPECT_TRUE(SameBits(part, std::span(expected).subspan(member.rank() * kPart, kPart)));
        ASSERT_TRUE(member.AllReduce(values));
        EXPECT_TRUE(SameBits(values, expected));
        values = RandomFloats(size * kPart, member.rank());
        values.pop_back();  // no whole number of shares
        ASSERT_TRUE(member.AllReduce(values));
        EXPECT_TRUE(SameBits(values, std::span(expected).first(values.size())));
      }
    });
  }
}

// Small sums are taken by all members, large ones by shares: in the same tree.
TEST_P(CollectiveTest, ASumHasTheSameBitsWhetherItIsTakenAtOnceOrByShares) {
  constexpr std::size_t kLarge = 20'003;  // floats: beyond 64 KiB, and no whole number of shares
  std::vector<std::vector<float>> values;
  for (std::uint32_t rank = 0; rank < 4; ++rank) {
    values.push_back(RandomFloats(kLarge, rank));
  }
  RunMembers(4, [&](Collective& member) {
    std::vector<float> large = values[member.rank()];
    ASSERT_TRUE(member.AllReduce(large));
    for (std::size_t begin = 0; begin < kLarge; begin += 5'000) {
      const std::size_t count = std::min<std::size_t>(5'000, kLarge - begin);
      std::vector<float> small(
          values[member.rank()].begin() + static_cast<std::ptrdiff_t>(begin),
          values[member.rank()].begin() + static_cast<std::ptrdiff_t>(begin + count));
      ASSERT_TRUE(member.AllReduce(small));
      EXPECT_TRUE(SameBits(small, std::span(large).subspan(begin, count)));
    }
  });
}

// What tensor parallelism relies on: who sums more shards itself, in the same tree, gets the same.
TEST_P(CollectiveTest, EightShardsHaveOneSumHoweverManyMembersShareThem) {
  constexpr std::size_t kSize = 100;
  std::vector<float> expected;
  for (const std::uint32_t size : {1U, 2U, 4U, 8U}) {
    std::vector<float> sum;
    RunMembers(size, [&](Collective& member) {
      const std::uint32_t shards = 8 / size;
      std::vector<float> values(kSize);
      for (std::size_t i = 0; i < kSize; ++i) {
        std::vector<float> own;
        for (std::uint32_t shard = 0; shard < shards; ++shard) {
          own.push_back(RandomFloats(kSize, member.rank() * shards + shard)[i]);
        }
        values[i] = TreeSum(own);
      }
      ASSERT_TRUE(member.AllReduce(values));
      if (member.rank() == size - 1) {
        sum = values;
      }
    });
    expected = expected.empty() ? sum : expected;
    EXPECT_TRUE(SameBits(sum, expected)) << size;
  }
}

TEST_P(CollectiveTest, AMemberThatEndsEndsTheGroup) {
  RunMembers(3, [&](Collective& member) {
    ASSERT_TRUE(member.Barrier());
    if (member.rank() == 1) {
      return;
    }
    std::vector<float> values(10);
    const Result<void> failed = member.AllReduce(values);
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code(), Code::kUnavailable);
    EXPECT_EQ(failed.error().detail(), "member 1 of the group has ended");
    EXPECT_EQ(member.Barrier().error().detail(), failed.error().detail()) << "and so it stays";
  });
}

TEST_P(CollectiveTest, AMemberMayGiveUp) {
  RunMembers(3, [&](Collective& member) {
    if (member.rank() == 2) {
      member.Abort();
    }
    const Result<void> failed = member.Barrier();
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().detail(), "member 2 of the group gave up");
  });
}

TEST_P(CollectiveTest, AMemberThatDoesNotComeInTimeEndsTheGroup) {
  RunMembers(
      3,
      [&](Collective& member) {
        ASSERT_TRUE(member.Barrier());
        if (member.rank() == 0) {
          while (!late_) {
            std::this_thread::yield();
          }
          EXPECT_EQ(member.Barrier().error().code(), Code::kDeadlineExceeded);
          return;
        }
        const Result<void> failed = member.Barrier();
        ASSERT_FALSE(failed);
        EXPECT_EQ(failed.error().code(), Code::kDeadlineExceeded);
        EXPECT_NE(failed.error().detail().find("member 0"), std::string::npos);
        late_ = true;
      },
      std::chrono::milliseconds(60));
}

TEST_P(CollectiveTest, CallsThatDoNotFitEndTheGroup) {
  const std::function<Result<void>(Collective&)> misfits[] = {
      [](Collective& member) {
        std::vector<float> values(6);
        return member.rank() == 0 ? member.Barrier() : member.AllReduce(values);
      },
      [](Collective& member) {
        std::vector<std::byte> data(member.rank() == 0 ? 8 : 9);
        return member.Broadcast(0, data);
      },
      [](Collective& member) {
        std::vector<float> values(member.rank() == 0 ? 3 : 6);
        std::vector<float> part(values.size() / 3);
        return member.ReduceScatter(values, part);
      }};
  for (const auto& misfit : misfits) {
    RunMembers(3, [&](Collective& member) {
      // Who noticed first is named; nobody gets a result.
      Result<void> failed = misfit(member);
      for (int i = 0; i < 100 && failed; ++i) {
        failed = member.Barrier();
      }
      ASSERT_FALSE(failed);
      EXPECT_EQ(failed.error().code(), Code::kUnavailable);
      EXPECT_FALSE(member.Barrier());
    });
  }
}

TEST_P(CollectiveTest, AGroupThatIsMisusedSaysSo) {
  RunMembers(2, [&](Collective& member) {
    if (member.rank() == 0) {
      std::vector<float> values(5);
      std::vector<float> part(2);
      EXPECT_EQ(member.ReduceScatter(values, part).error().code(), Code::kInvalidArgument);
    } else {
      EXPECT_EQ(member.Barrier().error().code(), Code::kUnavailable);
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Kinds, CollectiveTest,
                         ::testing::Values(Kind::kThreads, Kind::kShared,
                                           Kind::kSharedSmallWindow));

TEST(Collective, AGroupHasSoManyMembers) {
  EXPECT_EQ(MakeThreadCollective({.size = 0}).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(MakeThreadCollective({.size = kCollectiveSizeMax + 1}).error().code(),
            Code::kInvalidArgument);
  EXPECT_EQ(JoinSharedCollective({.group = {.size = 2}, .path = Path(), .rank = 2}).error().code(),
            Code::kInvalidArgument);
}

TEST(Collective, WhoComesAloneWaitsOnlySoLong) {
  const auto joined = JoinSharedCollective(
      {.group = {.size = 2, .timeout = std::chrono::milliseconds(60)}, .path = Path(), .rank = 0});
  EXPECT_EQ(joined.error().code(), Code::kDeadlineExceeded);
  std::filesystem::remove(Path());
}

// Joins as `rank`, does `body` and ends, whatever becomes of the test.
pid_t StartMember(std::uint32_t rank, std::uint32_t size,
                  const std::function<void(Collective&)>& body) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    auto joined = JoinSharedCollective(
        {.group = {.size = size}, .path = Path(), .rank = rank, .window_bytes = 256});
    if (joined) {
      body(**joined);
    }
    ::_exit(joined ? 0 : 1);  // no destructor: as if it were killed
  }
  return pid;
}

TEST(Collective, ProcessesShareAGroupAndADeadOneIsNoticed) {
  const auto sum = [](Collective& member) {
    std::vector<float> values(1000, static_cast<float>(member.rank() + 1));
    return member.AllReduce(values) && values[999] == 6.0F;
  };
  std::vector<pid_t> children;
  for (std::uint32_t rank = 1; rank < 3; ++rank) {
    children.push_back(StartMember(rank, 3, [&](Collective& member) {
      if (!sum(member)) {
        ::_exit(2);
      }
      if (member.rank() == 2) {
        (void)member.Barrier();  // waits for the others until one of them is gone
      }
    }));
  }
  auto joined =
      JoinSharedCollective({.group = {.size = 3}, .path = Path(), .rank = 0, .window_bytes = 256});
  ASSERT_TRUE(joined) << joined.error().ToString();
  EXPECT_TRUE(sum(**joined));
  const auto begin = std::chrono::steady_clock::now();
  const Result<void> failed = (*joined)->Barrier();  // rank 1 is not there any more
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().detail(), "member 1 of the group has ended");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
  for (const pid_t child : children) {
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  EXPECT_FALSE(std::filesystem::exists(Path()));
}

}  // namespace
}  // namespace pixii::kernels
