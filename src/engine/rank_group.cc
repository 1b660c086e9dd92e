#include "engine/rank_group.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"
#include "engine/step_builder.h"

namespace pixii::engine {

namespace {

MemoryParts Both(const MemoryParts& a, const MemoryParts& b) {
  return {.kv_cache = a.kv_cache && b.kv_cache, .weights = a.weights && b.weights};
}

MemoryParts Either(const MemoryParts& a, const MemoryParts& b) {
  return {.kv_cache = a.kv_cache || b.kv_cache, .weights = a.weights || b.weights};
}

MemoryParts Without(const MemoryParts& a, const MemoryParts& b) {
  return {.kv_cache = a.kv_cache && !b.kv_cache, .weights = a.weights && !b.weights};
}

/// What one rank has of what `whole` can.
ExecutorLimits PartOf(const ExecutorLimits& whole, std::uint32_t ranks) {
  ExecutorLimits part = whole;
  part.block_count = whole.block_count / ranks;
  part.host_block_count = whole.host_block_count / ranks;
  part.step_tokens_max = whole.step_tokens_max / ranks;
  part.step_logit_rows_max = whole.step_logit_rows_max / ranks;
  part.adapter_slots = whole.adapter_slots / ranks;
  part.hidden_size = 0;  // rows of several ranks are kept for none
  return part;
}

/// `values` behind `out`, which has `before` rows of other ranks; either may have none.
template <class T>
void AppendOptional(const std::vector<T>& values, std::size_t before, std::size_t count, T absent,
                    std::vector<T>& out) {
  if (values.empty() && out.empty()) {
    return;
  }
  out.resize(before, absent);
  out.insert(out.end(), values.begin(), values.end());
  out.resize(before + count, absent);
}

/// `batch` of `rank` behind what `joint` has.
void AppendBatch(const kernels::StepBatch& batch, std::uint32_t rank, const ExecutorLimits& part,
                 kernels::StepBatch& joint) {
  const auto tokens = static_cast<std::int32_t>(joint.token_ids.size());
  const auto table = static_cast<std::int32_t>(joint.block_table.size());
  const auto blocks = static_cast<std::int32_t>(rank * part.block_count);
  const auto slots = blocks * static_cast<std::int32_t>(part.block_tokens);
  const auto adapters = static_cast<std::int32_t>(rank * part.adapter_slots);
  const auto append = [](const std::vector<std::int32_t>& from, std::int32_t offset,
                         std::vector<std::int32_t>& to) {
    for (const std::int32_t value : from) {
      to.push_back(value + offset);
    }
  };
  AppendOptional(batch.token_types, joint.token_ids.size(), batch.token_ids.size(), 0,
                 joint.token_types);
  const std::size_t adapted = joint.adapter_slots.size();
  AppendOptional(batch.adapter_slots, joint.token_ids.size(), batch.token_ids.size(), -1,
                 joint.adapter_slots);
  for (std::size_t i = std::max(adapted, static_cast<std::size_t>(tokens));
       i < joint.adapter_slots.size(); ++i) {
    joint.adapter_slots[i] += joint.adapter_slots[i] >= 0 ? adapters : 0;
  }
  // Rows of text alone turn by their position on all three axes.
  const bool axes = !batch.rope_positions.empty() || !joint.rope_positions.empty();
  const auto fill_axes = [&] {
    for (std::size_t row = joint.rope_positions.size() / 3; axes && row < joint.positions.size();
         ++row) {
      joint.rope_positions.insert(joint.rope_positions.end(), 3, joint.positions[row]);
    }
  };
  fill_axes();
  append(batch.rope_positions, 0, joint.rope_positions);
  append(batch.token_ids, 0, joint.token_ids);
  append(batch.positions, 0, joint.positions);
  fill_axes();
  append(batch.embedded_rows, tokens, joint.embedded_rows);
  joint.embeddings.insert(joint.embeddings.end(), batch.embeddings.begin(), batch.embeddings.end());
  joint.layer_embeddings.insert(joint.layer_embeddings.end(), batch.layer_embeddings.begin(),
                                batch.layer_embeddings.end());
  for (kernels::MutualRows rows : batch.mutual_rows) {
    rows.row_begin += tokens;
    joint.mutual_rows.push_back(rows);
  }
  append(batch.slots, slots, joint.slots);
  append(batch.block_table, blocks, joint.block_table);
  append(batch.logit_rows, tokens, joint.logit_rows);
  for (kernels::StepSequence sequence : batch.sequences) {
    sequence.token_begin += tokens;
    sequence.block_begin += table;
    joint.sequences.push_back(sequence);
  }
}

}  // namespace

// What an engine sees of the group.
class RankExecutor final : public StepExecutor {
 public:
  RankExecutor(std::shared_ptr<RankGroup> group, std::uint32_t rank)
      : group_(std::move(group)), rank_(rank) {}

