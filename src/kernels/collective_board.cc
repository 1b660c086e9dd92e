// Collectives of threads and of processes: a board in memory that all members see. Each puts up
// what it gives, waits until all have, reads, and waits until all have read.
//
// A member's fields are written by it alone, before it raises `arrived`, and read by others once
// the round is whole; it writes them again after all have raised `departed`. So nothing but the
// counters is atomic. Whether a round is whole or the group is poisoned before, one word decides
// for all: nobody reads what a member that failed has taken away.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <new>
#include <utility>

#include "kernels/collective.h"
#include "kernels/spin.h"
#include "rt/file.h"
#include "rt/shared_memory.h"

namespace pixii::kernels {

namespace {

constexpr std::uint64_t kMagic = 0x70697869636f6c31;            // "pixicol1"
constexpr rt::Duration kSlice = std::chrono::milliseconds(20);  // between two looks at the others
constexpr int kSpins = 2000;                                    // some 20 us

/// Why a group is poisoned; the first word counts.
enum class Fault : std::uint8_t {
  kNone,
  kEnded,     // the member was destroyed, or its process ended
  kAborted,   // by itself
  kLate,      // it did not call in time
  kMismatch,  // it called another verb, or with sizes that do not fit
};

constexpr int kFaultShift = 56;
constexpr int kRankShift = 40;
constexpr std::uint64_t kRoundsMask = (std::uint64_t{1} << kRankShift) - 1;

struct alignas(64) Slot {
  std::atomic<std::uint64_t> arrived;
  std::atomic<std::uint64_t> departed;
  std::atomic<std::int32_t> process_id;  // 0: it has not joined
  // Of the round at hand.
  std::uint8_t verb;
  std::uint64_t exchange;  // number of the exchange it belongs to
  std::uint64_t total;     // bytes of the exchange
  std::uint64_t window;    // bytes of this round
  const std::byte* data;   // of threads: where they lie
};

struct Board {
  std::atomic<std::uint64_t> magic;
  std::uint64_t window_bytes;
  std::uint32_t size;
  std::atomic<std::uint64_t> outcome;   // Fault << 56 | rank << 40 | rounds that are whole
  std::atomic<std::uint32_t> changes;   // raised with every change: what members sleep on
  std::atomic<std::uint32_t> sleepers;  // of `changes`
  Slot slots[kCollectiveSizeMax];
};

static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

class BoardCollective final : public Collective {
 public:
  /// `windows`: where every member's bytes pass through, [size, window_bytes]; empty: they are
  /// read where they lie.
  BoardCollective(std::shared_ptr<Board> board, std::uint32_t rank, rt::Duration timeout,
                  std::span<std::byte> windows)
      : board_(std::move(board)), rank_(rank), timeout_(timeout), windows_(windows) {}

  ~BoardCollective() override { Poison(Fault::kEnded, rank_); }

  std::uint32_t rank() const override { return rank_; }

  std::uint32_t size() const override { return board_->size; }

  void Abort() override { Poison(Fault::kAborted, rank_); }

  /// Waits until every member has joined, in processes of their own.
  Result<void> AwaitAll() {
    slot(rank_).process_id.store(rt::OwnProcessId(), std::memory_order_release);
    Announce();
    PX_CHECK_OK(Wait(
        [](const Slot& other) { return other.process_id.load(std::memory_order_acquire) != 0; },
        [](std::uint64_t) { return false; }));
    for (std::uint32_t rank = 0; rank < size(); ++rank) {
      processes_.emplace_back(slot(rank).process_id.load(std::memory_order_acquire));
    }
    return {};
  }

 protected:
  Result<void> Exchange(Verb verb, std::span<const std::byte> mine, const Take& take) override {
    ++exchange_;
    std::size_t offset = 0;
    while (true) {
      PX_CHECK_OK(PutUp(verb, mine, offset));
      bool more = false;
      const bool fits = TakeAll(verb, offset, take, more);
      if (!fits) {
        Poison(Fault::kMismatch, rank_);
      }
      PX_CHECK_OK(Depart());
      if (!fits) {
        return FaultOf(board_->outcome.load(std::memory_order_acquire));
      }
      if (!more) {
        return {};
      }
      offset += board_->window_bytes;
    }
  }

 private:
  Slot& slot(std::uint32_t rank) { return board_->slots[rank]; }

  // False: what somebody put up does not go with the rest.
  bool TakeAll(Verb verb, std::size_t offset, const Take& take, bool& more) {
    for (std::uint32_t rank = 0; rank < size(); ++rank) {
      const Slot& other = slot(rank);
      const std::size_t at = std::min<std::size_t>(offset, other.total);
      if (other.verb != static_cast<std::uint8_t>(verb) || other.exchange != exchange_ ||
          other.window > board_->window_bytes || !take(rank, other.total, at, BytesOf(rank))) {
        return false;
      }
      more = more || at + other.window < other.total;
    }
    return true;
  }

