// A loaded language model: runs packed steps against a KV cache. Architectures are one file each
// behind Build().
//
// Thread: one caller (the device thread). Weights are immutable after Load.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "kernels/kv_cache.h"
#include "kernels/operators.h"
#include "kernels/step.h"
#include "model/lora_adapter.h"
#include "model/model_cut.h"
#include "model/pooling.h"
#include "model/vision_spec.h"
#include "model/weights.h"

namespace pixii::model {

/// What the checkpoint's authors sample with where a request says nothing. Absent fields are not
/// stated.
struct GenerationDefaults {
  std::optional<bool> do_sample;
  std::optional<double> temperature;         // 0 .. 100
  std::optional<double> top_p;               // 0 .. 1
  std::optional<double> min_p;               // 0 .. 1
  std::optional<std::int32_t> top_k;         // 0 = all
  std::optional<double> repetition_penalty;  // > 0 .. 100
  std::optional<std::int32_t> max_new_tokens;
};

/// A reranker that is a generator scores by the logits of two tokens after the text's last.
struct ScoreTokens {
  std::int32_t yes = -1;
  std::int32_t no = -1;  // -1: the logit of `yes` alone counts
};

/// What a checkpoint is for.
enum class ModelTask : std::uint8_t {
  kGenerate,  // rows are logits of the vocabulary
  kEmbed,     // rows are hidden states, which a Pooler makes a vector of
  kClassify,  // rows are class logits: a reranker has one class
};

/// What the rest of the program needs to know about a checkpoint.
struct ModelSpec {
  std::string architecture;  // "LlamaForCausalLM"
  std::int32_t layer_count = 0;
  std::int32_t hidden_size = 0;
  std::int32_t vocab_size = 0;
  std::int32_t kv_head_count = 0;
  std::int32_t head_dim = 0;
  std::int32_t context_tokens_max = 0;      // max_position_embeddings
  std::int32_t rope_context_tokens = 0;     // that rope's factors were taken for; 0: any
  std::vector<std::int32_t> eos_token_ids;  // generation_config.json first, then config.json
  std::int32_t bos_token_id = -1;           // -1: none
  GenerationDefaults generation;            // generation_config.json's
  ModelTask task = ModelTask::kGenerate;
  std::int32_t row_size =
      0;  // floats of a row that Forward writes: vocab_size, hidden_size, classes
  /// An encoder: a text's tokens are one chunk of one step, and its K and V are of no use after.
  bool whole_texts = false;
  std::int32_t token_type_count = 0;         // of an encoder; 0: it knows no types
  PoolRows pool_rows = PoolRows::kLast;      // rows that pooling or classes are read from
  std::shared_ptr<const Pooler> pooler;      // of kEmbed, else null
  std::optional<ScoreTokens> score_tokens;   // a generator that is a reranker
  std::shared_ptr<const VisionSpec> vision;  // its tower (vision_tower.h); null: it reads text
  std::uint64_t parameter_count = 0;
  /// The checkpoint stores integer codes, which ComputeType::kInt8 multiplies as integers.
  bool integer_codes = false;
  std::string
      fingerprint;  // hex digest of config and weights' headers and bytes sampled: model identity
};

/// Sees the residual stream: index 0 = embeddings, i = after layer i, last = after the final norm
/// (transformers' output_hidden_states). rows [T, hidden_size].
using HiddenObserver = std::function<void(std::int32_t index, const kernels::Matrix& rows)>;

/// How many ranks hold a model together, each on a thread and operators of its own.
struct RankOptions {
  std::int32_t tensor_count = 1;  // 1, 2, 4 or 8
  std::int32_t stage_count = 1;   // at most the model's layers
  /// Makes the operators of every rank but the first, which has the caller's. All have the host's
  /// memory and equal numerics.
  std::function<Result<std::unique_ptr<kernels::Operators>>()> make_operators = {};