  ~RankExecutor() override { group_->Leave(rank_); }

  ExecutorLimits limits() const override { return group_->part_; }

  std::shared_ptr<const TextPooler> pooler() const override { return group_->inner_->pooler(); }

  Result<void> Execute(const kernels::StepBatch& batch, std::span<float> logits) override {
    Begin(batch, logits);
    return Wait();
  }

  void Begin(const kernels::StepBatch& batch, std::span<float> logits) override {
    group_->Begin(rank_, batch, logits);
  }

  Result<void> Wait() override { return group_->Wait(rank_, faulty_rows_); }

  void BetweenSteps(const std::function<void()>& work) override {
    group_->WithDevice([&] {
      work();
      return true;
    });
  }

  void Rest() override { group_->Rest(rank_); }

  bool HoldsPrompts(const StepOutlook& outlook) override {
    return group_->HoldsPrompts(rank_, outlook);
  }

  bool overlaps() const override { return group_->options_.overlap; }

  std::span<const std::int32_t> faulty_logit_rows() const override { return faulty_rows_; }

  std::span<std::byte> block_bytes(std::uint32_t block) override {
    return group_->inner_->block_bytes(block + rank_ * group_->part_.block_count);
  }

  std::vector<std::uint32_t> block_slices() const override {
    return group_->inner_->block_slices();
  }

  std::shared_ptr<const rt::MemoryFile> block_file() const override {
    return group_->inner_->block_file();
  }

  std::optional<kv::LayoutRecord> block_layout() const override {
    std::optional<kv::LayoutRecord> layout = group_->inner_->block_layout();
    if (layout) {
      layout->data_rank_count = group_->options_.rank_count;
      layout->data_rank = rank_;
    }
    return layout;
  }

  Result<void> CopyBlocks(std::span<const BlockCopy> copies) override {
    copies_.assign(copies.begin(), copies.end());
    for (BlockCopy& copy : copies_) {
      copy.block += rank_ * group_->part_.block_count;
      copy.host_slot += rank_ * group_->part_.host_block_count;
    }
    return group_->WithDevice([&] { return group_->inner_->CopyBlocks(copies_); });
  }

  Result<void> SetAdapter(std::uint32_t slot, const AdapterWeights* weights) override {
    const std::uint32_t own = rank_ * group_->part_.adapter_slots + slot;
    return group_->WithDevice([&] { return group_->inner_->SetAdapter(own, weights); });
  }

  Result<void> Release(const MemoryParts& parts) override { return group_->Release(rank_, parts); }

  Result<void> Restore(const MemoryParts& parts) override { return group_->Restore(rank_, parts); }

 private:
  std::shared_ptr<RankGroup> group_;
  std::uint32_t rank_;
  std::vector<std::int32_t> faulty_rows_;
  std::vector<BlockCopy> copies_;
};

Result<std::shared_ptr<RankGroup>> RankGroup::Create(std::unique_ptr<StepExecutor> inner,
                                                     const RankGroupOptions& options) {
  if (options.rank_count == 0 || options.rank_count > kRankCountMax) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("rank_count is {}; allowed is 1 to {}", options.rank_count, kRankCountMax),
        "rank_count");
  }
  const ExecutorLimits part = PartOf(inner->limits(), options.rank_count);
  if (part.block_count == 0 || part.step_tokens_max == 0 || part.step_logit_rows_max == 0) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{} blocks and {} tokens of a step are not enough for {} ranks",
                            inner->limits().block_count, inner->limits().step_tokens_max,
                            options.rank_count),
                "rank_count");
  }
  return std::shared_ptr<RankGroup>(
      new RankGroup(std::move(inner), options, part));  // tidy: new the constructor is private
}

