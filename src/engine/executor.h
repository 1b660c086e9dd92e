// What the engine runs a step on: a real model on a device, or a mock with the same shape.
//
// Thread: the engine thread. An executor may compute on threads or a device of its own between
// Begin and Wait.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "engine/text_pooler.h"
#include "kernels/step.h"
#include "kv/layout_record.h"
#include "wire/messages/pool.h"

namespace pixii::rt {
class MemoryFile;
}

namespace pixii::engine {

class AdapterWeights;

struct ExecutorLimits {
  std::uint32_t vocab_size = 0;
  std::uint32_t context_tokens_max = 0;
  std::uint32_t block_tokens = 0;
  std::uint32_t block_count = 0;
  std::uint32_t step_tokens_max = 0;
  std::uint32_t step_logit_rows_max = 0;
  std::uint32_t host_block_count = 0;     // blocks that CopyBlocks can keep outside the cache
  std::uint64_t block_size_bytes = 0;     // of one KV block; 0: unknown
  std::uint64_t token_multiply_adds = 0;  // to compute one token; 0: unknown
  std::uint32_t adapter_slots = 0;        // that SetAdapter takes
  wire::ModelTask task = wire::ModelTask::kGenerate;
  std::uint32_t row_size = 0;          // floats of a logit row; 0: vocab_size
  std::uint32_t token_type_count = 0;  // of an encoder; 0: it knows no types
  /// All tokens of a text are one chunk of one step, and its K and V are of no use after.
  bool whole_texts = false;
  std::uint32_t hidden_size = 0;  // floats of a row of hidden_rows(); 0: it keeps none
};

/// What an engine's next step could compute.
struct StepOutlook {
  std::uint32_t prompts = 0;  // sequences that wait to be admitted
  std::uint32_t decodes = 0;  // sequences that would go on
};

/// One KV block between the cache and its place in the host pool.
struct BlockCopy {
  std::uint32_t block = 0;
  std::uint32_t host_slot = 0;
  std::uint64_t tag = 0;  // what must come back is what left under this tag
  bool to_host = false;
};

/// What sleeping gives back.
struct MemoryParts {
  bool kv_cache = false;
  bool weights = false;

  bool any() const { return kv_cache || weights; }
};

class StepExecutor {
 public:
  virtual ~StepExecutor() = default;
  virtual ExecutorLimits limits() const = 0;

  /// How the rows of a text become its result; null where rows are logits of a vocabulary.
  virtual std::shared_ptr<const TextPooler> pooler() const { return nullptr; }

  /// Runs a whole step; logits fp32 [R, row_size]. Errors: kModelFault; the slots of the
  /// sequences it harmed (all, if faulty_logit_rows() is empty) are then undefined.
  virtual Result<void> Execute(const kernels::StepBatch& batch, std::span<float> logits) = 0;

  /// Begins a step and returns. `batch` and `logits` stay where they are until Wait has returned,
  /// and no other verb is called before. Here: the step is run by Wait.
  virtual void Begin(const kernels::StepBatch& batch, std::span<float> logits) {
    batch_ = &batch;
    logits_ = logits;
  }

  /// The result of the step begun, as Execute gives it.
  virtual Result<void> Wait() { return Execute(*batch_, logits_); }

  /// Runs `work`, which computes on the model's own device, while no step does. Pre: no step of the
  /// caller is in flight. Here: at once.
  virtual void BetweenSteps(const std::function<void()>& work) { work(); }

  /// The engine has nothing to begin now: who waits for its next step goes on without. Called
  /// between steps.
  virtual void Rest() {}

  /// Whether the next plan admits nobody: asked before each plan.
  virtual bool HoldsPrompts(const StepOutlook& /*outlook*/) { return false; }

  /// Whether a step begun goes on while the caller does something else: then it pays to plan the
  /// next one meanwhile.
  virtual bool overlaps() const { return false; }

  /// Rows of the last step's logit_rows whose logits are not finite; empty unless it failed with
  /// kModelFault and the executor can tell. K, V and logits of all other sequences are valid.
  virtual std::span<const std::int32_t> faulty_logit_rows() const { return {}; }

  /// [tokens of the last step, hidden_size] that the model's head reads; as good as the logits
  /// are. Empty if none are kept.
  virtual std::span<const float> hidden_rows() const { return {}; }

  /// Copies in order. What goes out gets a checksum; what comes in is compared with it and with
  /// its tag. Errors: kDataCorrupt, kUnavailable; blocks not yet copied are then undefined.
  virtual Result<void> CopyBlocks(std::span<const BlockCopy> copies);

  /// Where the bytes of a block of the cache are, [block_size_bytes]; empty if the host cannot
  /// reach them. Nobody but a step in flight writes to a block that is published.
  virtual std::span<std::byte> block_bytes(std::uint32_t /*block*/) { return {}; }

  /// Where all blocks lie, one behind the other, if other processes of this host can be given it:
  /// the same as long as the executor lives, whatever is released. Null: they cannot.
  virtual std::shared_ptr<const rt::MemoryFile> block_file() const { return nullptr; }

  /// Sizes, in order, of the (layer, K or V, head) slices of a block, bytes; together
  /// block_size_bytes. Empty where block_bytes is.
  virtual std::vector<std::uint32_t> block_slices() const { return {}; }

  /// What these slices are; nothing where block_bytes is, or where they mean nothing.
  virtual std::optional<kv::LayoutRecord> block_layout() const { return std::nullopt; }

  /// Puts `weights` into a slot that rows of later steps name; null empties it. Pre: no step is in
  /// flight. Errors: kUnsupported, kInvalidArgument, kResourceExhausted; the slot is then empty.
  virtual Result<void> SetAdapter(std::uint32_t slot, const AdapterWeights* weights);

  /// Gives memory back to the system; no step is run before Restore. Pre: the cache's content is
  /// not needed any more. Errors: kUnsupported, before anything is given back.
  virtual Result<void> Release(const MemoryParts& parts);
  /// Undoes Release; what is there already stays. The cache's content is undefined, and slots hold
  /// no adapters if weights came back. Errors: kResourceExhausted, and those of loading; it may be
  /// called again.
  virtual Result<void> Restore(const MemoryParts& parts);

  /// Nanoseconds of virtual time that the last step took; 0 for an executor that takes real time.
  virtual std::int64_t virtual_time_ns() const { return 0; }

 private:
  const kernels::StepBatch* batch_ = nullptr;
  std::span<float> logits_;
};

}  // namespace pixii::engine
