// /v1/embeddings, /v1/score, /v1/rerank and /classify: from a body to a running pooling.
#include <utility>

#include "frontend/frontend.h"
#include "frontend/pooling.h"

namespace pixii::frontend {

namespace {

constexpr wire::JsonLimits kBodyLimits{.depth_max = 128, .values_max = 2'000'000};

std::string_view IdPrefix(Surface surface) {
  return surface == Surface::kScore    ? "score-"
         : surface == Surface::kRerank ? "rerank-"
                                       : "classify-";
}

Result<PoolingPlan> ReadBody(const std::string& text, Surface surface, const ServedModel& model,
                             const wire::ModelCard& card, bool ignore_nvext) {
  PX_TRY(wire::Json body, wire::ParseJson(text, kBodyLimits));
  if (ignore_nvext) {
    DropNvext(body);
  }
  PX_TRY(PoolingRequest request, ParsePoolingRequest(body, surface));
  const FieldNames names = request.names;
  Result<PoolingPlan> plan = PlanPooling(std::move(request), model, card);
  return plan ? std::move(plan) : Fail(names.InCallersWords(plan.error()));
}

}  // namespace

void Frontend::Pool(Call& call, Surface surface) {
  auto plan = std::make_shared<Result<PoolingPlan>>(Fail(Code::kInternal, "not prepared"));
  Prepare(
      call, surface,
      [plan, surface, ignore_nvext = options_.rules.ignore_nvext](
          const std::string& body, const ServedModel& model, const wire::ModelCard& card,
          const std::function<bool()>& /*abandoned*/) {
        *plan = ReadBody(body, surface, model, card, ignore_nvext);
      },
      [this, plan, surface](Call& ready, Result<void> read) {
        BeginPooling(ready, surface, read ? std::move(*plan) : Fail(read.error()));
      });
}

void Frontend::BeginPooling(Call& call, Surface surface, Result<PoolingPlan> plan) {
  const Result<void> allowed = plan ? CheckMayUse(call, plan->adapter) : Result<void>();
  if (!plan || !allowed) {
    RefuseWork(call, surface, false, plan ? allowed.error() : plan.error());
    return;
  }
  if (surface != Surface::kEmbeddings) {
    plan->id = NewId(IdPrefix(surface));
  }
  plan->created = environment_.loop.WallNow().unix_seconds;
  plan->fields = call.fields;
  wire::GenerateRequest prototype;
  ModelService& service = *call.service;
  prototype.model = service.card().name;
  prototype.tenant = call.key->tenant;
  prototype.priority = PriorityOf(0, call.background);
  plan->ticket = std::move(call.ticket);
  plan->ticket.Charge(plan->prompt_tokens, Now());
  prototype.adapter = plan->adapter;
  auto pooling = std::make_unique<Pooling>(
      service, call.exchange, std::move(*plan), std::move(prototype),
      [&service](const PoolingPlan& done, std::span<const std::vector<float>> results) {
        return PoolingBody(done, service.model(), service.card(), results);
      });
  Pooling* raw = pooling.get();
  Take(service, std::move(pooling));
  raw->Start();
}

void Frontend::HandleEmbeddings(Call& call) { Pool(call, Surface::kEmbeddings); }

void Frontend::HandleScore(Call& call) { Pool(call, Surface::kScore); }

void Frontend::HandleRerank(Call& call) { Pool(call, Surface::kRerank); }

void Frontend::HandleClassify(Call& call) { Pool(call, Surface::kClassify); }

}  // namespace pixii::frontend
