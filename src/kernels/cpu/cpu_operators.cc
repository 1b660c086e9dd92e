// The CPU backend: checks shapes, cuts each call into ranges for the workers, and runs one kernel
// table over them.
//
// Cuts never change bits: every output element is computed by one worker in an order of its own.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <numeric>
#include <tuple>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "base/checked.h"
#include "kernels/cpu/cpu_convolution.h"
#include "kernels/cpu/cpu_lora.h"
#include "kernels/cpu/cpu_weight.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/memory.h"
#include "kernels/host_operators.h"
#include "kernels/thread_pool.h"
#include "kernels/weight_source.h"

namespace pixii::kernels {
namespace {

// Below these bounds a call runs on the caller alone: waking the others costs more than it saves.
constexpr Index kSharedMultiplyAdds = Index{1} << 17;
constexpr Index kSharedElements = Index{1} << 14;
constexpr Index kSharedAttentionElements = Index{1} << 16;  // of K and V read, times query heads

// Taken by a worker at a time, where there are enough: kernels lay out so many together.
constexpr Index kPanelsTaken = 3;
constexpr Index kUnfoldedFloats = Index{1} << 19;  // of a convolution at a time, or more rows
constexpr Index kStripPixels = 1024;               // output pixels of a worker in a strip, or a row
constexpr Index kLinearRowsMax = 576;              // of a linear at a time: bounds the packed input
// A weight of so many bytes stays in the second level of cache of each worker.
constexpr Index kOwnWeightBytes = Index{1} << 20;
constexpr Index kOwnRowsMin = 32;  // of a worker, to be worth reading all of a weight

// Query rows that share a widened tile: as many as keep their state in the second level of cache.
constexpr Index kAttentionRowsPerItem = 256;
constexpr Index kAttentionItemFloats = Index{96} << 10;
constexpr Index kItemsPerWorker = 3;  // attention items differ in cost

static_assert(static_cast<int>(KvDType::kF32) == static_cast<int>(Element::kF32) &&
              static_cast<int>(KvDType::kBf16) == static_cast<int>(Element::kBf16) &&
              static_cast<int>(KvDType::kF16) == static_cast<int>(Element::kF16) &&
              static_cast<int>(KvDType::kFp8E4m3) == static_cast<int>(Element::kFp8E4m3) &&
              static_cast<int>(KvDType::kInt8) == static_cast<int>(Element::kInt8));
static_assert(static_cast<int>(Activation::kSilu) == 0 &&
              static_cast<int>(Activation::kGeluTanh) == 1 &&
              static_cast<int>(Activation::kGelu) == 2 &&
              static_cast<int>(Activation::kRelu) == 3 &&
              static_cast<int>(Activation::kTanh) == 4 &&
              static_cast<int>(Activation::kQuickGelu) == 5);  // as the kernels number them

/// Part `index` of `count` nearly equal parts of [0, total).
std::pair<Index, Index> Part(Index total, Index index, Index count) {
  return {total * index / count, total * (index + 1) / count};
}

/// One piece of attention: query rows of one kv head against some spans.
struct AttentionItem {
  AttentionCall call;
  bool joins = false;  // its partials are joined after all items have run; set on the first piece
  Index span_first = 0;
  Index span_last = 0;
  Index partial_offset = -1;  // floats into the workspace; -1: the item is whole
};

/// Items that workers take one by one. Cut into as many runs as there are workers, each begins with
/// its own: of rows that it has in other operators, too, and that lie in its caches.
class ItemTurns {
 public:
  ItemTurns(Index count, std::int32_t runs) : count_(count), runs_(static_cast<std::size_t>(runs)) {
    for (std::size_t run = 0; run < runs_.size(); ++run) {
      runs_[run].next = Part(count, static_cast<Index>(run), runs).first;
    }
  }

  /// function(worker, item) of every item that this call takes, until none is left.
  template <class Function>
  void Take(std::int32_t worker, const Function& function) {
    const Index runs = std::ssize(runs_);
    for (Index turn = 0; turn < runs; ++turn) {
      const Index run = (worker + turn) % runs;
      std::atomic<Index>& next = runs_[static_cast<std::size_t>(run)].next;
      const Index end = Part(count_, run, runs).second;
      for (Index item = next.fetch_add(1, std::memory_order_relaxed); item < end;
           item = next.fetch_add(1, std::memory_order_relaxed)) {
        function(worker, item);
      }
    }
  }

 private:
  struct alignas(64) Run {
    std::atomic<Index> next{0};
  };

  Index count_;
  std::vector<Run> runs_;
};

class CpuOperators final : public HostOperators {
 public:
  CpuOperators(const Isa& isa, std::int32_t thread_count, WorkGate* gate)
      : isa_(isa),
        kernels_(isa.kernels()),
        pool_(thread_count, gate),
        scratch_(static_cast<std::size_t>(thread_count)) {}

  std::string_view name() const override { return isa_.operators; }

  std::string_view numerics() const override { return isa_.numerics; }

  Result<Buffer> Allocate(std::size_t size_bytes) override {
    return AllocateHostMemory(size_bytes);
  }

