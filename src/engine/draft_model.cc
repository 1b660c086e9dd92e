#include "engine/draft_model.h"
#include "engine/step_builder.h"

#include <algorithm>

#include <fmt/format.h>

namespace pixii::engine {

Result<std::unique_ptr<DraftModel>> DraftModel::Create(std::unique_ptr<StepExecutor> executor,
                                                       std::uint32_t vocab_size) {
  const ExecutorLimits limits = executor->limits();
  if (limits.vocab_size != vocab_size) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("the draft model has {} tokens, the model {}: they cannot share a tokenizer",
                    limits.vocab_size, vocab_size),
        "draft-model");
  }
  return std::unique_ptr<DraftModel>(
      new DraftModel(std::move(executor)));  // tidy: new private constructor
}

DraftModel::DraftModel(std::unique_ptr<StepExecutor> executor)
    : executor_(std::move(executor)), limits_(executor_->limits()), cache_(limits_) {}

Result<void> DraftModel::Release(const MemoryParts& parts) {
  cache_.Clear();
  return executor_->Release(parts);
}

void DraftModel::Draft(std::span<DraftRequest> requests) {
  ++call_;
  job_count_ = 0;
  for (DraftRequest& request : requests) {
    Start(request);
  }
  std::uint32_t rounds = 0;
  for (std::size_t i = 0; i < job_count_; ++i) {
    rounds = std::max(rounds, jobs_[i].request->count_max);
  }
  for (; rounds > 0 && RunStep(); --rounds) {
  }
}

/// Makes a job of `request`: drops what the model read of guesses that turned out wrong.
void DraftModel::Start(DraftRequest& request) {
  const std::span<const TokenId> prompt = request.request->prompt;
  const std::size_t size = prompt.size() + request.generated.size();
  if (size + request.count_max > limits_.context_tokens_max) {
    return;
  }
  Memory& memory = cache_.Use(request.key, call_);
  const auto token = [&](std::size_t index) {
    return index < prompt.size() ? prompt[index] : request.generated[index - prompt.size()];
  };
  // The last token is always read, for its row. What was read of the prompt cannot have changed.
  std::size_t valid = std::min(memory.read.size(), size - 1);
  std::size_t sure = std::min(valid, prompt.size());
  for (std::size_t i = sure; i < valid; ++i) {
    if (memory.read[i] != token(i)) {
      valid = i;
    }
  }
  memory.read.resize(valid);
  if (!cache_.Reserve(memory, size + request.count_max)) {
    return;
  }
  if (job_count_ == jobs_.size()) {
    jobs_.emplace_back();
  }
  Job& job = jobs_[job_count_++];
  job.request = &request;
  job.memory = &memory;
  job.generated.assign(request.generated.begin(), request.generated.end());
  job.unread = static_cast<std::uint32_t>(size - valid);
}

/// One step of the small model for all that want another guess. False: none is left, or it failed.
bool DraftModel::RunStep() {
  ClearBatch(batch_);
  for (std::size_t i = 0; i < job_count_; ++i) {
    AddChunk(jobs_[i]);
  }
  if (batch_.token_ids.empty()) {
    return false;
  }
  logits_.resize(std::max(logits_.size(), batch_.logit_rows.size() * limits_.vocab_size));
  const std::span<float> logits =
      std::span(logits_).first(batch_.logit_rows.size() * limits_.vocab_size);
  if (!executor_->Execute(batch_, logits)) {
    ++fault_count_;
    for (std::size_t i = 0; i < job_count_; ++i) {
      cache_.Release(*jobs_[i].memory);  // nobody knows what is in them
      jobs_[i].request->guesses->clear();
    }
    return false;
  }
  std::size_t row = 0;
  for (std::size_t i = 0; i < job_count_; ++i) {
    if (jobs_[i].guesses) {
      TakeGuess(jobs_[i], logits.subspan(row * limits_.vocab_size, limits_.vocab_size));
      ++row;
    }
  }
  return true;
}

/// Appends what `job` has not read, as far as the step has room.
void DraftModel::AddChunk(Job& job) {
  job.guesses = false;
  const auto room = static_cast<std::uint32_t>(limits_.step_tokens_max - batch_.token_ids.size());
  const std::uint32_t count = std::min(job.unread, room);
  if (count == 0 || job.request->guesses->size() >= job.request->count_max ||
      batch_.logit_rows.size() >= limits_.step_logit_rows_max) {
    return;
  }
  Memory& memory = *job.memory;
  const std::span<const TokenId> prompt = job.request->request->prompt;
  const std::size_t begin = memory.read.size();
  const std::size_t end = begin + count;
  cache_.AddSequence(memory, begin, end, batch_);
  for (std::size_t position = begin; position < end; ++position) {
    const TokenId token =
        position < prompt.size() ? prompt[position] : job.generated[position - prompt.size()];
    batch_.token_ids.push_back(token);
    memory.read.push_back(token);
  }
  job.unread -= count;
  if (job.unread == 0) {
    job.guesses = true;
    batch_.logit_rows.push_back(static_cast<std::int32_t>(batch_.token_ids.size()) - 1);
  }
}

void DraftModel::TakeGuess(Job& job, std::span<float> row) {
  const TokenId token = DrawGuess(sampler_, *job.request, job.generated, row);
  if (token == kNoToken) {
    return;  // nothing may follow: no more guesses, as nothing is unread
  }
  job.request->guesses->push_back(token);
  job.generated.push_back(token);
  job.unread = 1;
}

}  // namespace pixii::engine
