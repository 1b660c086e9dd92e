// pixii profile: measures an engine on this host and recommends a fleet, with its reasons.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "apps/command.h"
#include "apps/mock_engine.h"
#include "apps/model_source.h"
#include "apps/option_structs.h"
#include "apps/planner_profile.h"
#include "apps/profile_measure.h"
#include "apps/version.h"
#include "bench/machine.h"
#include "control/fleet_advice.h"
#include "rt/file.h"

namespace pixii::apps {

namespace {

using control::FleetAdvice;
using control::FleetPick;
using control::FleetWish;
using wire::Json;

constexpr int kBarColumns = 30;
constexpr double kStartUpMargin = 5;  // seconds for what a process does besides loading

double Milliseconds(std::int64_t nanoseconds) { return static_cast<double>(nanoseconds) / 1e6; }

FleetWish WishOf(const ProfileFlags& flags) {
  return {
      .pick = flags.pick == "load-match"  ? FleetPick::kLoadMatch
              : flags.pick == "autoscale" ? FleetPick::kAutoscale
                                          : FleetPick::kDefault,
      .goal = {.ttft_ms = Milliseconds(flags.ttft_goal), .itl_ms = Milliseconds(flags.itl_goal)},
      .size = {.input = static_cast<double>(flags.input_tokens),
               .output = static_cast<double>(flags.output_tokens)},
      .budget = static_cast<std::uint32_t>(flags.budget),
      .rate = flags.target_rate,
      .concurrency = static_cast<double>(flags.target_concurrency)};
}

/// What is written and said.
struct Profiled {
  std::string model;  // as a graph names it
  MeasuredProfile measured;
  FleetAdvice advice;
  double start_up_seconds = 0;
};

Json Words(const std::vector<std::string>& lines) {
  Json::Array out;
  for (const std::string& line : lines) {
    out.emplace_back(line);
  }
  return out;
}

Json HeldOutJson(const std::vector<HeldOut>& points) {
  Json::Array out;
  for (const HeldOut& point : points) {
    Json one{Json::Object{}};
    one.Set("of", point.what);
    one.Set("tokens", point.tokens);
    if (point.context > 0) {
      one.Set("context", point.context);
    }
    one.Set("measured_ms", point.measured_ms);
    one.Set("predicted_ms", point.predicted_ms);
    out.push_back(std::move(one));
  }
  return out;
}

Json AdviceJson(const FleetAdvice& advice) {
  Json out{Json::Object{}};
  out.Set("workers", std::int64_t{advice.workers});
  out.Set("prefill", std::int64_t{advice.prefill});
  out.Set("decode", std::int64_t{advice.decode});
  out.Set("meets", advice.meets);
  out.Set("requests_per_second", advice.rate);
  out.Set("requests_per_second_max", advice.rate_max);
  out.Set("attainment", advice.outlook.attainment);
  out.Set("ttft_ms", advice.outlook.ttft_ms);
  out.Set("itl_ms", advice.outlook.itl_ms);
  out.Set("reasons", Words(advice.reasons));
  return out;
}

Json FileJson(const Profiled& profiled) {
  Json out = ProfileJson(profiled.measured.profile);
  out.Set("model", profiled.model);
  out.Set("start_up_seconds", profiled.start_up_seconds);
  out.Set("commit", kCommit);
  out.Set("machine", bench::MachineJson());
  out.Set("held_out", HeldOutJson(profiled.measured.held_out));
  return out;
}

std::string Quoted(std::string_view text) {
  std::string out;
  wire::AppendJsonString(out, text);
  return out;
}

/// Flags of the engine that this run was given: workers are run with the same ones.
std::string WorkerFlagLines(const config::Parsed& parsed,
                            const std::vector<config::Option>& own_options) {
  std::string out;
  for (const config::Resolved& value : parsed.values) {
    const bool own = std::ranges::any_of(own_options, [&](const config::Option& option) {
      return option.name == value.option->name;
    });
    if (own || value.source == config::Source::kDefault) {
      continue;
    }
    if (std::holds_alternative<config::ListField>(value.option->field)) {
      out +=
          fmt::format("      # {} of the profile's run is not repeated here\n", value.option->name);
      continue;
    }
    out += fmt::format("      {}: {}\n", value.option->name, Quoted(value.value));
  }
  return out;
}

std::string ComponentText(const std::string& name, const std::string& model, std::uint32_t replicas,
                          const std::string& flags) {
  return fmt::format("  {}:\n    model: {}\n    replicas: {}\n{}{}", name, Quoted(model), replicas,
                     flags.empty() ? "" : "    flags:\n", flags);
}

std::string GraphText(const ProfileFlags& flags, const Profiled& profiled,
                      const std::string& worker_flags, const std::string& folder) {
  const FleetAdvice& advice = profiled.advice;
  std::string out = fmt::format(
      "# pixii up {}/graph.yaml: recommended by pixii profile (--pick {})\n", folder, flags.pick);
  for (const std::string& reason : advice.reasons) {
    out += fmt::format("# - {}\n", reason);
  }
  out += fmt::format(
      "# - expected at {:.4g} requests/s of {} and {} tokens: first token after {:.4g} ms, {:.4g} "
      "ms between tokens, {:.1f} % within the goals\n",
      advice.rate, flags.input_tokens, flags.output_tokens, advice.outlook.ttft_ms,
      advice.outlook.itl_ms, 100 * advice.outlook.attainment);
  const bool apart = advice.workers == 0;
  out += fmt::format(
      "components:\n  http:\n    command: frontend\n    needs: [{}]\n    flags: {{port: {}, "
      "router-mode: kv}}\n",
      apart ? "prefill, decode" : "workers", flags.frontend_port);
  if (apart) {
    out += ComponentText("prefill", profiled.model, advice.prefill,
                         "      role: prefill\n" + worker_flags);
    out += ComponentText("decode", profiled.model, advice.decode,
                         "      role: decode\n" + worker_flags);
  } else {
    out += ComponentText("workers", profiled.model, advice.workers, worker_flags);
  }
  if (flags.pick == "autoscale") {
    out += fmt::format(
        "  planner:\n    command: planner\n    needs: [http]\n    flags:\n      port: 0\n      "
        "frontends: \"http://127.0.0.1:{}\"\n      decode-component: workers\n      "
        "planner-config: {}\n",
        flags.frontend_port, Quoted(folder + "/planner.json"));
  }
  return out;
}

Json PlannerJson(const ProfileFlags& flags, const Profiled& profiled, const std::string& folder) {
  Json out{Json::Object{}};
  out.Set("mode", "agg");
  out.Set("environment", "local");
  out.Set("backend", "pixii");
  out.Set("optimization_target", "sla");
  out.Set("ttft_ms", Milliseconds(flags.ttft_goal));
  out.Set("itl_ms", Milliseconds(flags.itl_goal));
  out.Set("profile_results_dir", folder);
  out.Set("max_gpu_budget", flags.budget);
  out.Set("throughput_adjustment_interval_seconds", 15);
  out.Set("load_predictor", "kalman");
  out.Set("start_up_seconds", std::ceil(profiled.start_up_seconds + kStartUpMargin));
  return out;
}

Result<void> Write(const ProfileFlags& flags, const Profiled& profiled,
                   const std::string& worker_flags) {
  PX_CHECK_OK(rt::CreateFolders(flags.output));
  PX_TRY(const std::string folder, rt::RealPath(flags.output));
  PX_CHECK_OK(
      rt::WriteFileAtomic(folder + "/profile.json", FileJson(profiled).Dump() + "\n", 0644));
  PX_CHECK_OK(rt::WriteFileAtomic(folder + "/graph.yaml",
                                  GraphText(flags, profiled, worker_flags, folder), 0644));
  if (flags.pick == "autoscale") {
    PX_CHECK_OK(rt::WriteFileAtomic(folder + "/planner.json",
                                    PlannerJson(flags, profiled, folder).Dump() + "\n", 0644));
  }
  return {};
}

void SayText(const ProfileFlags& flags, const Profiled& profiled) {
  const engine::MockProfile& times = profiled.measured.profile.times;
  Say("tokens of a prompt   ms to the first token\n");
  for (std::size_t i = 0; i < times.prefill_tokens.size(); ++i) {
    Say("{:>18.0f}   {:.3f}\n", times.prefill_tokens[i], times.prefill_ms[i]);
  }
  Say("\nms of a step by tokens of all contexts, and of one\n{:>18}", "");
  for (const double context : times.decode_context_tokens) {
    Say("{:>12.0f}", context);
  }
  const std::size_t columns = times.decode_context_tokens.size();
  for (std::size_t row = 0; row < times.decode_kv_tokens.size(); ++row) {
    Say("\n{:>18.0f}", times.decode_kv_tokens[row]);
    for (std::size_t column = 0; column < columns; ++column) {
      Say("{:>12.3f}", times.decode_ms[row * columns + column]);
    }
  }
  const MeasuredProfile& measured = profiled.measured;
  Say("\n\nlargest error at points that were held out: prompts of one step {:.1f} %, longer ones "
      "{:.1f} %, steps of decoding {:.1f} %\n\n",
      100 * measured.ErrorMax("prefill"), 100 * measured.ErrorMax("prompt"),
      100 * measured.ErrorMax("decode"));
  for (const std::string& reason : profiled.advice.reasons) {
    Say("{}\n", reason);
  }
  Say("expected at {:.4g} requests/s: first token after {:.4g} ms, {:.4g} ms between tokens, "
      "{:.1f} "
      "% within the goals\n{}/profile.json, {}/graph.yaml\n",
      profiled.advice.rate, profiled.advice.outlook.ttft_ms, profiled.advice.outlook.itl_ms,
      100 * profiled.advice.outlook.attainment, flags.output, flags.output);
}

Result<int> Profile(const ProfileFlags& flags, const EngineFlags& engine_flags,
                    const config::Parsed& parsed, const std::string& worker_flags) {
  const FleetWish wish = WishOf(flags);
  // What is wrong with the wish is said before anything is measured.
  const control::EngineModel any{.prefill_ms = [](double) { return 1.0; },
                                 .decode_ms = [](double, double) { return 1.0; }};
  PX_TRY(const FleetAdvice tried, control::AdviseFleet(any, wish));
  (void)tried;
  PX_TRY(const std::string named, WithRevision(parsed.positionals[0], flags.revision));
  PX_TRY(const ModelSource source, ResolveModel(named, false));
  PX_TRY(const std::optional<engine::MockOptions> mock, MockOptionsOf(flags, engine_flags));
  PX_TRY(const std::unique_ptr<BenchedEngine> engine,
         BenchedEngine::Make(source.folder, engine_flags, mock));
  Profiled profiled;
  profiled.start_up_seconds = std::chrono::duration<double>(engine->load_time()).count();
  profiled.model = rt::RealPath(named).value_or(named);
  const bool shows = isatty(STDERR_FILENO) == 1;
  PX_TRY(profiled.measured,
         MeasureProfile(*engine,
                        {.prefill_points = static_cast<std::uint32_t>(flags.prefill_points),
                         .decode_points = static_cast<std::uint32_t>(flags.decode_points),
                         .context_max = static_cast<std::uint32_t>(flags.profile_context),
                         .repeats = static_cast<std::uint32_t>(flags.repeats),
                         .seed = static_cast<std::uint64_t>(flags.seed)},
                        [shows](double done, const std::string& what) {
                          if (shows) {
                            const auto filled = static_cast<std::size_t>(done * kBarColumns);
                            SayError("\r[{:<{}}] {:3.0f} %  {}\x1b[K{}", std::string(filled, '#'),
                                     kBarColumns, 100 * done, what, done >= 1 ? "\n" : "");
                          }
                        }));
  PX_TRY(profiled.advice, control::AdviseFleet(PlannedEngine(profiled.measured.profile), wish));
  PX_CHECK_OK(Write(flags, profiled, worker_flags));
  if (flags.json) {
    Json out{Json::Object{}};
    out.Set("advice", AdviceJson(profiled.advice));
    out.Set("held_out_error_max", std::max({profiled.measured.ErrorMax("prefill"),
                                            profiled.measured.ErrorMax("decode")}));
    out.Set("profile", FileJson(profiled));
    Say("{}\n", out.Dump());
  } else {
    SayText(flags, profiled);
  }
  return profiled.advice.meets ? kExitDone : kExitNotSo;
}

// Those that workers do not take.
std::vector<config::Option> OwnOptions() {
  ProfileFlags flags;  // the names alone are used
  std::vector<config::Option> out = RowsOf(flags);
  std::erase_if(out, [](const config::Option& option) {
    return option.name == "served-model-name" || option.name == "tokenizer" ||
           option.name == "revision" || option.name == "engine" || option.name.starts_with("mock");
  });
  return out;
}

}  // namespace

int RunProfile(const Arguments& arguments) {
  ProfileFlags flags;
  EngineFlags engine;
  config::Command command;
  command.name = "profile";
  command.summary = "Measures an engine on this host and recommends a fleet.";
  command.positionals = {
      {.name = "MODEL", .help = "as pixii serve takes it", .required = true, .repeated = false}};
  command.options = RowsOf(flags);
  for (config::Option& option : RowsOf(engine)) {
    command.options.push_back(std::move(option));
  }
  auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  Result<int> done = Profile(flags, engine, parsed, WorkerFlagLines(parsed, OwnOptions()));
  return done ? *done : Complain(done.error());
}

}  // namespace pixii::apps
