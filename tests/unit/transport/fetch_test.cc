// What is read together, in which order, and what is not begun: with a library that only notes it.
#include "transport/fetch.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "rt/loop.h"
#include "rt/random.h"

namespace pixii::transport {
namespace {

constexpr std::uint64_t kMebibyte = 1 << 20;

struct Noted {
  std::vector<fabric_abi::Piece> pieces;
  fabric_abi::Done done = nullptr;
  void* self = nullptr;

  std::uint64_t size_bytes() const {
    std::uint64_t sum = 0;
    for (const fabric_abi::Piece& piece : pieces) {
      sum += piece.size;
    }
    return sum;
  }
};

/// The library's functions have no other way to it.
struct Notes {
  int descriptor = ::eventfd(0, EFD_CLOEXEC);
  std::vector<Noted> reads;

  ~Notes() { ::close(descriptor); }
};

Notes* notes = nullptr;

constexpr fabric_abi::Library kNoting{
    .name = "noting",
    .open = [](const fabric_abi::Options* /*options*/,
               fabric_abi::Fabric** /*fabric*/) -> const char* { return nullptr; },
    .close = [](fabric_abi::Fabric* /*fabric*/) {},
    .progress = [](fabric_abi::Fabric* /*fabric*/) -> std::uint32_t { return 0; },
    .descriptor = [](fabric_abi::Fabric* /*fabric*/) { return notes->descriptor; },
    .arm = [](fabric_abi::Fabric* /*fabric*/) { return true; },
    .drop_key = [](fabric_abi::Key* /*key*/) {},
    .pieces_max = [](fabric_abi::Fabric* /*fabric*/) -> std::size_t { return 4; },
    .read =
        [](const fabric_abi::Piece* pieces, std::size_t count, fabric_abi::Done done, void* self) {
          notes->reads.push_back({.pieces = {pieces, pieces + count}, .done = done, .self = self});
          return fabric_abi::Begun::kRuns;
        }};

class Fetches : public testing::Test {
 protected:
  Fetches() {
    notes = &notes_;
    fabric_ = *Fabric::Open(*loop_, {.file = nullptr, .functions = &kNoting}, "");
    queue_ = std::make_unique<FetchQueue>(*fabric_);
  }

  /// Of parts of these sizes, one behind the other from `to` and from `from`.
  std::shared_ptr<Fetch> Add(const std::vector<std::uint64_t>& sizes, std::uint64_t from) {
    auto fetch = std::make_shared<Fetch>();
    std::uint64_t at = 0;
    for (const std::uint64_t size : sizes) {
      Fetch::Part& part = fetch->parts.emplace_back();
      part.to = reinterpret_cast<std::byte*>(from + at);  // nobody writes there
      part.from = from + at;
      part.size_bytes = size;
      at += size;
    }
    fetch->ended = [this](Result<void> result) { ends_.push_back(std::move(result)); };
    queue_->Add(fetch);
    return fetch;
  }

  /// Ends a read of those that run.
  Noted End(std::size_t index) {
    Noted read = notes_.reads[index];
    notes_.reads.erase(notes_.reads.begin() + static_cast<std::ptrdiff_t>(index));
    read.done(read.self, true);
    return read;
  }

  Notes notes_;
  std::unique_ptr<rt::Loop> loop_ = *rt::MakeLoop();
  std::unique_ptr<Fabric> fabric_;
  std::unique_ptr<FetchQueue> queue_;
  std::vector<Result<void>> ends_;
};

TEST_F(Fetches, SmallPartsAreReadTogether) {
  Add(std::vector<std::uint64_t>(10, 100), 1000);
  queue_->Settle();
  ASSERT_EQ(notes_.reads.size(), 3u);
  EXPECT_EQ(notes_.reads[0].pieces.size(), 4u);
  EXPECT_EQ(notes_.reads[1].pieces.size(), 4u);
  EXPECT_EQ(notes_.reads[2].pieces.size(), 2u);
  while (!notes_.reads.empty()) {
    EXPECT_TRUE(ends_.empty());
    End(0);
    queue_->Settle();
  }
  ASSERT_EQ(ends_.size(), 1u);
  EXPECT_TRUE(ends_[0]);
}

TEST_F(Fetches, EveryByteIsReadOnceWhateverTheSizes) {
  constexpr std::uint64_t kSeed = 11;
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  rt::Random random(kSeed);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::uint64_t> sizes;
    std::uint64_t whole = 0;
    for (std::uint64_t i = 1 + random.Below(30); i > 0; --i) {
      sizes.push_back(1 + random.Below(random.Chance(0.2) ? 3 * kMebibyte : 400'000));
      whole += sizes.back();
    }
    const std::uint64_t from = 1 + random.Below(1 << 30);
    Add(sizes, from);
    std::vector<std::pair<std::uint64_t, std::uint64_t>> read;  // address, size
    queue_->Settle();
    while (!notes_.reads.empty()) {
      const Noted one = End(random.Below(notes_.reads.size()));
      EXPECT_LE(one.pieces.size(), 4u);
      EXPECT_LE(one.size_bytes(), kMebibyte);
      for (const fabric_abi::Piece& piece : one.pieces) {
        EXPECT_EQ(reinterpret_cast<std::uint64_t>(piece.to), piece.address);
        read.emplace_back(piece.address, piece.size);
      }
      queue_->Settle();
    }
    std::ranges::sort(read);
    std::uint64_t at = from;
    for (const auto& [address, size] : read) {
      ASSERT_EQ(address, at) << "round " << round;
      at += size;
    }
    ASSERT_EQ(at, from + whole);
    ASSERT_EQ(ends_.size(), static_cast<std::size_t>(round) + 1);
  }
}

TEST_F(Fetches, ASmallOneWaitsForATurnOfALargeOneAndNotForItsEnd) {
  Add(std::vector<std::uint64_t>(128, 32 * 1024), kMebibyte);  // 4 MiB
  Add({8}, 77);
  queue_->Settle();
  std::uint64_t before = 0;
  for (const Noted& read : notes_.reads) {
    if (read.pieces[0].address == 77) {
      break;
    }
    before += read.size_bytes();
  }
  EXPECT_EQ(before, kMebibyte);
}

TEST_F(Fetches, WhereOneWindowOfAReadIsClosedNothingOfItIsBegun) {
  RegionTable table(rt::Random(1));
  std::vector<std::byte> memory(3 * 4096);
  const RegionKey key = *table.Register(memory, {.window_bytes = 4096, .file = nullptr});
  ASSERT_TRUE(table.Open(key, {.first = 0, .count = 2}, 5, Access::kReadWrite));
  const std::shared_ptr<Fetch> fetch = Add({4096, 4096, 4096}, 4096);
  for (std::size_t i = 0; i < 3; ++i) {
    fetch->parts[i].window = table.Find(key);
    fetch->parts[i].descriptor = {
        .region = key, .offset = i * 4096, .size_bytes = 4096, .generation = 5};
  }
  queue_->Settle();
  EXPECT_TRUE(notes_.reads.empty());
  ASSERT_EQ(ends_.size(), 1u);
  ASSERT_FALSE(ends_[0]);
  EXPECT_EQ(ends_[0].error().code(), Code::kNotFound);
}

}  // namespace
}  // namespace pixii::transport
