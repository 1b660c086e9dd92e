#include "bench/adapter_bench.h"

#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "base/checked.h"
#include "model/language_model.h"
#include "model/lora_adapter.h"
#include "rt/random.h"

namespace pixii::bench {

namespace {

constexpr std::int32_t kBlockTokens = 16;
constexpr std::int32_t kContextTokens = 16;  // in the cache before the first step
constexpr std::int32_t kPairs = 4;           // steps of each kind measured at a time

/// An adapter's two files with random weights.
struct AdapterFiles {
  std::string config;
  std::string weights;
};

AdapterFiles RandomFiles(std::span<const model::AdaptableLinear> linears, std::uint32_t rank) {
  rt::Random random(1);
  std::string header = "{";
  std::string data;
  auto add = [&](const std::string& name, std::int64_t rows, std::int64_t cols) {
    const auto size = static_cast<std::size_t>(rows * cols) * 2;
    fmt::format_to(std::back_inserter(header),
                   R"({}"{}":{{"dtype":"BF16","shape":[{},{}],"data_offsets":[{},{}]}})",
                   header.size() > 1 ? "," : "", name, rows, cols, data.size(), data.size() + size);
    for (std::size_t i = 0; i < size; i += 2) {
      // bf16 of about 0.01, either sign.
      const std::uint64_t bits = random.Next();
      data += static_cast<char>(bits & 0xFF);
      data += static_cast<char>((bits >> 8 & 0x80) | 0x3C);
    }
  };
  for (const model::AdaptableLinear& linear : linears) {
    if (linear.name != "lm_head") {
      add(linear.name + ".lora_A.weight", rank, linear.in_features);
      add(linear.name + ".lora_B.weight", linear.out_features, rank);
    }
  }
  header += '}';
  header.resize((header.size() + 7) / 8 * 8, ' ');
  std::string size(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) {
    size[i] = static_cast<char>(header.size() >> (8 * i));
  }
  return {.config = fmt::format(R"({{"peft_type":"LORA","r":{},"lora_alpha":{}}})", rank, rank),
          .weights = size + header + data};
}

struct Times {
  double without = 0;
  double with = 0;
};

class Runner final {
 public:
  static Result<std::unique_ptr<Runner>> Create(const AdapterBenchOptions& options) {
    auto runner = std::unique_ptr<Runner>(new Runner);  // tidy: new the constructor is private
    const auto count = static_cast<std::int32_t>(options.adapter_count);
    runner->count_ = count;
    PX_TRY(runner->operators_, kernels::MakeCpuOperators(options.engine.cpu));
    model::LoadOptions load;
    load.compute = options.engine.compute;
    load.context_tokens_max = 2 * kBlockTokens;
    load.step_tokens_max = count;
    load.step_logit_rows_max = count;
    load.adapter_slots = count;
    PX_TRY(runner->model_, model::LanguageModel::Random(options.engine.shape, *runner->operators_,
                                                        load, {.form = options.engine.form}));
    PX_CHECK_OK(runner->LoadAdapters(options.rank));
    kernels::KvDType kv = options.engine.compute == kernels::ComputeType::kF32
                              ? kernels::KvDType::kF32
                              : kernels::KvDType::kBf16;
    kernels::KvCache& cache = runner->cache_;
    cache.layout = runner->model_->MakeKvLayout(kBlockTokens, kv);
    cache.block_count = 2 * count;
    PX_TRY(cache.buffer, runner->operators_->Allocate(static_cast<std::size_t>(cache.block_count) *
                                                      cache.layout.block_size_bytes()));
    runner->logits_.resize(static_cast<std::size_t>(count) *
                           static_cast<std::size_t>(runner->model_->spec().vocab_size));
    return runner;
  }

  /// Seconds of the steps without and with adapters, in turns: a host that changes its speed
  /// changes both.
  Result<Times> Measure() {
    Times times;
    for (std::int32_t pair = 0; pair < kPairs; ++pair) {
      PX_TRY(const double without, Step(kContextTokens + pair, false));
      PX_TRY(const double with, Step(kContextTokens + pair, true));
      times.without += without;
      times.with += with;
    }
    return times;
  }

