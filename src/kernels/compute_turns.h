// Steps of an engine and pieces of diffusion on the same cores, one after the other as ComputeShare
// says.
//
// Thread: any; each method says whose. Pieces halt where a pool of theirs begins a round of work
// (ThreadPool), which is many times within a block of a transformer.
#pragma once

#include <atomic>
#include <cstdint>

#include "kernels/compute_share.h"
#include "kernels/thread_pool.h"
#include "rt/thread.h"
#include "rt/time.h"

namespace pixii::kernels {

class ComputeTurns final : public WorkGate {
 public:
  /// A step waits so long at most for a piece to halt, then begins beside it.
  static constexpr rt::Duration kHaltPatience{5'000'000};
  /// Pieces count as wanted for so long after the last one ended: the next one is on its way.
  static constexpr rt::Duration kLingers{2'000'000};

  /// As ComputeShare.
  explicit ComputeTurns(double piece_share) : share_(piece_share) {}

  ComputeTurns(const ComputeTurns&) = delete;
  ComputeTurns& operator=(const ComputeTurns&) = delete;

  /// A step, on its engine's thread: begins when pieces have halted. Steps of several engines run
  /// beside one another.
  class [[nodiscard]] Step final {
   public:
    /// `turns` may be null.
    explicit Step(ComputeTurns* turns) : turns_(turns) {
      if (turns_ != nullptr) {
        turns_->BeginStep();
      }
    }

    Step(const Step&) = delete;
    Step& operator=(const Step&) = delete;

    ~Step() {
      if (turns_ != nullptr) {
        turns_->EndStep();
      }
    }

   private:
    ComputeTurns* turns_;
  };

  /// Work in pieces, of one thread at a time: begins and goes on when no step runs.
  class [[nodiscard]] Pieces final {
   public:
    /// `turns` may be null.
    explicit Pieces(ComputeTurns* turns) : turns_(turns) {
      if (turns_ != nullptr) {
        turns_->BeginPieces();
      }
    }

    Pieces(const Pieces&) = delete;
    Pieces& operator=(const Pieces&) = delete;

    ~Pieces() {
      if (turns_ != nullptr) {
        turns_->EndPieces();
      }
    }

   private:
    ComputeTurns* turns_;
  };

  /// Between two pieces: halts while a step runs. On the thread that has Pieces.
  void Pass() override {
    if (closed_.load(std::memory_order_acquire)) {
      Halt();
    }
  }

  /// How often pieces were halted by steps.
  std::uint64_t halted_count() const { return halted_count_.load(std::memory_order_relaxed); }

 private:
  void BeginStep();
  void EndStep();
  void BeginPieces();
  void EndPieces();
  void Halt();
  bool Wanted(rt::Time now) const PX_REQUIRES(mutex_);
  void WaitUntilOpen() PX_REQUIRES(mutex_);

  std::atomic<bool> closed_ = false;  // written under the mutex
  std::atomic<std::uint64_t> halted_count_ = 0;
  rt::Mutex mutex_;
  rt::CondVar step_may_;
  rt::CondVar pieces_may_;
  ComputeShare share_ PX_GUARDED_BY(mutex_);
  std::uint32_t steps_ PX_GUARDED_BY(mutex_) = 0;  // that run or want to
  rt::Time opens_at_ PX_GUARDED_BY(mutex_){};      // if no step comes
  bool inside_ PX_GUARDED_BY(mutex_) = false;      // somebody has Pieces
  bool running_ PX_GUARDED_BY(mutex_) = false;     // and has not halted
  rt::Time left_at_ PX_GUARDED_BY(mutex_) = rt::Time::min();
};

}  // namespace pixii::kernels
