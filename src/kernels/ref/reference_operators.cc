// Every operator by plain loops in fp32: the definition, and the oracle of tests/compare.
//
// Compiled with -ffp-contract=off: each + and * below rounds once; a fused one is written std::fma.
// Thread: one caller.
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>
#include <optional>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/assert.h"
#include "base/checked.h"
#include "kernels/host_operators.h"
#include "kernels/ref/reference_attention.h"
#include "kernels/ref/reference_integer.h"
#include "kernels/weight_source.h"

namespace pixii::kernels {
namespace {

constexpr std::size_t kAlignment = 64;

class ReferenceWeight final : public LinearWeight {
 public:
  ReferenceWeight(const ShardPlan& shards, std::int64_t out_features, ComputeType compute)
      : LinearWeight(shards.k, out_features),
        shards_(shards),
        compute_(compute),
        values_(static_cast<std::size_t>(shards.k * out_features)),
        bias_(static_cast<std::size_t>(out_features)) {}

  const ShardPlan& shards() const { return shards_; }

  ComputeType compute() const { return compute_; }

  const float* row(std::int64_t index) const { return values_.data() + index * in_features(); }

  float* mutable_row(std::int64_t index) { return values_.data() + index * in_features(); }

  float* bias() { return bias_.data(); }

  const float* bias() const { return bias_.data(); }

  bool has_bias() const { return has_bias_; }

  void set_has_bias() { has_bias_ = true; }

  /// Codes instead of values, or null.
  const ReferenceIntegers* integers() const { return integers_ ? &*integers_ : nullptr; }

  void set_integers(ReferenceIntegers integers) { integers_ = std::move(integers); }

 private:
  ShardPlan shards_;
  ComputeType compute_;
  std::vector<float> values_;  // [out_features, in_features]
  std::vector<float> bias_;    // [out_features]
  bool has_bias_ = false;
  std::optional<ReferenceIntegers> integers_;
};

class ReferenceLora final : public LoraWeight {
 public:
  ReferenceLora(const WeightPart& down, const WeightPart& up, float scale)
      : LoraWeight(down.cols, up.rows, down.rows),
        scale_(scale),
        down_(static_cast<std::size_t>(down.rows * down.cols)),
        up_(static_cast<std::size_t>(up.rows * up.cols)) {
    for (std::int64_t row = 0; row < down.rows; ++row) {
      ReadRow(down, row, down_.data() + row * down.cols);
    }
    for (std::int64_t row = 0; row < up.rows; ++row) {
      ReadRow(up, row, up_.data() + row * up.cols);
    }
  }

  void Add(const float* in, float* out) const {
    std::vector<float> mid(static_cast<std::size_t>(rank()));
    for (std::int64_t r = 0; r < rank(); ++r) {
      float sum = 0.0F;
      for (std::int64_t k = 0; k < in_features(); ++k) {
        sum = std::fma(in[k], down_[static_cast<std::size_t>(r * in_features() + k)], sum);
      }
      mid[static_cast<std::size_t>(r)] = sum;
    }
    for (std::int64_t n = 0; n < out_features(); ++n) {
      float sum = 0.0F;
      for (std::int64_t r = 0; r < rank(); ++r) {
        sum = std::fma(mid[static_cast<std::size_t>(r)],
                       up_[static_cast<std::size_t>(n * rank() + r)], sum);
      }
      out[n] = std::fma(sum, scale_, out[n]);
    }
  }

