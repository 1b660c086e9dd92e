// The routes of RouterApi that tell what is cached where.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "frontend/field_error.h"
#include "frontend/router_api/answers.h"
#include "frontend/router_api/event_json.h"
#include "frontend/router_api/json_fields.h"
#include "frontend/router_api/prompt_fields.h"
#include "frontend/router_api/router_api.h"

namespace pixii::frontend {

using router::Catalog;
using router::InstanceId;
using router::KvListener;
using router::Pool;
using router::Registered;
using router::TargetMatch;
using wire::Json;

namespace {

constexpr std::uint64_t kBlockTokensMax = 65'536;

// The value of `name` in "a=1&b=2"; nothing: it is not there.
Result<std::optional<std::string>> QueryField(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const std::string_view one = query.substr(0, std::min(query.find('&'), query.size()));
    query.remove_prefix(std::min(one.size() + 1, query.size()));
    if (one.starts_with(name) && one.substr(name.size()).starts_with('=')) {
      std::optional<std::string> value = wire::PercentDecode(one.substr(name.size() + 1));
      if (!value) {
        return Bad(name, "has a % that two hexadecimal digits do not follow");
      }
      return value;
    }
  }
  return std::optional<std::string>();
}

Result<Registered> ReadRegistration(const Json& body) {
  Registered out;
  PX_TRY(const std::uint64_t id, Required("instance_id", WordField(body, "instance_id")));
  out.id = InstanceId{id};
  PX_TRY(std::string endpoint, Required("endpoint", TextField(body, "endpoint")));
  PX_TRY(out.pool.model, Required("model_name", TextField(body, "model_name")));
  PX_TRY(const std::optional<std::string> group, TextField(body, "routing_group"));
  out.pool.group = group.value_or("default");
  PX_TRY(const std::uint64_t block,
         Required("block_size", CountField(body, "block_size", 1, kBlockTokensMax)));
  out.pool.block_tokens = static_cast<std::uint32_t>(block);
  PX_TRY(const auto rank, CountField(body, "dp_rank", 0, Catalog::kRankCountMax - 1));
  out.rank_first = static_cast<std::uint32_t>(rank.value_or(0));
  out.kv_endpoints[out.rank_first] = std::move(endpoint);
  PX_TRY(const std::optional<std::string> replay, TextField(body, "replay_endpoint"));
  out.replay_endpoint = replay.value_or("");
  return out;
}

// The widest of a worker's ranks, in tokens.
Json TierSummary(std::span<const TargetMatch> ranks, std::uint64_t block_tokens) {
  std::uint64_t gpu = 0;
  std::uint64_t cpu = 0;
  std::uint64_t disk = 0;
  Json by_rank{Json::Object{}};
  for (const TargetMatch& one : ranks) {
    gpu = std::max<std::uint64_t>(gpu, one.match.device);
    cpu = std::max<std::uint64_t>(cpu, one.match.host);
    disk = std::max<std::uint64_t>(disk, one.match.disk);
    by_rank.Set(std::to_string(one.target.rank), one.match.device * block_tokens);
  }
  Json out{Json::Object{}};
  out.Set("longest_matched", disk * block_tokens);
  out.Set("gpu", gpu * block_tokens);
  out.Set("dp", std::move(by_rank));
  out.Set("cpu", cpu * block_tokens);
  out.Set("disk", disk * block_tokens);
  return out;
}

// Ranks of the worker at the front of `matches`, which are in the order of targets.
std::span<const TargetMatch> FirstWorker(std::span<const TargetMatch> matches) {
  const auto end = std::ranges::find_if(matches, [&](const TargetMatch& one) {
    return one.target.instance != matches.front().target.instance;
  });
  return matches.first(static_cast<std::size_t>(end - matches.begin()));
}

}  // namespace

