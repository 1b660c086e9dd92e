// The small operator set that every architecture is written against. One class per backend
// implements it.
//
// Thread: one caller thread; a backend may use its own pool inside a call. Calls may be
// asynchronous on a device:
//         results are the host's after Download() and Synchronize().
// Memory: every Matrix, span and pointer below, tables and caches too, lies in the backend's memory
//         (Allocate, UploadStep). Only Prepare*, Upload, Download and UploadStep take the host's.
// Shapes: T tokens, H query heads, G kv heads, D key and E value elements of a head, F features.
//         Activations are fp32 on the CPU backends. Numerics: an output row depends on its own
//         input row and the weights alone, never
// on T or on the other rows
//           (architecture.md section 6). Shapes are asserted: models validate before they call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/result.h"
#include "kernels/convolution.h"
#include "kernels/kv_cache.h"
#include "kernels/step.h"
#include "kernels/tensor.h"

namespace pixii::kernels {

class WorkGate;

/// kQuickGelu: x * sigmoid(1.702 x), as CLIP has it.
enum class Activation : std::uint8_t { kSilu, kGeluTanh, kGelu, kRelu, kTanh, kQuickGelu };

/// What a weight part's bytes are. kNone: values of its dtype. The others are codes of value
/// code * scale + offset: int8; 0 .. 15; fp8 e4m3 (1.4.3 bits, bias 7, no infinity, S.1111.111 is
/// NaN); fp4 e2m1 (0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives). Four-bit codes lie two a byte,
/// the even column in the low half, and each row begins at a byte: ceil(cols / 2) bytes a row.
enum class WeightCode : std::uint8_t { kNone, kInt8, kUint4, kFp8E4m3, kFp4E2m1 };

/// Rows of a weight matrix as a checkpoint stores them: [rows, cols], row-major, contiguous.
/// Several parts stacked make one linear (q, k, v; gate, up).
struct WeightPart {
  const void* data = nullptr;  // host memory, maybe a mapped file: read during Prepare only
  DType dtype = DType::kF32;   // of values; codes ignore it
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  const float* bias = nullptr;  // [rows] or null
  WeightCode code = WeightCode::kNone;
  /// Of codes: value = code * scale + offset in fp32, the product rounded, then the sum. Both
  /// [ceil(rows / scale_rows), ceil(cols / scale_cols)], row-major; no offsets = zeros.
  const float* scales = nullptr;
  const float* offsets = nullptr;
  std::int64_t scale_rows = 0;
  std::int64_t scale_cols = 0;
};

/// What a linear multiplies in. kBf16 rounds weights and input rows to bf16 and accumulates in
/// fp32. kInt8 multiplies weights of integer codes with input rows rounded to int8, as
/// ref/reference_integer.h defines it, and is kBf16 for all other weights (integer_plan.h).
enum class ComputeType : std::uint8_t { kF32, kBf16, kInt8 };

struct RowRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

struct LinearOptions {
  ComputeType compute = ComputeType::kF32;
  /// Row-parallel projections sum K in this many fixed fp32 shards joined by a fixed tree, 1 or 8,
  /// so that tensor parallelism by 1, 2, 4 and 8 gives the same bits.
  std::int32_t k_shards = 1;
  /// A rank's share of K: shards [shard_begin, shard_end), 1, 2 or 4 of them from a multiple of
  /// their number on; 0, 0: all. Inputs are the columns of these shards alone, outputs their part
  /// of the tree.
  std::int32_t shard_begin = 0;
  std::int32_t shard_end = 0;
  /// A rank's share of the outputs: rows of the stacked parts, ascending; empty: all. Outputs have
  /// the bits that they have in the whole linear.
  std::vector<RowRange> rows = {};
};

/// A prepared (packed) weight [out_features, in_features]; owned by the model, made by one backend.
class LinearWeight {
 public:
  LinearWeight(std::int64_t in_features, std::int64_t out_features)
      : in_features_(in_features), out_features_(out_features) {}

