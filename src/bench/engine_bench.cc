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
constexpr std::int32_t kLinearRounds = 4;       // of a layer's linears measured at a time
constexpr std::int32_t kRowParallelShards = 8;  // of K, as models cut it
constexpr std::int32_t kPrefillChunk = 512;     // tokens of one step, as the server's default

struct Case {
  const char* name;
  std::int32_t sequences;
  std::int32_t context_tokens;  // in the cache before what is measured
  std::int32_t new_tokens;      // of each sequence in a step; 1 is decode
  std::int32_t steps;           // measured at a time
};

constexpr Case kPrefill512 = {"prefill_512", 1, 0, 512, 1};
constexpr Case kPrefill2048 = {"prefill_2048", 1, 0, 2048, 1};
constexpr Case kDecode1 = {"decode_b1", 1, 16, 1, 24};
constexpr Case kDecode1Long = {"decode_b1_ctx2048", 1, 2048, 1, 24};
constexpr Case kDecode4 = {"decode_b4", 4, 16, 1, 12};
constexpr Case kDecode16 = {"decode_b16", 16, 16, 1, 6};

/// Cases of a group are measured in turns, step by step, so that their ratio holds on a host that
/// changes speed within seconds.
const std::vector<Case> kGroups[] = {
    {kPrefill512}, {kPrefill2048}, {kDecode1, kDecode1Long}, {kDecode4}, {kDecode16}};

/// The limits of this host, measured beside the work.
struct Limits {
  double read = 0;    // bytes per second
  double linear = 0;  // multiply-adds per second of linears
  double f32 = 0;     // the same of attention and routers, which multiply in fp32

  /// The better of two measurements of each.
  void Take(const Limits& other) {
    read = std::max(read, other.read);
    linear = std::max(linear, other.linear);
    f32 = std::max(f32, other.f32);
  }
};

// What a step must at least do.
struct Work {
  double linear = 0;  // multiply-adds
  double f32 = 0;     // multiply-adds
  double bytes = 0;

  double ComputeSeconds(const Limits& limits) const {
    return linear / limits.linear + f32 / limits.f32;
  }

  double ReadSeconds(const Limits& limits) const { return bytes / limits.read; }

  Work& operator+=(const Work& other) {
    linear += other.linear;
    f32 += other.f32;
    bytes += other.bytes;
    return *this;
  }
};

/// Some linears that read the same rows.
struct LinearShape {
  std::vector<std::int64_t> rows;  // of each part
  std::int64_t cols = 0;
  std::int32_t k_shards = 1;

  double parameters() const {
    return static_cast<double>(cols) *
           static_cast<double>(std::reduce(rows.begin(), rows.end(), std::int64_t{0}));
  }
};

LinearShape QkvLinear(const model::DecoderSpec& spec) {
  return {.rows = {spec.q_size(), spec.kv_size(), spec.kv_size()}, .cols = spec.hidden_size};
}

LinearShape OutputLinear(const model::DecoderSpec& spec) {
  return {.rows = {spec.hidden_size}, .cols = spec.q_size(), .k_shards = kRowParallelShards};
}

/// Gate and up together, and down, of a feed-forward or one expert of `features`.
std::vector<LinearShape> FeedForwardLinears(const model::DecoderSpec& spec, std::int64_t features) {
  return {{.rows = {features, features}, .cols = spec.hidden_size},
          {.rows = {spec.hidden_size}, .cols = features, .k_shards = kRowParallelShards}};
}

/// What `gemm` multiplies: attention's linears of a layer and its feed-forward, or one expert.
std::vector<LinearShape> LayerLinears(const model::DecoderSpec& spec) {
  std::vector<LinearShape> out =
      FeedForwardLinears(spec, spec.any_experts() ? spec.experts.intermediate_size
                                                  : std::int64_t{spec.intermediate_size});
  out.insert(out.begin(), {QkvLinear(spec), OutputLinear(spec)});
  return out;
}

/// Counts what a step runs, as Decoder::RunLayers runs it.
class ModelWork final {
 public:
  ModelWork(const model::DecoderSpec& spec, const EngineBenchOptions& options,
            std::size_t kv_token_bytes)
      : spec_(spec), options_(options), kv_token_bytes_(kv_token_bytes) {}

  /// One step of a case, the mean of its steps. `expert_linears`: how many linears of experts it
  /// multiplied by, those of one expert in one layer being two, each read once.
  Work OfStep(const Case& c, double expert_linears) const {
    const double grown = (c.steps - 1) / 2.0;  // tokens of context, in the mean
    Work work;
    for (std::int32_t done = 0; done < c.new_tokens; done += kPrefillChunk) {
      const std::int32_t count = std::min(kPrefillChunk, c.new_tokens - done);
      work += OfChunk(c.sequences, c.context_tokens + grown + done, count,
                      done + count == c.new_tokens);
    }
    if (spec_.any_experts()) {
      for (const LinearShape& linear : FeedForwardLinears(spec_, spec_.experts.intermediate_size)) {
        work.bytes += expert_linears / 2 * linear.parameters() * ParameterBytes(linear.cols);
      }
    }
    return work;
  }