  Result<std::unique_ptr<LinearWeight>> PrepareLinear(std::span<const WeightPart> parts,
                                                      const LinearOptions& options) override {
    PX_CHECK_OK(CheckParts(parts, options));
    return CpuWeight::PackLinear(parts, options, kernels_, pool_);
  }

  Result<std::unique_ptr<LinearWeight>> PrepareEmbedding(const WeightPart& table) override {
    PX_CHECK_OK(CheckParts({&table, 1}, {}));
    return CpuWeight::CopyTable(table);
  }

  void Embed(const LinearWeight& table, std::span<const std::int32_t> ids, float scale,
             const Matrix& out) override {
    const auto& weight = static_cast<const CpuWeight&>(table);
    PX_ASSERT(weight.is_table() && out.rows == std::ssize(ids) && out.cols == weight.in_features());
    for (const std::int32_t id : ids) {
      PX_ASSERT(id >= 0 && id < weight.out_features());
    }
    if (weight.coded_table().code != WeightCode::kNone) {
      for (std::int64_t t = 0; t < out.rows; ++t) {
        float* row = out.f32(t);
        ReadRow(weight.coded_table(), ids[static_cast<std::size_t>(t)], row);
        std::transform(row, row + out.cols, row, [&](float value) { return value * scale; });
      }
      return;
    }
    const EmbedCall call{.table = weight.table(),
                         .element = weight.table_element(),
                         .ids = ids.data(),
                         .scale = scale,
                         .out = out.f32(),
                         .out_stride = out.stride,
                         .cols = out.cols};
    RunRows(call, out.rows, out.cols, kernels_.embed);
  }

  void Linear(const Matrix& in, const LinearWeight& linear_weight, const Matrix& out) override {
    const auto& weight = static_cast<const CpuWeight&>(linear_weight);
    PX_ASSERT(!weight.is_table() && in.rows == out.rows);
    PX_ASSERT(in.cols == weight.in_features() && out.cols == weight.out_features());
    if (in.rows == 0) {
      return;
    }
    const bool alone = in.rows * in.cols * out.cols < kSharedMultiplyAdds;
    CountOf(weight.packed()) += static_cast<double>(in.rows * in.cols * out.cols);
    const Index passes = CeilDiv(in.rows, kLinearRowsMax);
    for (Index pass = 0; pass < passes; ++pass) {
      LinearCall call{.in = in.f32(),
                      .in_stride = in.stride,
                      .out = out.f32(),
                      .out_stride = out.stride,
                      .panel_end = CeilDiv(out.cols, PanelOutputsOf(weight.packed())),
                      .weight = &weight.packed()};
      std::tie(call.row_begin, call.row_end) = Part(in.rows, pass, passes);
      if (!alone && KeepsRows(call)) {
        MultiplyOwnRows(call);
        continue;
      }
      PackInput(alone, call);
      Multiply(alone, call);
    }
  }

  Result<std::unique_ptr<LoraWeight>> PrepareLora(const WeightPart& down, const WeightPart& up,
                                                  float scale) override {
    PX_CHECK_OK(CheckLoraParts(down, up, scale));
    return CpuLora::Pack(down, up, scale);
  }

  void AddLora(const Matrix& in, std::span<const LoraWeight* const> pairs,
               std::span<const std::int32_t> row_pairs, const Matrix& out) override {
    PX_ASSERT(in.rows == out.rows && in.rows == std::ssize(row_pairs));
    lora_rows_.clear();
    Index rank_max = 0;
    Index work = 0;
    for (const std::int32_t index : row_pairs) {
      PX_ASSERT(index < std::ssize(pairs));
      const LoraWeight* pair = index < 0 ? nullptr : pairs[static_cast<std::size_t>(index)];
      lora_rows_.push_back(pair != nullptr ? &static_cast<const CpuLora&>(*pair).view() : nullptr);
      if (pair != nullptr) {
        PX_ASSERT(pair->in_features() == in.cols && pair->out_features() == out.cols);
        rank_max = std::max(rank_max, pair->rank());
        work += pair->rank() * (in.cols + out.cols);
      }
    }
    if (work == 0) {
      return;
    }
    lora_mid_.resize(std::max(lora_mid_.size(), static_cast<std::size_t>(in.rows * rank_max)));
    const LoraCall call{.in = in.f32(),
                        .in_stride = in.stride,
                        .rows = lora_rows_.data(),
                        .mid = lora_mid_.data(),
                        .mid_stride = rank_max,
                        .out = out.f32(),
                        .out_stride = out.stride};
    // Rows are cut among workers and each does both halves of its own.
    RunRows(call, in.rows, work / in.rows, kernels_.lora);
  }

  void RmsNorm(const Matrix& in, std::span<const float> weight, float weight_offset, float epsilon,
               const Matrix& out) override {
    Norm(in, nullptr, 1, weight, weight_offset, epsilon, out);
  }

