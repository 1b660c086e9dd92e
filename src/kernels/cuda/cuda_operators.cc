// The host's half of the CUDA backend: packs weights and steps, keeps recorded steps, and calls the
// library's functions. It is compiled everywhere, so that no operator is forgotten where CUDA is
// not installed.
#include "kernels/cuda/cuda_operators.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "base/checked.h"
#include "kernels/cuda/cuda_abi.h"
#include "kernels/weight_source.h"
#include "rt/shared_library.h"

namespace pixii::kernels {
namespace {

using cuda::Element;
using cuda::Library;
using cuda::Rows;

/// Steps of at most this many rows are recorded; the launches of larger ones cost little beside
/// them.
constexpr std::int64_t kGraphRowsMax = 256;
constexpr std::size_t kGraphsMax = 64;                      // recorded steps; the oldest goes first
constexpr std::size_t kStepSizeMin = std::size_t{1} << 20;  // bytes of the step's memory
constexpr std::size_t kUploadRows = 1024;                   // of a weight, packed at once

static_assert(kHeadDimMax <= 640);  // kernels.cuh: kAttentionThreads * kValuesPerThread
static_assert(sizeof(StepSequence) == sizeof(cuda::Sequence));
static_assert(static_cast<int>(Activation::kSilu) == 0 &&
              static_cast<int>(Activation::kGeluTanh) == 1 &&
              static_cast<int>(Activation::kGelu) == 2 &&
              static_cast<int>(Activation::kRelu) == 3 &&
              static_cast<int>(Activation::kTanh) == 4 &&
              static_cast<int>(Activation::kQuickGelu) == 5);  // as the kernels number them

/// The library and a device of it; lives as long as any of its memory.
class OpenDevice final {
 public:
  static Result<std::shared_ptr<OpenDevice>> Open(const std::string& path, std::int32_t index) {
    PX_TRY(rt::SharedLibrary file, rt::SharedLibrary::Open(path));
    PX_TRY(void* symbol, file.Symbol(cuda::kEntryName));
    const Library* library = reinterpret_cast<cuda::Entry>(symbol)();
    if (library->abi != cuda::kAbi) {
      return Fail(Code::kUnsupported,
                  fmt::format("{} speaks ABI {}, this program {}: build both of one version", path,
                              library->abi, cuda::kAbi),
                  "device");
    }
    cuda::Device* device = nullptr;
    if (const char* problem = library->open(index, &device); problem != nullptr) {
      return Fail(Code::kUnsupported,
                  fmt::format("no CUDA device {}: the driver says \"{}\"", index, problem),
                  "device");
    }
    return std::make_shared<OpenDevice>(std::move(file), *library, device);
  }

  OpenDevice(rt::SharedLibrary file, const Library& library, cuda::Device* device)
      : file_(std::move(file)), library_(library), device_(device) {}

  OpenDevice(const OpenDevice&) = delete;
  OpenDevice& operator=(const OpenDevice&) = delete;

  ~OpenDevice() { library_.close(device_); }

  const Library& library() const { return library_; }

  cuda::Device* device() const { return device_; }

 private:
  rt::SharedLibrary file_;
  const Library& library_;
  cuda::Device* device_;
};

/// A weight or table on the device, rows as the checkpoint has them, fp32 or bf16.
class CudaWeight final : public LinearWeight {
 public:
  CudaWeight(std::int64_t in_features, std::int64_t out_features, Buffer values, Buffer bias,
             const cuda::Weight& weight)
      : LinearWeight(in_features, out_features),
        values_(std::move(values)),
        bias_(std::move(bias)),
        weight_(weight) {}

  const cuda::Weight& weight() const { return weight_; }

 private:
  Buffer values_;
  Buffer bias_;
  cuda::Weight weight_;
};

Rows RowsOf(const Matrix& matrix) {
  PX_ASSERT(matrix.dtype == DType::kF32);
  return {matrix.f32(), matrix.rows, matrix.cols, matrix.stride};
}

class CudaOperators final : public Operators {
 public:
  explicit CudaOperators(std::shared_ptr<OpenDevice> device)
      : open_(std::move(device)),
        library_(open_->library()),
        device_(open_->device()),
        name_(fmt::format("cuda ({})", library_.name(device_))) {}

  ~CudaOperators() override { DropGraphs(); }

  std::string_view name() const override { return name_; }

  std::string_view numerics() const override { return "cuda-1"; }

