#include "bench/engine_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <numeric>
#include <utility>

#include "base/checked.h"
#include "kernels/roof.h"
#include "model/language_model.h"
#include "model/shapes.h"

namespace pixii::bench {

namespace {

constexpr std::int32_t kBlockTokens = 16;
constexpr std::int32_t kContextMax =
    2304;  // tokens of the longest sequence of any case, with room for its decode steps
constexpr std::int32_t kLinearRounds = 4;    // of a layer's linears measured at a time
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

/// The limits of this host, measured beside the work.
struct Limits {
  double read = 0;       // bytes per second
  double linear = 0;     // multiply-adds per second of linears
  double attention = 0;  // the same of attention: fp32

  /// The better of two measurements of each.
  void Take(const Limits& other) {
    read = std::max(read, other.read);
    linear = std::max(linear, other.linear);
    attention = std::max(attention, other.attention);
  }
};

// What a step must at least do.
struct Work {
  double linear = 0;     // multiply-adds
  double attention = 0;  // multiply-adds
  double bytes = 0;

  double ComputeSeconds(const Limits& limits) const {
    return linear / limits.linear + attention / limits.attention;
  }

  double ReadSeconds(const Limits& limits) const { return bytes / limits.read; }
};

/// One of a layer's linears.
struct LinearShape {
  std::vector<std::int64_t> rows;  // of each part
  std::int64_t cols = 0;
  std::int32_t k_shards = 1;
};

/// Of a layer without experts.
std::vector<LinearShape> LayerLinears(const model::DecoderSpec& spec) {
  return {{.rows = {spec.q_size(), spec.kv_size(), spec.kv_size()}, .cols = spec.hidden_size},
          {.rows = {spec.hidden_size}, .cols = spec.q_size(), .k_shards = 8},
          {.rows = {spec.intermediate_size, spec.intermediate_size}, .cols = spec.hidden_size},
          {.rows = {spec.hidden_size}, .cols = spec.intermediate_size, .k_shards = 8}};
}

class ModelWork final {
 public:
  ModelWork(const model::DecoderSpec& spec, const EngineBenchOptions& options,
            std::size_t kv_token_bytes)
      : spec_(spec), options_(options), kv_token_bytes_(kv_token_bytes) {}

  /// One step of a case: every weight is read once, and each sequence's context.
  Work OfStep(const Case& c) const {
    double rows = static_cast<double>(c.sequences) * c.new_tokens;
    double layers = static_cast<double>(spec_.layers.size());
    double head = static_cast<double>(spec_.vocab_size) * spec_.hidden_size;
    // A query at position p meets p + 1 keys: q.k and p.v take head_dim multiply-adds each.
    double first = c.context_tokens + 1;
    double last = c.context_tokens + c.new_tokens;
    double met = static_cast<double>(c.sequences) * c.new_tokens * (first + last) / 2;
    Work layer = OfLayer(rows);
    Work work;
    work.linear = layers * layer.linear + c.sequences * head;
    work.attention = 2.0 * met * layers * spec_.head_count * spec_.head_dim;
    work.bytes = layers * layer.bytes + head * ParameterBytes(spec_.hidden_size) +
                 c.sequences * last * static_cast<double>(kv_token_bytes_);
    return work;
  }

  /// The linears of one layer.
  Work OfLayer(double rows) const {
    Work work;
    for (const LinearShape& linear : LayerLinears(spec_)) {
      double parameters = static_cast<double>(linear.cols) *
                          static_cast<double>(std::reduce(linear.rows.begin(), linear.rows.end()));
      work.linear += rows * parameters;
      work.bytes += parameters * ParameterBytes(linear.cols);
    }
    return work;
  }

 private:
  double ParameterBytes(std::int64_t cols) const {
    return options_.compute == kernels::ComputeType::kF32
               ? 4.0
               : model::RandomParameterBytes(options_.form, cols);
  }

  const model::DecoderSpec& spec_;
  const EngineBenchOptions& options_;
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
    PX_TRY(runner->model_, model::LanguageModel::Random(options.shape, *runner->operators_, load,
                                                        {.form = options.form}));
    PX_TRY(const model::DecoderSpec spec, model::FindShape(options.shape));
    PX_CHECK_OK(runner->PrepareLayer(spec, options));
    kernels::KvDType kv = options.compute == kernels::ComputeType::kF32 ? kernels::KvDType::kF32
                                                                        : kernels::KvDType::kBf16;
    runner->cache_.layout = runner->model_->MakeKvLayout(kBlockTokens, kv);
    runner->cache_.block_count = 2 * kContextMax / kBlockTokens;
    PX_TRY(runner->cache_.buffer,
           runner->operators_->Allocate(static_cast<std::size_t>(runner->cache_.block_count) *
                                        runner->cache_.layout.block_size_bytes()));
    runner->logits_.resize(64 * static_cast<std::size_t>(runner->model_->spec().vocab_size));
    return runner;
  }

  std::size_t kv_token_bytes() const { return cache_.layout.token_size_bytes(); }

  /// Seconds that a layer's linears take for kPrefillChunk rows, the mean of some rounds.
  double MeasureLinears() {
    MultiplyLayer();                                // warm
    auto begin = std::chrono::steady_clock::now();  // tidy: clock this is the measurement
    for (std::int32_t round = 0; round < kLinearRounds; ++round) {
      MultiplyLayer();
    }
    std::chrono::duration<double> took =
        std::chrono::steady_clock::now() - begin;  // tidy: clock this is the measurement
    return took.count() / kLinearRounds;
  }

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