  virtual ~LinearWeight() = default;

  std::int64_t in_features() const { return in_features_; }

  std::int64_t out_features() const { return out_features_; }

 private:
  std::int64_t in_features_;
  std::int64_t out_features_;
};

/// Largest rank of a low-rank pair.
inline constexpr std::int32_t kLoraRankMax = 256;

/// A prepared low-rank pair that an adapter adds to one linear; owned by the adapter, made by one
/// backend.
class LoraWeight {
 public:
  LoraWeight(std::int64_t in_features, std::int64_t out_features, std::int64_t rank)
      : in_features_(in_features), out_features_(out_features), rank_(rank) {}

  virtual ~LoraWeight() = default;

  std::int64_t in_features() const { return in_features_; }

  std::int64_t out_features() const { return out_features_; }

  std::int64_t rank() const { return rank_; }

 private:
  std::int64_t in_features_;
  std::int64_t out_features_;
  std::int64_t rank_;
};

/// Rotation factors: cos and sin of shape [position_max, rotary_dim / 2], fp32, scaling already
/// applied.
struct RotaryTable {
  const float* cos = nullptr;
  const float* sin = nullptr;
  std::int32_t position_max = 0;
  std::int32_t rotary_dim = 0;  // leading elements of each head that turn; even
  bool interleaved = false;     // false: pairs (i, i + rotary_dim / 2); true: pairs (2i, 2i + 1)
};

/// Largest key_dim and value_dim of attention: models check it before they call.
inline constexpr std::int32_t kHeadDimMax = 576;

struct AttentionOptions {
  std::int32_t head_count = 0;     // H
  std::int32_t kv_head_count = 0;  // G, divides H
  std::int32_t key_dim = 0;        // D: of queries and keys, 1 .. kHeadDimMax
  std::int32_t value_dim = 0;      // E: of values and outputs; <= D where V is a part of K
  float scale = 1.0F;              // multiplies q.k
  /// A query sees its own and the window_tokens - 1 positions before (bidirectional: and after);
  /// 0 = all.
  std::int32_t window_tokens = 0;
  float soft_cap = 0.0F;         // cap * tanh(score / cap); 0 = none
  const float* sinks = nullptr;  // [H] extra logits in the softmax's denominator, or null
  /// Encoders: every query of a sequence sees all its context_tokens. With a window the step gives
  /// all of them at once; without one there may be any number of queries (cross-attention).
  bool bidirectional = false;
  /// [H, 2 * bias_reach - 1] added to a bidirectional sequence's scaled scores: of head h, key j
  /// and query i (all of them in the step, at most bias_reach, no window, no soft_cap) the value at
  /// [h][j - i + bias_reach - 1]; or null.
  const float* position_bias = nullptr;
  std::int32_t bias_reach = 0;
};

/// How a router's scores choose experts. Ties go to the lower index.
struct RouteOptions {
  enum class Scoring : std::uint8_t {
    kSoftmax,          // over all experts
    kSigmoid,          // each expert alone
    kSoftmaxOfChosen,  // experts are chosen by their logits, then weighed among themselves
  };

  std::int32_t experts_per_token = 1;  // K, chosen in descending order of score
  Scoring scoring = Scoring::kSoftmax;
  bool normalize = false;          // weights are divided by their sum
  float normalize_epsilon = 0.0F;  // added to that sum
  float scale = 1.0F;              // multiplies the weights in the end
  /// Experts in equal groups, of which the best `groups_kept` stay; scores of the others count as
  /// 0. A group is as good as its best expert or, with `group_by_two`, as its two best together.
  std::int32_t group_count = 1;
  std::int32_t groups_kept = 1;
  bool group_by_two = false;
};

/// Operators that a backend may lack: a model that needs them is refused when it is loaded.
enum class OperatorGroup : std::uint8_t {
  kExperts,    // Route, ExpertLinear, CombineExperts, ClampedActivationMul, SigmoidScale
  kSoftCap,    // SoftCap
  kCopy,       // Copy
  kLora,       // PrepareLora, AddLora
  kDiffusion,  // Convolve, ScaleColumns, Copy, attention across and with a position_bias
};

class Operators {
 public:
  virtual ~Operators() = default;