  /// The linears of `gemm`.
  Work OfLayer(double rows) const {
    Work work;
    for (const LinearShape& linear : LayerLinears(spec_)) {
      work += OfLinear(linear, rows);
    }
    return work;
  }

 private:
  /// `count` tokens of each sequence; logits are wanted of the last one, or of none.
  Work OfChunk(double sequences, double context, double count, bool logits) const {
    const double rows = sequences * count;
    const double wanted = logits ? sequences : 0;
    // A query at position p meets p + 1 keys: q.k and p.v take head_dim multiply-adds each.
    const double met = rows * (context + 1 + context + count) / 2;
    Work work;
    for (std::size_t i = 0; i < spec_.layers.size(); ++i) {
      work += OfLinear(QkvLinear(spec_), rows);
      work.f32 += 2.0 * met * spec_.head_count * spec_.head_dim;
      // Behind the last attention only the rows go on whose logits are wanted.
      const double going_on = i + 1 == spec_.layers.size() ? wanted : rows;
      work += OfLinear(OutputLinear(spec_), going_on);
      work += OfFeedForward(spec_.layers[i], going_on);
    }
    work += OfLinear({.rows = {spec_.vocab_size}, .cols = spec_.hidden_size}, wanted);
    work.bytes += sequences * (context + count) * static_cast<double>(kv_token_bytes_);
    return work;
  }

  /// All but the bytes of experts, which depend on what the router chooses.
  Work OfFeedForward(const model::LayerSpec& layer, double rows) const {
    Work work;
    if (!layer.experts) {
      for (const LinearShape& linear : FeedForwardLinears(spec_, spec_.intermediate_size)) {
        work += OfLinear(linear, rows);
      }
      return work;
    }
    const model::ExpertsSpec& experts = spec_.experts;
    if (rows > 0) {  // the router, in fp32
      const double parameters = static_cast<double>(experts.count) * spec_.hidden_size;
      work.f32 += rows * parameters;
      work.bytes += parameters * (options_.form == model::RandomForm::kBf16 ? 2.0 : 4.0);
    }
    for (const LinearShape& linear : FeedForwardLinears(spec_, experts.intermediate_size)) {
      work.linear += rows * experts.route.experts_per_token * linear.parameters();
    }
    if (experts.shared_intermediate_size > 0) {
      for (const LinearShape& linear :
           FeedForwardLinears(spec_, experts.shared_intermediate_size)) {
        work += OfLinear(linear, rows);
      }
    }
    return work;
  }

  Work OfLinear(const LinearShape& linear, double rows) const {
    if (rows == 0) {
      return {};
    }
    return {.linear = rows * linear.parameters(),
            .bytes = linear.parameters() * ParameterBytes(linear.cols)};
  }

