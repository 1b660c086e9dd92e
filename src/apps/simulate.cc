#include <fmt/format.h>

#include <unistd.h>
#include <atomic>
#include <csignal>
#include <cstdio>

#include "apps/command.h"
#include "apps/model_host.h"
#include "apps/model_source.h"
#include "sim/server_sim.h"

namespace pixii::apps {

namespace {

// One seed in so many runs on the real model where both are asked for: it is slower by far.
constexpr std::uint64_t kModelEvery = 100;

// Read by the handler of SIGABRT: an assertion must name the seed that reached it.
std::atomic<std::uint64_t> running_seed{0};

void NameSeed(int) {
  char text[80];
  int size =
      std::snprintf(text, sizeof(text), "pixii: repeat it with: pixii simulate --seed %llu\n",
                    static_cast<unsigned long long>(running_seed.load()));
  [[maybe_unused]] ssize_t written = write(STDERR_FILENO, text, static_cast<std::size_t>(size));
}

struct Totals {
  std::uint64_t runs = 0;
  std::uint64_t failed = 0;
  std::uint64_t requests = 0;
  std::uint64_t finished = 0;
  std::uint64_t cancelled = 0;
  std::uint64_t refused = 0;
  std::uint64_t tokens = 0;
  std::uint64_t preemptions = 0;
  std::uint64_t prefix_hit_tokens = 0;
  double virtual_seconds = 0;

  void Add(const sim::SimResult& result) {
    ++runs;
    failed += result.violations.empty() ? 0 : 1;
    requests += result.requests;
    finished += result.finished;
    cancelled += result.cancelled;
    refused += result.refused;
    tokens += result.tokens;
    preemptions += result.preemptions;
    prefix_hit_tokens += result.prefix_hit_tokens;
    virtual_seconds += result.virtual_seconds;
  }

  wire::Json ToJson() const {
    wire::Json out(wire::Json::Object{});
    out.Set("runs", runs);
    out.Set("failed", failed);
    out.Set("requests", requests);
    out.Set("finished", finished);
    out.Set("cancelled", cancelled);
    out.Set("refused", refused);
    out.Set("tokens", tokens);
    out.Set("preemptions", preemptions);
    out.Set("prefix_hit_tokens", prefix_hit_tokens);
    out.Set("virtual_seconds", virtual_seconds);
    return out;
  }
};

// The bundled model, loaded when the first seed wants it. Engines take from it what does not
// change.
class ModelEngines final {
 public:
  Result<sim::SimEngine> Make(std::uint64_t seed) {
    if (!lonely_) {
      PX_TRY(ModelSource source, ResolveModel(kBundledModel, true));
      folder_ = source.folder;
      PX_TRY(lonely_host_, ModelHost::Load(folder_, Flags(1, 64)));
      PX_TRY(std::unique_ptr<engine::Engine> lonely, lonely_host_->MakeEngine());
      lonely_ = std::move(lonely);
    }
    // Chunks, batch and memory differ from the lonely engine's: the answer must not.
    PX_TRY(host_, ModelHost::Load(folder_, Flags(static_cast<std::int64_t>(1 + seed % 16),
                                                 8 + static_cast<std::int64_t>(seed % 40))));
    PX_TRY(std::unique_ptr<engine::Engine> engine, host_->MakeEngine());
    return sim::MakeModelEngine(std::move(engine), lonely_, host_->spec().eos_token_ids);
  }

 private:
  static EngineFlags Flags(std::int64_t batch, std::int64_t batched_tokens) {
    EngineFlags flags;
    flags.max_batch = batch;
    flags.max_batched_tokens = std::max(batch, batched_tokens);
    flags.max_context = 256;
    flags.kv_memory = std::int64_t{4} << 20;
    flags.threads = 1;
    return flags;
  }

  std::string folder_;
  std::unique_ptr<ModelHost> lonely_host_;
  std::unique_ptr<ModelHost> host_;
  std::shared_ptr<engine::Engine> lonely_;
};

}  // namespace

int RunSimulate(const Arguments& arguments) {
  SimulateFlags flags;
  config::Command command;
  command.name = "simulate";
  command.summary =
      "Runs the whole server under virtual time; exit status 1 if an oracle is violated.";
  command.options = RowsOf(flags);
  auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  std::signal(SIGABRT, NameSeed);
  ModelEngines models;
  Totals totals;
  for (std::int64_t i = 0; i < flags.seeds; ++i) {
    auto seed = static_cast<std::uint64_t>(flags.seed + i);
    running_seed = seed;
    bool model = flags.engine == "model" || (flags.engine == "mixed" && seed % kModelEvery == 0);
    Result<sim::SimEngine> engine = model ? models.Make(seed) : sim::MakeMockEngine(seed);
    if (!engine) {
      return Complain(engine.error());
    }
    sim::SimResult result = sim::RunServerSim(seed, std::move(*engine));
    totals.Add(result);
    if (flags.verbose || !result.violations.empty()) {
      Say("seed {}: {} requests, {} finished, {} cancelled, {} refused, {} tokens, {} events, "
          "state {:016x}\n",
          seed, result.requests, result.finished, result.cancelled, result.refused, result.tokens,
          result.events, result.state_hash);
    }
    for (const std::string& violation : result.violations) {
      Say("seed {}: {}\n", seed, violation);
    }
    if (!result.violations.empty()) {
      Say("repeat it with: pixii simulate --seed {} --verbose\n", seed);
    }
  }
  if (flags.json) {
    Say("{}\n", totals.ToJson().Dump());
  } else {
    Say("{} runs, {} failed: {} requests, {} finished, {} cancelled, {} refused, {} tokens, {} "
        "preemptions, {} prefix hit tokens, "
        "{:.1f} virtual seconds\n",
        totals.runs, totals.failed, totals.requests, totals.finished, totals.cancelled,
        totals.refused, totals.tokens, totals.preemptions, totals.prefix_hit_tokens,
        totals.virtual_seconds);
  }
  return totals.failed == 0 ? kExitDone : kExitNotSo;
}

}  // namespace pixii::apps