  /// "ref", "cpu-avx512bf16", …: for people and logs.
  virtual std::string_view name() const = 0;
  /// Equal values promise equal bits: "ref-1", "fma-2" (AVX2 and AVX-512), …. A part of
  /// numerics_id; the number counts changes of order or formula.
  virtual std::string_view numerics() const = 0;

  /// Whether this backend's memory is the host's own, so that the host may read and write it.
  virtual bool on_host() const = 0;

  virtual bool Supports(OperatorGroup group) const = 0;

  /// Zeroed memory of the backend. Errors: kResourceExhausted with the size asked for.
  virtual Result<Buffer> Allocate(std::size_t size_bytes) = 0;

  /// Copies host memory to the backend's; `from` is the caller's again on return.
  virtual void Upload(std::span<const std::byte> from, void* to) = 0;
  /// Copies the backend's memory to the host's, readable after Synchronize(). Nothing is copied
  /// where both are the same address.
  virtual void Download(const void* from, std::span<std::byte> to) = 0;

  /// Rows that a step of `rows` takes once UploadStep has padded it: what scratch is sized by.
  virtual std::int64_t PaddedRows(std::int64_t rows) const = 0;
  /// Makes `step` readable for this backend's operators, in one transfer. The view is valid until
  /// the next call and, on the host, as long as what it was made from. Pre: `step` is the host's
  /// and has been validated: the operators of a device cannot assert its values.
  virtual StepView UploadStep(const StepView& step) = 0;

  /// Calls `function`, which calls operators on the last UploadStep's view; or repeats the calls
  /// that it made when it last ran under an equal key. So everything else that the function
  /// reads must follow from the key, and it must neither synchronise nor touch results.
  template <class Function>
  void RunStep(const StepKey& key, Function&& function) {
    using Plain = std::remove_reference_t<Function>;
    RunStepErased(key, [](void* callee) { (*static_cast<Plain*>(callee))(); }, &function);
  }

  /// Stacks and packs `parts` (all of equal cols). `parts` are not kept.
  virtual Result<std::unique_ptr<LinearWeight>> PrepareLinear(std::span<const WeightPart> parts,
                                                              const LinearOptions& options) = 0;
  /// `down` [rank, in_features], `up` [out_features, rank], rank 1 to kLoraRankMax; not kept.
  /// Errors: kInvalidArgument naming what does not fit, kResourceExhausted.
  virtual Result<std::unique_ptr<LoraWeight>> PrepareLora(const WeightPart& down,
                                                          const WeightPart& up, float scale) = 0;
  /// A table [vocab, F] for Embed. It may be the one the output projection was prepared from.
  virtual Result<std::unique_ptr<LinearWeight>> PrepareEmbedding(const WeightPart& table) = 0;

