#include "engine/mock_executor.h"

#include <algorithm>
#include <bit>
#include <memory>
#include <string>

#include "base/assert.h"
#include "base/checked.h"
#include "engine/sampler.h"

namespace pixii::engine {

namespace {

constexpr std::uint64_t kEmptyContext = 0x9e3779b97f4a7c15;
constexpr float kWinnerLogit = 4.0F;  // above the range of all others: one clear winner

// One step of the context hash; order, position and salt all count.
std::uint64_t Mix(std::uint64_t hash, TokenId token, std::uint32_t position,
                  std::uint32_t salt = 0) {
  std::uint32_t salted = static_cast<std::uint32_t>(token) ^ salt;
  hash ^= (std::uint64_t{salted} << 32 | position) * 0xff51afd7ed558ccd;
  hash = (hash ^ hash >> 32) * 0xc4ceb9fe1a85ec53;
  return hash ^ hash >> 29;
}

void LogitsOfHash(std::uint64_t hash, std::span<float> logits) {
  std::uint64_t state = hash | 1;
  for (float& logit : logits) {
    state = state * 6364136223846793005 + 1442695040888963407;
    logit =
        static_cast<float>(static_cast<std::int32_t>(state >> 40)) * 0x1p-22F - 2.0F;  // [-2, 2)
  }
  logits[hash % logits.size()] += kWinnerLogit;
}

std::uint64_t HashOf(std::span<const TokenId> context, std::uint32_t salt = 0) {
  std::uint64_t hash = kEmptyContext;
  for (std::uint32_t i = 0; i < context.size(); ++i) {
    hash = Mix(hash, context[i], i, salt);
  }
  return hash;
}

// Never 0 but for no adapter.
std::uint32_t SaltOf(std::string_view fingerprint) {
  std::uint32_t salt = fingerprint.empty() ? 0 : 2166136261;
  for (char c : fingerprint) {
    salt = ((salt ^ static_cast<unsigned char>(c)) * 16777619) | 1U << 31;
  }
  return salt;
}

// 0 of type 0.
std::uint32_t SaltOfType(std::int32_t type) {
  return static_cast<std::uint32_t>(type) * 0x9e3779b1;
}

/// Order, count and every row matter.
class MockText final : public PooledText {
 public:
  void Add(std::span<const float> row) override {
    out_.resize(row.size());
    for (std::size_t i = 0; i < row.size(); ++i) {
      out_[i] = out_[i] * 0.5F + row[i];
    }
  }

  std::vector<float> Finish() override { return std::move(out_); }

 private:
  std::vector<float> out_;
};

class MockPooler final : public TextPooler {
 public:
  MockPooler(PoolRows rows, std::uint32_t feature_count)
      : rows_(rows), feature_count_(feature_count) {}

  PoolRows rows() const override { return rows_; }

  std::uint32_t feature_count() const override { return feature_count_; }

  bool can_skip() const override { return true; }

  std::unique_ptr<PooledText> Start(std::uint32_t /*skip_tokens*/) const override {
    return std::make_unique<MockText>();
  }