  void AddRmsNorm(const Matrix& residual, const Matrix& delta, std::span<const float> weight,
                  float weight_offset, float epsilon, const Matrix& out) override {
    PX_ASSERT(residual.rows == delta.rows && residual.cols == delta.cols);
    Norm(residual, &delta, 1, weight, weight_offset, epsilon, out);
  }

  void AddLayerNorm(const Matrix& residual, const Matrix& delta, std::span<const float> weight,
                    std::span<const float> bias, float epsilon, const Matrix& out) override {
    PX_ASSERT(residual.rows == delta.rows && residual.cols == delta.cols);
    PX_ASSERT(residual.rows == out.rows && residual.cols == out.cols);
    PX_ASSERT(weight.size() == bias.size());
    const NormCall call{.in = residual.f32(),
                        .in_stride = residual.stride,
                        .delta = delta.f32(),
                        .delta_stride = delta.stride,
                        .out = out.f32(),
                        .out_stride = out.stride,
                        .weight = weight.data(),
                        .bias = bias.data(),
                        .run_rows = RowsOfRun(out, weight),
                        .epsilon = epsilon,
                        .cols = out.cols};
    RunRows(call, out.rows, out.cols, kernels_.layer_norm);
  }

  void Add(const Matrix& residual, const Matrix& delta) override {
    PX_ASSERT(residual.rows == delta.rows && residual.cols == delta.cols);
    const AddCall call{.residual = residual.f32(),
                       .residual_stride = residual.stride,
                       .delta = delta.f32(),
                       .delta_stride = delta.stride,
                       .cols = residual.cols};
    RunRows(call, residual.rows, residual.cols, kernels_.add);
  }

  void HeadRmsNorm(const Matrix& x, std::int32_t head_count, std::span<const float> weight,
                   float weight_offset, float epsilon) override {
    Norm(x, nullptr, head_count, weight, weight_offset, epsilon, x);
  }

  void Rotary(const Matrix& x, std::int32_t head_count, std::span<const std::int32_t> positions,
              const RotaryTable& table) override {
    PX_ASSERT(x.rows == std::ssize(positions) && head_count > 0 && x.cols % head_count == 0);
    PX_ASSERT(table.rotary_dim % 2 == 0 && table.rotary_dim <= x.cols / head_count);
    for (const std::int32_t position : positions) {
      PX_ASSERT(position >= 0 && position < table.position_max);
    }
    const RotaryCall call{.x = x.f32(),
                          .stride = x.stride,
                          .heads = head_count,
                          .head_dim = x.cols / head_count,
                          .positions = positions.data(),
                          .cos = table.cos,
                          .sin = table.sin,
                          .half = table.rotary_dim / 2,
                          .interleaved = table.interleaved};
    RunRows(call, x.rows, x.cols, kernels_.rotary);
  }

  void StoreKv(const Matrix& k, const Matrix& v, std::span<const std::int32_t> slots,
               std::int32_t layer, KvCache& cache) override {
    const KvLayout& layout = cache.layout;
    PX_ASSERT(k.rows == std::ssize(slots));
    PX_ASSERT(k.cols == std::int64_t{layout.kv_head_count} * layout.key_dim);
    PX_ASSERT(
        layout.value_in_key ||
        (v.rows == k.rows && v.cols == std::int64_t{layout.kv_head_count} * layout.value_dim));
    for (const std::int32_t slot : slots) {
      PX_ASSERT(slot >= 0 && slot / layout.block_tokens < cache.block_count);
    }
    const StoreKvCall call{.kv = ViewOf(cache, layer),
                           .k = k.f32(),
                           .k_stride = k.stride,
                           .v = v.f32(),
                           .v_stride = v.stride,
                           .slots = slots.data()};
    RunRows(call, k.rows, 2 * k.cols, kernels_.store_kv);
  }

  void PagedAttention(const Matrix& q, const StepView& batch, std::int32_t layer,
                      const KvCache& cache, const AttentionOptions& options,
                      const Matrix& out) override {
    CheckAttention(q, batch, cache.layout, options, out);
    if (batch.sequences.empty()) {
      return;
    }
    const Index work = PlanAttention(q, batch, layer, cache, options, out);
    double& counted = !items_.empty() && kernels_.attention_rounds(items_.front().call)
                          ? multiply_adds_run_.bf16
                          : multiply_adds_run_.f32;
    counted +=
        AttentionPairs(batch, options) * options.head_count * (options.key_dim + options.value_dim);
    const bool alone = work < kSharedAttentionElements || items_.size() < 2;
    Index rows_max = 0;
    for (const AttentionItem& item : items_) {
      rows_max = std::max(rows_max, item.call.tokens * item.call.group);
    }
    EnsureScratch(static_cast<std::size_t>(
        kernels_.attention_scratch_bytes(items_.front().call.kv, rows_max)));
    // Which worker runs an item changes nothing in it.
    const auto run = [&](std::int32_t worker, Index item) {
      AttentionCall call = items_[static_cast<std::size_t>(item)].call;
      call.scratch = Scratch(worker);
      kernels_.attention(call);
    };
    if (alone || !even_items_) {
      ItemTurns turns(std::ssize(items_), 1);
      RunOn(alone, [&](std::int32_t worker) { turns.Take(worker, run); });
    } else {
      ItemTurns turns(std::ssize(items_), pool_.thread_count());
      pool_.Run([&](std::int32_t worker) { turns.Take(worker, run); });
    }
    for (const AttentionItem& item : items_) {
      if (item.joins) {
        AttentionCall call = item.call;
        call.span_begin = item.span_first;
        call.span_end = item.span_last;
        call.scratch = Scratch(0);
        kernels_.attention_join(call);
      }
    }
  }