  /// out[t] = table[ids[t]] * scale; out fp32 [T, F].
  virtual void Embed(const LinearWeight& table, std::span<const std::int32_t> ids, float scale,
                     const Matrix& out) = 0;
  /// out = in * weight^T + bias; in [T, in_features], out [T, out_features].
  virtual void Linear(const Matrix& in, const LinearWeight& weight, const Matrix& out) = 0;
  /// out[t] += scale * up (down in[t]) of pairs[row_pairs[t]], in fp32; nothing where row_pairs[t]
  /// is -1 or the pair null. in [T, in_features], out [T, out_features] of every pair named.
  /// `pairs` is the host's: a table that stays as it is between steps.
  virtual void AddLora(const Matrix& in, std::span<const LoraWeight* const> pairs,
                       std::span<const std::int32_t> row_pairs, const Matrix& out) = 0;
  /// out = in / rms(in) * (weight + weight_offset), by row; in and out may be the same.
  virtual void RmsNorm(const Matrix& in, std::span<const float> weight, float weight_offset,
                       float epsilon, const Matrix& out) = 0;
  /// residual += delta, then out = RmsNorm(residual).
  virtual void AddRmsNorm(const Matrix& residual, const Matrix& delta,
                          std::span<const float> weight, float weight_offset, float epsilon,
                          const Matrix& out) = 0;
  /// residual += delta, then out = (residual - mean) / deviation * weight + bias, by row; the
  /// deviation is sqrt(variance + epsilon). out and residual may be the same. weight and bias [F],
  /// or [N, F], on the host only: of N equal runs of rows each has its own.
  virtual void AddLayerNorm(const Matrix& residual, const Matrix& delta,
                            std::span<const float> weight, std::span<const float> bias,
                            float epsilon, const Matrix& out) = 0;
  /// residual += delta.
  virtual void Add(const Matrix& residual, const Matrix& delta) = 0;
  /// RmsNorm of each head of x [T, heads * D], in place; weight [D].
  virtual void HeadRmsNorm(const Matrix& x, std::int32_t head_count, std::span<const float> weight,
                           float weight_offset, float epsilon) = 0;
  /// Turns each head of x [T, heads * D] in place by the factors at positions[t].
  virtual void Rotary(const Matrix& x, std::int32_t head_count,
                      std::span<const std::int32_t> positions, const RotaryTable& table) = 0;
  /// Rounds k [T, G * D] and v [T, G * E] to the cache's dtype and stores them at slots[t] of layer
  /// `layer`. With layout.value_in_key v is not read and may be empty.
  virtual void StoreKv(const Matrix& k, const Matrix& v, std::span<const std::int32_t> slots,
                       std::int32_t layer, KvCache& cache) = 0;
  /// Causal attention of every sequence of `step` over its cached context of layer `layer`, the
  /// step's own tokens included (StoreKv ran before); `step.mutual_rows` see each other both ways,
  /// on the host only. q [T, H * D], out [T, H * E].
  virtual void PagedAttention(const Matrix& q, const StepView& step, std::int32_t layer,
                              const KvCache& cache, const AttentionOptions& options,
                              const Matrix& out) = 0;
  /// out = act(gate_up[:, :F]) * gate_up[:, F:]; gate_up [T, 2F], out [T, F].
  virtual void ActivationMul(const Matrix& gate_up, Activation activation, const Matrix& out) = 0;
  /// x = act(x).
  virtual void Activate(const Matrix& x, Activation activation) = 0;
  /// out = (clamp(up, -limit, limit) + 1) * gate * sigmoid(alpha * gate), gate = min(gate, limit);
  /// gate_up [T, 2F] holds gates, then ups; out [T, F]. Source: gpt-oss.
  virtual void ClampedActivationMul(const Matrix& gate_up, float alpha, float limit,
                                    const Matrix& out) = 0;
  /// x = cap * tanh(x / cap).
  virtual void SoftCap(const Matrix& x, float cap) = 0;
  /// out = in, of any strides.
  virtual void Copy(const Matrix& in, const Matrix& out) = 0;
  /// x[t] *= sigmoid(gate[t]); gate [T, 1].
  virtual void SigmoidScale(const Matrix& x, const Matrix& gate) = 0;

  // Mixtures of experts: E experts, K of them for each token. Choices lie in the backend's memory:
  // nobody waits for them. Row t * K + j is token t's j-th expert.