Json RouterApi::Overlap(Pool& pool, const router::Placement& placement) const {
  const std::vector<TargetMatch> matches = pool.router().Matches(placement.prompt.block_hashes);
  std::vector<TargetMatch> own;
  std::ranges::copy_if(matches, std::back_inserter(own), [&](const TargetMatch& one) {
    return one.target.instance == placement.target.instance;
  });
  return TierSummary(own, pool.name().block_tokens);
}

RouterApi::Answer RouterApi::Matches(Pool& pool, const std::vector<std::uint64_t>& hashes) {
  const std::vector<TargetMatch> matches = pool.router().Matches(hashes);
  const std::uint64_t block_tokens = pool.name().block_tokens;
  Json scores{Json::Object{}};
  Json instances{Json::Object{}};
  std::vector<std::uint64_t> depths;  // ranks that reach so far on their devices
  std::span<const TargetMatch> rest = matches;
  while (!rest.empty()) {
    const std::span<const TargetMatch> worker = FirstWorker(rest);
    rest = rest.subspan(worker.size());
    const std::string id = std::to_string(Raw(worker.front().target.instance));
    Json by_rank{Json::Object{}};
    for (const TargetMatch& one : worker) {
      by_rank.Set(std::to_string(one.target.rank), one.match.device * block_tokens);
      depths.resize(std::max<std::size_t>(depths.size(), one.match.device));
      for (std::size_t i = 0; i < one.match.device; ++i) {
        ++depths[i];
      }
    }
    scores.Set(id, std::move(by_rank));
    instances.Set(id, TierSummary(worker, block_tokens));
  }
  Json::Array frequencies;
  for (const std::uint64_t count : depths) {
    frequencies.emplace_back(count);
  }
  Json out{Json::Object{}};
  out.Set("scores", std::move(scores));
  out.Set("frequencies", Json(std::move(frequencies)));
  out.Set("instances", std::move(instances));
  return AnswerOf(out);
}

RouterApi::Answer RouterApi::Query(Call& call) {
  PX_TRY(const Json body, ObjectOf(call.exchange.request().body));
  PX_CHECK_OK(Required("model_name", TextField(body, "model_name")));
  PX_CHECK_OK(Required("token_ids", TokensField(body, "token_ids")));
  PX_TRY(Pool * pool, PoolOf(body));
  PX_TRY(const router::HashedPrompt prompt, PromptFields(body, pool->name().block_tokens));
  return Matches(*pool, prompt.block_hashes);
}

RouterApi::Answer RouterApi::QueryByHash(Call& call) {
  PX_TRY(const Json body, ObjectOf(call.exchange.request().body));
  PX_CHECK_OK(Required("model_name", TextField(body, "model_name")));
  PX_TRY(const std::vector<std::uint64_t> hashes,
         Required("block_hashes", WordsField(body, "block_hashes")));
  if (const Json* const salt = body.Find("cache_salt"); salt != nullptr && !salt->is_null()) {
    return Bad("cache_salt", "cannot be applied to hashes: whoever made them applies it");
  }
  PX_TRY(Pool * pool, PoolOf(body));
  return Matches(*pool, hashes);
}

RouterApi::Answer RouterApi::Register(Call& call) {
  PX_TRY(const Json body, ObjectOf(call.exchange.request().body));
  PX_TRY(const Registered said, ReadRegistration(body));
  PX_CHECK_OK(parts_.catalog.AddListener(said));
  return Done(201);
}

RouterApi::Answer RouterApi::Unregister(Call& call) {
  PX_TRY(const Json body, ObjectOf(call.exchange.request().body));
  PX_TRY(const std::uint64_t id, Required("instance_id", WordField(body, "instance_id")));
  PX_TRY(const std::string model, Required("model_name", TextField(body, "model_name")));
  PX_TRY(const std::optional<std::string> group, TextField(body, "routing_group"));
  PX_TRY(const auto rank, CountField(body, "dp_rank", 0, Catalog::kRankCountMax - 1));
  PX_CHECK_OK(parts_.catalog.Remove(
      model, group, InstanceId{id},
      rank ? std::optional(static_cast<std::uint32_t>(*rank)) : std::nullopt));
  return Done();
}

