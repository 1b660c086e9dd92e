// An executor without a model: the next token is a pure function of the tokens so far, READ BACK
// THROUGH THE BLOCKS.
//
// Thread: the engine thread.
// Its KV memory holds, per slot, the token and position stored there. Logits of a row come from a
// hash of the whole context as the block table shows it, so a wrong block, slot, position or a
// block reused too early gives wrong tokens. MockStream says what a request must get; tests and the
// simulator compare.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/adapter_store.h"
#include "engine/executor.h"
#include "engine/host_blocks.h"
#include "engine/mock_timing.h"
#include "wire/messages/generate.h"

namespace pixii::engine {

struct MockFaults {
  std::optional<std::uint64_t> fail_call;  // the Execute call with this number, from 0, fails once
  std::optional<TokenId> poison_token;     // any step that computes this token fails
  bool refuse_release = false;
  bool refuse_restore = false;
  bool name_rows = false;  // the poisoned rows are named, and the other sequences' are sound
  std::optional<std::string> refused_adapter;  // fingerprint of the one that no slot takes
  std::optional<std::uint64_t> corrupt_copy;   // the copy to the host with this number spoils a bit
};

struct MockOptions {
  ExecutorLimits limits;
  MockTiming timing = {};
  MockFaults faults = {};
  bool overlaps = false;   // steps run between Begin and Wait
  std::uint64_t seed = 0;  // another seed, other tokens; the oracles below know seed 0
  /// Logits of generators are 0 but for the winner's: the greedy tokens are the same and a row
  /// costs no more than filling it.
  bool flat_rows = false;
  /// Nothing is kept of what is computed: tokens follow from the position alone, and a mistake in
  /// blocks goes unseen; their bytes are nowhere. For thousands of engines at a time, where only
  /// time and blocks count.
  bool keeps_context = true;
  /// Of a mock that reads texts (limits.task and row_size say what it gives).
  PoolRows pool_rows = PoolRows::kLast;
};

/// Logits [vocab] after `context`.
void MockLogits(std::span<const TokenId> context, std::span<float> logits,
                std::string_view adapter = {});

/// The greedy next token after `context`.
TokenId MockNextToken(std::span<const TokenId> context, std::uint32_t vocab_size);

struct MockChoice {
  std::vector<TokenId> tokens;               // without those in GenerateRequest::generated
  std::vector<wire::TokenLogprob> logprobs;  // [tokens] if asked for
  wire::FinishReason finish = wire::FinishReason::kLength;
  std::optional<TokenId> stop_token;
};

/// Weights of nothing but an identity: with the mock they make other tokens of the same context.
class MockAdapter final : public AdapterWeights {
 public:
  explicit MockAdapter(std::string fingerprint, std::uint64_t size_bytes = 1)
      : fingerprint_(std::move(fingerprint)), size_bytes_(size_bytes) {}

  std::string_view fingerprint() const override { return fingerprint_; }

  std::string_view source() const override { return "memory"; }

  std::uint64_t size_bytes() const override { return size_bytes_; }

 private:
  std::string fingerprint_;
  std::uint64_t size_bytes_;
};

/// What `choice` of `request` must get from any engine over a MockExecutor, if nothing ends it
/// early. An adapter's fingerprint is taken to be its name.
MockChoice MockStream(const wire::GenerateRequest& request, std::uint32_t choice,
                      std::uint32_t vocab_size, std::uint32_t context_tokens_max);

/// Logprobs of the prompt: first is empty.
std::vector<wire::TokenLogprob> MockPromptLogprobs(const wire::GenerateRequest& request,
                                                   std::uint32_t vocab_size);

/// What a request with `pool` must get from any engine over a MockExecutor of these options.
std::vector<float> MockPooled(const wire::GenerateRequest& request, const MockOptions& options);

class MockExecutor final : public StepExecutor {
 public:
  explicit MockExecutor(const MockOptions& options);

  ExecutorLimits limits() const override { return options_.limits; }

  std::shared_ptr<const TextPooler> pooler() const override;

  Result<void> Execute(const kernels::StepBatch& batch, std::span<float> logits) override;

  bool overlaps() const override { return options_.overlaps; }

  std::span<const std::int32_t> faulty_logit_rows() const override { return faulty_rows_; }

  Result<void> CopyBlocks(std::span<const BlockCopy> copies) override;

  std::span<std::byte> block_bytes(std::uint32_t block) override;
  std::vector<std::uint32_t> block_slices() const override;

  Result<void> SetAdapter(std::uint32_t slot, const AdapterWeights* weights) override;

  /// Its slots forget what they held; running a step meanwhile is an assertion.
  Result<void> Release(const MemoryParts& parts) override;
  Result<void> Restore(const MemoryParts& parts) override;

  const MemoryParts& released() const { return released_; }

  std::int64_t virtual_time_ns() const override { return virtual_time_ns_; }

  MockFaults& faults() { return options_.faults; }

  std::uint64_t call_count() const { return call_count_; }

 private:
  struct Slot {
    TokenId token = -1;
    std::int32_t position = -1;
    std::uint32_t salt = 0;  // of the adapter it was computed with
    std::int32_t type = 0;
  };

  std::int64_t TimeOf(const kernels::StepBatch& batch) const;
  void FillRow(std::uint64_t hash, std::span<float> row) const;
  std::uint64_t ContextHash(const kernels::StepBatch& batch, const kernels::StepSequence& sequence,
                            std::int32_t context_tokens) const;
  void Store(const kernels::StepBatch& batch);
  void Spoil(const kernels::StepBatch& batch);
  bool FindPoison(const kernels::StepBatch& batch);

  std::uint32_t row_size() const {
    return options_.limits.row_size > 0 ? options_.limits.row_size : options_.limits.vocab_size;
  }

  MockOptions options_;
  std::uint64_t empty_context_;       // the hash before any token
  std::vector<Slot> memory_;          // [block_count * block_tokens]
  std::vector<std::uint32_t> salts_;  // [adapter_slots], 0: nothing is there
  HostBlocks host_;
  MemoryParts released_;
  std::vector<std::int32_t> faulty_rows_;
  std::uint64_t call_count_ = 0;
  std::uint64_t copy_count_ = 0;  // to the host
  std::int64_t virtual_time_ns_ = 0;
};

}  // namespace pixii::engine
