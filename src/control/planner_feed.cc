#include "control/planner_feed.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "wire/json.h"

namespace pixii::control {

namespace {

using wire::Json;

constexpr double kCancelledStatus = 499;

double SecondsOf(rt::Duration time) { return std::chrono::duration<double>(time).count(); }

double NumberAt(const Json& json, std::string_view member) {
  const Json* value = json.Find(member);
  const double number = value == nullptr ? 0 : value->AsDouble().value_or(0);
  return std::isfinite(number) ? std::max(number, 0.0) : 0;
}

Result<std::uint64_t> CountAt(const Json& json, std::string_view member) {
  const Json* value = json.Find(member);
  const std::optional<std::int64_t> count = value == nullptr ? std::nullopt : value->AsInt();
  if (!count || *count < 0) {
    return Fail(Code::kDataCorrupt, fmt::format("{} is no count", member), std::string(member));
  }
  return static_cast<std::uint64_t>(*count);
}

std::string TextAt(const Json& json, std::string_view member) {
  const Json* value = json.Find(member);
  return value != nullptr && value->is_string() ? value->string() : std::string();
}

Result<const Json::Array*> ListAt(const Json& json, std::string_view member) {
  const Json* value = json.Find(member);
  if (value == nullptr || !value->is_array()) {
    return Fail(Code::kDataCorrupt, fmt::format("{} is no list", member), std::string(member));
  }
  return &value->array();
}

}  // namespace

Result<FeedRequests> ReadFeedRequests(std::string_view body) {
  PX_TRY(const Json json, wire::ParseJson(body));
  FeedRequests out;
  out.process = TextAt(json, "process");
  if (out.process.empty()) {
    return Fail(Code::kDataCorrupt, "process is no text", "process");
  }
  PX_TRY(out.begun, CountAt(json, "begun"));
  PX_TRY(out.ended, CountAt(json, "ended"));
  PX_TRY(const Json::Array* list, ListAt(json, "data"));
  for (const Json& one : *list) {
    FeedRequests::Ended& ended = out.list.emplace_back();
    PX_TRY(ended.sequence, CountAt(one, "sequence"));
    ended.size = {
        .input = std::max(NumberAt(one, "prompt_tokens") - NumberAt(one, "cached_tokens"), 1.0),
        .output = NumberAt(one, "output_tokens")};
    ended.ttft_ms = NumberAt(one, "ttft_ms");
    ended.itl_ms = NumberAt(one, "itl_ms");
    const bool error = one.Find("error") != nullptr;
    const double status = NumberAt(one, "status");
    // Who hung up had load here, and was served as far as he was.
    const bool cancelled = status == kCancelledStatus;
    ended.refused = error && status >= 400 && status < 500 && !cancelled;
    ended.failed = error && !ended.refused && !(cancelled && one.Find("ttft_ms") != nullptr);
  }
  return out;
}

Result<std::map<std::string, FeedWorker>> ReadFeedWorkers(std::string_view body) {
  PX_TRY(const Json json, wire::ParseJson(body));
  std::map<std::string, double> block_tokens;  // by model
  PX_TRY(const Json::Array* models, ListAt(json, "models"));
  for (const Json& model : *models) {
    block_tokens[TextAt(model, "name")] = NumberAt(model, "block_tokens");
  }
  PX_TRY(const Json::Array* workers, ListAt(json, "workers"));
  std::map<std::string, FeedWorker> out;
  for (const Json& worker : *workers) {
    const std::string role = TextAt(worker, "role");
    const Json* load = worker.Find("load");
    if (role == "encode" || load == nullptr || !load->is_object()) {
      continue;
    }
    const auto tokens = block_tokens.find(TextAt(worker, "model"));
    const double block = tokens != block_tokens.end() ? tokens->second : 1;
    const Json none;
    const Json* blocks = load->Find("blocks");
    blocks = blocks == nullptr ? &none : blocks;
    out[TextAt(worker, "name")] = {
        .pool = role == "prefill" ? Pool::kPrefill : Pool::kDecode,
        .running = static_cast<std::uint32_t>(NumberAt(*load, "running")),
        .queued = static_cast<std::uint32_t>(NumberAt(*load, "queued")),
        .kv_used_tokens = NumberAt(*blocks, "used") * block,
        .kv_tokens = NumberAt(*blocks, "total") * block};
  }
  return out;
}

EngineEstimate EstimateOf(const EngineModel& engine, const FeedWorker& worker,
                          const RequestSize& mean) {
  const double sequences = worker.running + worker.queued;
  const double kv = worker.kv_used_tokens + worker.queued * mean.input + mean.output / 2;
  return {.ttft_ms = PromptMs(engine, mean.input * (worker.queued + 1)),
          .itl_ms = sequences > 0 ? engine.decode_ms(kv, kv / sequences) : 0};
}

PlannerFeed::PlannerFeed(PlannerFeedOptions options, std::vector<std::string> frontends)
    : options_(options) {
  for (std::string& name : frontends) {
    frontends_.push_back({.name = std::move(name)});
  }
}

bool PlannerFeed::OnAnswer(std::size_t frontend, const FeedRequests& requests,
                           const std::map<std::string, FeedWorker>& workers, rt::Time now) {
  FrontendSeen& seen = frontends_[frontend];
  first_look_ = first_look_.value_or(now);
  const bool back = !seen.process.empty() && seen.state != FeedState::kHeard;
  const bool first = seen.process.empty();
  const bool restarted = !first && seen.process != requests.process;
  const std::uint64_t begun_before = restarted ? 0 : seen.begun;
  const std::uint64_t ended_before = restarted ? 0 : seen.ended;
  // Of a frontend that is seen for the first time nobody knows when its requests came.
  if (!first) {
    double arrivals = static_cast<double>(requests.begun - std::min(begun_before, requests.begun));
    for (const FeedRequests::Ended& one : requests.list) {
      if (one.sequence > ended_before) {
        arrivals -= one.refused ? 1 : 0;
        seen.list.push_back(one);
      }
    }
    arrivals = std::max(arrivals, 0.0);
    const double seconds = SecondsOf(now - seen.heard);
    if (seconds > 0) {
      seen.rate = arrivals / seconds;
    }
    seen.arrivals += std::max(arrivals - seen.assumed, 0.0);
  }
  seen.assumed = 0;
  seen.process = requests.process;
  seen.begun = requests.begun;
  seen.ended = requests.ended;
  seen.heard = now;
  seen.workers = workers;
  seen.state = FeedState::kHeard;
  return back;
}

bool PlannerFeed::OnSilence(std::size_t frontend, rt::Time now) {
  FrontendSeen& seen = frontends_[frontend];
  const FeedState before = seen.state;
  first_look_ = first_look_.value_or(now);
  const rt::Time since = seen.process.empty() ? *first_look_ : seen.heard;
  const bool given_up = now - since >= options_.patience;
  seen.state = given_up ? FeedState::kGivenUp : FeedState::kSilent;
  seen.workers.clear();
  return before != seen.state;
}

std::string PlannerFeed::Trouble() const {
  bool heard = false;
  for (const FrontendSeen& one : frontends_) {
    heard = heard || one.state == FeedState::kHeard;
    if (one.process.empty() && one.state == FeedState::kSilent) {
      return fmt::format("{} was not heard yet", one.name);
    }
  }
  return heard ? "" : "no frontend answers";
}

std::optional<PlannerObservation> PlannerFeed::Take(
    const std::array<PoolObserved, kPoolCount>& pools,
    const std::array<const EngineModel*, kPoolCount>& engines, rt::Time now) {
  if (!Trouble().empty()) {
    return std::nullopt;
  }
  const double seconds = taken_at_ ? SecondsOf(now - *taken_at_) : 0;
  const bool first = !taken_at_;
  taken_at_ = now;
  PlannerObservation out;
  out.seconds = seconds;
  out.pools = pools;
  double arrivals = 0;
  double kept = 0;
  double input = 0;
  double output = 0;
  std::uint64_t with_gap = 0;
  std::map<std::string, FeedWorker> workers;  // every frontend sees the same ones
  for (FrontendSeen& seen : frontends_) {
    if (seen.state == FeedState::kSilent) {
      seen.assumed += seen.rate * seconds;
      arrivals += seen.rate * seconds;
    }
    arrivals += seen.arrivals;
    for (const FeedRequests::Ended& one : seen.list) {
      if (one.refused) {
        continue;
      }
      ++out.ended;
      if (one.failed) {
        continue;
      }
      out.sizes.push_back(one.size);
      input += one.size.input;
      output += one.size.output;
      out.ttft_ms += one.ttft_ms;
      if (one.size.output > 1) {
        ++with_gap;
        out.itl_ms += one.itl_ms;
      }
      kept += one.ttft_ms <= options_.goal.ttft_ms && one.itl_ms <= options_.goal.itl_ms ? 1 : 0;
    }
    workers.insert(seen.workers.begin(), seen.workers.end());
    seen.list.clear();
    seen.arrivals = 0;
  }
  if (first) {
    return std::nullopt;
  }
  out.arrivals = static_cast<std::uint64_t>(std::llround(arrivals));
  if (out.ended > 0) {
    out.kept_share = kept / static_cast<double>(out.ended);
  }
  if (!out.sizes.empty()) {
    const auto count = static_cast<double>(out.sizes.size());
    out.ttft_ms /= count;
    mean_ = {.input = input / count, .output = output / count};
  }
  out.itl_ms /= static_cast<double>(std::max<std::uint64_t>(with_gap, 1));
  std::array<double, kPoolCount> counts{};
  for (const auto& [name, worker] : workers) {
    const auto pool = static_cast<std::size_t>(worker.pool);
    PoolObserved& observed = out.pools[pool];
    out.waiting += worker.queued;
    counts[pool] += 1;
    observed.queued_tokens += worker.queued * mean_.input;
    observed.kv_rate += worker.kv_tokens > 0 ? worker.kv_used_tokens / worker.kv_tokens : 0;
    if (engines[pool] != nullptr) {
      observed.engines.push_back(EstimateOf(*engines[pool], worker, mean_));
    }
  }
  for (std::size_t pool = 0; pool < kPoolCount; ++pool) {
    out.pools[pool].queued_tokens /= std::max(counts[pool], 1.0);
    out.pools[pool].kv_rate /= std::max(counts[pool], 1.0);
  }
  return out;
}

}  // namespace pixii::control
