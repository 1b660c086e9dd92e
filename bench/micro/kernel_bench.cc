// Kernels against the machine's roof: fractions of the memory read bandwidth and of the
// multiply-add peak, each measured beside the work.
//
//   kernel_bench [--isa NAME] [--threads N] [--filter TEXT]
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "kernels/operators.h"
#include "kernels/roof.h"

namespace pixii::kernels {
namespace {

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::vector<float> Ramp(std::int64_t count) {
  std::vector<float> out(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<float>(static_cast<int>(i * 2654435761U % 2001) - 1000) * 1e-3F;
  }
  return out;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

class Bench final {
 public:
  Bench(Operators& operators, Roof& roof, std::string filter)
      : operators_(operators), roof_(roof), filter_(std::move(filter)) {}

  /// Times `work`, which does `amount` bytes or multiply-adds, beside the limit.
  void Report(const std::string& name, double amount, bool memory,
              const std::function<void()>& work) {
    Report(name, amount, memory, ComputeType::kBf16, work);
  }

  void Report(const std::string& name, double amount, bool memory, ComputeType compute,
              const std::function<void()>& work) {
    if (name.find(filter_) == std::string::npos) {
      return;
    }
    work();
    std::vector<double> rates;
    std::vector<double> limits;
    std::vector<double> fractions;
    for (int repeat = 0; repeat < 7; ++repeat) {
      limits.push_back(memory ? roof_.ReadBytesPerSecond(Roof::kReadBufferBytes)
                              : roof_.MultiplyAddsPerSecond(compute));
      std::int64_t rounds = 0;
      const double begin = Seconds();
      double end = begin;
      while (end - begin < 0.05) {
        work();
        ++rounds;
        end = Seconds();
      }
      rates.push_back(amount * static_cast<double>(rounds) / (end - begin));
      fractions.push_back(rates.back() / limits.back());
    }
    fmt::print("{:44} {:9.2f} {} of {:8.2f}: {:.3f}   {:10.2f} us\n", name, Median(rates) * 1e-9,
               memory ? "GB/s " : "GFMA/s", Median(limits) * 1e-9, Median(fractions),
               amount / Median(rates) * 1e6);
  }

  /// Integer codes, `group` columns a scale.
  void Integers(const std::string& name, WeightCode code, std::int64_t group, std::int64_t m,
                std::int64_t n, std::int64_t k, std::int32_t k_shards) {
    if (name.find(filter_) == std::string::npos) {
      return;
    }
    const std::int64_t row_size = code == WeightCode::kUint4 ? k / 2 : k;
    const bool memory = m <= 4;
    const std::int64_t copies =
        m <= 16 ? std::max<std::int64_t>(1, (std::int64_t{200} << 20) / (n * row_size)) : 1;
    std::vector<unsigned char> codes(static_cast<std::size_t>(n * row_size));
    for (std::size_t i = 0; i < codes.size(); ++i) {
      codes[i] = static_cast<unsigned char>(i * 2654435761U >> 13U);
    }
    const std::vector<float> scales(static_cast<std::size_t>(n * ((k + group - 1) / group)), 0.5F);
    WeightPart part;
    part.data = codes.data();
    part.rows = n;
    part.cols = k;
    part.code = code;
    part.scales = scales.data();
    part.scale_rows = 1;
    part.scale_cols = group;
    std::vector<std::unique_ptr<LinearWeight>> weights;
    for (std::int64_t i = 0; i < copies; ++i) {
      weights.push_back(std::move(*operators_.PrepareLinear(
          {&part, 1}, {.compute = ComputeType::kInt8, .k_shards = k_shards})));
    }
    std::vector<float> in = Ramp(m * k);
    std::vector<float> out(static_cast<std::size_t>(m * n));
    const Matrix in_view{
        .data = in.data(), .dtype = DType::kF32, .rows = m, .cols = k, .stride = k};
    const Matrix out_view{
        .data = out.data(), .dtype = DType::kF32, .rows = m, .cols = n, .stride = n};
    std::size_t turn = 0;
    const double bytes = static_cast<double>(n * row_size) +
                         (group < k ? 2.0 * static_cast<double>(n * k / group) : 0);
    Report(name, memory ? bytes : static_cast<double>(n * k * m), memory, ComputeType::kInt8,
           [&] { operators_.Linear(in_view, *weights[turn++ % weights.size()], out_view); });
  }

  void Linear(const std::string& name, std::int64_t m, std::int64_t n, std::int64_t k,
              std::int32_t k_shards) {
    if (name.find(filter_) == std::string::npos) {
      return;
    }
    // Copies of the weight, together larger than the last-level cache, so that a decode step reads
    // memory.
    const std::int64_t copies =
        m <= 16 ? std::max<std::int64_t>(1, (std::int64_t{300} << 20) / (n * k * 2)) : 1;
    std::vector<std::unique_ptr<LinearWeight>> weights;
    std::vector<float> values = Ramp(n * k);
    const WeightPart part{
        .data = values.data(), .dtype = DType::kF32, .rows = n, .cols = k, .bias = nullptr};
    for (std::int64_t i = 0; i < copies; ++i) {
      weights.push_back(std::move(*operators_.PrepareLinear(
          {&part, 1}, {.compute = ComputeType::kBf16, .k_shards = k_shards})));
    }
    std::vector<float> in = Ramp(m * k);
    std::vector<float> out(static_cast<std::size_t>(m * n));
    const Matrix in_view{
        .data = in.data(), .dtype = DType::kF32, .rows = m, .cols = k, .stride = k};
    const Matrix out_view{
        .data = out.data(), .dtype = DType::kF32, .rows = m, .cols = n, .stride = n};
    std::size_t turn = 0;
    const bool memory = m <= 4;
    Report(name, static_cast<double>(n * k) * (memory ? 2.0 : static_cast<double>(m)), memory,
           [&] { operators_.Linear(in_view, *weights[turn++ % weights.size()], out_view); });
  }

  void Attention(const std::string& name, std::int32_t heads, std::int32_t kv_heads,
                 std::int32_t dim, std::int32_t tokens, std::int32_t context,
                 std::int32_t sequences, KvDType dtype = KvDType::kBf16) {
    if (name.find(filter_) == std::string::npos) {
      return;
    }
    const KvLayout layout{.layer_count = 1,
                          .kv_head_count = kv_heads,
                          .key_dim = dim,
                          .value_dim = dim,
                          .block_tokens = 64,
                          .dtype = dtype};
    const std::int32_t blocks = (context + 63) / 64;
    KvCache cache{.layout = layout,
                  .buffer = std::move(*operators_.Allocate(
                      static_cast<std::size_t>(blocks * sequences) * layout.block_size_bytes())),
                  .block_count = blocks * sequences};
    StepBatch batch;
    for (std::int32_t s = 0; s < sequences; ++s) {
      std::vector<float> kv = Ramp(std::int64_t{context} * kv_heads * dim);
      std::vector<std::int32_t> slots;
      for (std::int32_t i = 0; i < context; ++i) {
        slots.push_back(s * blocks * 64 + i);
      }
      const Matrix view{.data = kv.data(),
                        .dtype = DType::kF32,
                        .rows = context,
                        .cols = std::int64_t{kv_heads} * dim,
                        .stride = std::int64_t{kv_heads} * dim};
      operators_.StoreKv(view, view, slots, 0, cache);
      batch.sequences.push_back({s * tokens, tokens, context, s * blocks, blocks});
      for (std::int32_t b = 0; b < blocks; ++b) {
        batch.block_table.push_back(s * blocks + b);
      }
    }
    std::vector<float> q = Ramp(std::int64_t{sequences} * tokens * heads * dim);
    std::vector<float> out(q.size());
    const std::int64_t cols = std::int64_t{heads} * dim;
    const Matrix q_view{.data = q.data(),
                        .dtype = DType::kF32,
                        .rows = std::int64_t{sequences} * tokens,
                        .cols = cols,
                        .stride = cols};
    Matrix out_view = q_view;
    out_view.data = out.data();
    const double pairs = static_cast<double>(tokens) * (context - tokens) + 0.5 * tokens * tokens;
    const bool memory = tokens == 1;
    const double amount = memory
                              ? static_cast<double>(layout.token_size_bytes()) * sequences * context
                              : 2.0 * sequences * pairs * heads * dim;
    Report(name, amount, memory, [&] {
      operators_.PagedAttention(q_view, batch, 0, cache,
                                {.head_count = heads,
                                 .kv_head_count = kv_heads,
                                 .key_dim = dim,
                                 .value_dim = dim,
                                 .scale = 0.125F},
                                out_view);
    });
  }

  /// What a call costs when there is almost nothing to do: tiny-chat's shapes at one token.
  void Small() {
    std::vector<float> a = Ramp(2048);
    std::vector<float> b = Ramp(2048);
    const std::vector<float> weight(256, 1.0F);
    const Matrix row{.data = a.data(), .dtype = DType::kF32, .rows = 1, .cols = 256, .stride = 256};
    const Matrix other{
        .data = b.data(), .dtype = DType::kF32, .rows = 1, .cols = 256, .stride = 256};
    Report("tiny rms_norm 256", 1024, true,
           [&] { operators_.RmsNorm(row, weight, 0, 1e-6F, other); });
    Matrix gate_up = row;
    gate_up.cols = gate_up.stride = 1536;
    Matrix half = other;
    half.cols = half.stride = 768;
    Report("tiny silu 768", 6144, true,
           [&] { operators_.ActivationMul(gate_up, Activation::kSilu, half); });
  }

 private:
  Operators& operators_;
  Roof& roof_;
  std::string filter_;
};

int Main(int argc, char** argv) {
  CpuOptions options;
  std::string filter;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view flag = argv[i];
    if (flag == "--threads") {
      options.thread_count = std::atoi(argv[i + 1]);
    } else if (flag == "--filter") {
      filter = argv[i + 1];
    } else if (flag == "--isa") {
      for (const CpuIsa isa : AvailableIsas()) {
        if (IsaName(isa) == argv[i + 1]) {
          options.isa = isa;
        }
      }
    }
  }
  auto operators = MakeCpuOperators(options);
  auto roof = MakeRoof(options);
  if (!operators || !roof) {
    fmt::print(stderr, "{}\n", (!operators ? operators.error() : roof.error()).ToString());
    return 1;
  }
  fmt::print("{} {}\n", (*operators)->name(), DescribeHost().cpu_model);
  Bench bench(**operators, **roof, filter);
  // A 0.5B shape: hidden 896, 14 heads of 64 with 2 KV heads, FFN 4864, vocabulary 151936.
  bench.Linear("decode qkv 1x1152x896", 1, 1152, 896, 1);
  bench.Linear("decode o 1x896x896 shards 8", 1, 896, 896, 8);
  bench.Linear("decode gate_up 1x9728x896", 1, 9728, 896, 1);
  bench.Linear("decode down 1x896x4864 shards 8", 1, 896, 4864, 8);
  bench.Linear("decode logits 1x151936x896", 1, 151936, 896, 1);
  bench.Linear("decode gate_up 4x9728x896", 4, 9728, 896, 1);
  bench.Linear("batch gate_up 8x9728x896", 8, 9728, 896, 1);
  bench.Linear("batch gate_up 16x9728x896", 16, 9728, 896, 1);
  bench.Linear("prefill qkv 2048x1152x896", 2048, 1152, 896, 1);
  bench.Linear("prefill o 512x896x896 shards 8", 512, 896, 896, 8);
  bench.Linear("prefill qkv 512x1152x896", 512, 1152, 896, 1);
  bench.Linear("prefill gate_up 512x9728x896", 512, 9728, 896, 1);
  bench.Linear("prefill down 512x896x4864 shards 8", 512, 896, 4864, 8);
  for (const std::int64_t m : {1, 4, 16, 512}) {
    bench.Integers(fmt::format("int8 gate_up {}x9728x896", m), WeightCode::kInt8, 896, m, 9728, 896,
                   1);
    bench.Integers(fmt::format("int8 down {}x896x4864 shards 8", m), WeightCode::kInt8, 4864, m,
                   896, 4864, 8);
    bench.Integers(fmt::format("int4 gate_up {}x9728x896", m), WeightCode::kUint4, 128, m, 9728,
                   896, 1);
    bench.Integers(fmt::format("q8_0 gate_up {}x9728x896", m), WeightCode::kInt8, 32, m, 9728, 896,
                   1);
    bench.Integers(fmt::format("q4_0 gate_up {}x9728x896", m), WeightCode::kUint4, 32, m, 9728, 896,
                   1);
  }
  bench.Linear("tiny qkv 1x512x256", 1, 512, 256, 1);
  bench.Attention("decode attention 14/2x64 context 8192 batch 8", 14, 2, 64, 1, 8192, 8);
  bench.Attention("decode attention 8/8x128 context 8192 batch 4", 8, 8, 128, 1, 8192, 4);
  bench.Attention("decode attention 32/8x64 context 2048", 32, 8, 64, 1, 2048, 1);
  bench.Attention("decode attention 32/8x64 context 2048 batch 16", 32, 8, 64, 1, 2048, 16);
  for (const KvDType dtype : {KvDType::kF16, KvDType::kFp8E4m3, KvDType::kInt8}) {
    bench.Attention(
        fmt::format("decode attention 14/2x64 context 8192 batch 8 {}", KvDTypeName(dtype)), 14, 2,
        64, 1, 8192, 8, dtype);
  }
  bench.Attention("decode attention 14/2x64 context 16384", 14, 2, 64, 1, 16384, 1);
  bench.Attention("prefill attention 14/2x64 2048 of 2048", 14, 2, 64, 2048, 2048, 1);
  bench.Attention("prefill attention 8/8x128 512 of 4096", 8, 8, 128, 512, 4096, 1);
  bench.Attention("tiny attention 4/2x64 1 of 100", 4, 2, 64, 1, 100, 1);
  bench.Small();
  return 0;
}

}  // namespace
}  // namespace pixii::kernels

int main(int argc, char** argv) { return pixii::kernels::Main(argc, argv); }