 private:
  float scale_;
  std::vector<float> down_;  // [rank, in_features]
  std::vector<float> up_;    // [out_features, rank]
};

float ActivationOf(Activation activation, float x) {
  switch (activation) {
    case Activation::kSilu:
      return x / (1.0F + std::exp(-x));
    case Activation::kGeluTanh: {
      const float inner = 0.7978845608F * (x + 0.044715F * x * x * x);
      return 0.5F * x * (1.0F + std::tanh(inner));
    }
    case Activation::kGelu:
      return 0.5F * x * (1.0F + std::erf(x * 0.7071067812F));
    case Activation::kRelu:
      return x < 0.0F ? 0.0F : x;  // NaN stays NaN
    case Activation::kTanh:
      return std::tanh(x);
    case Activation::kQuickGelu:
      return x / (1.0F + std::exp(-1.702F * x));
  }
  PX_ASSERT(false);
}

void NormRow(const float* in, std::int64_t count, std::span<const float> weight,
             float weight_offset, float epsilon, float* out) {
  float sum = 0.0F;
  for (std::int64_t i = 0; i < count; ++i) {
    sum = std::fma(in[i], in[i], sum);
  }
  const float factor = 1.0F / std::sqrt(sum / static_cast<float>(count) + epsilon);
  for (std::int64_t i = 0; i < count; ++i) {
    out[i] = in[i] * factor * (weight[static_cast<std::size_t>(i)] + weight_offset);
  }
}

void LayerNormRow(const float* in, std::int64_t count, std::span<const float> weight,
                  std::span<const float> bias, float epsilon, float* out) {
  float sum = 0.0F;
  for (std::int64_t i = 0; i < count; ++i) {
    sum += in[i];
  }
  const float mean = sum / static_cast<float>(count);
  float squares = 0.0F;
  for (std::int64_t i = 0; i < count; ++i) {
    squares = std::fma(in[i] - mean, in[i] - mean, squares);
  }
  const float factor = 1.0F / std::sqrt(squares / static_cast<float>(count) + epsilon);
  for (std::int64_t i = 0; i < count; ++i) {
    const auto column = static_cast<std::size_t>(i);
    out[i] = std::fma((in[i] - mean) * factor, weight[column], bias[column]);
  }
}

class ReferenceOperators final : public HostOperators {
 public:
  std::string_view name() const override { return "ref"; }

  std::string_view numerics() const override { return "ref-1"; }

  Result<Buffer> Allocate(std::size_t size_bytes) override {
    const std::size_t padded =
        CeilDiv(std::max<std::size_t>(size_bytes, 1), kAlignment) * kAlignment;
    void* data = std::aligned_alloc(kAlignment, padded);
    if (data == nullptr) {
      return Fail(Code::kResourceExhausted, fmt::format("no memory for {} bytes", size_bytes));
    }
    std::memset(data, 0, padded);
    return Buffer(data, size_bytes, [](void* memory) { std::free(memory); });
  }

  Result<std::unique_ptr<LinearWeight>> PrepareLinear(std::span<const WeightPart> parts,
                                                      const LinearOptions& options) override {
    PX_CHECK_OK(CheckParts(parts, options));
    const std::vector<PartRow> rows = RowsOf(parts, options);
    const ShardPlan shards = MakeShardPlan(parts.front().cols, options);
    auto weight = std::make_unique<ReferenceWeight>(shards, std::ssize(rows), options.compute);
    if (options.compute == ComputeType::kInt8) {
      if (auto plan = PlanIntegers(parts, options)) {
        weight->set_integers(ReferenceIntegers(*std::move(plan), rows));
      }
    }
    std::vector<float> whole(static_cast<std::size_t>(parts.front().cols));
    std::int64_t at = 0;
    for (const PartRow& row : rows) {
      float* values = weight->mutable_row(at);
      ReadRow(*row.part, row.row, whole.data());
      std::copy_n(whole.data() + shards.column, shards.k, values);
      for (std::int64_t k = 0; options.compute != ComputeType::kF32 && k < shards.k; ++k) {
        values[k] = RoundToBf16(values[k]);
      }
      if (row.part->bias != nullptr) {
        weight->bias()[at] = row.bias();
        weight->set_has_bias();
      }
      ++at;
    }
    return std::unique_ptr<LinearWeight>(std::move(weight));
  }

  Result<std::unique_ptr<LinearWeight>> PrepareEmbedding(const WeightPart& table) override {
    return PrepareLinear({&table, 1}, {.compute = ComputeType::kF32});
  }

