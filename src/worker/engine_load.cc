#include "worker/engine_load.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "wire/json.h"

namespace pixii::worker {

namespace {

constexpr double kCountMax = std::numeric_limits<std::uint32_t>::max();

/// A line of Prometheus' text: NAME{LABELS} VALUE.
struct Sample {
  std::string_view name;
  std::string_view labels;
  double value = 0;
};

std::optional<Sample> ReadSample(std::string_view line) {
  if (line.empty() || line.front() == '#') {
    return std::nullopt;
  }
  Sample sample;
  const std::size_t name_size = std::min(line.find_first_of("{ \t"), line.size());
  sample.name = line.substr(0, name_size);
  line.remove_prefix(name_size);
  if (line.starts_with('{')) {
    const std::size_t end = line.rfind('}');
    if (end == std::string_view::npos) {
      return std::nullopt;
    }
    sample.labels = line.substr(1, end - 1);
    line.remove_prefix(end + 1);
  }
  line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
  const auto [end, fault] = std::from_chars(line.data(), line.data() + line.size(), sample.value);
  return fault == std::errc() && std::isfinite(sample.value) ? std::optional(sample) : std::nullopt;
}

// Of NAME="DIGITS".
std::optional<std::uint32_t> LabelOf(std::string_view labels, std::string_view name) {
  for (std::size_t at = labels.find(name); at != std::string_view::npos;
       at = labels.find(name, at + 1)) {
    const std::string_view rest = labels.substr(at + name.size());
    const bool begins = at == 0 || labels[at - 1] == ',' || labels[at - 1] == ' ';
    std::uint32_t value = 0;
    if (begins && rest.starts_with("=\"") &&
        std::from_chars(rest.data() + 2, rest.data() + rest.size(), value).ec == std::errc()) {
      return value;
    }
  }
  return std::nullopt;
}

void Add(std::optional<std::uint32_t>& sum, double value) {
  sum = static_cast<std::uint32_t>(std::clamp(sum.value_or(0) + value, 0.0, kCountMax));
}

EngineLoad ReadPrometheus(std::string_view text) {
  EngineLoad load;
  double used = 0;
  std::uint32_t engines = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::optional<Sample> sample = ReadSample(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (!sample) {
      continue;
    }
    const std::string_view name = sample->name;
    if (name == "vllm:num_requests_running" || name == "sglang:num_running_reqs") {
      Add(load.running, sample->value);
    } else if (name == "vllm:num_requests_waiting" || name == "sglang:num_queue_reqs") {
      Add(load.queued, sample->value);
    } else if (name == "vllm:kv_cache_usage_perc" || name == "vllm:gpu_cache_usage_perc" ||
               name == "sglang:token_usage") {
      used += std::clamp(sample->value, 0.0, 1.0);
      ++engines;
    } else if (name == "vllm:cache_config_info") {
      load.block_tokens = LabelOf(sample->labels, "block_size");
      load.block_count = LabelOf(sample->labels, "num_gpu_blocks");
    }
  }
  if (engines > 0) {
    load.cache_used = used / engines;
  }
  return load;
}

// A list of what the last steps were like: the newest is last.
Result<EngineLoad> ReadSteps(std::string_view body) {
  PX_TRY(const wire::Json steps, wire::ParseJson(body));
  EngineLoad load;
  if (!steps.is_array()) {
    return Fail(Code::kDataCorrupt, "the engine's metrics are no list of steps");
  }
  if (steps.array().empty()) {
    return load;
  }
  const auto number = [](const wire::Json* object,
                         std::string_view name) -> std::optional<std::uint32_t> {
    const wire::Json* value = object == nullptr ? nullptr : object->Find(name);
    const auto count = value != nullptr && value->is_number() ? value->AsInt() : std::nullopt;
    return count ? std::optional(static_cast<std::uint32_t>(
                       std::clamp<std::int64_t>(*count, 0, static_cast<std::int64_t>(kCountMax))))
                 : std::nullopt;
  };
  const wire::Json& last = steps.array().back();
  const wire::Json* cache = last.Find("kvCacheStats");
  load.running = number(&last, "numActiveRequests");
  load.queued = number(&last, "numQueuedRequests");
  load.block_tokens = number(cache, "tokensPerBlock");
  load.block_count = number(cache, "maxNumBlocks");
  const std::optional<std::uint32_t> used = number(cache, "usedNumBlocks");
  if (used && load.block_count.value_or(0) > 0) {
    load.cache_used = std::min(1.0, static_cast<double>(*used) / *load.block_count);
  }
  return load;
}

}  // namespace

std::string_view LoadTarget(EngineKind kind) {
  return kind == EngineKind::kOpenAi ? "/v1/models" : "/metrics";
}

Result<EngineLoad> ReadEngineLoad(EngineKind kind, std::string_view body) {
  switch (kind) {
    case EngineKind::kVllm:
    case EngineKind::kSglang:
      return ReadPrometheus(body);
    case EngineKind::kTrtllm:
      return ReadSteps(body);
    case EngineKind::kOpenAi:
      break;
  }
  return EngineLoad();  // it says nothing of it
}

}  // namespace pixii::worker
