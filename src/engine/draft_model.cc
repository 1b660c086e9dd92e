#include "engine/draft_model.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/assert.h"
#include "base/checked.h"

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
    : executor_(std::move(executor)), limits_(executor_->limits()) {
  ForgetAll();
}

void DraftModel::ForgetAll() {
  memories_.clear();
  free_blocks_.clear();
  for (std::uint32_t block = limits_.block_count; block-- > 0;) {
    free_blocks_.push_back(static_cast<std::int32_t>(block));
  }
}

Result<void> DraftModel::Release(const MemoryParts& parts) {
  ForgetAll();
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
  Memory& memory = memories_[request.key];
  memory.last_used = call_;
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
  if (!Reserve(memory, size + request.count_max)) {
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

void DraftModel::Forget(DraftKey key) {
  auto found = memories_.find(key);
  if (found != memories_.end()) {
    ReleaseBlocks(found->second);
    memories_.erase(found);
  }
}

bool DraftModel::Reserve(Memory& memory, std::size_t tokens) {
  const std::size_t wanted = CeilDiv<std::size_t>(tokens, limits_.block_tokens);
  while (memory.blocks.size() < wanted) {
    if (free_blocks_.empty() && !EvictOldest()) {
      return false;
    }
    memory.blocks.push_back(free_blocks_.back());
    free_blocks_.pop_back();
  }
  return true;
}

/// False: all that is left belongs to this call.
bool DraftModel::EvictOldest() {
  Memory* oldest = nullptr;
  for (auto& [key, memory] : memories_) {
    if (memory.last_used != call_ && !memory.blocks.empty() &&
        (oldest == nullptr || memory.last_used < oldest->last_used)) {
      oldest = &memory;
    }
  }
  if (oldest == nullptr) {
    return false;
  }
  ReleaseBlocks(*oldest);
  return true;
}

void DraftModel::ReleaseBlocks(Memory& memory) {
  free_blocks_.insert(free_blocks_.end(), memory.blocks.begin(), memory.blocks.end());
  memory.blocks.clear();
  memory.read.clear();
}

/// One step of the small model for all that want another guess. False: none is left, or it failed.
bool DraftModel::RunStep() {
  batch_.token_ids.clear();
  batch_.positions.clear();
  batch_.slots.clear();
  batch_.sequences.clear();
  batch_.block_table.clear();
  batch_.logit_rows.clear();
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
      ReleaseBlocks(*jobs_[i].memory);  // nobody knows what is in them
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
  kernels::StepSequence& sequence = batch_.sequences.emplace_back();
  sequence.token_begin = static_cast<std::int32_t>(batch_.token_ids.size());
  sequence.token_count = static_cast<std::int32_t>(count);
  sequence.context_tokens = static_cast<std::int32_t>(end);
  sequence.block_begin = static_cast<std::int32_t>(batch_.block_table.size());
  sequence.block_count = static_cast<std::int32_t>(CeilDiv<std::size_t>(end, limits_.block_tokens));
  for (std::int32_t i = 0; i < sequence.block_count; ++i) {
    batch_.block_table.push_back(memory.blocks[static_cast<std::size_t>(i)]);
  }
  for (std::size_t position = begin; position < end; ++position) {
    const TokenId token =
        position < prompt.size() ? prompt[position] : job.generated[position - prompt.size()];
    const std::size_t block = position / limits_.block_tokens;
    batch_.token_ids.push_back(token);
    batch_.positions.push_back(static_cast<std::int32_t>(position));
    batch_.slots.push_back(memory.blocks[block] * static_cast<std::int32_t>(limits_.block_tokens) +
                           static_cast<std::int32_t>(position % limits_.block_tokens));
    memory.read.push_back(token);
  }
  job.unread -= count;
  if (job.unread == 0) {
    job.guesses = true;
    batch_.logit_rows.push_back(static_cast<std::int32_t>(batch_.token_ids.size()) - 1);
  }
}

void DraftModel::TakeGuess(Job& job, std::span<float> row) {
  const wire::GenerateRequest& request = *job.request->request;
  float mean = FirstMirostatMean(request.sampling.mirostat);
  const TokenId token = sampler_.Sample({.params = &request.sampling,
                                         .stop = &request.stop,
                                         .prompt = request.prompt,
                                         .generated = job.generated,
                                         .choice = job.request->choice,
                                         .mirostat_mean = &mean},
                                        row);
  if (token == kNoToken) {
    return;  // nothing may follow: no more guesses, as nothing is unread
  }
  job.request->guesses->push_back(token);
  job.generated.push_back(token);
  job.unread = 1;
}

}  // namespace pixii::engine