  double ParameterBytes(std::int64_t cols) const {
    return model::RandomParameterBytes(options_.form, cols);
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
    load.ranks = options.ranks;
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

  /// Seconds that weights of the model's form take from a checkpoint's layout to the packed one,
  /// per 1e9 of them: a layer's, by all workers.
  Result<double> MeasureRepack(const model::DecoderSpec& spec, const EngineBenchOptions& options) {
    const std::unique_ptr<model::Weights> weights = model::MakeRandomWeights(3, options.form);
    double parameters = 0;
    double seconds = 0;
    for (const LinearShape& shape : LayerLinears(spec)) {
      PX_TRY(const std::vector<kernels::WeightPart> parts, MakeParts(shape, *weights));
      auto begin = std::chrono::steady_clock::now();  // tidy: clock this is the measurement
      PX_TRY(const auto linear, Prepare(shape, parts, options));
      std::chrono::duration<double> took =
          std::chrono::steady_clock::now() - begin;  // tidy: clock this is the measurement
      seconds += took.count();
      parameters += shape.parameters();
      weights->Release();
    }
    return seconds / parameters * 1e9;
  }

  /// What a case's steps took and multiplied by, the mean of them.
  struct StepCost {
    double seconds = 0;
    double expert_linears = 0;
  };

  /// The cases in turns, step by step; all take equally many. Contexts hold zeros: their length
  /// costs, not their values.
  Result<std::vector<StepCost>> Measure(std::span<const Case> cases) {
    std::vector<StepCost> costs(cases.size());
    for (const Case& c : cases) {
      PX_CHECK_OK(RunStep(c, c.context_tokens));  // warm: weights' pages and caches
    }
    for (std::int32_t step = 0; step < cases.front().steps; ++step) {
      for (std::size_t i = 0; i < cases.size(); ++i) {
        const std::int64_t experts = operators_->expert_linears_run();
        auto begin = std::chrono::steady_clock::now();  // tidy: clock this is the measurement
        PX_CHECK_OK(RunStep(cases[i], cases[i].context_tokens + step));
        std::chrono::duration<double> took =
            std::chrono::steady_clock::now() - begin;  // tidy: clock this is the measurement
        costs[i].seconds += took.count() / cases[i].steps;
        costs[i].expert_linears +=
            static_cast<double>(operators_->expert_linears_run() - experts) / cases[i].steps;
      }
    }
    return costs;
  }

 private:
  Runner() = default;

  static Result<std::vector<kernels::WeightPart>> MakeParts(const LinearShape& shape,
                                                            model::Weights& weights) {
    std::vector<kernels::WeightPart> parts;
    for (const std::int64_t rows : shape.rows) {
      PX_TRY(parts.emplace_back(), weights.Part("gemm", rows, shape.cols));
    }
    return parts;
  }

  Result<std::unique_ptr<kernels::LinearWeight>> Prepare(const LinearShape& shape,
                                                         std::span<const kernels::WeightPart> parts,
                                                         const EngineBenchOptions& options) {
    return operators_->PrepareLinear(parts,
                                     {.compute = options.compute, .k_shards = shape.k_shards});
  }

  /// The linears of one layer, by themselves.
  Result<void> PrepareLayer(const model::DecoderSpec& spec, const EngineBenchOptions& options) {
    const std::unique_ptr<model::Weights> weights = model::MakeRandomWeights(2, options.form);
    std::int64_t in_features = 0;
    std::int64_t out_features = 0;
    for (const LinearShape& shape : LayerLinears(spec)) {
      PX_TRY(const std::vector<kernels::WeightPart> parts, MakeParts(shape, *weights));
      PX_TRY(linears_.emplace_back(), Prepare(shape, parts, options));
      weights->Release();
      const kernels::LinearWeight& linear = *linears_.back();
      in_features = std::max(in_features, linear.in_features());
      out_features = std::max(out_features, linear.out_features());
    }
    // Memory as steps have it: kernels choose by its alignment.
    const auto in_count = static_cast<std::size_t>(kPrefillChunk * in_features);
    PX_TRY(linear_in_, operators_->Allocate(in_count * sizeof(float)));
    PX_TRY(linear_out_,
           operators_->Allocate(static_cast<std::size_t>(kPrefillChunk * out_features) *
                                sizeof(float)));
    auto* in = static_cast<float*>(linear_in_.data());
    for (std::size_t i = 0; i < in_count; ++i) {
      in[i] = static_cast<float>(static_cast<int>(i * 2654435761U % 2001) - 1000) * 1e-3F;
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
  kernels::Buffer linear_in_;
  kernels::Buffer linear_out_;
};

/// `working_set`: bytes that the work beside reads.
Limits MeasureLimits(kernels::Roof& roof, kernels::ComputeType compute, double working_set) {
  const auto size = static_cast<std::size_t>(working_set);
  return {.read = roof.ReadBytesPerSecond(size),
          .linear = roof.MultiplyAddsPerSecond(compute),
          .f32 = roof.MultiplyAddsPerSecond(kernels::ComputeType::kF32)};
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
  const double weights_bytes = work.OfStep(kDecode1, 0).bytes;
  std::vector<Limits> all_limits;
  std::map<std::string, Series> series;
  std::vector<double> long_of_short;
  std::vector<double> repack;
  // Limits right before and after each piece of work: the host's bandwidth changes within seconds.
  const auto beside = [&](auto&& measure) -> Result<Limits> {
    Limits limits = MeasureLimits(*roof, options.compute, weights_bytes);
    PX_CHECK_OK(measure());
    limits.Take(MeasureLimits(*roof, options.compute, weights_bytes));
    all_limits.push_back(limits);
    return limits;
  };
  for (std::uint32_t repeat = 0; repeat < options.repeats; ++repeat) {
    double seconds = 0;
    PX_TRY(const Limits gemm_limits, beside([&]() -> Result<void> {
             seconds = runner->MeasureLinears();
             return {};
           }));
    const Work layer = work.OfLayer(kPrefillChunk);
    series["gemm"].Add(layer.linear / 1e9, seconds, layer, gemm_limits);
    PX_TRY(repack.emplace_back(), runner->MeasureRepack(spec, options));
    for (const std::vector<Case>& group : kGroups) {
      std::vector<Runner::StepCost> costs;
      PX_TRY(const Limits limits, beside([&]() -> Result<void> {
               PX_TRY(costs, runner->Measure(group));
               return {};
             }));
      for (std::size_t i = 0; i < group.size(); ++i) {
        const Case& c = group[i];
        const double tokens = static_cast<double>(c.sequences) * c.new_tokens;
        series[c.name].Add(tokens, costs[i].seconds, work.OfStep(c, costs[i].expert_linears),
                           limits);
      }
      if (group.size() == 2) {
        long_of_short.push_back(costs[0].seconds / costs[1].seconds);
      }
    }
  }
  std::vector<Figure> figures = {series["gemm"].Summary("gemm", "G/s")};
  for (const std::vector<Case>& group : kGroups) {
    for (const Case& c : group) {
      figures.push_back(series[c.name].Summary(c.name, "tokens/s"));
    }
  }
  figures.push_back(MakeFigure("decode_ctx2048_of_ctx0", "of decode_b1", long_of_short));
  figures.push_back(MakeFigure("repack", "s/1e9", repack));
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