  void ActivationMul(const Matrix& gate_up, Activation activation, const Matrix& out) override {
    PX_ASSERT(gate_up.rows == out.rows && gate_up.cols == 2 * out.cols);
    const ActivationCall call{.gate_up = gate_up.f32(),
                              .gate_up_stride = gate_up.stride,
                              .out = out.f32(),
                              .out_stride = out.stride,
                              .cols = out.cols,
                              .activation = static_cast<std::uint8_t>(activation)};
    RunRows(call, out.rows, 4 * out.cols, kernels_.activation_mul);
  }

  void Activate(const Matrix& x, Activation activation) override {
    const ActivateCall call{.x = x.f32(),
                            .stride = x.stride,
                            .cols = x.cols,
                            .activation = static_cast<std::uint8_t>(activation)};
    RunRows(call, x.rows, 4 * x.cols, kernels_.activate);
  }

  /// Rows of one expert are gathered, multiplied together and scattered.
  void ExpertLinear(const Matrix& in, std::span<const std::int32_t> experts,
                    std::span<const std::unique_ptr<LinearWeight>> weights,
                    const Matrix& out) override {
    const Index per_token = CheckExperts(in, experts, weights, out);
    const auto source = [&](Index row) { return in.rows == out.rows ? row : row / per_token; };
    expert_begins_.assign(weights.size() + 1, 0);
    for (const std::int32_t expert : experts) {
      ++expert_begins_[static_cast<std::size_t>(expert) + 1];
    }
    std::partial_sum(expert_begins_.begin(), expert_begins_.end(), expert_begins_.begin());
    expert_rows_.resize(experts.size());
    expert_ends_.assign(expert_begins_.begin(), expert_begins_.end() - 1);
    for (Index row = 0; row < out.rows; ++row) {
      const auto expert = static_cast<std::size_t>(experts[static_cast<std::size_t>(row)]);
      expert_rows_[static_cast<std::size_t>(expert_ends_[expert]++)] = row;
    }
    for (std::size_t expert = 0; expert < weights.size(); ++expert) {
      const std::span<const Index> rows =
          std::span(expert_rows_)
              .subspan(
                  static_cast<std::size_t>(expert_begins_[expert]),
                  static_cast<std::size_t>(expert_begins_[expert + 1] - expert_begins_[expert]));
      expert_linears_run_ += rows.empty() ? 0 : 1;
      if (rows.size() == 1) {
        Linear(in.Rows(source(rows[0]), 1), *weights[expert], out.Rows(rows[0], 1));
      } else if (!rows.empty()) {
        RunExpert(in, rows, source, *weights[expert], out);
      }
    }
  }

  std::int64_t expert_linears_run() const override { return expert_linears_run_; }

  void ScaleColumns(const Matrix& x, std::span<const float> factors) override {
    const ScaleCall call{.x = x.f32(),
                         .stride = x.stride,
                         .factors = factors.data(),
                         .run_rows = RowsOfRun(x, factors),
                         .cols = x.cols};
    RunRows(call, x.rows, x.cols, kernels_.scale_columns);
  }

  /// Some output pixels at a time: with fp32 weights those of some rows, else what they see is laid
  /// out side by side and multiplied.
  void Convolve(const Matrix& in, const ConvolutionShape& shape, const LinearWeight& weight,
                const Matrix& out) override {
    CheckConvolution(in, shape, weight, out);
    const PackedWeight& packed = static_cast<const CpuWeight&>(weight).packed();
    if (SeesPixels(packed)) {
      ConvolveStrips(in, shape, packed, out);
      return;
    }
    const Index seen = weight.in_features();
    const Index step = std::min(out.rows, std::max<Index>(kLinearRowsMax, kUnfoldedFloats / seen));
    if (const auto floats = static_cast<std::size_t>(step * seen); unfolded_.size() < floats) {
      unfolded_.resize(floats);
    }
    for (Index first = 0; first < out.rows; first += step) {
      const Index rows = std::min(step, out.rows - first);
      const Matrix unfolded{unfolded_.data(), DType::kF32, rows, seen, seen};
      ShareRows(rows, seen, [&](Index begin, Index end) {
        UnfoldPixels(in, shape, unfolded.Rows(begin, end - begin), first + begin);
      });
      Linear(unfolded, weight, out.Rows(first, rows));
    }
  }

  void GatherRows(const Matrix& in, std::span<const std::int32_t> rows,
                  const Matrix& out) override {
    PX_ASSERT(out.rows == std::ssize(rows) && in.cols == out.cols);
    for (std::int64_t r = 0; r < out.rows; ++r) {
      const std::int32_t row = rows[static_cast<std::size_t>(r)];
      PX_ASSERT(row >= 0 && row < in.rows);
      std::memcpy(out.f32(r), in.f32(row), static_cast<std::size_t>(in.cols) * sizeof(float));
    }
  }