  bool on_host() const override { return false; }

  bool Supports(OperatorGroup /*group*/) const override { return false; }

  Result<Buffer> Allocate(std::size_t size_bytes) override {
    void* data = nullptr;
    if (const char* problem =
            library_.allocate(device_, std::max<std::size_t>(size_bytes, 1), &data);
        problem != nullptr) {
      return Fail(Code::kResourceExhausted,
                  fmt::format("the GPU gives no memory for {} bytes: {}", size_bytes, problem));
    }
    return Buffer(data, size_bytes,
                  [open = open_](void* memory) { open->library().free(open->device(), memory); });
  }

  void Upload(std::span<const std::byte> from, void* to) override {
    if (!from.empty()) {
      library_.upload(device_, from.data(), to, from.size());
    }
  }

  void Download(const void* from, std::span<std::byte> to) override {
    if (!to.empty()) {
      library_.download(device_, from, to.data(), to.size());
    }
  }

  /// Powers of two, then multiples of kGraphRowsMax: few shapes, so few recorded steps.
  std::int64_t PaddedRows(std::int64_t rows) const override {
    if (rows > kGraphRowsMax) {
      return CeilDiv(rows, kGraphRowsMax) * kGraphRowsMax;
    }
    std::int64_t padded = rows == 0 ? 0 : 1;
    while (padded < rows) {
      padded *= 2;
    }
    return padded;
  }

  StepView UploadStep(const StepView& step) override {
    const auto rows = static_cast<std::size_t>(PaddedRows(std::ssize(step.token_ids)));
    const auto logit_rows = static_cast<std::size_t>(PaddedRows(std::ssize(step.logit_rows)));
    // The block table stands last: all else then has one place for all steps of a shape.
    PX_ASSERT(step.sequences.size() <= rows);
    const std::size_t sequences_at = 4 * rows + logit_rows;
    const std::size_t blocks_at = sequences_at + rows * sizeof(StepSequence) / sizeof(std::int32_t);
    packed_.assign(blocks_at + step.block_table.size(), 0);
    const auto put = [&](std::size_t at, std::span<const std::int32_t> values) {
      std::copy(values.begin(), values.end(), packed_.begin() + static_cast<std::ptrdiff_t>(at));
    };
    std::fill_n(packed_.begin() + static_cast<std::ptrdiff_t>(2 * rows), 2 * rows, -1);
    put(0, step.token_ids);
    put(rows, step.positions);
    put(2 * rows, step.slots);
    for (std::size_t i = 0; i < step.sequences.size(); ++i) {
      const StepSequence& sequence = step.sequences[i];
      std::fill_n(packed_.begin() + static_cast<std::ptrdiff_t>(3 * rows) + sequence.token_begin,
                  sequence.token_count, static_cast<std::int32_t>(i));
    }
    put(4 * rows, step.logit_rows);
    if (!step.sequences.empty()) {
      std::memcpy(packed_.data() + sequences_at, step.sequences.data(),
                  step.sequences.size_bytes());
    }
    put(blocks_at, step.block_table);
    if (!GrowStep(packed_.size() * sizeof(std::int32_t))) {
      return step;  // Synchronize tells; nothing is launched meanwhile
    }
    Upload(std::as_bytes(std::span(packed_)), step_.data());
    const auto* data = static_cast<const std::int32_t*>(step_.data());
    StepView view;
    view.token_ids = {data, rows};
    view.positions = {data + rows, rows};
    view.slots = {data + 2 * rows, rows};
    view.row_sequences = {data + 3 * rows, rows};
    view.logit_rows = {data + 4 * rows, logit_rows};
    view.sequences = {reinterpret_cast<const StepSequence*>(data + sequences_at),
                      step.sequences.size()};
    view.block_table = {data + blocks_at, step.block_table.size()};
    return view;
  }

  Result<std::unique_ptr<LinearWeight>> PrepareLinear(std::span<const WeightPart> parts,
                                                      const LinearOptions& options) override {
    PX_CHECK_OK(CheckParts(parts, options));
    if (options.shard_end != 0 || !options.rows.empty()) {
      return Fail(Code::kUnsupported, "the CUDA backend runs no shares of a linear yet", "device");
    }
    const bool bf16 = options.compute != ComputeType::kF32;
    PX_TRY(auto weight, Prepare(parts, bf16 ? Element::kBf16 : Element::kF32, options));
    return std::unique_ptr<LinearWeight>(std::move(weight));
  }

