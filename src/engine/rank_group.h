// Data-parallel ranks on one model: each engine has a scheduler and KV blocks of its own, and what
// their steps compute is computed together. docs/subsystems/engine.md, docs/adr/0019
//
// Thread: a rank's executor is used by its engine's thread, as any; the joint step runs on a thread
// of the group.
// Lockstep: a joint step begins when every rank that had a part in the last one has its next step
// ready, rests, or let the others wait for too long; a rank that has none ready has no rows in it.
// Attention reads a rank's own blocks alone: each rank has a range of the model's cache. Linears
// and experts read their weights once for the rows of all ranks. A row's bits depend on its own
// sequence and nothing else (kernels/operators.h), so neither do they on what the other ranks do.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "engine/executor.h"
#include "engine/rank_balance.h"
#include "rt/thread.h"
#include "rt/time.h"

namespace pixii::engine {

struct RankGroupOptions {
  std::uint32_t rank_count = 2;  // 1 .. kRankCountMax
  bool overlap = false;          // engines plan their next step while the joint one runs
  /// How long a joint step waits for a rank whose last one has ended; then that rank is behind, and
  /// waited for no more until it is ready again.
  rt::Duration straggler_patience = std::chrono::milliseconds(100);
  RankBalanceOptions balance = {};
};

struct RankGroupCounters {
  std::uint64_t joint_steps = 0;
  std::uint64_t idle_parts = 0;  // ranks without rows, of all joint steps
  std::uint64_t stragglers = 0;  // ranks that let the others wait for too long
};

class RankGroup final : public std::enable_shared_from_this<RankGroup> {
 public:
  static constexpr std::uint32_t kRankCountMax = 64;

  /// `inner` runs joint steps: its blocks, host blocks, tokens and rows of a step and adapter slots
  /// are cut into equal parts, one a rank. Errors: kInvalidArgument naming what cannot be cut.
  static Result<std::shared_ptr<RankGroup>> Create(std::unique_ptr<StepExecutor> inner,
                                                   const RankGroupOptions& options);

  RankGroup(const RankGroup&) = delete;
  RankGroup& operator=(const RankGroup&) = delete;
  ~RankGroup();

  /// The executor of one rank, once each; it keeps the group. A rank whose executor is gone is
  /// waited for no more.
  std::unique_ptr<StepExecutor> MakeExecutor(std::uint32_t rank);

  RankGroupCounters counters() const;

 private:
  friend class RankExecutor;

  enum class State : std::uint8_t {
    kIdle,
    kReady,  // its step waits to be run
    kRunning,
    kDone,  // its step has ended and it has not heard so
  };

  struct Rank {
    State state = State::kIdle;
    bool awaited = false;  // its last step ended, and it has neither begun another nor rests
    const kernels::StepBatch* batch = nullptr;
    std::span<float> logits;
    Result<void> result;
    std::vector<std::int32_t> faulty_rows;
    MemoryParts released;
  };

  /// A rank's part of a joint step.
  struct Part {
    std::uint32_t rank = 0;
    const kernels::StepBatch* batch = nullptr;
    std::span<float> logits;
    std::size_t row_begin = 0;  // of the joint step's logit rows
  };

  RankGroup(std::unique_ptr<StepExecutor> inner, const RankGroupOptions& options,
            const ExecutorLimits& part);

  // Of RankExecutor.
  void Begin(std::uint32_t rank, const kernels::StepBatch& batch, std::span<float> logits);
  Result<void> Wait(std::uint32_t rank, std::vector<std::int32_t>& faulty_rows);
  void Rest(std::uint32_t rank);
  void Leave(std::uint32_t rank);
  bool HoldsPrompts(std::uint32_t rank, const StepOutlook& outlook);
  Result<void> Release(std::uint32_t rank, const MemoryParts& parts);
  Result<void> Restore(std::uint32_t rank, const MemoryParts& parts);

  void Run();
  bool HasReady() const PX_REQUIRES(mutex_);
  bool HasAwaited() const PX_REQUIRES(mutex_);
  void TakeParts() PX_REQUIRES(mutex_);
  Result<void> RunParts(std::size_t first, std::size_t count);
  void Execute();
  std::vector<std::int32_t> FaultyRowsOf(const Part& part) const;
  MemoryParts ReleasedByAll() const PX_REQUIRES(mutex_);
  template <class Function>
  auto WithDevice(Function function) -> decltype(function());

  std::unique_ptr<StepExecutor> inner_;
  RankGroupOptions options_;
  ExecutorLimits part_;  // of one rank
  std::uint32_t row_size_;

  mutable rt::Mutex mutex_;
  rt::CondVar changed_;
  std::vector<Rank> ranks_ PX_GUARDED_BY(mutex_);
  bool device_busy_ PX_GUARDED_BY(mutex_) = false;  // a joint step, or one who changes its memory
  MemoryParts released_ PX_GUARDED_BY(mutex_);      // of `inner_`
  bool stop_ PX_GUARDED_BY(mutex_) = false;
  RankGroupCounters counters_ PX_GUARDED_BY(mutex_);
  RankBalance balance_ PX_GUARDED_BY(mutex_);

  // Of the joint step at hand; used by the group's thread alone.
  std::vector<Part> parts_;
  kernels::StepBatch joint_;
  std::vector<float> logits_;  // of several ranks, before each gets its own
  rt::Thread thread_;          // last: it uses what stands above
};

}  // namespace pixii::engine