 private:
  /// function(begin, end) over rows in equal parts, if there is enough to share.
  template <class Function>
  void ShareRows(Index rows, Index row_elements, const Function& function) {
    const bool alone = rows < 2 || rows * row_elements < kSharedElements;
    const Index parts = alone ? 1 : pool_.thread_count();
    RunOn(alone, [&](std::int32_t worker) {
      const auto [begin, end] = Part(rows, worker, parts);
      function(begin, end);
    });
  }

  /// Rows of output pixels of one frame at a time, from a copy of what they see with its padding.
  void ConvolveStrips(const Matrix& in, const ConvolutionShape& shape, const PackedWeight& weight,
                      const Matrix& out) {
    const Volume to = shape.out();
    const Volume& kernel = shape.kernel;
    const Index threads = pool_.thread_count();
    const Index rows_max =
        std::clamp<Index>(CeilDiv(kStripPixels * threads, Index{to.width}), 1, Index{to.height});
    const PixelRows strip(in, shape, (rows_max - 1) * shape.stride + kernel.height);
    Grow(strip_, static_cast<std::size_t>(strip.row_count() * strip.row_floats()) * sizeof(float));
    auto* data = static_cast<float*>(strip_.data());
    const std::vector<Index> segments = strip.Segments();
    ConvolveCall call{.weight = &weight,
                      .in = data,
                      .row_stride = shape.stride * strip.row_floats(),
                      .pixel_stride = shape.stride * in.cols,
                      .segments = segments.data(),
                      .segment_count = std::ssize(segments),
                      .segment_units = kernel.width * in.cols,
                      .width = to.width,
                      .out_stride = out.stride};
    multiply_adds_run_.f32 += static_cast<double>(out.rows * weight.in_features * out.cols);
    for (Index row = 0; row < Index{to.frames} * to.height;) {
      const Index y = row % to.height;
      const Index rows = std::min(rows_max, to.height - y);
      ShareRows(strip.row_count(), strip.row_floats(), [&](Index begin, Index end) {
        strip.Copy(row / to.height, y * shape.stride - shape.pad_top, begin, end, data);
      });
      call.out = out.f32(row * to.width);
      const Index pixels = rows * to.width;
      const bool alone = pixels * weight.in_features * out.cols < kSharedMultiplyAdds;
      const Index parts = alone ? 1 : threads;
      EnsureScratch(static_cast<std::size_t>(CeilDiv(pixels, parts) * kPanelOutputs) *
                    sizeof(float));
      RunOn(alone, [&](std::int32_t worker) {
        ConvolveCall part = call;
        std::tie(part.pixel_begin, part.pixel_end) = Part(pixels, worker, parts);
        part.scratch = Scratch(worker);
        kernels_.convolve(part);
      });
      row += rows;
    }
  }

  template <class Source>
  void RunExpert(const Matrix& in, std::span<const Index> rows, const Source& source,
                 const LinearWeight& weight, const Matrix& out) {
    const Index count = std::ssize(rows);
    expert_in_.resize(static_cast<std::size_t>(count * in.cols));
    expert_out_.resize(static_cast<std::size_t>(count * out.cols));
    const Matrix gathered{expert_in_.data(), DType::kF32, count, in.cols, in.cols};
    const Matrix product{expert_out_.data(), DType::kF32, count, out.cols, out.cols};
    for (Index i = 0; i < count; ++i) {
      std::memcpy(gathered.f32(i), in.f32(source(rows[static_cast<std::size_t>(i)])),
                  static_cast<std::size_t>(in.cols) * sizeof(float));
    }
    Linear(gathered, weight, product);
    for (Index i = 0; i < count; ++i) {
      std::memcpy(out.f32(rows[static_cast<std::size_t>(i)]), product.f32(i),
                  static_cast<std::size_t>(out.cols) * sizeof(float));
    }
  }

  double& CountOf(const PackedWeight& weight) {
    return weight.integers.code_bits != 0      ? multiply_adds_run_.int8
           : weight.bf16 && weight.round_input ? multiply_adds_run_.bf16
                                               : multiply_adds_run_.f32;
  }

  const LinearKernels& Linears(const LinearCall& call) const {
    return call.weight->integers.code_bits != 0 ? kernels_.integers : kernels_.linear;
  }

  /// Whether each worker does all outputs of some rows: those that it has in row-wise operators,
  /// which stay in its caches then.
  bool KeepsRows(const LinearCall& call) const {
    const PackedWeight& weight = *call.weight;
    const Index workers = pool_.thread_count();
    return workers > 1 && call.row_end - call.row_begin >= kOwnRowsMin * workers &&
           weight.integers.code_bits == 0 &&
           weight.k_padded * weight.out_features * (weight.bf16 ? 2 : 4) <= kOwnWeightBytes;
  }