  Result<std::unique_ptr<LinearWeight>> PrepareEmbedding(const WeightPart& table) override {
    PX_CHECK_OK(CheckParts({&table, 1}, {}));
    const bool bf16 = table.code == WeightCode::kNone && table.dtype == DType::kBf16;
    PX_TRY(auto weight, Prepare({&table, 1}, bf16 ? Element::kBf16 : Element::kF32, {}));
    return std::unique_ptr<LinearWeight>(std::move(weight));
  }

  Result<std::unique_ptr<LoraWeight>> PrepareLora(const WeightPart& /*down*/,
                                                  const WeightPart& /*up*/,
                                                  float /*scale*/) override {
    return Fail(Code::kUnsupported, "the CUDA backend runs no adapters yet", "device");
  }

  void AddLora(const Matrix& /*in*/, std::span<const LoraWeight* const> pairs,
               std::span<const std::int32_t> /*row_pairs*/, const Matrix& /*out*/) override {
    // PrepareLora makes none, so every pair is null and adds nothing.
    PX_ASSERT(std::all_of(pairs.begin(), pairs.end(), [](auto* pair) { return pair == nullptr; }));
  }

  void Embed(const LinearWeight& table, std::span<const std::int32_t> ids, float scale,
             const Matrix& out) override {
    PX_ASSERT(out.rows == std::ssize(ids) && out.cols == table.in_features());
    Queue(library_.embed, WeightOf(table), ids.data(), scale, RowsOf(out));
  }

  void Linear(const Matrix& in, const LinearWeight& weight, const Matrix& out) override {
    PX_ASSERT(in.rows == out.rows && in.cols == weight.in_features() &&
              out.cols == weight.out_features());
    Queue(library_.linear, RowsOf(in), WeightOf(weight), RowsOf(out));
  }

  void RmsNorm(const Matrix& in, std::span<const float> weight, float weight_offset, float epsilon,
               const Matrix& out) override {
    PX_ASSERT(std::ssize(weight) == in.cols);
    Norm(in, {}, {.weight = weight.data(), .weight_offset = weight_offset, .epsilon = epsilon},
         out);
  }

  void AddRmsNorm(const Matrix& residual, const Matrix& delta, std::span<const float> weight,
                  float weight_offset, float epsilon, const Matrix& out) override {
    PX_ASSERT(std::ssize(weight) == residual.cols);
    Norm(residual, delta,
         {.weight = weight.data(), .weight_offset = weight_offset, .epsilon = epsilon}, out);
  }

  void AddLayerNorm(const Matrix& residual, const Matrix& delta, std::span<const float> weight,
                    std::span<const float> bias, float epsilon, const Matrix& out) override {
    PX_ASSERT(std::ssize(weight) == residual.cols && std::ssize(bias) == residual.cols);
    Norm(residual, delta,
         {.weight = weight.data(), .bias = bias.data(), .epsilon = epsilon, .layer_norm = true},
         out);
  }

  void Add(const Matrix& residual, const Matrix& delta) override {
    PX_ASSERT(residual.rows == delta.rows && residual.cols == delta.cols);
    Queue(library_.add, RowsOf(residual), RowsOf(delta));
  }

  void HeadRmsNorm(const Matrix& x, std::int32_t head_count, std::span<const float> weight,
                   float weight_offset, float epsilon) override {
    PX_ASSERT(head_count > 0 && x.cols == head_count * std::ssize(weight));
    Norm(x, {},
         {.weight = weight.data(),
          .weight_offset = weight_offset,
          .epsilon = epsilon,
          .segments = head_count},
         x);
  }

  void Rotary(const Matrix& x, std::int32_t head_count, std::span<const std::int32_t> positions,
              const RotaryTable& table) override {
    PX_ASSERT(x.rows == std::ssize(positions) && head_count > 0 && x.cols % head_count == 0);
    PX_ASSERT(table.rotary_dim % 2 == 0 && table.rotary_dim <= x.cols / head_count);
    Queue(library_.rotary, RowsOf(x),
          cuda::Turn{.positions = positions.data(),
                     .cos = table.cos,
                     .sin = table.sin,
                     .heads = head_count,
                     .half = table.rotary_dim / 2,
                     .interleaved = table.interleaved});
  }