  std::int32_t count() const { return tensor_count * stage_count; }
};

/// Hears how much of a decoder's weights is ready: a fraction that grows with each layer.
using LoadProgress = std::function<void(double done)>;

struct LoadOptions {
  kernels::ComputeType compute = kernels::ComputeType::kBf16;
  std::int32_t context_tokens_max = 0;  // 0 = what the checkpoint says
  std::int32_t step_tokens_max = 2048;  // rows of the largest step, sizes the workspace; of an
                                        // encoder at least the context
  std::int32_t step_logit_rows_max = 2048;
  LoadProgress progress = {};
  std::int32_t adapter_slots = 0;  // adapters that steps may mix, 0 .. 4096
  RankOptions ranks = {};          // how many hold the model together
  RankPlace place = {};            // which of them a model is; set by who makes them
};

/// Weights that nobody trained.
struct RandomOptions {
  std::uint64_t seed = 1;
  RandomForm form = RandomForm::kBf16;
};

/// KV blocks have a part for each rank, stage by stage: layers and KV heads of it.
struct KvCuts {
  std::vector<RowRange> stage_layers;  // [stage]
  std::vector<RowRange> rank_heads;    // [tensor rank]
};

class LanguageModel {
 public:
  /// Loads a Hugging Face folder. Errors name file and offset or key; a config that cannot be run
  /// exactly is refused with kUnsupported and the reason.
  static Result<std::unique_ptr<LanguageModel>> Load(const std::string& folder,
                                                     kernels::Operators& operators,
                                                     const LoadOptions& options);

  /// A model of one of Shapes() (model/shapes.h) with random weights, no tokenizer and no files:
  /// for benches. Errors: kNotFound naming the shapes there are.
  static Result<std::unique_ptr<LanguageModel>> Random(std::string_view shape,
                                                       kernels::Operators& operators,
                                                       const LoadOptions& options,
                                                       const RandomOptions& random = {});

  virtual ~LanguageModel() = default;

  virtual const ModelSpec& spec() const = 0;

  /// Layout of one KV block for this model.
  virtual kernels::KvLayout MakeKvLayout(std::int32_t block_tokens,
                                         kernels::KvDType dtype) const = 0;

  /// Runs `batch`, stores its K and V, writes fp32 rows [batch.logit_rows.size(), row_size]:
  /// logits, or what the model's task says. Errors: kModelFault if a value is not finite where it
  /// must be, kUnavailable if the device failed. After an error the cache holds arbitrary bytes in
  /// the batch's slots and is otherwise unchanged; after kModelFault only those sequences are
  /// harmed whose logits are in faulty_logit_rows(), all others' K, V and logits are valid.
  /// kInvalidArgument names the field of a batch that cannot be run; nothing was written then.
  virtual Result<void> Forward(const kernels::StepBatch& batch, kernels::KvCache& cache,
                               std::span<float> logits,
                               const HiddenObserver* observer = nullptr) = 0;

  /// Indices into the last step's logit_rows whose logits are not all finite; empty unless it
  /// failed with kModelFault.
  virtual std::span<const std::int32_t> faulty_logit_rows() const = 0;

  /// How KV blocks are cut over the ranks that hold the model.
  virtual KvCuts kv_cuts() const;

  /// What an adapter may change; empty: this model takes none.
  virtual std::span<const AdaptableLinear> adaptable_linears() const { return {}; }

  /// Slots that StepBatch::adapter_slots may name: LoadOptions' if the model takes adapters.
  virtual std::int32_t adapter_slot_count() const { return 0; }

  /// Puts `adapter`, read for adaptable_linears(), into `slot` in place of what is there; between
  /// steps. Errors: kUnsupported (the model or the backend runs none), kInvalidArgument (no such
  /// slot, another model's adapter), kResourceExhausted; the slot is then empty.
  virtual Result<void> LoadAdapter(std::int32_t slot, const LoraAdapter& adapter);
  /// Empties `slot`, one of adapter_slot_count().
  virtual void UnloadAdapter(std::int32_t slot);
};

}  // namespace pixii::model