  void Embed(const LinearWeight& table, std::span<const std::int32_t> ids, float scale,
             const Matrix& out) override {
    const auto& weight = static_cast<const ReferenceWeight&>(table);
    PX_ASSERT(out.rows == std::ssize(ids) && out.cols == weight.in_features());
    for (std::int64_t t = 0; t < out.rows; ++t) {
      const std::int32_t id = ids[static_cast<std::size_t>(t)];
      PX_ASSERT(id >= 0 && id < weight.out_features());
      for (std::int64_t f = 0; f < out.cols; ++f) {
        out.f32(t)[f] = weight.row(id)[f] * scale;
      }
    }
  }

  void Linear(const Matrix& in, const LinearWeight& linear_weight, const Matrix& out) override {
    const auto& weight = static_cast<const ReferenceWeight&>(linear_weight);
    PX_ASSERT(in.rows == out.rows && in.cols == weight.in_features() &&
              out.cols == weight.out_features());
    const bool bf16 = weight.compute() != ComputeType::kF32;
    const ShardPlan& plan = weight.shards();
    std::vector<float> row(static_cast<std::size_t>(in.cols));
    for (std::int64_t m = 0; m < in.rows; ++m) {
      if (weight.integers() != nullptr) {
        weight.integers()->Multiply(in.f32(m), out.f32(m));
        for (std::int64_t n = 0; weight.has_bias() && n < out.cols; ++n) {
          out.f32(m)[n] += weight.bias()[n];
        }
        continue;
      }
      for (std::int64_t k = 0; k < in.cols; ++k) {
        row[static_cast<std::size_t>(k)] = bf16 ? RoundToBf16(in.f32(m)[k]) : in.f32(m)[k];
      }
      for (std::int64_t n = 0; n < out.cols; ++n) {
        const float sum = Dot(row.data(), weight.row(n), plan);
        out.f32(m)[n] = weight.has_bias() ? sum + weight.bias()[n] : sum;
      }
    }
  }

  void RmsNorm(const Matrix& in, std::span<const float> weight, float weight_offset, float epsilon,
               const Matrix& out) override {
    PX_ASSERT(in.rows == out.rows && in.cols == out.cols && std::ssize(weight) == in.cols);
    for (std::int64_t t = 0; t < in.rows; ++t) {
      NormRow(in.f32(t), in.cols, weight, weight_offset, epsilon, out.f32(t));
    }
  }

  void AddRmsNorm(const Matrix& residual, const Matrix& delta, std::span<const float> weight,
                  float weight_offset, float epsilon, const Matrix& out) override {
    Add(residual, delta);
    RmsNorm(residual, weight, weight_offset, epsilon, out);
  }

  void AddLayerNorm(const Matrix& residual, const Matrix& delta, std::span<const float> weight,
                    std::span<const float> bias, float epsilon, const Matrix& out) override {
    PX_ASSERT(residual.rows == out.rows && residual.cols == out.cols);
    PX_ASSERT(weight.size() == bias.size());
    const std::int64_t run = RowsOfRun(out, weight);
    Add(residual, delta);
    for (std::int64_t t = 0; t < residual.rows; ++t) {
      const auto at = static_cast<std::size_t>(t / run * out.cols);
      LayerNormRow(residual.f32(t), residual.cols, weight.subspan(at), bias.subspan(at), epsilon,
                   out.f32(t));
    }
  }

  void Add(const Matrix& residual, const Matrix& delta) override {
    PX_ASSERT(residual.rows == delta.rows && residual.cols == delta.cols);
    for (std::int64_t t = 0; t < residual.rows; ++t) {
      for (std::int64_t f = 0; f < residual.cols; ++f) {
        residual.f32(t)[f] += delta.f32(t)[f];
      }
    }
  }

