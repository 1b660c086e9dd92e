#include "engine/draft_head.h"
#include "engine/step_builder.h"

#include <algorithm>

#include <fmt/format.h>

namespace pixii::engine {

namespace {

/// States of one sequence that wait to be read; the head reads before there are more.
constexpr std::size_t kUnreadRowsMax = 64;

}  // namespace

Result<std::unique_ptr<DraftHead>> DraftHead::Create(std::unique_ptr<StepExecutor> executor,
                                                     std::uint32_t vocab_size) {
  const ExecutorLimits limits = executor->limits();
  if (limits.vocab_size != vocab_size || limits.hidden_size == 0) {
    return Fail(Code::kInvalidArgument,
                fmt::format("the draft head has {} tokens and keeps states of {}, the model has {} "
                            "tokens",
                            limits.vocab_size, limits.hidden_size, vocab_size),
                "draft-model");
  }
  return std::unique_ptr<DraftHead>(
      new DraftHead(std::move(executor)));  // tidy: new private constructor
}

DraftHead::DraftHead(std::unique_ptr<StepExecutor> executor)
    : executor_(std::move(executor)), limits_(executor_->limits()), cache_(limits_) {}

Result<void> DraftHead::Release(const MemoryParts& parts) {
  cache_.Clear();
  return executor_->Release(parts);
}

void DraftHead::Observe(std::span<const ObservedRows> observed) {
  ++call_;
  job_count_ = 0;
  for (const ObservedRows& rows : observed) {
    Memory& memory = cache_.Use(rows.key, call_);
    if (Append(rows, memory) && memory.after.size() > kUnreadRowsMax && !ReadAllButLast(memory)) {
      cache_.Release(memory);
    }
  }
}

/// Takes over the states that follow what the memory has. False: there are none.
bool DraftHead::Append(const ObservedRows& rows, Memory& memory) {
  const std::size_t end = rows.begin + rows.after.size();
  const bool empty = memory.end() == memory.base;
  if (empty || rows.begin > memory.end() || rows.begin < memory.base) {
    cache_.Release(memory);
    memory.base = rows.begin;  // a gap, or more than it has seen: it begins anew
  }
  if (end <= memory.end()) {
    return false;  // computed again
  }
  const std::size_t known = memory.end() - rows.begin;
  const std::span<const float> states = rows.states.subspan(known * limits_.hidden_size);
  memory.unread.insert(memory.unread.end(), states.begin(), states.end());
  memory.after.insert(memory.after.end(), rows.after.begin() + static_cast<std::ptrdiff_t>(known),
                      rows.after.end());
  return true;
}

/// The last state is left for the guess that it gives. False: no room, or the head failed.
bool DraftHead::ReadAllButLast(Memory& memory) {
  while (memory.after.size() > 1) {
    const std::size_t count =
        std::min<std::size_t>(memory.after.size() - 1, limits_.step_tokens_max);
    const std::size_t end = memory.read + count;
    if (end > limits_.context_tokens_max || !cache_.Reserve(memory, end)) {
      return false;
    }
    ClearBatch(batch_);
    AddUnread(memory, count);
    if (!Execute()) {
      return false;
    }
    MarkRead(memory, count);
  }
  return true;
}

/// The first `count` unread rows are in the cache.
void DraftHead::MarkRead(Memory& memory, std::size_t count) {
  memory.read += count;
  memory.after.erase(memory.after.begin(),
                     memory.after.begin() + static_cast<std::ptrdiff_t>(count));
  memory.unread.erase(
      memory.unread.begin(),
      memory.unread.begin() + static_cast<std::ptrdiff_t>(count * limits_.hidden_size));
}

/// Puts the first `count` unread rows into the step.
void DraftHead::AddUnread(Memory& memory, std::size_t count) {
  cache_.AddSequence(memory, memory.read, memory.read + count, batch_);
  batch_.token_ids.insert(batch_.token_ids.end(), memory.after.begin(),
                          memory.after.begin() + static_cast<std::ptrdiff_t>(count));
  batch_.hidden_rows.insert(
      batch_.hidden_rows.end(), memory.unread.begin(),
      memory.unread.begin() + static_cast<std::ptrdiff_t>(count * limits_.hidden_size));
}

void DraftHead::Draft(std::span<DraftRequest> requests) {
  ++call_;
  job_count_ = 0;
  std::uint32_t rounds = 0;
  for (DraftRequest& request : requests) {
    if (Start(request)) {
      rounds = std::max(rounds, request.count_max);
    }
  }
  for (std::uint32_t round = 0; round < rounds; ++round) {
    RunRound(round == 0);
  }
  job_count_ = 0;
}

/// Makes a job of `request` if all its states are here.
bool DraftHead::Start(DraftRequest& request) {
  Memory* memory = cache_.Find(request.key);
  const std::size_t size = request.request->prompt.size() + request.generated.size();
  if (memory == nullptr || memory->after.empty() || memory->end() + 1 != size) {
    return false;
  }
  memory->last_used = call_;
  const std::size_t end = size - 1 - memory->base + request.count_max;
  const bool many = memory->after.size() > kUnreadRowsMax;
  if (end > limits_.context_tokens_max || (many && !ReadAllButLast(*memory)) ||
      !cache_.Reserve(*memory, end)) {
    cache_.Release(*memory);
    return false;
  }
  if (job_count_ == jobs_.size()) {
    jobs_.emplace_back();
  }
  Job& job = jobs_[job_count_++];
  job.request = &request;
  job.memory = memory;
  job.next = memory->read + memory->after.size() - 1;
  job.generated.assign(request.generated.begin(), request.generated.end());
  job.goes_on = true;
  return true;
}

/// One step of the head for all that want another guess: the first from the target's state.
void DraftHead::RunRound(bool first) {
  ClearBatch(batch_);
  std::vector<Job*> taking;
  for (std::size_t i = 0; i < job_count_; ++i) {
    Job& job = jobs_[i];
    const std::size_t count = first ? job.memory->after.size() : 1;
    if (!job.goes_on || job.request->guesses->size() >= job.request->count_max ||
        batch_.token_ids.size() + count > limits_.step_tokens_max ||
        batch_.logit_rows.size() == limits_.step_logit_rows_max) {
      job.goes_on = false;
      continue;
    }
    if (first) {
      AddUnread(*job.memory, count);
    } else {
      cache_.AddSequence(*job.memory, job.next, job.next + 1, batch_);
      batch_.token_ids.push_back(job.generated.back());
      batch_.hidden_rows.insert(batch_.hidden_rows.end(), job.state.begin(), job.state.end());
    }
    batch_.logit_rows.push_back(static_cast<std::int32_t>(batch_.token_ids.size()) - 1);
    taking.push_back(&job);
  }
  if (taking.empty() || !Execute()) {
    return;
  }
  const std::span<const float> states = executor_->hidden_rows();
  for (std::size_t row = 0; row < taking.size(); ++row) {
    Job& job = *taking[row];
    const auto state = static_cast<std::size_t>(batch_.logit_rows[row]) * limits_.hidden_size;
    TakeGuess(job, std::span(logits_).subspan(row * limits_.vocab_size, limits_.vocab_size),
              states.subspan(state, limits_.hidden_size));
    if (first) {
      MarkRead(*job.memory, job.memory->after.size() - 1);
    }
  }
}

void DraftHead::TakeGuess(Job& job, std::span<float> logits, std::span<const float> state) {
  const TokenId token = DrawGuess(sampler_, *job.request, job.generated, logits);
  if (token == kNoToken) {
    job.goes_on = false;  // nothing may follow
    return;
  }
  job.request->guesses->push_back(token);
  job.generated.push_back(token);
  job.state.assign(state.begin(), state.end());
  ++job.next;
}

/// Runs batch_. After a failure nobody knows what is in the blocks of this call.
bool DraftHead::Execute() {
  const std::size_t wanted = batch_.logit_rows.size() * limits_.vocab_size;
  logits_.resize(std::max(logits_.size(), wanted));
  if (executor_->Execute(batch_, std::span(logits_).first(wanted))) {
    return true;
  }
  ++fault_count_;
  for (std::size_t i = 0; i < job_count_; ++i) {
    jobs_[i].goes_on = false;
    cache_.Release(*jobs_[i].memory);
  }
  return false;
}

}  // namespace pixii::engine
