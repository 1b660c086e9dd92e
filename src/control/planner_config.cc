#include "control/planner_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "config/parse.h"
#include "config/yaml_adapter.h"

namespace pixii::control {

namespace {

std::vector<std::string> Split(std::string_view list) {
  std::vector<std::string> out;
  while (!list.empty()) {
    const std::size_t comma = std::min(list.find(','), list.size());
    out.emplace_back(list.substr(0, comma));
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return out;
}

Result<void> Check(const PlannerConfig& config) {
  if (config.environment == "global-planner") {
    return Fail(Code::kUnsupported,
                "environment: global-planner divides one budget among several fleets; there is "
                "none here, give each fleet its own max_gpu_budget",
                "environment");
  }
  if (config.max_gpu_budget >= 0 && config.min_gpu_budget > config.max_gpu_budget) {
    return Fail(Code::kInvalidArgument,
                fmt::format("min_gpu_budget: {} is above max_gpu_budget {}", config.min_gpu_budget,
                            config.max_gpu_budget),
                "min_gpu_budget");
  }
  const std::int64_t pools = config.mode == "disagg" ? 2 : 1;
  const std::int64_t needed = pools * config.min_endpoint * config.gpus_per_worker;
  if (config.max_gpu_budget >= 0 && needed > config.max_gpu_budget) {
    return Fail(Code::kInvalidArgument,
                fmt::format("max_gpu_budget: {} do not hold the {} that min_endpoint asks for",
                            config.max_gpu_budget, needed),
                "max_gpu_budget");
  }
  const auto falls = [](double down, double up, const char* key) -> Result<void> {
    if (down >= up) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("{}: {} must be below the threshold upwards, {}", key, down, up),
                  key);
    }
    return {};
  };
  PX_CHECK_OK(falls(config.prefill_scale_down_queue_tokens, config.prefill_scale_up_queue_tokens,
                    "prefill_scale_down_queue_tokens"));
  return falls(config.decode_scale_down_kv_rate, config.decode_scale_up_kv_rate,
               "decode_scale_down_kv_rate");
}

}  // namespace

std::vector<config::Option> RowsOf(PlannerConfig& config) {
  std::vector<config::Option> out;
  const auto add = [&](const char* name, config::Field field, const char* unit, const char* help) {
    config::Option row;
    row.name = name;
    row.field = std::move(field);
    row.unit = unit;
    row.help = help;
    out.push_back(std::move(row));
  };
#define PX_BOOL(field, value, help) add(#field, config::BoolField{&config.field}, "", help);
#define PX_INT(field, value, min, max, unit, help) \
  add(#field, config::IntegerField{&config.field, {min, max}}, unit, help);
#define PX_REAL(field, value, min, max, unit, help) \
  add(#field, config::RealField{&config.field, {min, max}}, unit, help);
#define PX_WORD(field, value, words, help) \
  add(#field, config::WordField{&config.field, {Split(words)}}, "", help);
#define PX_TEXT(field, value, help) add(#field, config::TextField{&config.field, {}}, "", help);
#include "control/planner_config.def"
#undef PX_BOOL
#undef PX_INT
#undef PX_REAL
#undef PX_WORD
#undef PX_TEXT
  return out;
}

Result<PlannerConfig> ReadPlannerConfig(const std::string& text, const std::string& file) {
  PX_TRY(const std::vector<config::YamlLeaf> leaves, config::ReadYamlTree(text, file));
  const config::YamlErrors errors(file);
  PlannerConfig out;
  const std::vector<config::Option> rows = RowsOf(out);
  std::vector<std::string> names;
  for (const config::Option& row : rows) {
    names.push_back(row.name);
  }
  for (const config::YamlLeaf& leaf : leaves) {
    const auto row = std::ranges::find(rows, leaf.path, &config::Option::name);
    if (row == rows.end()) {
      return errors.Unknown(leaf, leaf.path, names);
    }
    if (leaf.kind != config::YamlKind::kScalar) {
      return errors.Wrong(leaf.line, leaf.path,
                          fmt::format("must be {}", config::AllowedText(*row)));
    }
    if (const Result<void> taken = config::Assign(*row, leaf.value); !taken) {
      return errors.Wrong(leaf.line, leaf.path, taken.error().detail());
    }
  }
  PX_CHECK_OK(Check(out));
  return out;
}

}  // namespace pixii::control