  void StoreKv(const Matrix& k, const Matrix& v, std::span<const std::int32_t> slots,
               std::int32_t layer, KvCache& cache) override {
    PX_ASSERT(k.rows == std::ssize(slots));
    if (const auto slices = SlicesOf(cache, layer)) {
      PX_ASSERT(k.cols == std::int64_t{slices->kv_heads} * slices->key_dim);
      PX_ASSERT(slices->value_in_key ||
                (v.rows == k.rows && v.cols == std::int64_t{slices->kv_heads} * slices->value_dim));
      Queue(library_.store_kv, RowsOf(k), RowsOf(v), slots.data(), *slices);
    }
  }

  void PagedAttention(const Matrix& q, const StepView& step, std::int32_t layer,
                      const KvCache& cache, const AttentionOptions& options,
                      const Matrix& out) override {
    const auto slices = SlicesOf(cache, layer);
    if (options.position_bias != nullptr) {
      RefuseGroup("attention with a position bias");
    }
    if (!slices || step.row_sequences.empty()) {
      return;
    }
    PX_ASSERT(q.rows == std::ssize(step.row_sequences) && out.rows == q.rows);
    PX_ASSERT(options.kv_head_count == slices->kv_heads &&
              options.head_count % options.kv_head_count == 0);
    PX_ASSERT(q.cols == std::int64_t{options.head_count} * slices->key_dim &&
              out.cols == std::int64_t{options.head_count} * slices->value_dim);
    Queue(
        library_.attention, RowsOf(q), *slices,
        cuda::Attention{.positions = step.positions.data(),
                        .row_sequences = step.row_sequences.data(),
                        .sequences = reinterpret_cast<const cuda::Sequence*>(step.sequences.data()),
                        .block_table = step.block_table.data(),
                        .sinks = options.sinks,
                        .heads = options.head_count,
                        .scale = options.scale,
                        .window_tokens = options.window_tokens,
                        .soft_cap = options.soft_cap,
                        .bidirectional = options.bidirectional},
        RowsOf(out));
  }

  void ActivationMul(const Matrix& gate_up, Activation activation, const Matrix& out) override {
    PX_ASSERT(gate_up.rows == out.rows && gate_up.cols == 2 * out.cols);
    Queue(library_.activate, RowsOf(gate_up.Columns(0, out.cols)),
          RowsOf(gate_up.Columns(out.cols, out.cols)), static_cast<std::int32_t>(activation),
          RowsOf(out));
  }

  void Activate(const Matrix& x, Activation activation) override {
    Queue(library_.activate, RowsOf(x), Rows{}, static_cast<std::int32_t>(activation), RowsOf(x));
  }

  // Models that need these are refused by Supports.

  void ClampedActivationMul(const Matrix& /*gate_up*/, float /*alpha*/, float /*limit*/,
                            const Matrix& /*out*/) override {
    RefuseGroup("mixtures of experts");
  }

  void SoftCap(const Matrix& /*x*/, float /*cap*/) override { RefuseGroup("soft caps of logits"); }

  void Copy(const Matrix& /*in*/, const Matrix& /*out*/) override { RefuseGroup("copies"); }

  void SigmoidScale(const Matrix& /*x*/, const Matrix& /*gate*/) override {
    RefuseGroup("mixtures of experts");
  }

  void Route(const Matrix& /*logits*/, std::span<const float> /*correction*/,
             const RouteOptions& /*options*/, std::span<std::int32_t> /*experts*/,
             const Matrix& /*weights*/) override {
    RefuseGroup("mixtures of experts");
  }

  void ExpertLinear(const Matrix& /*in*/, std::span<const std::int32_t> /*experts*/,
                    std::span<const std::unique_ptr<LinearWeight>> /*weights*/,
                    const Matrix& /*out*/) override {
    RefuseGroup("mixtures of experts");
  }

  void CombineExperts(const Matrix& /*in*/, const Matrix& /*weights*/,
                      const Matrix& /*out*/) override {
    RefuseGroup("mixtures of experts");
  }

  void ScaleColumns(const Matrix& /*x*/, std::span<const float> /*factors*/) override {
    RefuseGroup("diffusion");
  }

  void Convolve(const Matrix& /*in*/, const ConvolutionShape& /*shape*/,
                const LinearWeight& /*weight*/, const Matrix& /*out*/) override {
    RefuseGroup("diffusion");
  }