  void MultiplyOwnRows(const LinearCall& call) {
    const Index workers = pool_.thread_count();
    const Index rows = call.row_end - call.row_begin;
    const Index rows_max = CeilDiv(rows, workers);
    const Index input_bytes = CeilDiv(InputBytes(call, rows_max), Index{64}) * 64;
    Grow(packed_input_, static_cast<std::size_t>(input_bytes * workers));
    for (const Index most : {rows / workers, rows_max}) {  // fewer rows may go another way
      EnsureScratch(static_cast<std::size_t>(kernels_.linear.scratch_bytes(*call.weight, most)));
    }
    pool_.Run([&](std::int32_t worker) {
      LinearCall part = call;
      const auto [begin, end] = Part(rows, worker, workers);
      part.row_begin = call.row_begin + begin;
      part.row_end = call.row_begin + end;
      part.scratch = Scratch(worker);
      if (InputBytes(call, end - begin) > 0) {
        part.packed_input = static_cast<std::byte*>(packed_input_.data()) + worker * input_bytes;
        part.block_end = kernels_.linear.row_blocks(*call.weight, end - begin);
        kernels_.linear.pack(part);
      }
      kernels_.linear.run(part);
    });
  }

  Index InputBytes(const LinearCall& call, Index rows) const {
    return rows < kBlockedRowsMin ? 0 : Linears(call).input_bytes(*call.weight, rows);
  }

  /// All workers pack the call's rows, once for all of them.
  void PackInput(bool alone, LinearCall& call) {
    const Index rows = call.row_end - call.row_begin;
    const Index size_bytes = InputBytes(call, rows);
    if (size_bytes == 0) {
      return;
    }
    Grow(packed_input_, static_cast<std::size_t>(size_bytes));
    call.packed_input = packed_input_.data();
    const Index blocks = Linears(call).row_blocks(*call.weight, rows);
    RunOn(alone, [&](std::int32_t worker) {
      LinearCall part = call;
      std::tie(part.block_begin, part.block_end) =
          Part(blocks, worker, alone ? 1 : pool_.thread_count());
      Linears(part).pack(part);
    });
  }

  /// Columns first: each weight is then read by one worker only, and workers take the next columns
  /// when they have done theirs, since cores differ in speed while neighbours use them. Rows only
  /// if there are not enough columns and nothing is packed.
  void Multiply(bool alone, const LinearCall& call) {
    const Index workers = alone ? 1 : pool_.thread_count();
    const Index panels = call.panel_end;
    const Index rows = call.row_end - call.row_begin;
    const Index row_parts = call.packed_input != nullptr || panels >= workers
                                ? 1
                                : std::clamp<Index>(rows / 32, 1, workers / panels);
    EnsureScratch(static_cast<std::size_t>(
        Linears(call).scratch_bytes(*call.weight, CeilDiv(rows, row_parts))));
    std::atomic<Index> next{0};
    RunOn(alone, [&](std::int32_t worker) {
      LinearCall part = call;
      part.scratch = Scratch(worker);
      if (row_parts > 1) {
        if (worker < panels * row_parts) {
          part.panel_begin = worker % panels;
          part.panel_end = part.panel_begin + 1;
          const auto [begin, end] = Part(rows, worker / panels, row_parts);
          part.row_begin = call.row_begin + begin;
          part.row_end = call.row_begin + end;
          Linears(part).run(part);
        }
        return;
      }
      while (TakePanels(next, panels, workers, part)) {
        Linears(part).run(part);
        part.scratch_packed = true;
      }
    });
  }

  /// Takes half of a worker's share of the panels left, so that few calls are made and the last
  /// ones are short; false if none are left.
  static bool TakePanels(std::atomic<Index>& next, Index panels, Index workers, LinearCall& part) {
    const Index least = std::clamp<Index>(panels / workers, 1, kPanelsTaken);
    Index begin = next.load(std::memory_order_relaxed);
    do {
      const Index left = panels - begin;
      if (left <= 0) {
        return false;
      }
      const Index share = workers == 1 ? left : left / (2 * workers) / least * least;
      part.panel_begin = begin;
      part.panel_end = begin + std::min(left, std::max(share, least));
    } while (!next.compare_exchange_weak(begin, part.panel_end, std::memory_order_relaxed));
    return true;
  }

  template <class Function>
  void RunOn(bool alone, Function&& function) {
    if (alone) {
      function(0);
    } else {
      pool_.Run(function);
    }
  }

  /// Runs a row-wise kernel over all rows, in equal parts if there is enough to share.
  template <class Call>
  void RunRows(const Call& call, Index rows, Index row_elements, void (*kernel)(const Call&)) {
    if (rows == 0) {
      return;
    }
    const bool alone = rows < 2 || rows * row_elements < kSharedElements;
    const Index parts = alone ? 1 : pool_.thread_count();
    RunOn(alone, [&](std::int32_t worker) {
      Call part = call;
      std::tie(part.row_begin, part.row_end) = Part(rows, worker, parts);
      kernel(part);
    });
  }

