// The routes of RouterApi that choose workers and count what runs at them.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "frontend/error_body.h"
#include "frontend/explanation_json.h"
#include "frontend/field_error.h"
#include "frontend/fleet/route_texts.h"
#include "frontend/router_api/answers.h"
#include "frontend/router_api/json_fields.h"
#include "frontend/router_api/prompt_fields.h"
#include "frontend/router_api/router_api.h"
#include "frontend/router_api/waiter.h"

namespace pixii::frontend {

using router::Candidate;
using router::Catalog;
using router::Chosen;
using router::InstanceId;
using router::Placement;
using router::Pool;
using router::Registered;
using router::RouteRequest;
using wire::Json;

namespace {

constexpr std::uint64_t kBlockTokensMax = 65'536;
constexpr std::uint64_t kCountMax = 0xffffffff;

Result<InstanceId> IdOfName(std::string_view name) {
  Result<Json> number = wire::ParseJson(name);
  if (!number) {
    return Bad("worker_id", "is no whole number of 64 bits");
  }
  Json body{Json::Object{}};
  body.Set("worker_id", std::move(*number));
  PX_TRY(const std::uint64_t id, Required("worker_id", WordField(body, "worker_id")));
  return InstanceId{id};
}

// What `body` says replaces what `out` has.
Result<void> ReadWorker(const Json& body, Registered& out) {
  PX_TRY(std::optional<std::string> endpoint, TextField(body, "endpoint"));
  out.endpoint = std::move(endpoint).value_or(out.endpoint);
  PX_TRY(const auto block, CountField(body, "block_size", 1, kBlockTokensMax));
  out.pool.block_tokens = static_cast<std::uint32_t>(block.value_or(out.pool.block_tokens));
  PX_TRY(const auto first,
         CountField(body, "data_parallel_start_rank", 0, Catalog::kRankCountMax - 1));
  out.rank_first = static_cast<std::uint32_t>(first.value_or(out.rank_first));
  PX_TRY(const auto count, CountField(body, "data_parallel_size", 1, Catalog::kRankCountMax));
  out.rank_count = static_cast<std::uint32_t>(count.value_or(out.rank_count));
  PX_TRY(const auto batch, CountField(body, "max_num_batched_tokens", 0, kCountMax));
  if (batch) {
    out.batch_tokens_max = static_cast<std::uint32_t>(*batch);
  }
  PX_TRY(const auto blocks, CountField(body, "total_kv_blocks", 0, kCountMax));
  if (blocks) {
    out.block_count = static_cast<std::uint32_t>(*blocks);
  }
  PX_TRY(std::optional<std::vector<std::string>> taints, TextsField(body, "taints"));
  out.taints = std::move(taints).value_or(out.taints);
  PX_TRY(std::optional<std::string> replay, TextField(body, "replay_endpoint"));
  out.replay_endpoint = std::move(replay).value_or(out.replay_endpoint);
  if (const Json* const given = body.Find("kv_events_endpoints");
      given != nullptr && !given->is_null()) {
    if (!given->is_object()) {
      return Bad("kv_events_endpoints", "is no object of ranks and their addresses");
    }
    out.kv_endpoints.clear();
    for (const auto& [rank, address] : given->object()) {
      PX_TRY(const std::uint32_t number, RankOfKey("kv_events_endpoints", rank));
      if (!address.is_string()) {
        return Bad("kv_events_endpoints", "has an address that is no text");
      }
      out.kv_endpoints[number] = address.string();
    }
  }
  PX_TRY(std::optional<std::string> one, TextField(body, "kv_events_endpoint"));
  if (one && out.kv_endpoints.empty() && out.rank_count == 1) {
    out.kv_endpoints[out.rank_first] = std::move(*one);
  }
  return {};
}

Json LoadRow(const Candidate& one, bool with_request) {
  Json out{Json::Object{}};
  const std::uint64_t cached = std::uint64_t{one.input.device_blocks} * one.input.block_tokens;
  const std::uint64_t prefill =
      with_request && one.input.prompt_tokens > cached ? one.input.prompt_tokens - cached : 0;
  const double blocks =
      one.input.active_decode_blocks + (with_request ? one.input.added_decode_blocks : 0);
  out.Set("worker_id", Raw(one.target.instance));
  out.Set("dp_rank", std::uint64_t{one.target.rank});
  out.Set("potential_prefill_tokens", one.input.active_prefill_tokens + prefill);
  out.Set("potential_decode_blocks",
          std::floor(blocks) == blocks ? Json(static_cast<std::uint64_t>(blocks)) : Json(blocks));
  out.Set("active_requests", std::uint64_t{one.input.active_requests});
  return out;
}

std::vector<InstanceId> KnownWorkers(Pool& pool) {
  std::vector<InstanceId> out;
  for (const router::RankLoadRow& row : pool.router().Loads()) {
    if (out.empty() || out.back() != row.target.instance) {
      out.push_back(row.target.instance);
    }
  }
  return out;
}

}  // namespace

// ---- workers

RouterApi::Answer RouterApi::PutWorker(Call& call) {
  PX_TRY(const Json body, ObjectOf(call.exchange.request().body));
  PX_TRY(const std::uint64_t id, Required("worker_id", WordField(body, "worker_id")));
  Registered said;
  said.id = InstanceId{id};
  PX_TRY(std::optional<std::string> model, TextField(body, "model_name"));
  said.pool.model = std::move(model).value_or("default");
  PX_TRY(std::optional<std::string> group, TextField(body, "routing_group"));
  said.pool.group = std::move(group).value_or("default");
  PX_CHECK_OK(ReadWorker(body, said));
  if (said.pool.block_tokens == 0) {
    const Pool* const pool = parts_.pools.Find(said.pool.model, said.pool.group);
    if (pool == nullptr) {
      return Bad("block_size", "is missing, and no other worker of the model has said it");
    }
    said.pool.block_tokens = pool->name().block_tokens;
  }
  PX_CHECK_OK(parts_.catalog.Put(said));
  Json about{Json::Object{}};
  about.Set("worker_id", id);
  about.Set("lifecycle", said.endpoint.empty() ? "incomplete" : "schedulable");
  return AnswerOf(about, 201);
}

RouterApi::Answer RouterApi::PatchWorker(Call& call) {
  PX_TRY(const InstanceId id, IdOfName(call.name));
  PX_TRY(const Json body, ObjectOf(call.exchange.request().body));
  const Catalog::Worker* const known = parts_.catalog.Find(id);
  if (known == nullptr) {
    return Fail(Code::kNotFound, fmt::format("there is no such worker {}", call.name), "worker_id");
  }
  Registered said = known->said;
  PX_CHECK_OK(ReadWorker(body, said));
  PX_CHECK_OK(parts_.catalog.Put(said));
  return Done();
}

RouterApi::Answer RouterApi::DeleteWorker(Call& call) {
  PX_TRY(const InstanceId id, IdOfName(call.name));
  PX_CHECK_OK(parts_.catalog.Remove("", std::nullopt, id, std::nullopt));
  return Done();
}

std::string RouterApi::EndpointOf(const Pool& pool, InstanceId id) const {
  if (const Catalog::Worker* const worker = parts_.catalog.Find(id);
      worker != nullptr && worker->pool == &pool) {
    return worker->said.endpoint;
  }
  if (parts_.feed != nullptr) {
    const auto found = parts_.feed->workers().find(id);
    if (found != parts_.feed->workers().end()) {
      return found->second.linked->instance().address;
    }
  }
  return {};
}

// ---- choosing

Json RouterApi::ChosenToJson(Pool& pool, const Chosen& chosen, ChoiceForm form) const {
  const Placement& placement = chosen.placement;
  Json overlap = Overlap(pool, placement);
  Json out{Json::Object{}};
  if (form == ChoiceForm::kNew) {
    const Json* const rank = overlap.Find("dp")->Find(std::to_string(placement.target.rank));
    const std::int64_t tokens = rank == nullptr ? 0 : rank->AsInt().value_or(0);
    out.Set("request_id", chosen.selection);
    out.Set("worker_id", Raw(placement.target.instance));
    out.Set("dp_rank", std::uint64_t{placement.target.rank});
    out.Set("overlap_blocks", tokens / pool.name().block_tokens);
    return out;
  }
  out.Set("selection_id", chosen.selection);
  out.Set("model_name", pool.name().model);
  out.Set("routing_group", pool.name().group);
  out.Set("worker_id", Raw(placement.target.instance));
  out.Set("dp_rank", std::uint64_t{placement.target.rank});
  out.Set("endpoint", EndpointOf(pool, placement.target.instance));
  out.Set("block_size", std::uint64_t{pool.name().block_tokens});
  out.Set("overlap", std::move(overlap));
  out.Set("effective_prefill_tokens", placement.prefill_tokens);
  if (form == ChoiceForm::kReserve) {
    out.Set("isl_tokens", placement.prompt.token_count);
  }
  return out;
}

RouterApi::Answer RouterApi::Choose(Call& call, ChoiceForm form) {
  PX_TRY(const Json body, ObjectOf(call.exchange.request().body));
  PX_TRY(Pool * pool, PoolOf(body));
  PX_TRY(RouteRequest request,
         SelectionFields(body, pool->name().block_tokens, KnownWorkers(*pool)));
  const std::string_view name = form == ChoiceForm::kNew ? "request_id" : "selection_id";
  PX_TRY(std::optional<std::string> selection, TextField(body, name));

  struct State {
    std::optional<Result<Chosen>> chosen;
    Waiter* waiter = nullptr;
  };

  const auto state = std::make_shared<State>();
  const auto answer = [this, pool, form](const Result<Chosen>& chosen) -> Answer {
    if (!chosen) {
      return Fail(chosen.error());
    }
    return AnswerOf(ChosenToJson(*pool, *chosen, form));
  };
  PX_TRY(std::string named,
         parts_.reservations.Select(
             *pool, std::move(selection).value_or(""), std::move(request),
             form != ChoiceForm::kSelect, [state, answer](Result<Chosen> chosen) {
               if (state->waiter == nullptr) {
                 state->chosen = std::move(chosen);
                 return;
               }
               const Answer later = answer(chosen);
               state->waiter->Answer(later ? *later
                                           : ErrorResponse(later.error(), 1, Dialect::kKserve));
             }));
  if (state->chosen) {
    return answer(*state->chosen);
  }
  auto waiter = std::make_unique<Waiter>(*this, call.exchange, std::move(named));
  state->waiter = waiter.get();
  waiters_.emplace(state->waiter, std::move(waiter));
  deferred_ = true;
  return Response{};
}

RouterApi::Answer RouterApi::MarkPrefill(Call& call) {
  PX_TRY(const Json body, ObjectOf(call.exchange.request().body));
  PX_TRY(const std::string id, Required("request_id", TextField(body, "request_id")));
  PX_CHECK_OK(parts_.reservations.OnPrefillDone(id));
  return Done();
}

RouterApi::Answer RouterApi::MarkFree(Call& call) {
  PX_TRY(const Json body, ObjectOf(call.exchange.request().body));
  PX_TRY(const std::string id, Required("request_id", TextField(body, "request_id")));
  PX_CHECK_OK(parts_.reservations.Free(id));
  return Done();
}

RouterApi::Answer RouterApi::Reserve(Call& call) {
  PX_TRY(const Json body, ObjectOf(call.exchange.request().body));
  PX_TRY(const std::string selection, Required("selection_id", TextField(body, "selection_id")));
  PX_TRY(Pool * pool, PoolOf(body));
  PX_TRY(const std::optional<std::uint64_t> worker, WordField(body, "worker_id"));
  Chosen chosen;
  if (!worker) {
    PX_TRY(chosen, parts_.reservations.Reserve(*pool, selection));
  } else {
    PX_TRY(const auto rank, CountField(body, "dp_rank", 0, kCountMax));
    chosen.selection = selection;
    Placement& placement = chosen.placement;
    placement.target = {InstanceId{*worker}, static_cast<std::uint32_t>(rank.value_or(0))};
    PX_TRY(placement.prompt, PromptFields(body, pool->name().block_tokens));
    PX_TRY(const auto expected, CountField(body, "expected_output_tokens", 0, kCountMax));
    placement.expected_output_tokens = static_cast<std::uint32_t>(expected.value_or(0));
    PX_TRY(const auto prefill,
           CountField(body, "effective_prefill_tokens", 0, placement.prompt.token_count));
    PX_TRY(const std::optional<bool> track, BoolField(body, "track_prefill_tokens"));
    const bool tracked =
        track.value_or(prefill.has_value() || parts_.pools.options().cost.track_prefill_tokens);
    placement.prefill_tokens = tracked ? prefill.value_or(placement.prompt.token_count) : 0;
    PX_CHECK_OK(parts_.reservations.Place(*pool, selection, placement));
  }
  Json out{Json::Object{}};
  out.Set("selection_id", selection);
  out.Set("model_name", pool->name().model);
  out.Set("routing_group", pool->name().group);
  out.Set("worker_id", Raw(chosen.placement.target.instance));
  out.Set("dp_rank", std::uint64_t{chosen.placement.target.rank});
  out.Set("endpoint", EndpointOf(*pool, chosen.placement.target.instance));
  return AnswerOf(out, 201);
}

RouterApi::Answer RouterApi::PrefillComplete(Call& call) {
  PX_CHECK_OK(parts_.reservations.OnPrefillDone(call.name));
  return Done();
}

RouterApi::Answer RouterApi::OutputBlock(Call& call) {
  const std::string& text = call.exchange.request().body;
  double weight = 1;
  if (!text.empty()) {
    PX_TRY(const Json body, ObjectOf(text));
    PX_TRY(const std::optional<double> fraction, RealField(body, "decay_fraction"));
    weight = fraction.value_or(1);
    if (!(weight >= 0 && weight <= 1)) {
      return Bad("decay_fraction", "is not from 0 to 1");
    }
  }
  PX_CHECK_OK(parts_.reservations.OnOutputBlock(call.name, weight));
  return Done();
}

RouterApi::Answer RouterApi::DeleteReservation(Call& call) {
  PX_CHECK_OK(parts_.reservations.Free(call.name));
  return Done();
}

// ---- loads

Json RouterApi::LoadsToJson(Pool& pool, const RouteRequest* request) {
  Json::Array rows;
  const RouteRequest nothing;
  for (const Candidate& one :
       pool.router().Explain(request == nullptr ? nothing : *request, parts_.loop.Now())) {
    rows.push_back(LoadRow(one, request != nullptr));
  }
  Json out{Json::Object{}};
  out.Set("model_name", pool.name().model);
  out.Set("routing_group", pool.name().group);
  out.Set("loads", Json(std::move(rows)));
  out.Set("pending_count", std::uint64_t{pool.router().waiting_count()});
  out.Set("pending_isl_tokens", pool.router().waiting_tokens());
  return out;
}

RouterApi::Answer RouterApi::Loads(Call&) {
  Json::Array out;
  for (const auto& [key, pool] : parts_.pools.pools()) {
    out.push_back(LoadsToJson(*pool, nullptr));
  }
  return AnswerOf(Json(std::move(out)));
}

RouterApi::Answer RouterApi::PotentialLoads(Call& call) {
  PX_TRY(const Json body, ObjectOf(call.exchange.request().body));
  PX_TRY(Pool * pool, PoolOf(body));
  PX_TRY(const RouteRequest request,
         SelectionFields(body, pool->name().block_tokens, KnownWorkers(*pool)));
  return AnswerOf(LoadsToJson(*pool, &request));
}

RouterApi::Answer RouterApi::OverlapScores(Call& call) {
  PX_TRY(const Json body, ObjectOf(call.exchange.request().body));
  PX_TRY(Pool * pool, PoolOf(body));
  PX_TRY(const router::HashedPrompt prompt, PromptFields(body, pool->name().block_tokens));
  Json::Array scores;
  for (const router::TargetMatch& one : pool->router().Matches(prompt.block_hashes)) {
    Json row{Json::Object{}};
    row.Set("worker_id", Raw(one.target.instance));
    row.Set("dp_rank", std::uint64_t{one.target.rank});
    row.Set("device_blocks", std::uint64_t{one.match.device});
    row.Set("host_blocks", std::uint64_t{one.match.host - one.match.device});
    row.Set("disk_blocks", std::uint64_t{one.match.disk - one.match.host});
    scores.push_back(std::move(row));
  }
  Json out{Json::Object{}};
  out.Set("model_name", pool->name().model);
  out.Set("routing_group", pool->name().group);
  out.Set("block_size", std::uint64_t{pool->name().block_tokens});
  out.Set("scores", Json(std::move(scores)));
  return AnswerOf(out);
}

RouterApi::Answer RouterApi::Explain(Call& call) {
  PX_TRY(const Json body, ObjectOf(call.exchange.request().body));
  PX_TRY(Pool * pool, PoolOf(body));
  PX_TRY(const RouteRequest request,
         SelectionFields(body, pool->name().block_tokens, KnownWorkers(*pool)));
  Response out;
  out.body = ExplanationJson(ExplanationOf(pool->router(),
                                           pool->router().Foresee(request, parts_.loop.Now()),
                                           request.hashed->token_count));
  return out;
}

}  // namespace pixii::frontend