  std::uint64_t adapter_bytes() const { return adapter_bytes_; }

 private:
  Runner() = default;

  /// The same numbers in each slot, but bytes of its own: each is read from memory.
  Result<void> LoadAdapters(std::uint32_t rank) {
    const AdapterFiles files = RandomFiles(model_->adaptable_linears(), rank);
    PX_TRY(const model::LoraAdapter adapter,
           model::LoraAdapter::Parse(files.config, files.weights, model_->adaptable_linears(), {}));
    adapter_bytes_ = adapter.size_bytes();
    for (std::int32_t slot = 0; slot < count_; ++slot) {
      PX_CHECK_OK(model_->LoadAdapter(slot, adapter));
    }
    return {};
  }

  /// Seconds that one token for each sequence at `position` takes. Contexts hold zeros: their
  /// length costs, not their values.
  Result<double> Step(std::int32_t position, bool adapted) {
    kernels::StepBatch batch;
    const std::int32_t blocks_each = CeilDiv(position + 1, kBlockTokens);
    for (std::int32_t s = 0; s < count_; ++s) {
      batch.token_ids.push_back((s * 7919 + position * 31) % model_->spec().vocab_size);
      batch.positions.push_back(position);
      batch.slots.push_back((2 * s + position / kBlockTokens) * kBlockTokens +
                            position % kBlockTokens);
      batch.sequences.push_back({.token_begin = s,
                                 .token_count = 1,
                                 .context_tokens = position + 1,
                                 .block_begin = static_cast<std::int32_t>(batch.block_table.size()),
                                 .block_count = blocks_each});
      for (std::int32_t b = 0; b < blocks_each; ++b) {
        batch.block_table.push_back(2 * s + b);
      }
      batch.logit_rows.push_back(s);
      if (adapted) {
        batch.adapter_slots.push_back(s);
      }
    }
    auto begin = std::chrono::steady_clock::now();  // tidy: clock this is the measurement
    PX_CHECK_OK(model_->Forward(batch, cache_, logits_));
    std::chrono::duration<double> took =
        std::chrono::steady_clock::now() - begin;  // tidy: clock this is the measurement
    return took.count();
  }

  std::int32_t count_ = 0;
  std::uint64_t adapter_bytes_ = 0;
  std::unique_ptr<kernels::Operators> operators_;
  std::unique_ptr<model::LanguageModel> model_;
  kernels::KvCache cache_;
  std::vector<float> logits_;
};

}  // namespace

Result<std::vector<Figure>> BenchAdapters(const AdapterBenchOptions& options) {
  PX_TRY(std::unique_ptr<Runner> runner, Runner::Create(options));
  const double tokens = options.adapter_count;
  std::vector<double> base;
  std::vector<double> adapted;
  std::vector<double> cost;
  PX_CHECK_OK(runner->Measure());  // warm: pages of weights and scratch
  for (std::uint32_t repeat = 0; repeat < options.engine.repeats; ++repeat) {
    PX_TRY(const Times times, runner->Measure());
    base.push_back(tokens * kPairs / times.without);
    adapted.push_back(tokens * kPairs / times.with);
    cost.push_back(times.with / times.without);
  }
  const std::string name = fmt::format("decode_b{}", options.adapter_count);
  std::vector<Figure> figures;
  figures.push_back(MakeFigure(name, "tokens/s", base));
  Figure figure = MakeFigure(name + "_adapters", "tokens/s", adapted);
  figure.limit = figures.front().value;
  figure.limit_name = "the step without adapters";
  figures.push_back(std::move(figure));
  figures.push_back(MakeFigure("adapter_step_cost", "base steps", cost));
  figures.push_back(
      MakeFigure("adapter_size", "bytes", {static_cast<double>(runner->adapter_bytes())}));
  return figures;
}

}  // namespace pixii::bench