RankGroup::RankGroup(std::unique_ptr<StepExecutor> inner, const RankGroupOptions& options,
                     const ExecutorLimits& part)
    : inner_(std::move(inner)),
      options_(options),
      part_(part),
      row_size_(part.row_size > 0 ? part.row_size : part.vocab_size),
      ranks_(options.rank_count),
      balance_(options.balance, options.rank_count),
      thread_("ranks", [this] { Run(); }) {}

RankGroup::~RankGroup() {
  {
    rt::MutexLock lock(mutex_);
    stop_ = true;
    changed_.NotifyAll();
  }
  thread_.Join();
}

std::unique_ptr<StepExecutor> RankGroup::MakeExecutor(std::uint32_t rank) {
  PX_ASSERT(rank < options_.rank_count);
  return std::make_unique<RankExecutor>(shared_from_this(), rank);
}

RankGroupCounters RankGroup::counters() const {
  rt::MutexLock lock(mutex_);
  return counters_;
}

void RankGroup::Begin(std::uint32_t rank, const kernels::StepBatch& batch,
                      std::span<float> logits) {
  rt::MutexLock lock(mutex_);
  Rank& own = ranks_[rank];
  PX_ASSERT(own.state == State::kIdle);
  own.batch = &batch;
  own.logits = logits;
  own.state = State::kReady;
  own.awaited = false;
  changed_.NotifyAll();
}

Result<void> RankGroup::Wait(std::uint32_t rank, std::vector<std::int32_t>& faulty_rows) {
  rt::MutexLock lock(mutex_);
  Rank& own = ranks_[rank];
  PX_ASSERT(own.state != State::kIdle);
  while (own.state != State::kDone) {
    changed_.Wait(mutex_);
  }
  own.state = State::kIdle;
  faulty_rows.swap(own.faulty_rows);
  return std::move(own.result);
}

void RankGroup::Rest(std::uint32_t rank) {
  rt::MutexLock lock(mutex_);
  balance_.Rest(rank);
  if (std::exchange(ranks_[rank].awaited, false)) {
    changed_.NotifyAll();
  }
}

void RankGroup::Leave(std::uint32_t rank) {
  Rest(rank);
  rt::MutexLock lock(mutex_);
  ranks_[rank].released = {.kv_cache = true, .weights = true};  // the others need not wait for it
}

bool RankGroup::HoldsPrompts(std::uint32_t rank, const StepOutlook& outlook) {
  if (!options_.balance.enable) {
    return false;
  }
  rt::MutexLock lock(mutex_);
  return balance_.Holds(rank, outlook);
}

template <class Function>
auto RankGroup::WithDevice(Function function) -> decltype(function()) {
  {
    rt::MutexLock lock(mutex_);
    while (device_busy_) {
      changed_.Wait(mutex_);
    }
    device_busy_ = true;
  }
  auto result = function();
  rt::MutexLock lock(mutex_);
  device_busy_ = false;
  changed_.NotifyAll();
  return result;
}

MemoryParts RankGroup::ReleasedByAll() const {
  MemoryParts all{.kv_cache = true, .weights = true};
  for (const Rank& rank : ranks_) {
    all = Both(all, rank.released);
  }
  return all;
}

// The memory is that of all ranks: it goes when the last of them gives it back.
Result<void> RankGroup::Release(std::uint32_t rank, const MemoryParts& parts) {
  return WithDevice([&]() -> Result<void> {
    MemoryParts before;
    MemoryParts now;
    {
      rt::MutexLock lock(mutex_);
      before = ranks_[rank].released;
      ranks_[rank].released = Either(before, parts);
      now = Without(ReleasedByAll(), released_);
    }
    if (!now.any()) {
      return {};
    }
    Result<void> released = inner_->Release(now);
    rt::MutexLock lock(mutex_);
    if (released) {
      released_ = Either(released_, now);
    } else {
      ranks_[rank].released = before;
    }
    return released;
  });
}

Result<void> RankGroup::Restore(std::uint32_t rank, const MemoryParts& parts) {
  return WithDevice([&]() -> Result<void> {
    MemoryParts now;
    {
      rt::MutexLock lock(mutex_);
      now = Both(parts, released_);
    }
    if (now.any()) {
      PX_CHECK_OK(inner_->Restore(now));
    }
    rt::MutexLock lock(mutex_);
    released_ = Without(released_, now);
    ranks_[rank].released = Without(ranks_[rank].released, parts);
    return {};
  });
}

