#include "bench/engine_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <map>

#include "base/checked.h"
#include "kernels/roof.h"
#include "model/language_model.h"
#include "model/shapes.h"

namespace pixii::bench {

namespace {

constexpr std::int32_t kBlockTokens = 16;
constexpr std::int32_t kContextMax =
    2304;  // tokens of the longest sequence of any case, with room for its decode steps
constexpr std::int32_t kPrefillChunk = 512;  // tokens of one step, as the server's default

struct Case {
  const char* name;
  std::int32_t sequences;
  std::int32_t context_tokens;  // in the cache before what is measured
  std::int32_t new_tokens;      // of each sequence in a step; 1 is decode
  std::int32_t steps;           // measured at a time
};

constexpr Case kCases[] = {
    {"prefill_512", 1, 0, 512, 1}, {"prefill_2048", 1, 0, 2048, 1},
    {"decode_b1", 1, 16, 1, 24},   {"decode_b1_ctx2048", 1, 2048, 1, 24},
    {"decode_b4", 4, 16, 1, 12},   {"decode_b16", 16, 16, 1, 6},
};

// What a step must at least do.
struct Work {
  double multiply_adds = 0;
  double bytes = 0;
};

class ModelWork final {
 public:
  ModelWork(const model::DecoderSpec& spec, kernels::ComputeType compute,
            std::size_t kv_token_bytes)
      : spec_(spec),
        weight_bytes_(compute == kernels::ComputeType::kBf16 ? 2 : 4),
        kv_token_bytes_(kv_token_bytes) {}

  /// One step of a case: every weight is read once, and each sequence's context.
  Work OfStep(const Case& c) const {
    double rows = static_cast<double>(c.sequences) * c.new_tokens;
    double layers = static_cast<double>(spec_.layers.size());
    double linear = layers * LinearParameters();
    double head = static_cast<double>(spec_.vocab_size) * spec_.hidden_size;
    // A query at position p meets p + 1 keys: q.k and p.v take head_dim multiply-adds each.
    double first = c.context_tokens + 1;
    double last = c.context_tokens + c.new_tokens;
    double met = static_cast<double>(c.sequences) * c.new_tokens * (first + last) / 2;
    Work work;
    work.multiply_adds =
        rows * linear + c.sequences * head + 2.0 * met * layers * spec_.head_count * spec_.head_dim;
    work.bytes =
        weight_bytes_ * (linear + head) + c.sequences * last * static_cast<double>(kv_token_bytes_);
    return work;
  }

 private:
  double LinearParameters() const {
    double hidden = spec_.hidden_size;
    return hidden * (spec_.q_size() + 2.0 * spec_.kv_size()) +
           static_cast<double>(spec_.q_size()) * hidden + 3.0 * hidden * spec_.intermediate_size;
  }

  const model::DecoderSpec& spec_;
  double weight_bytes_;
  std::size_t kv_token_bytes_;
};

class Runner final {
 public:
  static Result<std::unique_ptr<Runner>> Create(const EngineBenchOptions& options) {
    auto runner = std::unique_ptr<Runner>(new Runner);  // tidy: new the constructor is private
    PX_TRY(runner->operators_, kernels::MakeCpuOperators(options.cpu));
    model::LoadOptions load;
    load.compute = options.compute;
    load.context_tokens_max = kContextMax;
    load.step_tokens_max = kPrefillChunk;
    load.step_logit_rows_max = 64;
    PX_TRY(runner->model_, model::LanguageModel::Random(options.shape, *runner->operators_, load));
    kernels::KvDType kv = options.compute == kernels::ComputeType::kBf16 ? kernels::KvDType::kBf16
                                                                         : kernels::KvDType::kF32;
    runner->cache_.layout = runner->model_->MakeKvLayout(kBlockTokens, kv);
    runner->cache_.block_count = 2 * kContextMax / kBlockTokens;
    PX_TRY(runner->cache_.buffer,
           runner->operators_->Allocate(static_cast<std::size_t>(runner->cache_.block_count) *
                                        runner->cache_.layout.block_size_bytes()));
    runner->logits_.resize(64 * static_cast<std::size_t>(runner->model_->spec().vocab_size));
    return runner;
  }

  std::size_t kv_token_bytes() const { return cache_.layout.token_size_bytes(); }

  /// Seconds of one step of the case, the mean of its steps. Contexts hold zeros: their length
  /// costs, not their values.
  Result<double> Measure(const Case& c) {
    PX_CHECK_OK(RunStep(c, c.context_tokens));      // warm: weights' pages and caches
    auto begin = std::chrono::steady_clock::now();  // tidy: clock this is the measurement
    for (std::int32_t step = 0; step < c.steps; ++step) {
      PX_CHECK_OK(RunStep(c, c.context_tokens + step));
    }
    std::chrono::duration<double> took =
        std::chrono::steady_clock::now() - begin;  // tidy: clock this is the measurement
    return took.count() / c.steps;
  }

 private:
  Runner() = default;

