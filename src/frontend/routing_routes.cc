// /router/explain, and requests that only ask where they would go, or are sent there by others.
#include <utility>

#include "control/route_explanation.h"
#include "frontend/error_body.h"
#include "frontend/explanation_json.h"
#include "frontend/frontend.h"
#include "wire/sse.h"

namespace pixii::frontend {

using wire::Json;

namespace {

// A body of chats or completions, or token ids alone.
Result<SurfaceRequest> ReadAny(const Json& body, const RequestRules& rules) {
  const bool chat = body.Find("messages") != nullptr;
  Json common = body;
  if (const Json* ids = body.is_object() ? body.Find("token_ids") : nullptr; ids != nullptr) {
    Json prompt = *ids;
    std::erase_if(common.object(), [](const auto& member) { return member.first == "token_ids"; });
    common.Set("prompt", std::move(prompt));
  }
  PX_TRY(OpenAiRequest request,
         ParseOpenAiRequest(common, chat ? Surface::kChat : Surface::kCompletions, rules));
  return SurfaceRequest{.request = std::move(request), .body = {}, .writer = nullptr};
}

// Of one prompt: others would go where they like.
wire::GenerateRequest FirstRequest(const GenerationPlan& plan) {
  wire::GenerateRequest out = plan.prototype;
  out.prompt = plan.prompts.front();
  return out;
}

}  // namespace

void Frontend::HandleExplainRoute(Call& call) {
  Generate(
      call, Surface::kCompletions,
      [this](const Json& body) { return ReadAny(body, options_.rules); }, &Frontend::Explain);
}

void Frontend::Explain(Call& call, Surface /*surface*/, bool /*stream*/,
                       Result<GenerationPlan> plan) {
  call.exchange.Watch(nullptr);
  const Result<void> complete = plan ? Complete(call, *plan) : Result<void>(Fail(plan.error()));
  if (!complete) {
    Refuse(call, complete.error());
    return;
  }
  const Result<control::RouteExplanation> explained =
      call.service->link().ExplainRoute(FirstRequest(*plan));
  Answer(call,
         explained ? Result<std::string>(ExplanationJson(*explained)) : Fail(explained.error()));
}

void Frontend::AnswerQuery(Call& call, Surface surface, const GenerationPlan& plan) {
  const Result<control::RouteExplanation> explained =
      call.service->link().ExplainRoute(FirstRequest(plan));
  if (!explained || !explained->choice) {
    RefuseWork(call, surface, plan.stream, explained ? *explained->refusal : explained.error());
    return;
  }
  call.exchange.Watch(nullptr);
  std::string body = QueryBody(plan.shape, plan.prompts.front(), *explained->choice, plan.stream);
  if (!plan.stream) {
    Answer(call, std::move(body));
    return;
  }
  call.exchange.StartStream("text/event-stream; charset=utf-8", std::move(call.fields));
  wire::AppendSseData(call.exchange.stream(), body);
  call.exchange.stream() += wire::kSseDone;
  call.exchange.EndStream();
}

/// A call that may still be refused, once its plan has been handed over.
struct Frontend::HandedOver {
  HandedOver(Call& call, Surface asked, bool streams, std::shared_ptr<const ApiKeys> of,
             rt::WaitList& reap)
      : again{call.exchange, std::move(call.fields), call.key},
        surface(asked),
        stream(streams),
        keys(std::move(of)),
        reaper(reap) {
    again.route = call.route;
    again.service = call.service;
    again.service->Hold();
  }

  HandedOver(const HandedOver&) = delete;
  HandedOver& operator=(const HandedOver&) = delete;

  ~HandedOver() {
    again.service->Release();
    reaper.WakeAll();  // the last of a model that is retired, perhaps
  }

  Call again;
  Surface surface;
  bool stream;
  std::shared_ptr<const ApiKeys> keys;  // `again` points into them
  rt::WaitList& reaper;
};

void Frontend::HandOver(Call& call, Surface surface, const GenerationPlan& plan) {
  call.exchange.Watch(nullptr);
  PlannedRequest planned{.model = call.service->name(),
                         .service = static_cast<std::uint64_t>(call.service->id()),
                         .request = FirstRequest(plan),
                         .whole = plan.prompts.size() == 1 && plan.prototype.media.empty()};
  planned.request.id = NextRequestId();
  const auto held = std::make_shared<HandedOver>(call, surface, plan.stream, keys_, reap_);
  call.exchange.plan_taker()->Take(std::move(planned), [this, held](const Error& error) {
    RefuseWork(held->again, held->surface, held->stream, error);
  });
}

}  // namespace pixii::frontend