  void Norm(const Matrix& in, const Matrix* delta, std::int32_t segments,
            std::span<const float> weight, float weight_offset, float epsilon, const Matrix& out) {
    PX_ASSERT(in.rows == out.rows && in.cols == out.cols &&
              in.cols == segments * std::ssize(weight));
    const NormCall call{.in = in.f32(),
                        .in_stride = in.stride,
                        .delta = delta != nullptr ? delta->f32() : nullptr,
                        .delta_stride = delta != nullptr ? delta->stride : 0,
                        .out = out.f32(),
                        .out_stride = out.stride,
                        .weight = weight.data(),
                        .weight_offset = weight_offset,
                        .epsilon = epsilon,
                        .cols = std::ssize(weight),
                        .segments = segments};
    RunRows(call, in.rows, in.cols, kernels_.rms_norm);
  }

  static KvView ViewOf(const KvCache& cache, std::int32_t layer) {
    const KvLayout& layout = cache.layout;
    PX_ASSERT(layer >= 0 && layer < layout.layer_count);
    const auto slices = [&](Index offset_bytes, std::int32_t dim) {
      return KvSlices{.offset_bytes = offset_bytes,
                      .slice_size_bytes = layout.slice_size_bytes(dim),
                      .scales_offset_bytes = layout.scales_offset_bytes(dim),
                      .dim = dim,
                      .row_elements = dim};
    };
    KvView view{.blocks = static_cast<unsigned char*>(cache.buffer.data()),
                .block_size_bytes = static_cast<Index>(cache.block_stride_bytes()),
                .k = slices(layout.key_offset_bytes(layer), layout.key_dim),
                .v = slices(layout.value_offset_bytes(layer), layout.value_dim),
                .value_in_key = layout.value_in_key,
                .block_tokens = layout.block_tokens,
                .kv_heads = layout.kv_head_count,
                .element = static_cast<Element>(layout.dtype)};
    if (layout.value_in_key) {
      view.v = view.k;
      view.v.dim = layout.value_dim;
    }
    return view;
  }

  /// One past the last position that any row of `call` sees.
  static Index SightEnd(const AttentionCall& call) {
    if (call.mutual_end > 0) {
      return call.mutual_end;
    }
    const Index last = call.position_first + call.tokens;
    if (call.sight_end == 0) {
      return last;
    }
    return call.window > 0 ? std::min(call.sight_end, last + call.window - 1) : call.sight_end;
  }

  static Index CostOf(const AttentionCall& call) {
    const Index end = std::min(call.span_end * kSpanTokens, SightEnd(call));
    return call.tokens * (end - call.span_begin * kSpanTokens);
  }

  /// Fills items_; returns the work in elements of K and V times query heads.
  Index PlanAttention(const Matrix& q, const StepView& batch, std::int32_t layer,
                      const KvCache& cache, const AttentionOptions& options, const Matrix& out) {
    const Index group = options.head_count / options.kv_head_count;
    const Index tokens_per_item = TokensPerItem(q.rows, options);
    items_.clear();
    Index work = 0;
    auto mutual = batch.mutual_rows.begin();
    for (const StepSequence& sequence : batch.sequences) {
      Index tokens = 0;
      for (Index at = 0; at < sequence.token_count; at += tokens) {
        const Index row = sequence.token_begin + at;
        // An item lies inside of mutual rows or has none of them.
        while (mutual != batch.mutual_rows.end() && mutual->row_end() <= row) {
          ++mutual;
        }
        const bool none = mutual == batch.mutual_rows.end();
        const bool inside = !none && mutual->row_begin <= row;
        tokens = std::min<Index>(tokens_per_item, sequence.token_count - at);
        if (!none) {
          tokens = std::min(tokens, (inside ? mutual->row_end() : mutual->row_begin) - row);
        }
        AttentionCall call{.kv = ViewOf(cache, layer),
                           .block_table = batch.block_table.data() + sequence.block_begin,
                           .q_stride = q.stride,
                           .out_stride = out.stride,
                           .group = group,
                           .tokens = tokens,
                           .position_first = sequence.context_tokens - sequence.token_count + at,
                           .scale = options.scale,
                           .window = options.window_tokens,
                           .sight_end = options.bidirectional ? sequence.context_tokens : 0,
                           .soft_cap = options.soft_cap};
        if (inside) {
          call.mutual_begin = mutual->position_begin;
          call.mutual_end = call.position_first + mutual->row_end() - row;
        }
        const Index context = SightEnd(call);
        Index first =
            call.window > 0 ? std::max<Index>(0, call.position_first - call.window + 1) : 0;
        first = inside ? std::min(first, call.mutual_begin) : first;
        call.span_begin = first / kSpanTokens;
        call.span_end = CeilDiv(context, kSpanTokens);
        work += call.tokens * (context - first) * options.head_count *
                (options.key_dim + options.value_dim) / 2;
        for (call.kv_head = 0; call.kv_head < options.kv_head_count; ++call.kv_head) {
          call.q = q.f32(row) + call.kv_head * group * options.key_dim;
          call.out = out.f32(row) + call.kv_head * group * options.value_dim;
          call.sinks = options.sinks != nullptr ? options.sinks + call.kv_head * group : nullptr;
          if (options.position_bias != nullptr) {
            call.bias_stride = 2 * Index{options.bias_reach} - 1;
            call.bias = options.position_bias + call.kv_head * group * call.bias_stride +
                        options.bias_reach - 1 - call.position_first;
          }
          items_.push_back({.call = call});
        }
      }
    }
    SplitSpans(options.value_dim);
    even_items_ = std::ranges::all_of(items_, [&](const AttentionItem& item) {
      return CostOf(item.call) == CostOf(items_.front().call);
    });
    if (!even_items_) {  // the longest first, so that workers end together
      std::sort(items_.begin(), items_.end(), [](const AttentionItem& a, const AttentionItem& b) {
        return CostOf(a.call) > CostOf(b.call);
      });
    }
    return work;
  }