  /// Chooses experts [T * K] and their weights [T, K] from `logits` [T, E]. `correction` [E], or
  /// empty, is added to the scores for the choice, not for the weights. A row whose scores are not
  /// finite gets experts in range and weights that are not finite.
  virtual void Route(const Matrix& logits, std::span<const float> correction,
                     const RouteOptions& options, std::span<std::int32_t> experts,
                     const Matrix& weights) = 0;
  /// out[t * K + j] = in[t] * weights[experts[t * K + j]]^T + bias; `in` has T rows, or T * K,
  /// which are then taken in order. Each row has the bits that Linear gives it.
  virtual void ExpertLinear(const Matrix& in, std::span<const std::int32_t> experts,
                            std::span<const std::unique_ptr<LinearWeight>> weights,
                            const Matrix& out) = 0;

  /// Weights that ExpertLinear has multiplied by so far, each counted once a call; 0 where nobody
  /// counts. For benches: the router's choices say what a step reads.
  virtual std::int64_t expert_linears_run() const { return 0; }

  /// out[t] = sum over ascending j of weights[t, j] * in[t * K + j].
  virtual void CombineExperts(const Matrix& in, const Matrix& weights, const Matrix& out) = 0;

  /// x[t][f] *= factors[f]; factors [F], or [N, F]: of N equal runs of rows each has its own.
  virtual void ScaleColumns(const Matrix& x, std::span<const float> factors) = 0;
  /// out = what each output pixel sees (ConvolutionShape) * weight^T + bias, as Linear computes it;
  /// in [in pixels, C], weight [*, kernel pixels * C], out [out pixels, *].
  virtual void Convolve(const Matrix& in, const ConvolutionShape& shape, const LinearWeight& weight,
                        const Matrix& out) = 0;

  /// out[r] = in[rows[r]].
  virtual void GatherRows(const Matrix& in, std::span<const std::int32_t> rows,
                          const Matrix& out) = 0;
  /// flags[r] = 1 where row r of `in` holds an infinity or NaN, else 0; flags [in.rows].
  virtual void FindNonFinite(const Matrix& in, std::span<std::int32_t> flags) = 0;

  /// Waits for everything called before. Errors: kUnavailable if the device failed.
  virtual Result<void> Synchronize() = 0;

 protected:
  using StepFunction = void (*)(void* callee);
  virtual void RunStepErased(const StepKey& key, StepFunction call, void* callee) = 0;
};

/// New backend memory of `size_bytes` that `fill` wrote: in place where it is the host's, else by
/// way of host memory that lives as long as the call. Errors: as Allocate.
Result<Buffer> AllocateFilled(Operators& operators, std::size_t size_bytes,
                              const std::function<void(void* host)>& fill);

/// Plain loops: the definition of every operator, and the oracle of tests/compare.
std::unique_ptr<Operators> MakeReferenceOperators();

enum class CpuIsa : std::uint8_t {
  kAuto,
  kAvx2,
  kAvx512,
  kAvx512Vnni,
  kAvx512Bf16,
  kAmx,
  kNeon,
  kNeonI8mm
};

struct CpuOptions {
  std::int32_t thread_count =
      0;  // 1 .. 256; 0 = one per core this process may use. The caller is thread 0.
  CpuIsa isa = CpuIsa::kAuto;
  /// With kAuto: the best instruction set whose bits are those of AVX2 and NEON, one of which every
  /// supported host has.
  bool portable = false;
  /// Asked before each round of shared work; null: nobody. Outlives the operators.
  WorkGate* gate = nullptr;
};

/// Errors: kUnsupported if the host lacks the instruction set, naming it and what the host has.
Result<std::unique_ptr<Operators>> MakeCpuOperators(const CpuOptions& options);

/// Instruction sets this host can run, best last; and one line for people ("avx2 avx512
/// avx512_vnni").
std::span<const CpuIsa> AvailableIsas();

/// Those that this program has kernels for.
std::span<const CpuIsa> BuiltIsas();
std::string_view IsaName(CpuIsa isa);

}  // namespace pixii::kernels