  // A prompt longer than a chunk takes several steps, as in the engine.
  Result<void> RunStep(const Case& c, std::int32_t context_tokens) {
    for (std::int32_t done = 0; done < c.new_tokens; done += kPrefillChunk) {
      std::int32_t count = std::min(kPrefillChunk, c.new_tokens - done);
      PX_CHECK_OK(RunChunk(c, context_tokens + done, count, done + count == c.new_tokens));
    }
    return {};
  }

  Result<void> RunChunk(const Case& c, std::int32_t context_tokens, std::int32_t count, bool last) {
    kernels::StepBatch batch;
    std::int32_t blocks_each = CeilDiv(context_tokens + count, kBlockTokens);
    for (std::int32_t s = 0; s < c.sequences; ++s) {
      kernels::StepSequence sequence;
      sequence.token_begin = static_cast<std::int32_t>(batch.token_ids.size());
      sequence.token_count = count;
      sequence.context_tokens = context_tokens + count;
      sequence.block_begin = static_cast<std::int32_t>(batch.block_table.size());
      sequence.block_count = blocks_each;
      for (std::int32_t b = 0; b < blocks_each; ++b) {
        batch.block_table.push_back(s * blocks_each + b);
      }
      for (std::int32_t t = 0; t < count; ++t) {
        std::int32_t position = context_tokens + t;
        batch.token_ids.push_back((s * 7919 + position * 31) % model_->spec().vocab_size);
        batch.positions.push_back(position);
        batch.slots.push_back((s * blocks_each + position / kBlockTokens) * kBlockTokens +
                              position % kBlockTokens);
      }
      if (last) {
        batch.logit_rows.push_back(static_cast<std::int32_t>(batch.token_ids.size()) - 1);
      }
      batch.sequences.push_back(sequence);
    }
    auto size = batch.logit_rows.size() * static_cast<std::size_t>(model_->spec().vocab_size);
    return model_->Forward(batch, cache_, std::span(logits_).first(size));
  }

  std::unique_ptr<kernels::Operators> operators_;
  std::unique_ptr<model::LanguageModel> model_;
  kernels::KvCache cache_;
  std::vector<float> logits_;
};

}  // namespace

Result<std::vector<Figure>> BenchEngine(const EngineBenchOptions& options) {
  PX_TRY(model::DecoderSpec spec, model::FindShape(options.shape));
  PX_TRY(std::unique_ptr<Runner> runner, Runner::Create(options));
  PX_TRY(std::unique_ptr<kernels::Roof> roof, kernels::MakeRoof(options.cpu));
  ModelWork work(spec, options.compute, runner->kv_token_bytes());
  std::vector<double> bandwidth;
  std::vector<double> peak;
  std::map<std::string, std::vector<double>> rates;
  std::map<std::string, std::vector<double>> limits;
  std::map<std::string, bool> compute_bound;
  for (std::uint32_t repeat = 0; repeat < options.repeats; ++repeat) {
    for (const Case& c : kCases) {
      // Both limits right beside the work: the host's bandwidth changes within seconds.
      double read = roof->ReadBytesPerSecond();
      double multiply_adds = roof->MultiplyAddsPerSecond(options.compute);
      PX_TRY(double seconds, runner->Measure(c));
      read = std::max(read, roof->ReadBytesPerSecond());
      multiply_adds = std::max(multiply_adds, roof->MultiplyAddsPerSecond(options.compute));
      bandwidth.push_back(read);
      peak.push_back(multiply_adds);
      Work least = work.OfStep(c);
      double bound_compute = least.multiply_adds / multiply_adds;
      double bound_memory = least.bytes / read;
      double tokens = static_cast<double>(c.sequences) * c.new_tokens;
      rates[c.name].push_back(tokens / seconds);
      limits[c.name].push_back(tokens / std::max(bound_compute, bound_memory));
      compute_bound[c.name] = bound_compute > bound_memory;
    }
  }
  std::vector<Figure> figures;
  for (const Case& c : kCases) {
    std::vector<double> fractions;
    for (std::size_t i = 0; i < rates[c.name].size(); ++i) {
      fractions.push_back(rates[c.name][i] / limits[c.name][i]);
    }
    Figure figure = MakeFigure(c.name, "tokens/s", rates[c.name]);
    // The median of the paired ratios, so that a host that changes speed between rounds does not
    // change it.
    figure.limit = figure.value / Quantile(fractions, 0.5);
    figure.limit_name = compute_bound[c.name] ? "multiply-add peak" : "memory read bandwidth";
    figures.push_back(std::move(figure));
  }
  auto scaled = [](std::vector<double> values) {
    std::ranges::transform(values, values.begin(), [](double v) { return v / 1e9; });
    return values;
  };
  figures.push_back(MakeFigure("memory_read", "GB/s", scaled(bandwidth)));
  figures.push_back(MakeFigure("multiply_add", "G/s", scaled(peak)));
  return figures;
}

}  // namespace pixii::bench