bool RankGroup::HasReady() const {
  return std::ranges::any_of(ranks_, [](const Rank& rank) { return rank.state == State::kReady; });
}

bool RankGroup::HasAwaited() const {
  return std::ranges::any_of(ranks_, [](const Rank& rank) { return rank.awaited; });
}

void RankGroup::Run() {
  rt::MutexLock lock(mutex_);
  while (!stop_) {
    if (device_busy_ || !HasReady()) {
      changed_.Wait(mutex_);
      continue;
    }
    if (HasAwaited()) {
      if (!changed_.WaitFor(mutex_, options_.straggler_patience)) {
        for (Rank& rank : ranks_) {
          counters_.stragglers += std::exchange(rank.awaited, false) ? 1 : 0;
        }
      }
      continue;
    }
    TakeParts();
    device_busy_ = true;
    mutex_.Unlock();
    Execute();
    mutex_.Lock();
  }
}

void RankGroup::TakeParts() {
  parts_.clear();
  for (std::uint32_t rank = 0; rank < options_.rank_count; ++rank) {
    Rank& own = ranks_[rank];
    if (own.state == State::kReady) {
      own.state = State::kRunning;
      parts_.push_back({.rank = rank, .batch = own.batch, .logits = own.logits});
    }
  }
  ++counters_.joint_steps;
  counters_.idle_parts += options_.rank_count - parts_.size();
}

// The parts [first, first + count) as one step. One rank's rows go where it wants them; those of
// several have to lie together first.
Result<void> RankGroup::RunParts(std::size_t first, std::size_t count) {
  ClearBatch(joint_);
  const std::span<Part> parts = std::span(parts_).subspan(first, count);
  for (Part& part : parts) {
    part.row_begin = joint_.logit_rows.size();
    AppendBatch(*part.batch, part.rank, part_, joint_);
  }
  if (count == 1) {
    return inner_->Execute(joint_, parts[0].logits);
  }
  const std::size_t size = joint_.logit_rows.size() * row_size_;
  logits_.resize(std::max(logits_.size(), size));
  Result<void> result = inner_->Execute(joint_, std::span(logits_).first(size));
  for (const Part& part : parts) {
    std::ranges::copy(std::span(logits_).subspan(part.row_begin * row_size_, part.logits.size()),
                      part.logits.begin());
  }
  return result;
}

// A fault of rows that nobody names may be any rank's: then each runs alone.
void RankGroup::Execute() {
  const Result<void> result = RunParts(0, parts_.size());
  const auto model_fault = [](const Result<void>& one) {
    return !one && one.error().code() == Code::kModelFault;
  };
  const bool unnamed = model_fault(result) && inner_->faulty_logit_rows().empty();
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    const bool again = unnamed && parts_.size() > 1;
    Result<void> own = again ? RunParts(i, 1) : result;
    std::vector<std::int32_t> faulty_rows = FaultyRowsOf(parts_[i]);
    if (model_fault(own) && faulty_rows.empty() && !inner_->faulty_logit_rows().empty()) {
      own = {};  // others' rows
    }
    rt::MutexLock lock(mutex_);
    Rank& rank = ranks_[parts_[i].rank];
    rank.result = std::move(own);
    rank.faulty_rows = std::move(faulty_rows);
  }
  rt::MutexLock lock(mutex_);
  for (const Part& part : parts_) {
    ranks_[part.rank].state = State::kDone;
    ranks_[part.rank].awaited = true;
  }
  device_busy_ = false;
  changed_.NotifyAll();
}

std::vector<std::int32_t> RankGroup::FaultyRowsOf(const Part& part) const {
  const auto begin = static_cast<std::int32_t>(part.row_begin);
  const auto count = static_cast<std::int32_t>(part.batch->logit_rows.size());
  std::vector<std::int32_t> rows;
  for (const std::int32_t row : inner_->faulty_logit_rows()) {
    if (row >= begin && row < begin + count) {
      rows.push_back(row - begin);
    }
  }
  return rows;
}

}  // namespace pixii::engine
