// What a logits processor that does nothing costs a step: two engines over one model, one with the
// processor and one without, step in turn; the ratio is of steps that stand side by side.
//
//   logits_processor_bench [MODEL_FOLDER] [--batch N] [--steps N] > result.json
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/model_executor.h"
#include "kernels/operators.h"
#include "model/language_model.h"

namespace pixii::engine {
namespace {

struct Flags {
  std::string folder = "models/tiny-chat";
  std::uint32_t batch = 8;
  std::uint32_t steps = 1000;
};

/// May fail, as far as the engine knows: rows and states are kept for it as for any plug-in.
class Idle final : public LogitsProcessor {
 public:
  std::string_view name() const override { return "idle"; }

  Result<std::unique_ptr<ProcessorCall>> Open(const wire::Json&,
                                              const ProcessorContext&) const override {
    return std::make_unique<ProcessorCall>();
  }

  void Process(std::span<ProcessorRow>) override {}
};

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double Median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

Result<std::unique_ptr<Engine>> MakeEngine(model::LanguageModel& model,
                                           kernels::Operators& operators, const Flags& flags) {
  PX_TRY(auto executor, ModelExecutor::Create(model, operators,
                                              {.block_tokens = 16,
                                               .block_count = flags.batch * (flags.steps / 16 + 4),
                                               .step_tokens_max = 256,
                                               .step_logit_rows_max = 128,
                                               .kv_dtype = kernels::KvDType::kBf16}));
  auto processors = std::make_shared<ProcessorSet>();
  PX_CHECK_OK(processors->Add(std::make_unique<Idle>(), {}));
  return Engine::Create({.batch_sequences_max = flags.batch, .batch_tokens_max = 256},
                        std::move(executor), processors);
}

Result<void> Fill(Engine& engine, const Flags& flags, bool with_processor) {
  for (std::uint32_t i = 0; i < flags.batch; ++i) {
    wire::GenerateRequest request;
    request.id = RequestId{i + 1};
    request.prompt = {static_cast<TokenId>(5 + i), 6, 7};
    request.stop.max_tokens = flags.steps + 20;
    request.stop.ignore_eos = true;
    request.sampling.temperature = 0;
    if (with_processor) {
      request.processors.push_back({"idle", ""});
    }
    PX_CHECK_OK(engine.Submit(std::move(request), rt::Time{}));
  }
  return {};
}

double TimedStep(Engine& engine, std::vector<wire::TokenFrame>& frames) {
  double begin = Seconds();
  engine.Step(rt::Time{}, frames);
  double took = Seconds() - begin;
  frames.clear();
  return took;
}

Result<void> Run(const Flags& flags) {
  PX_TRY(auto operators, kernels::MakeCpuOperators({.thread_count = 1}));
  PX_TRY(auto model, model::LanguageModel::Load(flags.folder, *operators,
                                                {.compute = kernels::ComputeType::kBf16,
                                                 .context_tokens_max = 0,
                                                 .step_tokens_max = 256,
                                                 .step_logit_rows_max = 128}));
  PX_TRY(auto plain, MakeEngine(*model, *operators, flags));
  PX_TRY(auto processed, MakeEngine(*model, *operators, flags));
  PX_CHECK_OK(Fill(*plain, flags, false));
  PX_CHECK_OK(Fill(*processed, flags, true));
  std::vector<wire::TokenFrame> frames;
  for (int warm = 0; warm < 10; ++warm) {
    TimedStep(*plain, frames);
    TimedStep(*processed, frames);
  }
  std::vector<double> without;
  std::vector<double> ratios;
  for (std::uint32_t step = 0; step < flags.steps; ++step) {
    // Whoever goes second finds the weights in the cache: take turns.
    bool first = step % 2 == 0;
    double a = TimedStep(first ? *plain : *processed, frames);
    double b = TimedStep(first ? *processed : *plain, frames);
    without.push_back(first ? a : b);
    ratios.push_back(first ? b / a : a / b);
  }
  std::vector<double> pairs;
  for (std::size_t i = 0; i + 1 < ratios.size(); i += 2) {
    pairs.push_back((ratios[i] + ratios[i + 1]) / 2);
  }
  fmt::print(
      "{{\"name\": \"logits_processor_overhead\", \"model\": \"{}\", \"batch\": {}, \"steps\": {}, "
      "\"isa\": \"{}\", \"step_us\": {:.1f}, \"ratio\": {:.4f}, \"limit\": 1.03}}\n",
      flags.folder, flags.batch, flags.steps, operators->name(), Median(without) * 1e6,
      Median(pairs));
  return {};
}

int Main(const std::vector<std::string>& arguments) {
  Flags flags;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "--batch" && i + 1 < arguments.size()) {
      flags.batch = static_cast<std::uint32_t>(std::atoi(arguments[++i].c_str()));
    } else if (arguments[i] == "--steps" && i + 1 < arguments.size()) {
      flags.steps = static_cast<std::uint32_t>(std::atoi(arguments[++i].c_str()));
    } else {
      flags.folder = arguments[i];
    }
  }
  Result<void> done = Run(flags);
  if (!done) {
    fmt::print(stderr, "{}\n", done.error().ToString());
  }
  return done ? 0 : 2;
}

}  // namespace
}  // namespace pixii::engine

int main(int argc, char** argv) {
  return pixii::engine::Main(std::vector<std::string>(argv + 1, argv + argc));
}