  std::span<const std::byte> BytesOf(std::uint32_t rank) {
    const Slot& other = slot(rank);
    const std::byte* data =
        windows_.empty() ? other.data : windows_.data() + rank * board_->window_bytes;
    return {data, static_cast<std::size_t>(other.window)};
  }

  // The window of `mine` that begins at `offset`; returns when all have put up theirs.
  Result<void> PutUp(Verb verb, std::span<const std::byte> mine, std::size_t offset) {
    PX_CHECK_OK(FaultOf(board_->outcome.load(std::memory_order_acquire)));
    Slot& own = slot(rank_);
    own.verb = static_cast<std::uint8_t>(verb);
    own.exchange = exchange_;
    own.total = mine.size();
    const std::size_t begin = std::min(offset, mine.size());
    own.window = std::min<std::size_t>(board_->window_bytes, mine.size() - begin);
    own.data = mine.data() + begin;
    if (!windows_.empty() && own.window > 0) {
      std::memcpy(windows_.data() + rank_ * board_->window_bytes, own.data,
                  static_cast<std::size_t>(own.window));
    }
    ++round_;
    own.arrived.store(round_, std::memory_order_release);
    Announce();
    return Wait(
        [this](const Slot& other) {
          return other.arrived.load(std::memory_order_acquire) >= round_;
        },
        [this](std::uint64_t outcome) { return (outcome & kRoundsMask) >= round_; });
  }

  // Threads read where the data lies: who has taken part in a whole round stays until all have
  // read, which nothing can keep them from. A process may end on the way.
  Result<void> Depart() {
    slot(rank_).departed.store(round_, std::memory_order_release);
    Announce();
    const auto departed = [this](const Slot& other) {
      return other.departed.load(std::memory_order_acquire) >= round_;
    };
    if (windows_.empty()) {
      AwaitReaders(departed);
      return {};
    }
    return Wait(departed, [](std::uint64_t) { return false; });
  }

  void Announce() {
    board_->changes.fetch_add(1, std::memory_order_seq_cst);
    if (board_->sleepers.load(std::memory_order_seq_cst) > 0) {
      rt::WakeWaiters(board_->changes);
    }
  }

  void Poison(Fault fault, std::uint32_t rank) {
    std::uint64_t outcome = board_->outcome.load(std::memory_order_acquire);
    const std::uint64_t why = static_cast<std::uint64_t>(fault) << kFaultShift | std::uint64_t{rank}
                                                                                     << kRankShift;
    while (outcome >> kFaultShift == 0 && !board_->outcome.compare_exchange_weak(
                                              outcome, outcome | why, std::memory_order_acq_rel)) {
    }
    Announce();
  }

  Result<void> FaultOf(std::uint64_t outcome) const {
    const std::uint64_t rank = outcome >> kRankShift & 0xffffU;
    switch (static_cast<Fault>(outcome >> kFaultShift)) {
      case Fault::kNone:
        return {};
      case Fault::kEnded:
        return Fail(Code::kUnavailable, fmt::format("member {} of the group has ended", rank));
      case Fault::kAborted:
        return Fail(Code::kUnavailable, fmt::format("member {} of the group gave up", rank));
      case Fault::kLate:
        return Fail(Code::kDeadlineExceeded,
                    fmt::format("member {} of the group did not come in {} s", rank,
                                std::chrono::duration<double>(timeout_).count()));
      case Fault::kMismatch:
        return Fail(Code::kUnavailable,
                    fmt::format("member {} found that the group's calls do not fit", rank));
    }
    return Fail(Code::kUnavailable, "the group's memory holds something else");
  }

  /// The first member that is not `done`; size(): all are.
  template <class Done>
  std::uint32_t FirstMissing(Done done) {
    std::uint32_t rank = 0;
    while (rank < size() && done(slot(rank))) {
      ++rank;
    }
    return rank;
  }

  template <class Done>
  void AwaitReaders(Done done) {
    while (FirstMissing(done) < size()) {
      Sleep([&] { return FirstMissing(done) == size(); });
    }
  }

  /// A while, unless `enough` or something changes.
  template <class Enough>
  void Sleep(Enough enough) {
    for (int i = 0; i < kSpins; ++i) {
      if (enough()) {
        return;
      }
      SpinPause();
    }
    board_->sleepers.fetch_add(1, std::memory_order_seq_cst);
    const std::uint32_t changes = board_->changes.load(std::memory_order_seq_cst);
    if (!enough()) {
      rt::WaitOnWord(board_->changes, changes, kSlice);
    }
    board_->sleepers.fetch_sub(1, std::memory_order_seq_cst);
  }