  /// Tokens of an attention item: many share the cost of a tile, but every worker wants its share.
  Index TokensPerItem(Index tokens, const AttentionOptions& options) const {
    const Index group = options.head_count / options.kv_head_count;
    const Index row_floats = options.key_dim + 2 * options.value_dim + kTileTokens;
    const Index rows = std::min(kAttentionRowsPerItem, kAttentionItemFloats / row_floats);
    const Index fair = CeilDiv(tokens * options.kv_head_count,
                               kItemsPerWorker * std::int64_t{pool_.thread_count()});
    return std::clamp<Index>(std::min(rows / group, fair), 1, tokens);
  }

  /// Few items and long contexts: cuts items into runs of spans, joined afterwards.
  void SplitSpans(Index value_dim) {
    const Index wanted = kItemsPerWorker * pool_.thread_count();
    const Index have = std::ssize(items_);
    if (pool_.thread_count() == 1 || have == 0 || have >= wanted) {
      return;
    }
    const Index pieces = CeilDiv(wanted, have);
    const Index partial_stride = CeilDiv(value_dim, kAttentionPanel) * kAttentionPanel + 16;
    Index floats = 0;
    whole_items_.swap(items_);
    items_.clear();
    for (const AttentionItem& whole : whole_items_) {
      const Index spans = whole.call.span_end - whole.call.span_begin;
      const Index per_piece = CeilDiv(spans, std::min(pieces, spans));
      if (spans == 1) {
        items_.push_back(whole);
        continue;
      }
      for (Index span = whole.call.span_begin; span < whole.call.span_end; span += per_piece) {
        AttentionItem piece = whole;
        piece.call.span_begin = span;
        piece.call.span_end = std::min(span + per_piece, whole.call.span_end);
        piece.joins = span == whole.call.span_begin;
        piece.span_first = whole.call.span_begin;
        piece.span_last = whole.call.span_end;
        piece.partial_offset = floats;
        floats +=
            (piece.call.span_end - span) * piece.call.tokens * piece.call.group * partial_stride;
        items_.push_back(piece);
      }
    }
    if (partials_.size() < static_cast<std::size_t>(floats)) {
      partials_.resize(static_cast<std::size_t>(floats));
    }
    for (AttentionItem& item : items_) {
      if (item.partial_offset >= 0) {
        item.call.partials = partials_.data() + item.partial_offset;
      }
    }
  }

  void EnsureScratch(std::size_t size_bytes) {
    for (Buffer& scratch : scratch_) {
      Grow(scratch, size_bytes);
    }
  }

  static void Grow(Buffer& buffer, std::size_t size_bytes) {
    if (buffer.size_bytes() < size_bytes) {
      Result<Buffer> larger = AllocateHostMemory(size_bytes);
      PX_ASSERT(larger.has_value());  // out of memory
      buffer = std::move(*larger);
    }
  }

  void* Scratch(std::int32_t worker) const {
    return scratch_[static_cast<std::size_t>(worker)].data();
  }

  const Isa& isa_;
  const KernelTable& kernels_;
  ThreadPool pool_;
  std::vector<Buffer> scratch_;  // one per worker, grown by the caller between runs
  Buffer packed_input_;          // of a linear, made and read by all workers
  std::vector<AttentionItem> items_;
  std::vector<AttentionItem> whole_items_;
  bool even_items_ = false;  // all cost the same
  std::vector<float> partials_;
  std::vector<const LoraView*> lora_rows_;
  std::vector<float> lora_mid_;
  std::vector<Index> expert_begins_;  // [E + 1] into expert_rows_
  std::vector<Index> expert_ends_;
  std::vector<Index> expert_rows_;  // rows of each expert's tokens, ascending
  std::vector<float> expert_in_;
  std::vector<float> expert_out_;
  std::int64_t expert_linears_run_ = 0;
  Buffer strip_;                 // of a convolution
  std::vector<float> unfolded_;  // what some output pixels of a convolution see
};

}  // namespace

Result<std::unique_ptr<Operators>> MakeCpuOperators(const CpuOptions& options) {
  PX_TRY(const CpuChoice choice, ChooseCpu(options));
  return std::make_unique<CpuOperators>(*choice.isa, choice.thread_count, options.gate);
}

}  // namespace pixii::kernels