  void HeadRmsNorm(const Matrix& x, std::int32_t head_count, std::span<const float> weight,
                   float weight_offset, float epsilon) override {
    PX_ASSERT(x.cols == head_count * std::ssize(weight));
    const std::int64_t head_dim = std::ssize(weight);
    for (std::int64_t t = 0; t < x.rows; ++t) {
      for (std::int32_t h = 0; h < head_count; ++h) {
        float* head = x.f32(t) + h * head_dim;
        NormRow(head, head_dim, weight, weight_offset, epsilon, head);
      }
    }
  }

  void Rotary(const Matrix& x, std::int32_t head_count, std::span<const std::int32_t> positions,
              const RotaryTable& table) override {
    PX_ASSERT(x.rows == std::ssize(positions) && head_count > 0 && x.cols % head_count == 0);
    const std::int64_t head_dim = x.cols / head_count;
    const std::int32_t half = table.rotary_dim / 2;
    PX_ASSERT(table.rotary_dim % 2 == 0 && table.rotary_dim <= head_dim);
    for (std::int64_t t = 0; t < x.rows; ++t) {
      const std::int64_t position = positions[static_cast<std::size_t>(t)];
      PX_ASSERT(position >= 0 && position < table.position_max);
      for (std::int32_t h = 0; h < head_count; ++h) {
        float* head = x.f32(t) + h * head_dim;
        for (std::int32_t i = 0; i < half; ++i) {
          float& first = table.interleaved ? head[2 * i] : head[i];
          float& second = table.interleaved ? head[2 * i + 1] : head[i + half];
          const float cos = table.cos[position * half + i];
          const float sin = table.sin[position * half + i];
          const float turned = first * cos - second * sin;
          second = second * cos + first * sin;
          first = turned;
        }
      }
    }
  }

  void StoreKv(const Matrix& k, const Matrix& v, std::span<const std::int32_t> slots,
               std::int32_t layer, KvCache& cache) override {
    ReferenceStoreKv(k, v, slots, layer, cache);
  }

  void PagedAttention(const Matrix& q, const StepView& batch, std::int32_t layer,
                      const KvCache& cache, const AttentionOptions& options,
                      const Matrix& out) override {
    ReferencePagedAttention(q, batch, layer, cache, options, out);
  }

  void ActivationMul(const Matrix& gate_up, Activation activation, const Matrix& out) override {
    PX_ASSERT(gate_up.rows == out.rows && gate_up.cols == 2 * out.cols);
    for (std::int64_t t = 0; t < out.rows; ++t) {
      for (std::int64_t f = 0; f < out.cols; ++f) {
        out.f32(t)[f] = ActivationOf(activation, gate_up.f32(t)[f]) * gate_up.f32(t)[out.cols + f];
      }
    }
  }

  void Activate(const Matrix& x, Activation activation) override {
    for (std::int64_t t = 0; t < x.rows; ++t) {
      for (std::int64_t f = 0; f < x.cols; ++f) {
        x.f32(t)[f] = ActivationOf(activation, x.f32(t)[f]);
      }
    }
  }

  Result<std::unique_ptr<LoraWeight>> PrepareLora(const WeightPart& down, const WeightPart& up,
                                                  float scale) override {
    PX_CHECK_OK(CheckLoraParts(down, up, scale));
    return std::make_unique<ReferenceLora>(down, up, scale);
  }

  void AddLora(const Matrix& in, std::span<const LoraWeight* const> pairs,
               std::span<const std::int32_t> row_pairs, const Matrix& out) override {
    PX_ASSERT(in.rows == out.rows && in.rows == std::ssize(row_pairs));
    for (std::int64_t row = 0; row < in.rows; ++row) {
      const std::int32_t index = row_pairs[static_cast<std::size_t>(row)];
      PX_ASSERT(index < std::ssize(pairs));
      const auto* pair = static_cast<const ReferenceLora*>(
          index < 0 ? nullptr : pairs[static_cast<std::size_t>(index)]);
      if (pair != nullptr) {
        PX_ASSERT(pair->in_features() == in.cols && pair->out_features() == out.cols);
        pair->Add(in.f32(row), out.f32(row));
      }
    }
  }