  // Until all are `done`, or somebody saw that they are (`whole`). With a `whole` of its own the
  // round's end is decided by the outcome's word alone; who sees all done says so there.
  template <class Done, class Whole>
  Result<void> Wait(Done done, Whole whole) {
    const bool decided_by_word = whole(~std::uint64_t{0} & kRoundsMask);
    rt::Duration waited{};
    while (true) {
      std::uint64_t outcome = board_->outcome.load(std::memory_order_acquire);
      if (whole(outcome)) {
        return {};
      }
      const std::uint32_t missing = FirstMissing(done);
      if (missing == size() && !decided_by_word) {
        return {};
      }
      PX_CHECK_OK(FaultOf(outcome));
      if (missing == size()) {
        if (board_->outcome.compare_exchange_strong(outcome, outcome + 1,
                                                    std::memory_order_acq_rel)) {
          Announce();
        }
        continue;
      }
      const std::uint32_t changes = board_->changes.load(std::memory_order_acquire);
      Sleep([&] {
        return FirstMissing(done) == size() ||
               board_->outcome.load(std::memory_order_acquire) != outcome;
      });
      if (board_->changes.load(std::memory_order_acquire) != changes) {
        continue;
      }
      waited += kSlice;
      if (missing < processes_.size() && processes_[missing].exited() && !done(slot(missing))) {
        Poison(Fault::kEnded, missing);
      } else if (waited >= timeout_) {
        Poison(Fault::kLate, missing);
      }
    }
  }

  std::shared_ptr<Board> board_;
  std::uint32_t rank_;
  rt::Duration timeout_;
  std::span<std::byte> windows_;
  std::uint64_t exchange_ = 0;
  std::uint64_t round_ = 0;
  std::vector<rt::ProcessWatch> processes_;  // of all members; of threads none
};

Result<void> CheckSize(const CollectiveOptions& options) {
  if (options.size == 0 || options.size > kCollectiveSizeMax) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("a group has 1 to {} members, not {}", kCollectiveSizeMax, options.size),
        "size");
  }
  return {};
}

}  // namespace

Result<std::vector<std::unique_ptr<Collective>>> MakeThreadCollective(
    const CollectiveOptions& options) {
  PX_CHECK_OK(CheckSize(options));
  auto board = std::make_shared<Board>();
  board->size = options.size;
  board->window_bytes = ~std::uint64_t{0} >> 1U;  // all at once
  std::vector<std::unique_ptr<Collective>> members;
  for (std::uint32_t rank = 0; rank < options.size; ++rank) {
    members.push_back(
        std::make_unique<BoardCollective>(board, rank, options.timeout, std::span<std::byte>()));
  }
  return members;
}

Result<std::unique_ptr<Collective>> JoinSharedCollective(const SharedCollectiveOptions& options) {
  PX_CHECK_OK(CheckSize(options.group));
  if (options.rank >= options.group.size || options.window_bytes == 0) {
    return Fail(Code::kInvalidArgument,
                fmt::format("rank {} of {} members with windows of {} bytes", options.rank,
                            options.group.size, options.window_bytes),
                "rank");
  }
  const std::size_t size_bytes = sizeof(Board) + options.group.size * options.window_bytes;
  Result<rt::SharedMemory> memory = rt::SharedMemory::Create(options.path, size_bytes);
  const bool first = memory.has_value();
  if (!first && memory.error().code() != Code::kInvalidArgument) {
    return Fail(memory.error());
  }
  if (!first) {
    PX_TRY(memory, rt::SharedMemory::Open(options.path));
    if (memory->bytes().size() != size_bytes) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("{} is the memory of another group", options.path), "path");
    }
  }
  auto shared = std::make_shared<rt::SharedMemory>(std::move(*memory));
  const std::span<std::byte> bytes = shared->bytes();
  // Zeroed memory is a board nobody has come to.
  auto* raw = reinterpret_cast<Board*>(bytes.data());
  if (first) {
    raw->size = options.group.size;
    raw->window_bytes = options.window_bytes;
    raw->magic.store(kMagic, std::memory_order_release);
  }
  for (rt::Duration waited{}; raw->magic.load(std::memory_order_acquire) != kMagic;
       waited += kSlice) {
    if (waited >= options.group.timeout) {
      return Fail(Code::kDeadlineExceeded, "the member that made the group's memory has gone");
    }
    rt::WaitOnWord(raw->changes, raw->changes.load(), kSlice);
  }
  if (raw->size != options.group.size || raw->window_bytes != options.window_bytes ||
      raw->slots[options.rank].process_id.load() != 0) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{}: rank {} is there already, or the group has other sizes",
                            options.path, options.rank),
                "path");
  }
  auto member =
      std::make_unique<BoardCollective>(std::shared_ptr<Board>(shared, raw), options.rank,
                                        options.group.timeout, bytes.subspan(sizeof(Board)));
  PX_CHECK_OK(member->AwaitAll());
  if (first) {
    PX_CHECK_OK(rt::RemoveFile(options.path));  // all have it; it lives as long as they do
  }
  return std::unique_ptr<Collective>(std::move(member));
}

}  // namespace pixii::kernels