 private:
  PoolRows rows_;
  std::uint32_t feature_count_;
};

}  // namespace

void MockLogits(std::span<const TokenId> context, std::span<float> logits,
                std::string_view adapter) {
  LogitsOfHash(HashOf(context, SaltOf(adapter)), logits);
}

TokenId MockNextToken(std::span<const TokenId> context, std::uint32_t vocab_size) {
  std::vector<float> logits(vocab_size);
  MockLogits(context, logits);
  return Argmax(logits);
}

MockChoice MockStream(const wire::GenerateRequest& request, std::uint32_t choice,
                      std::uint32_t vocab_size, std::uint32_t context_tokens_max) {
  MockChoice out;
  std::vector<TokenId> generated =
      request.generated.empty() ? std::vector<TokenId>{} : request.generated[choice];
  std::vector<float> logits(vocab_size);
  Sampler sampler;
  std::uint32_t salt = SaltOf(request.adapter);
  std::uint64_t hash = HashOf(request.prompt, salt);
  std::uint32_t position = static_cast<std::uint32_t>(request.prompt.size());
  for (TokenId token : generated) {
    hash = Mix(hash, token, position++, salt);
  }
  const wire::StopConditions& stop = request.stop;
  while (generated.size() < stop.max_tokens && position < context_tokens_max) {
    LogitsOfHash(hash, logits);
    std::vector<float> raw = logits;
    TokenId token = sampler.Sample({.params = &request.sampling,
                                    .stop = &stop,
                                    .prompt = request.prompt,
                                    .generated = generated,
                                    .choice = choice},
                                   logits);
    auto is_in = [&](const std::vector<TokenId>& ids) {
      return std::ranges::find(ids, token) != ids.end();
    };
    if ((!stop.ignore_eos && is_in(stop.eos_token_ids)) || is_in(stop.stop_token_ids)) {
      out.finish = wire::FinishReason::kStop;
      out.stop_token = token;
      return out;
    }
    generated.push_back(token);
    out.tokens.push_back(token);
    if (request.top_logprobs >= 0) {
      out.logprobs.push_back(
          sampler.Logprob(raw, token, static_cast<std::uint32_t>(request.top_logprobs)));
    }
    hash = Mix(hash, token, position++, salt);
  }
  return out;
}

std::vector<wire::TokenLogprob> MockPromptLogprobs(const wire::GenerateRequest& request,
                                                   std::uint32_t vocab_size) {
  std::vector<wire::TokenLogprob> out(1);
  std::vector<float> logits(vocab_size);
  Sampler sampler;
  std::span<const TokenId> prompt = request.prompt;
  for (std::size_t i = 1; i < prompt.size(); ++i) {
    MockLogits(prompt.first(i), logits, request.adapter);
    out.push_back(sampler.Logprob(logits, prompt[i],
                                  static_cast<std::uint32_t>(std::max(request.top_logprobs, 0))));
  }
  return out;
}

std::vector<float> MockPooled(const wire::GenerateRequest& request, const MockOptions& options) {
  const ExecutorLimits& limits = options.limits;
  const wire::PoolParams& pool = *request.pool;
  std::vector<float> row(limits.row_size > 0 ? limits.row_size : limits.vocab_size);
  if (limits.task == wire::ModelTask::kGenerate) {
    MockLogits(request.prompt, row);
    std::vector<float> out;
    for (TokenId token : pool.logit_tokens) {
      out.push_back(row[static_cast<std::size_t>(token)]);
    }
    return out;
  }
  std::vector<std::uint64_t> hashes;  // [prompt] of what stands before and at each token
  std::uint64_t hash = kEmptyContext;
  for (std::uint32_t i = 0; i < request.prompt.size(); ++i) {
    hash = Mix(hash, request.prompt[i], i,
               SaltOfType(pool.token_types.empty() ? 0 : pool.token_types[i]));
    hashes.push_back(hash);
  }
  auto size = static_cast<std::uint32_t>(request.prompt.size());
  std::uint32_t begin = options.pool_rows == PoolRows::kLast  ? size - 1
                        : options.pool_rows == PoolRows::kAll ? pool.skip_tokens
                                                              : 0;
  std::uint32_t end = options.pool_rows == PoolRows::kFirst ? 1 : size;
  MockText text;
  for (std::uint32_t i = begin; i < end; ++i) {
    LogitsOfHash(limits.whole_texts ? Mix(hashes.back(), 0, i) : hashes[i], row);
    text.Add(row);
  }
  return text.Finish();
}

MockExecutor::MockExecutor(const MockOptions& options)
    : options_(options),
      empty_context_(kEmptyContext ^ options.seed * 0xd6e8feb86659fd93),
      memory_(options.keeps_context
                  ? std::size_t{options.limits.block_count} * options.limits.block_tokens
                  : 0),
      salts_(options.limits.adapter_slots) {
  PX_ASSERT(options.keeps_context || options.limits.host_block_count == 0);
  if (std::uint32_t slots = options.limits.host_block_count; slots > 0) {
    std::size_t block_bytes = options.limits.block_tokens * sizeof(Slot);
    auto bytes = std::make_shared<std::vector<std::byte>>(slots * block_bytes);
    host_ = HostBlocks(kernels::Buffer(bytes->data(), bytes->size(), [bytes](void*) {}), slots,
                       block_bytes);
  }
}

std::span<std::byte> MockExecutor::block_bytes(std::uint32_t block) {
  if (!options_.keeps_context) {
    return {};
  }
  const std::size_t block_tokens = options_.limits.block_tokens;
  return std::as_writable_bytes(std::span(memory_).subspan(block * block_tokens, block_tokens));
}

// As if it had one layer and one head, whose K are the tokens and nothing is V.
std::vector<std::uint32_t> MockExecutor::block_slices() const {
  return {static_cast<std::uint32_t>(options_.limits.block_tokens * sizeof(Slot))};
}

Result<void> MockExecutor::CopyBlocks(std::span<const BlockCopy> copies) {
  for (const BlockCopy& copy : copies) {
    std::span<std::byte> block = block_bytes(copy.block);
    if (!copy.to_host) {
      PX_CHECK_OK(host_.Get(copy.host_slot, copy.tag, block));
      continue;
    }
    host_.Put(copy.host_slot, copy.tag, block);
    if (options_.faults.corrupt_copy == copy_count_++) {
      host_.bytes(copy.host_slot)[0] ^= std::byte{1};
    }
  }
  return {};
}

Result<void> MockExecutor::Release(const MemoryParts& parts) {
  if (options_.faults.refuse_release) {
    return Fail(Code::kUnsupported, "injected: the memory cannot be given back");
  }
  PX_ASSERT(!(parts.kv_cache && released_.kv_cache) && !(parts.weights && released_.weights));
  if (parts.kv_cache) {
    std::ranges::fill(memory_, Slot{});
  }
  if (parts.weights) {
    std::ranges::fill(salts_, 0);
  }
  released_.kv_cache = released_.kv_cache || parts.kv_cache;
  released_.weights = released_.weights || parts.weights;
  return {};
}

Result<void> MockExecutor::Restore(const MemoryParts& parts) {
  if (options_.faults.refuse_restore) {
    return Fail(Code::kResourceExhausted, "injected: no memory");
  }
  released_.kv_cache = released_.kv_cache && !parts.kv_cache;
  released_.weights = released_.weights && !parts.weights;
  return {};
}

Result<void> MockExecutor::SetAdapter(std::uint32_t slot, const AdapterWeights* weights) {
  PX_ASSERT(!released_.weights);
  PX_ASSERT(slot < salts_.size());
  salts_[slot] = 0;
  if (weights == nullptr) {
    return {};
  }
  if (options_.faults.refused_adapter == weights->fingerprint()) {
    return Fail(Code::kResourceExhausted, "injected: no memory for the adapter");
  }
  salts_[slot] = SaltOf(weights->fingerprint());
  return {};
}

std::int64_t MockExecutor::TimeOf(const kernels::StepBatch& batch) const {
  MockStep step;
  step.cache_tokens = std::uint64_t{options_.limits.block_count} * options_.limits.block_tokens;
  for (const kernels::StepSequence& sequence : batch.sequences) {
    const auto context = static_cast<std::uint64_t>(sequence.context_tokens);
    step.context_tokens += context;
    if (sequence.token_count == 1) {
      ++step.decode_sequences;
      step.decode_context_tokens += context;
    } else {
      ++step.prefill_sequences;
      step.prefill_tokens += static_cast<std::uint64_t>(sequence.token_count);
    }
  }
  return MockStepTime(options_.timing, step);
}

void MockExecutor::FillRow(std::uint64_t hash, std::span<float> row) const {
  if (!options_.flat_rows) {
    LogitsOfHash(hash, row);
    return;
  }
  std::ranges::fill(row, 0.0F);
  row[hash % row.size()] = kWinnerLogit;
}

// What stands in the cache where the block table says position i is. A slot that holds another
// position gives a hash that no oracle knows.
std::uint64_t MockExecutor::ContextHash(const kernels::StepBatch& batch,
                                        const kernels::StepSequence& sequence,
                                        std::int32_t context_tokens) const {
  std::uint64_t hash = empty_context_;
  if (!options_.keeps_context) {
    return Mix(hash, 0, static_cast<std::uint32_t>(context_tokens));
  }
  auto block_tokens = static_cast<std::int32_t>(options_.limits.block_tokens);
  for (std::int32_t i = 0; i < context_tokens; ++i) {
    std::int32_t block =
        batch.block_table[static_cast<std::size_t>(sequence.block_begin + i / block_tokens)];
    const Slot& slot = memory_[static_cast<std::size_t>(block * block_tokens + i % block_tokens)];
    hash = Mix(hash, slot.token, static_cast<std::uint32_t>(slot.position),
               slot.salt ^ SaltOfType(slot.type));
  }
  return hash;
}

void MockExecutor::Store(const kernels::StepBatch& batch) {
  if (!options_.keeps_context) {
    return;
  }
  std::size_t given = 0;  // rows of embeddings so far
  for (std::size_t i = 0; i < batch.token_ids.size(); ++i) {
    TokenId token = batch.token_ids[i];
    if (given < batch.embedded_rows.size() &&
        batch.embedded_rows[given] == static_cast<std::int32_t>(i)) {
      token = std::bit_cast<TokenId>(batch.embeddings[given++]);  // one float: what stands for it
    }
    std::int32_t adapter = batch.adapter_slots.empty() ? -1 : batch.adapter_slots[i];
    std::uint32_t salt = adapter < 0 ? 0 : salts_[static_cast<std::size_t>(adapter)];
    PX_ASSERT(adapter < 0 || salt != 0);
    memory_[static_cast<std::size_t>(batch.slots[i])] = {
        token, batch.positions[i], salt, batch.token_types.empty() ? 0 : batch.token_types[i]};
  }
}

// The step failed: what it should have stored is nothing sound.
void MockExecutor::Spoil(const kernels::StepBatch& batch) {
  if (!options_.keeps_context) {
    return;
  }
  for (const std::int32_t slot : batch.slots) {
    memory_[static_cast<std::size_t>(slot)] = {};
  }
}

// Whether the step computes the poison; faulty_rows_ are then the rows of the sequences that do, if
// they are to be named and each has one.
bool MockExecutor::FindPoison(const kernels::StepBatch& batch) {
  faulty_rows_.clear();
  if (!options_.faults.poison_token) {
    return false;
  }
  bool found = false;
  bool all_named = options_.faults.name_rows;
  for (const kernels::StepSequence& sequence : batch.sequences) {
    auto first = batch.token_ids.begin() + sequence.token_begin;
    if (std::find(first, first + sequence.token_count, *options_.faults.poison_token) ==
        first + sequence.token_count) {
      continue;
    }
    found = true;
    std::size_t before = faulty_rows_.size();
    for (std::size_t row = 0; row < batch.logit_rows.size(); ++row) {
      if (batch.logit_rows[row] >= sequence.token_begin &&
          batch.logit_rows[row] < sequence.token_begin + sequence.token_count) {
        faulty_rows_.push_back(static_cast<std::int32_t>(row));
      }
    }
    all_named = all_named && faulty_rows_.size() > before;
  }
  if (!all_named) {
    faulty_rows_.clear();
  }
  return found;
}

std::shared_ptr<const TextPooler> MockExecutor::pooler() const {
  if (options_.limits.task == wire::ModelTask::kGenerate) {
    return nullptr;
  }
  return std::make_shared<MockPooler>(options_.pool_rows, row_size());
}

Result<void> MockExecutor::Execute(const kernels::StepBatch& batch, std::span<float> logits) {
  const ExecutorLimits& limits = options_.limits;
  PX_ASSERT(!released_.any());
  PX_ASSERT(!batch.sequences.empty() && batch.token_ids.size() <= limits.step_tokens_max);
  PX_ASSERT(batch.logit_rows.size() <= limits.step_logit_rows_max);
  PX_ASSERT(logits.size() == batch.logit_rows.size() * row_size());
  PX_ASSERT(batch.token_types.empty() || batch.token_types.size() == batch.token_ids.size());
  virtual_time_ns_ = TimeOf(batch);
  std::uint64_t call = call_count_++;
  bool poisoned = FindPoison(batch);
  bool named = poisoned && !faulty_rows_.empty();
  if ((poisoned && !named) || options_.faults.fail_call == call) {
    faulty_rows_.clear();
    Spoil(batch);
    return Fail(Code::kModelFault, "injected fault in call " + std::to_string(call));
  }
  Store(batch);
  std::size_t row = 0;
  for (const kernels::StepSequence& sequence : batch.sequences) {
    PX_ASSERT(!limits.whole_texts || sequence.token_count == sequence.context_tokens);
    PX_ASSERT(sequence.token_count >= 1 &&
              sequence.block_count ==
                  CeilDiv(sequence.context_tokens, static_cast<std::int32_t>(limits.block_tokens)));
    for (; row < batch.logit_rows.size() &&
           batch.logit_rows[row] < sequence.token_begin + sequence.token_count;
         ++row) {
      std::int32_t before = sequence.token_begin + sequence.token_count - 1 - batch.logit_rows[row];
      std::span<float> out = logits.subspan(row * row_size(), row_size());
      if (limits.whole_texts) {
        std::uint64_t text = ContextHash(batch, sequence, sequence.context_tokens);
        std::int32_t position = sequence.context_tokens - 1 - before;
        LogitsOfHash(Mix(text, 0, static_cast<std::uint32_t>(position)), out);
      } else {
        FillRow(ContextHash(batch, sequence, sequence.context_tokens - before), out);
      }
    }
  }
  PX_ASSERT(row == batch.logit_rows.size());
  if (named) {
    return Fail(Code::kModelFault, "injected fault in rows of call " + std::to_string(call));
  }
  return {};
}

}  // namespace pixii::engine