  void ExpertLinear(const Matrix& in, std::span<const std::int32_t> experts,
                    std::span<const std::unique_ptr<LinearWeight>> weights,
                    const Matrix& out) override {
    const std::int64_t per_token = CheckExperts(in, experts, weights, out);
    for (std::int64_t row = 0; row < out.rows; ++row) {
      const auto expert = static_cast<std::size_t>(experts[static_cast<std::size_t>(row)]);
      const std::int64_t from = in.rows == out.rows ? row : row / per_token;
      Linear(in.Rows(from, 1), *weights[expert], out.Rows(row, 1));
    }
  }

  void ScaleColumns(const Matrix& x, std::span<const float> factors) override {
    const std::int64_t run = RowsOfRun(x, factors);
    for (std::int64_t t = 0; t < x.rows; ++t) {
      for (std::int64_t f = 0; f < x.cols; ++f) {
        x.f32(t)[f] *= factors[static_cast<std::size_t>(t / run * x.cols + f)];
      }
    }
  }

  void Convolve(const Matrix& in, const ConvolutionShape& shape, const LinearWeight& weight,
                const Matrix& out) override {
    CheckConvolution(in, shape, weight, out);
    const Volume to = shape.out();
    std::vector<float> seen(static_cast<std::size_t>(weight.in_features()));
    const Matrix row{seen.data(), DType::kF32, 1, weight.in_features(), weight.in_features()};
    std::int64_t pixel = 0;
    for (std::int32_t frame = 0; frame < to.frames; ++frame) {
      for (std::int32_t y = 0; y < to.height; ++y) {
        for (std::int32_t x = 0; x < to.width; ++x, ++pixel) {
          GatherSeen(in, shape, {frame, y, x}, seen);
          Linear(row, weight, out.Rows(pixel, 1));
        }
      }
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
  struct Pixel {
    std::int32_t frame;
    std::int32_t y;
    std::int32_t x;
  };

  /// What output pixel `at` sees.
  static void GatherSeen(const Matrix& in, const ConvolutionShape& shape, const Pixel& at,
                         std::span<float> seen) {
    std::size_t next = 0;
    for (std::int32_t kf = 0; kf < shape.kernel.frames; ++kf) {
      for (std::int32_t ky = 0; ky < shape.kernel.height; ++ky) {
        for (std::int32_t kx = 0; kx < shape.kernel.width; ++kx) {
          const std::int32_t y = at.y * shape.stride + ky - shape.pad_top;
          const std::int32_t x = at.x * shape.stride + kx - shape.pad_left;
          const bool inside = y >= 0 && y < shape.in.height * shape.upscale && x >= 0 &&
                              x < shape.in.width * shape.upscale;
          const std::int64_t row = (at.frame * shape.stride_frames + kf) * shape.in.frame_pixels() +
                                   std::int64_t{y / shape.upscale} * shape.in.width +
                                   x / shape.upscale;
          for (std::int64_t c = 0; c < in.cols; ++c) {
            seen[next++] = inside ? in.f32(row)[c] : 0.0F;
          }
        }
      }
    }
  }

  /// Ascending k with one fused multiply-add each; shards apart, joined
  /// ((0+1)+(2+3))+((4+5)+(6+7)).
  static float Dot(const float* a, const float* b, const ShardPlan& plan) {
    float sums[8] = {};
    for (std::int32_t shard = 0; shard < plan.count; ++shard) {
      for (std::int64_t k = plan.Begin(shard); k < plan.End(shard); ++k) {
        sums[shard] = std::fma(a[k], b[k], sums[shard]);
      }
    }
    return JoinShards(sums, plan.count);
  }
};

}  // namespace

std::unique_ptr<Operators> MakeReferenceOperators() {
  return std::make_unique<ReferenceOperators>();
}

}  // namespace pixii::kernels