RouterApi::Answer RouterApi::Dump(Call&) {
  Json out{Json::Object{}};
  for (const auto& [key, pool] : parts_.pools.pools()) {
    const auto& [model, group, block_tokens] = key;
    if (parts_.pools.Find(model, group) != pool.get()) {
      continue;  // its name stands for the pool whose blocks most workers have
    }
    Json::Array events;
    for (const router::RankLoadRow& row : pool->router().Loads()) {
      for (wire::KvEvent& event : pool->router().DumpKv(row.target)) {
        events.push_back(EventToJson({Raw(row.target.instance), std::move(event)}));
      }
    }
    Json one{Json::Object{}};
    one.Set("block_size", std::uint64_t{block_tokens});
    one.Set("events", Json(std::move(events)));
    out.Set(fmt::format("{}:{}", model, group), std::move(one));
  }
  return AnswerOf(out);
}

Result<std::size_t> ImportDump(const std::string& dump, Catalog& catalog) {
  PX_TRY(const Json body, wire::ParseJson(dump));
  if (!body.is_object()) {
    return Fail(Code::kDataCorrupt, "the dump is no JSON object");
  }
  std::size_t count = 0;
  for (const auto& [name, index] : body.object()) {
    const std::size_t colon = name.rfind(':');  // a model's name may have one
    const Json* const events = index.Find("events");
    if (colon == std::string::npos || events == nullptr || !events->is_array()) {
      continue;
    }
    PX_TRY(const std::uint64_t block,
           Required("block_size", CountField(index, "block_size", 1, kBlockTokensMax)));
    const wire::PoolName pool{.model = name.substr(0, colon),
                              .group = name.substr(colon + 1),
                              .block_tokens = static_cast<std::uint32_t>(block)};
    for (const Json& json : events->array()) {
      PX_TRY(const WorkerKvEvent event, EventFromJson(json));
      PX_CHECK_OK(catalog.Import(pool, InstanceId{event.worker}, event.event));
      ++count;
    }
  }
  return count;
}

RouterApi::Answer RouterApi::RegisterPeer(Call& call) {
  PX_TRY(const Json body, ObjectOf(call.exchange.request().body));
  PX_TRY(std::string url, Required("url", TextField(body, "url")));
  if (!url.starts_with("http://")) {
    return Bad("url", "does not begin with http://");
  }
  peers_.insert(std::move(url));
  return Done(201);
}

RouterApi::Answer RouterApi::DeregisterPeer(Call& call) {
  PX_TRY(const Json body, ObjectOf(call.exchange.request().body));
  PX_TRY(const std::string url, Required("url", TextField(body, "url")));
  if (peers_.erase(url) == 0) {
    return Fail(Code::kNotFound, fmt::format("{} is no peer", url), "url");
  }
  return Done();
}

RouterApi::Answer RouterApi::Peers(Call&) {
  Json::Array out;
  for (const std::string& url : peers_) {
    out.emplace_back(url);
  }
  return AnswerOf(Json(std::move(out)));
}

// There is no log of accesses beside the process's own, which is not a file.
RouterApi::Answer RouterApi::ReopenLogs(Call&) {
  if (parts_.reopen_logs) {
    parts_.reopen_logs();
  }
  return Done();
}

RouterApi::Answer RouterApi::Workers(Call& call) {
  const std::string& query = call.exchange.request().query;
  PX_TRY(const std::optional<std::string> model, QueryField(query, "model_name"));
  PX_TRY(const std::optional<std::string> group, QueryField(query, "routing_group"));
  return AnswerOf(WorkerList(model, group));
}