  /// The linears of one layer, by themselves.
  Result<void> PrepareLayer(const model::DecoderSpec& spec, const EngineBenchOptions& options) {
    const std::unique_ptr<model::Weights> weights = model::MakeRandomWeights(2, options.form);
    for (const LinearShape& shape : LayerLinears(spec)) {
      std::vector<kernels::WeightPart> parts;
      for (const std::int64_t rows : shape.rows) {
        PX_TRY(parts.emplace_back(), weights->Part("gemm", rows, shape.cols));
      }
      PX_TRY(linears_.emplace_back(),
             operators_->PrepareLinear(parts,
                                       {.compute = options.compute, .k_shards = shape.k_shards}));
      weights->Release();
      const kernels::LinearWeight& linear = *linears_.back();
      linear_in_.resize(std::max(linear_in_.size(),
                                 static_cast<std::size_t>(kPrefillChunk * linear.in_features())));
      linear_out_.resize(std::max(linear_out_.size(),
                                  static_cast<std::size_t>(kPrefillChunk * linear.out_features())));
    }
    for (std::size_t i = 0; i < linear_in_.size(); ++i) {
      linear_in_[i] = static_cast<float>(static_cast<int>(i * 2654435761U % 2001) - 1000) * 1e-3F;
    }
    return {};
  }

  void MultiplyLayer() {
    for (const auto& linear : linears_) {
      const kernels::Matrix in{.data = linear_in_.data(),
                               .dtype = kernels::DType::kF32,
                               .rows = kPrefillChunk,
                               .cols = linear->in_features(),
                               .stride = linear->in_features()};
      const kernels::Matrix out{.data = linear_out_.data(),
                                .dtype = kernels::DType::kF32,
                                .rows = kPrefillChunk,
                                .cols = linear->out_features(),
                                .stride = linear->out_features()};
      operators_->Linear(in, *linear, out);
    }
  }

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
  std::vector<std::unique_ptr<kernels::LinearWeight>> linears_;
  std::vector<float> linear_in_;
  std::vector<float> linear_out_;
};

Limits MeasureLimits(kernels::Roof& roof, kernels::ComputeType compute) {
  return {.read = roof.ReadBytesPerSecond(),
          .linear = roof.MultiplyAddsPerSecond(compute),
          .attention = roof.MultiplyAddsPerSecond(kernels::ComputeType::kF32)};
}

/// The rates of one case and what they could have been, round by round.
struct Series {
  std::vector<double> rates;
  std::vector<double> fractions;
  bool compute_bound = false;

  Figure Summary(const char* name, const char* unit) const {
    Figure figure = MakeFigure(name, unit, rates);
    // The median of the paired ratios, so that a host that changes speed between rounds does not
    // change it.
    figure.limit = figure.value / Quantile(fractions, 0.5);
    figure.limit_name = compute_bound ? "multiply-add peak" : "memory read bandwidth";
    return figure;
  }

  /// `amount` was done in `seconds` instead of the least that `work` takes.
  void Add(double amount, double seconds, const Work& work, const Limits& limits) {
    const double compute = work.ComputeSeconds(limits);
    const double read = work.ReadSeconds(limits);
    rates.push_back(amount / seconds);
    fractions.push_back(std::max(compute, read) / seconds);
    compute_bound = compute > read;
  }
};

}  // namespace

Result<std::vector<Figure>> BenchEngine(const EngineBenchOptions& options) {
  PX_TRY(model::DecoderSpec spec, model::FindShape(options.shape));
  PX_TRY(std::unique_ptr<Runner> runner, Runner::Create(options));
  PX_TRY(std::unique_ptr<kernels::Roof> roof, kernels::MakeRoof(options.cpu));
  ModelWork work(spec, options, runner->kv_token_bytes());
  std::vector<Limits> all_limits;
  std::map<std::string, Series> series;
  // Limits right before and after each piece of work: the host's bandwidth changes within seconds.
  const auto beside = [&](auto&& measure) -> Result<std::pair<double, Limits>> {
    Limits limits = MeasureLimits(*roof, options.compute);
    PX_TRY(const double seconds, measure());
    limits.Take(MeasureLimits(*roof, options.compute));
    all_limits.push_back(limits);
    return std::pair(seconds, limits);
  };
  for (std::uint32_t repeat = 0; repeat < options.repeats; ++repeat) {
    PX_TRY(const auto gemm, beside([&]() -> Result<double> { return runner->MeasureLinears(); }));
    const Work layer = work.OfLayer(kPrefillChunk);
    series["gemm"].Add(layer.linear / 1e9, gemm.first, layer, gemm.second);
    for (const Case& c : kCases) {
      PX_TRY(const auto step, beside([&] { return runner->Measure(c); }));
      const double tokens = static_cast<double>(c.sequences) * c.new_tokens;
      series[c.name].Add(tokens, step.first, work.OfStep(c), step.second);
    }
  }
  std::vector<Figure> figures = {series["gemm"].Summary("gemm", "G/s")};
  for (const Case& c : kCases) {
    figures.push_back(series[c.name].Summary(c.name, "tokens/s"));
  }
  std::vector<double> bandwidth;
  std::vector<double> peak;
  for (const Limits& limits : all_limits) {
    bandwidth.push_back(limits.read);
    peak.push_back(limits.linear);
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