  void GatherRows(const Matrix& in, std::span<const std::int32_t> rows,
                  const Matrix& out) override {
    PX_ASSERT(out.rows == std::ssize(rows) && in.cols == out.cols);
    Queue(library_.gather, RowsOf(in), rows.data(), RowsOf(out));
  }

  void FindNonFinite(const Matrix& in, std::span<std::int32_t> flags) override {
    PX_ASSERT(in.rows == std::ssize(flags));
    Queue(library_.find_non_finite, RowsOf(in), flags.data());
  }

  Result<void> Synchronize() override {
    const char* problem = library_.synchronize(device_);
    if (refused_) {
      return Fail(*refused_);
    }
    if (problem != nullptr) {
      return Fail(Code::kUnavailable, fmt::format("the GPU failed: {}", problem));
    }
    return {};
  }

 protected:
  void RunStepErased(const StepKey& key, StepFunction call, void* callee) override {
    if (static_cast<std::int64_t>(key.rows) > kGraphRowsMax) {
      call(callee);
      return;
    }
    const auto found = std::find_if(graphs_.begin(), graphs_.end(),
                                    [&](const Recorded& one) { return one.key == key; });
    if (found != graphs_.end()) {
      library_.launch_graph(device_, found->graph);
      return;
    }
    library_.begin_graph(device_);
    call(callee);
    cuda::Graph* graph = library_.end_graph(device_);
    if (graph == nullptr) {
      return;  // Synchronize tells
    }
    if (graphs_.size() == kGraphsMax) {
      // It may still run.
      library_.synchronize(device_);
      library_.free_graph(graphs_.front().graph);
      graphs_.erase(graphs_.begin());
    }
    graphs_.push_back({key, graph});
    library_.launch_graph(device_, graph);
  }

 private:
  struct Recorded {
    StepKey key;
    cuda::Graph* graph;
  };

  static const cuda::Weight& WeightOf(const LinearWeight& weight) {
    return static_cast<const CudaWeight&>(weight).weight();
  }

  template <class Function, class... Args>
  void Queue(Function function, const Args&... args) {
    if (!refused_) {
      function(device_, args...);
    }
  }

  /// What a model may ask for and this backend lacks: the step fails, the process goes on.
  void Refuse(std::string detail) {
    if (!refused_) {
      refused_ = Error(Code::kUnsupported, std::move(detail), "device");
    }
  }

  void RefuseGroup(std::string_view what) {
    Refuse(fmt::format("the CUDA backend has no {} yet", what));
  }

  void DropGraphs() {
    library_.synchronize(device_);
    for (const Recorded& one : graphs_) {
      library_.free_graph(one.graph);
    }
    graphs_.clear();
  }

  bool GrowStep(std::size_t size_bytes) {
    if (size_bytes <= step_.size_bytes()) {
      return true;
    }
    DropGraphs();  // they name the old memory
    Result<Buffer> larger = Allocate(std::max(kStepSizeMin, 2 * size_bytes));
    if (!larger) {
      refused_ = larger.error();
      return false;
    }
    step_ = std::move(*larger);
    return true;
  }

  void Norm(const Matrix& in, const std::optional<Matrix>& delta, const cuda::Norm& norm,
            const Matrix& out) {
    PX_ASSERT(in.rows == out.rows && in.cols == out.cols);
    PX_ASSERT(!delta || (delta->rows == in.rows && delta->cols == in.cols));
    Queue(library_.norm, RowsOf(in), delta ? RowsOf(*delta) : Rows{}, norm, RowsOf(out));
  }

  std::optional<cuda::KvSlices> SlicesOf(const KvCache& cache, std::int32_t layer) {
    const KvLayout& layout = cache.layout;
    PX_ASSERT(layer >= 0 && layer < layout.layer_count);
    PX_ASSERT(layout.key_dim <= kHeadDimMax && layout.value_dim <= kHeadDimMax);
    if (HasScales(layout.dtype)) {
      Refuse(fmt::format("the CUDA backend has no KV cache in {} yet", KvDTypeName(layout.dtype)));
      return std::nullopt;
    }
    return cuda::KvSlices{.blocks = static_cast<unsigned char*>(cache.buffer.data()),
                          .block_size_bytes = static_cast<std::int64_t>(cache.block_stride_bytes()),
                          .key_offset_bytes = layout.key_offset_bytes(layer),
                          .value_offset_bytes = layout.value_offset_bytes(layer),
                          .key_slice_size_bytes = layout.slice_size_bytes(layout.key_dim),
                          .value_slice_size_bytes = layout.slice_size_bytes(layout.value_dim),
                          .block_tokens = layout.block_tokens,
                          .kv_heads = layout.kv_head_count,
                          .key_dim = layout.key_dim,
                          .value_dim = layout.value_dim,
                          .element = layout.dtype == KvDType::kF32    ? Element::kF32
                                     : layout.dtype == KvDType::kBf16 ? Element::kBf16
                                                                      : Element::kF16,
                          .value_in_key = layout.value_in_key};
  }