namespace {

// failed, if one is; then pending, active, paused.
KvListener::Status Worst(const std::map<std::uint32_t, Catalog::Listener>& listeners) {
  using Status = KvListener::Status;
  for (const Status status : {Status::kFailed, Status::kPending, Status::kActive}) {
    if (std::ranges::any_of(
            listeners, [&](const auto& one) { return one.second.listener->status() == status; })) {
      return status;
    }
  }
  return Status::kPaused;
}

Json WorkerToJson(const wire::PoolName& pool, InstanceId id, std::string_view source,
                  std::string_view endpoint, std::uint32_t rank_first, std::uint32_t rank_count,
                  std::string_view lifecycle) {
  Json out{Json::Object{}};
  out.Set("instance_id", Raw(id));
  out.Set("worker_id", Raw(id));
  out.Set("source", source);
  out.Set("lifecycle", lifecycle);
  out.Set("model_name", pool.model);
  out.Set("routing_group", pool.group);
  out.Set("block_size", std::uint64_t{pool.block_tokens});
  out.Set("endpoint", endpoint.empty() ? Json() : Json(endpoint));
  out.Set("data_parallel_start_rank", std::uint64_t{rank_first});
  out.Set("data_parallel_size", std::uint64_t{rank_count});
  return out;
}

}  // namespace

Json RouterApi::WorkerList(const std::optional<std::string>& model,
                           const std::optional<std::string>& group) const {
  Json::Array out;
  const auto wanted = [&](const wire::PoolName& pool) {
    return (!model || *model == pool.model) && (!group || *group == pool.group);
  };
  for (const auto& [key, worker] : parts_.catalog.workers()) {
    const Registered& said = worker.said;
    if (worker.is_guest || !wanted(said.pool)) {
      continue;
    }
    Json one = WorkerToJson(said.pool, said.id, "zmq", said.endpoint, said.rank_first,
                            said.rank_count, said.endpoint.empty() ? "incomplete" : "schedulable");
    Json endpoints{Json::Object{}};
    Json listeners{Json::Object{}};
    for (const auto& [rank, listener] : worker.listeners) {
      Json about{Json::Object{}};
      about.Set("endpoint", listener.endpoint);
      about.Set("status", router::StatusName(listener.listener->status()));
      if (std::string why = listener.listener->last_error(); !why.empty()) {
        about.Set("last_error", std::move(why));
      }
      endpoints.Set(std::to_string(rank), listener.endpoint);
      listeners.Set(std::to_string(rank), std::move(about));
    }
    one.Set("status", router::StatusName(Worst(worker.listeners)));
    one.Set("endpoints", std::move(endpoints));
    one.Set("listeners", std::move(listeners));
    out.push_back(std::move(one));
  }
  if (parts_.feed == nullptr) {
    return Json(std::move(out));
  }
  for (const auto& [id, worker] : parts_.feed->workers()) {
    if (!wanted(worker.pool->name())) {
      continue;
    }
    const control::Instance& instance = worker.linked->instance();
    const bool connected = worker.linked->connected();
    Json one = WorkerToJson(worker.pool->name(), id, "discovery", instance.address,
                            instance.rank_first, instance.rank_count,
                            !connected          ? "incomplete"
                            : instance.draining ? "draining"
                                                : "schedulable");
    one.Set("status", connected ? "active" : "pending");
    one.Set("endpoints", Json(Json::Object{}));
    one.Set("listeners", Json(Json::Object{}));
    out.push_back(std::move(one));
  }
  return Json(std::move(out));
}

std::size_t RouterApi::SchedulableCount() const {
  std::size_t out = 0;
  for (const auto& [key, worker] : parts_.catalog.workers()) {
    out += worker.said.endpoint.empty() ? 0 : 1;
  }
  if (parts_.feed != nullptr) {
    for (const auto& [id, worker] : parts_.feed->workers()) {
      out += worker.linked->connected() && !worker.linked->instance().draining ? 1 : 0;
    }
  }
  return out;
}

}  // namespace pixii::frontend