  /// All rows of `parts`, stacked, as `element`; sent in runs of rows, so that no second copy of a
  /// large weight stands in the host's memory.
  Result<std::unique_ptr<CudaWeight>> Prepare(std::span<const WeightPart> parts, Element element,
                                              const LinearOptions& options) {
    const std::int64_t cols = parts.front().cols;
    std::int64_t rows = 0;
    bool biased = false;
    for (const WeightPart& part : parts) {
      rows += part.rows;
      biased = biased || part.bias != nullptr;
    }
    const std::size_t row_size =
        static_cast<std::size_t>(cols) * (element == Element::kBf16 ? 2 : sizeof(float));
    PX_TRY(Buffer values, Allocate(static_cast<std::size_t>(rows) * row_size));
    auto* to = static_cast<std::byte*>(values.data());
    std::vector<std::byte> packed;
    std::vector<float> row(static_cast<std::size_t>(cols));
    std::vector<float> bias;
    const auto send = [&] {
      Upload(packed, to);
      to += packed.size();
      packed.clear();
    };
    for (const WeightPart& part : parts) {
      for (std::int64_t i = 0; i < part.rows; ++i) {
        ReadRow(part, i, row.data());
        AppendRow(row, element, packed);
        if (packed.size() >= kUploadRows * row_size) {
          send();
        }
        bias.push_back(part.bias != nullptr ? part.bias[i] : 0.0F);
      }
    }
    send();
    Buffer bias_buffer;
    if (biased) {
      PX_TRY(bias_buffer, Allocate(bias.size() * sizeof(float)));
      Upload(std::as_bytes(std::span(bias)), bias_buffer.data());
    }
    PX_CHECK_OK(Synchronize());
    const ShardPlan plan = MakeShardPlan(cols, options.k_shards);
    const cuda::Weight weight = {.data = values.data(),
                                 .element = element,
                                 .bias = static_cast<const float*>(bias_buffer.data()),
                                 .in_features = cols,
                                 .out_features = rows,
                                 .round_input = options.compute != ComputeType::kF32,
                                 .shard_count = plan.count,
                                 .shard_size = plan.size};
    return std::make_unique<CudaWeight>(cols, rows, std::move(values), std::move(bias_buffer),
                                        weight);
  }

  static void AppendRow(std::span<const float> row, Element element, std::vector<std::byte>& to) {
    if (element == Element::kF32) {
      const auto bytes = std::as_bytes(row);
      to.insert(to.end(), bytes.begin(), bytes.end());
      return;
    }
    for (const float value : row) {
      const std::uint16_t bits = Bf16FromFloat(value);
      to.push_back(static_cast<std::byte>(bits & 0xFFU));
      to.push_back(static_cast<std::byte>(bits >> 8U));
    }
  }

  std::shared_ptr<OpenDevice> open_;
  const Library& library_;
  cuda::Device* device_;
  std::string name_;
  std::optional<Error> refused_;
  Buffer step_;
  std::vector<std::int32_t> packed_;
  std::vector<Recorded> graphs_;
};

Result<std::string> FindLibrary() {
  Result<std::string> path = rt::SharedLibrary::FindBesideProgram(
      cuda::kLibraryName, "build the target pixii_cuda, which needs CUDA's nvcc");
  if (!path) {
    return Fail(path.error().code(), path.error().detail(), "device");
  }
  return path;
}

}  // namespace

Result<std::unique_ptr<Operators>> MakeCudaOperators(const CudaOptions& options) {
  std::string path = options.library;
  if (path.empty()) {
    PX_TRY(path, FindLibrary());
  }
  PX_TRY(std::shared_ptr<OpenDevice> device, OpenDevice::Open(path, options.device));
  return std::unique_ptr<Operators>(std::make_unique<CudaOperators>(std::move(device)));
}

}  // namespace pixii::kernels
