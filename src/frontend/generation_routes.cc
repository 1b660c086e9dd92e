// /v1/chat/completions and /v1/completions: from a body to a running generation.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <utility>

#include "frontend/error_body.h"
#include "frontend/frontend.h"
#include "frontend/media_service.h"
#include "frontend/routing_fields.h"

namespace pixii::frontend {

namespace {

constexpr std::int32_t kBackgroundLevels = 8;  // of priority, below what clients wait for
constexpr std::int32_t kLowest = std::numeric_limits<std::int32_t>::min() + 1;
constexpr std::string_view kThinkingBudget = "thinking_budget";  // a processor
constexpr wire::JsonLimits kBodyLimits{.depth_max = 128, .values_max = 2'000'000};

// A browser cannot send application/json to another origin without asking: forms and plain text are
// refused.
Result<void> CheckContentType(const wire::HttpRequest& request) {
  std::optional<std::string_view> type = request.Field("content-type");
  if (type) {
    std::string_view essence = type->substr(0, type->find(';'));
    while (!essence.empty() && essence.back() == ' ') {
      essence.remove_suffix(1);
    }
    if (!wire::EqualsIgnoreCase(essence, "application/json")) {
      return Fail(Code::kUnsupportedMediaType,
                  fmt::format("the body's type is {}, only application/json is read here",
                              wire::Json(essence.substr(0, 100)).Dump()));
    }
  }
  std::optional<std::string_view> encoding = request.Field("content-encoding");
  if (encoding && !encoding->empty() && !wire::EqualsIgnoreCase(*encoding, "identity")) {
    return Fail(Code::kUnsupportedMediaType,
                "encoded bodies are not read here; send it without Content-Encoding");
  }
  return {};
}

}  // namespace

Result<wire::Json> Frontend::ParseBody(const wire::HttpRequest& request) const {
  PX_CHECK_OK(CheckContentType(request));
  PX_TRY(wire::Json body, wire::ParseJson(request.body, kBodyLimits));
  if (!body.is_object()) {
    return Fail(Code::kInvalidArgument, "the body must be a JSON object");
  }
  return body;
}

namespace {

/// Who wants the client's JSON.
struct KeptBody {
  bool record = false;
  bool trace = false;
};

// On any thread: `model` is immutable.
Result<GenerationPlan> PrepareBody(
    const std::string& text, const std::function<Result<SurfaceRequest>(const wire::Json&)>& reader,
    const ServedModel& model, const wire::ModelCard& card, std::uint64_t seed, KeptBody keeps,
    bool ignore_nvext, std::function<bool()> abandoned, bool& stream) {
  PX_TRY(wire::Json body, wire::ParseJson(text, kBodyLimits));
  if (ignore_nvext) {
    DropNvext(body);
  }
  const wire::Json* streams = body.Find("stream");
  stream = streams != nullptr && *streams == wire::Json(true);
  PX_TRY(SurfaceRequest read, reader(body));
  if (read.thinking_tokens_max &&
      std::ranges::find(card.logits_processors, kThinkingBudget) != card.logits_processors.end()) {
    ProcessorRequest budget{.name = std::string(kThinkingBudget),
                            .arguments = wire::Json(wire::Json::Object{})};
    budget.arguments.Set("budget", *read.thinking_tokens_max);
    read.request.logits_processors.push_back(std::move(budget));
  }
  PromptTimes times;
  read.request.chat.times = &times;
  Result<GenerationPlan> plan =
      PlanGeneration(read.request, model, card, seed, std::move(abandoned));
  if (!plan) {
    return Fail(read.request.names.InCallersWords(plan.error()));
  }
  plan->prompt_times = times;
  plan->warms_next_turn =
      read.request.warms_next_turn && read.request.surface == Surface::kChat && !read.tokens_only;
  if (keeps.record || keeps.trace || plan->warms_next_turn) {
    std::string asked = read.writer ? read.body.Dump() : text;
    plan->recorded_body = keeps.record ? asked : std::string();
    plan->kept_body = std::move(asked);
  }
  plan->writer = std::move(read.writer);
  plan->tokens_only = read.tokens_only;
  plan->choices.wants_tokens = plan->choices.wants_tokens || read.tokens_only;
  return plan;
}

}  // namespace

// Shared by the loop and one thread of the pool, each in its turn.
struct Frontend::Preparation final : ExchangeWatcher {
  void OnClientGone() override {
    exchange = nullptr;
    gone.store(true, std::memory_order_relaxed);
  }

  void OnRoom() override {}

  Exchange* exchange = nullptr;
  std::atomic<bool> gone = false;  // looked at by the thread
  std::vector<wire::HttpField> fields;
  std::shared_ptr<const ApiKeys> keys;  // that `key` is one of
  const ApiKey* key = nullptr;
  QuotaTicket ticket;
  const Route* route = nullptr;
  ModelService* service = nullptr;  // held
  bool background = false;
  bool ahead = false;
  std::unique_ptr<RequestTrace> trace;
  std::string body;
  BodyReader reader;
  AfterBody after;
};

Result<void> Frontend::Admit(Call& call) {
  if (draining_) {
    return Fail(Code::kShuttingDown, "the server shuts down; ask another");
  }
  const auto shut = [&](std::string_view gate) {
    registry_
        .GetCounter(obs::MetricId::kAdmissionRejectionTotal,
                    {gate, call.service != nullptr ? call.service->name() : kUnknownModel})
        .Add();
  };
  if (call.key->limited()) {
    if (Result<void> admitted = AdmitByQuota(call); !admitted) {
      shut("quota");
      return admitted;
    }
  }
  if (call.service != nullptr) {
    if (Result<void> admitted = call.service->AdmitByLoad(); !admitted) {
      shut("busy");
      return admitted;
    }
  }
  if (admitted_count() >= options_.generations_max) {
    shut("requests");
    return Fail(Code::kResourceExhausted,
                fmt::format("{} requests run or wait, which is the limit; try again later",
                            options_.generations_max));
  }
  return {};
}

namespace {

std::uint32_t WholeSeconds(rt::Duration duration) {
  return static_cast<std::uint32_t>(
      std::max<std::int64_t>(1, std::chrono::ceil<std::chrono::seconds>(duration).count()));
}

// OpenAI's names of them.
void AppendQuotaFields(std::string_view what, const QuotaState& state,
                       std::vector<wire::HttpField>& out) {
  if (state.limit == 0) {
    return;
  }
  const auto seconds = std::chrono::duration<double>(state.full_in).count();
  out.push_back({fmt::format("x-ratelimit-limit-{}", what), fmt::format("{}", state.limit)});
  out.push_back({fmt::format("x-ratelimit-remaining-{}", what), fmt::format("{}", state.left)});
  out.push_back({fmt::format("x-ratelimit-reset-{}", what), fmt::format("{:.3f}s", seconds)});
}

}  // namespace

Result<void> Frontend::AdmitByQuota(Call& call) {
  const auto index = static_cast<std::size_t>(call.key - keys_->all().data());
  QuotaLedger::Verdict verdict = quotas_.Admit(index, Now());
  AppendQuotaFields("requests", quotas_.Requests(index, Now()), call.fields);
  AppendQuotaFields("tokens", quotas_.Tokens(index, Now()), call.fields);
  if (!verdict.limit.empty()) {
    call.retry_after_seconds = WholeSeconds(verdict.retry_in);
    return Fail(Code::kQuotaExceeded,
                fmt::format("{} of this API key is {}; ask again in {} s", verdict.limit,
                            verdict.limit_amount, call.retry_after_seconds));
  }
  call.ticket = std::move(verdict.ticket);
  return {};
}

// As if it were not there: a key learns nothing of what others use.
Result<void> Frontend::CheckMayUse(const Call& call, const std::string& adapter) const {
  const std::string& name = adapter.empty() ? call.service->name() : adapter;
  return call.key->MayUse(name) ? Result<void>() : Fail(ModelNotFound(name));
}

namespace {

/// A letter or underscore that is escaped without need: a name might be hidden so.
bool HidesLetters(std::string_view body) {
  for (std::size_t at = body.find("\\u00"); at != std::string_view::npos;
       at = body.find("\\u00", at + 1)) {
    if (at + 4 < body.size() && body[at + 4] >= '4' && body[at + 4] <= '7') {
      return true;
    }
  }
  return false;
}

/// Whether reading it may get a picture, of an earlier response too. May be wrong only by saying
/// so, which costs a thread change: pictures are never waited for on the loop.
bool MayShowPictures(std::string_view body) {
  return body.find("_url") != std::string_view::npos ||
         body.find("image_embeds") != std::string_view::npos ||
         body.find("\"source\"") != std::string_view::npos ||
         body.find("previous_response_id") != std::string_view::npos || HidesLetters(body);
}

/// Whether its pictures may have to be waited for: they come from other hosts, or as videos. Those
/// that a body brings itself are not held up by such. May be wrong as above; what escapes a colon
/// or what follows it might be a URL.
bool MayWaitForPictures(std::string_view body) {
  return body.find(":/") != std::string_view::npos || body.find(":\\") != std::string_view::npos ||
         body.find("\\u003") != std::string_view::npos ||
         body.find("video_url") != std::string_view::npos ||
         body.find("previous_response_id") != std::string_view::npos || HidesLetters(body);
}

/// Whether reading it may compile a grammar. May be wrong: that costs a thread change.
bool MayTakeLong(std::string_view body) {
  return body.find("response_format") != std::string_view::npos ||
         body.find("guided_") != std::string_view::npos ||
         body.find("structured_outputs") != std::string_view::npos;
}

}  // namespace

// By the name in the body, which is read no further for that.
Result<ModelService*> Frontend::ChooseModel(const Call& call) const {
  if (call.service != nullptr) {
    return call.service;
  }
  if (media_ && models_.serving().empty()) {
    return Fail(MediaOnly());
  }
  if (media_ && PeekModel(call.exchange.request().body) == media_->model().name) {
    return Fail(MediaOnly());
  }
  if (ModelService* only = models_.only()) {
    return only;
  }
  const std::string& body = call.exchange.request().body;
  if (const std::optional<std::string> name = PeekModel(body)) {
    return models_.Find(*name);
  }
  PX_TRY(const wire::Json read, ParseBody(call.exchange.request()));
  const wire::Json* model = read.Find("model");
  if (model != nullptr && !model->is_null() && !models_.serving().empty()) {
    return models_.serving().front().get();  // whoever reads it says that it is no text
  }
  return models_.Find({});
}

// Of work that no model takes.
void Frontend::CountRejection(const Call& call, Surface surface) {
  if (call.service != nullptr) {
    call.service->metrics().OnRejected(surface);
  }
}

// Reads the body here, or on a thread if it is long or may take long.
void Frontend::Prepare(Call& call, Surface surface, BodyReader reader, AfterBody after) {
  const Result<ModelService*> chosen = ChooseModel(call);
  call.service = chosen ? *chosen : nullptr;
  Result<void> admitted = Admit(call);
  if (!admitted && admitted.error().code() == Code::kResourceExhausted) {
    CountRejection(call, surface);
  }
  if (admitted) {
    admitted = CheckContentType(call.exchange.request());
  }
  if (admitted && !chosen) {
    admitted = Fail(chosen.error());
  }
  if (!admitted) {
    after(call, Fail(admitted.error()));
    return;
  }
  const std::string& body = call.exchange.request().body;
  rt::WorkPool* pool = nullptr;
  if (media_pool_ && MayShowPictures(body)) {
    pool =
        media_wait_pool_ && MayWaitForPictures(body) ? media_wait_pool_.get() : media_pool_.get();
  } else if (body.size() >= options_.text_offload_bytes_min || MayTakeLong(body)) {
    pool = pool_.get();
  }
  if (pool != nullptr) {
    PrepareOnThread(call, surface, std::move(reader), std::move(after), *pool);
    return;
  }
  FrontendMetrics& metrics = call.service->metrics();
  const rt::Time begun = Now();
  metrics.OnPreparing();
  reader(body, call.service->model(), call.service->card(), {});
  metrics.OnPrepared(Now() - begun);
  after(call, {});
}

void Frontend::PrepareOnThread(Call& call, Surface surface, BodyReader reader, AfterBody after,
                               rt::WorkPool& pool) {
  auto job = std::make_shared<Preparation>();
  job->exchange = &call.exchange;
  job->fields = std::move(call.fields);
  job->keys = keys_;
  job->key = call.key;
  job->ticket = std::move(call.ticket);
  job->route = call.route;
  job->service = call.service;
  job->background = call.background;
  job->ahead = call.ahead;
  job->trace = std::move(call.trace);
  job->body = call.exchange.request().body;
  job->reader = std::move(reader);
  job->after = std::move(after);
  call.exchange.Watch(job.get());
  bool taken = pool.Submit(
      [job, closing = closing_, model = call.service->shared_model(),
       card = std::make_unique<wire::ModelCard>(call.service->card())] {
        job->reader(job->body, *model, *card, [job, closing] {
          return job->gone.load(std::memory_order_relaxed) ||
                 closing->load(std::memory_order_relaxed);
        });
      },
      [this, job, begun = Now()] {
        --preparing_count_;
        job->service->metrics().OnPrepared(Now() - begun);
        reap_.WakeAll();  // the last of a model that is retired, perhaps
        idle_.WakeAll();
        if (job->exchange != nullptr) {
          Call again{*job->exchange, std::move(job->fields), job->key, std::move(job->ticket)};
          again.route = job->route;
          again.service = job->service;
          again.background = job->background;
          again.ahead = job->ahead;
          again.trace = std::move(job->trace);
          job->after(again, {});
        }
        job->service->Release();
      });
  if (!taken) {
    call.exchange.Watch(nullptr);
    call.fields = std::move(job->fields);
    call.trace = std::move(job->trace);
    CountRejection(call, surface);
    job->after(call, Fail(Code::kResourceExhausted,
                          "too many long prompts or pictures wait to be read; try again later"));
    return;
  }
  call.service->Hold();
  call.service->metrics().OnPreparing();
  ++preparing_count_;
}

void Frontend::Generate(Call& call, Surface surface, SurfaceReader reader, PlanUse use) {
  struct Prepared {
    bool stream = false;
    Result<GenerationPlan> plan = Fail(Code::kInternal, "not prepared");
  };

  BeginTrace(call, surface);
  auto prepared = std::make_shared<Prepared>();
  std::uint64_t seed = environment_.loop.random().Next();
  const KeptBody keeps{.record = static_cast<bool>(environment_.record),
                       .trace = traces_.options().wants_bodies};
  Prepare(
      call, surface,
      [prepared, seed, keeps, ignore_nvext = options_.rules.ignore_nvext,
       reader = std::move(reader)](const std::string& body, const ServedModel& model,
                                   const wire::ModelCard& card, std::function<bool()> abandoned) {
        prepared->plan = PrepareBody(body, reader, model, card, seed, keeps, ignore_nvext,
                                     std::move(abandoned), prepared->stream);
      },
      [this, prepared, surface, use](Call& ready, Result<void> read) {
        (this->*use)(ready, surface, prepared->stream,
                     read ? std::move(prepared->plan) : Fail(read.error()));
      });
}

void Frontend::RefuseWork(Call& call, Surface surface, bool stream, const Error& error) {
  if (!call.ahead) {
    FrontendMetrics::CountRequest(registry_,
                                  call.service != nullptr ? call.service->name() : kUnknownModel,
                                  surface, stream, ClientStatus(error), MetricClass(error));
  }
  call.exchange.Watch(nullptr);
  if (call.trace) {
    call.trace->stream = stream;
    call.trace->error = error;
    call.trace->answered = Now();
    call.trace->payload.reset();  // it has no prompt
    traces_.Add(std::move(call.trace));
  }
  Refuse(call, error);
}

std::int32_t Frontend::PriorityOf(std::int32_t asked, bool background) {
  return background ? std::max(asked, kLowest + kBackgroundLevels) - kBackgroundLevels : asked;
}

std::string Frontend::NewId(std::string_view prefix) {
  rt::Random& random = environment_.loop.random();
  return fmt::format("{}{:016x}{:08x}", prefix, random.Next(), random.Next() >> 32);
}

// What the body does not say: whose request it is, and where its headers want it to go.
Result<void> Frontend::Complete(const Call& call, GenerationPlan& plan) const {
  PX_CHECK_OK(CheckMayUse(call, plan.prototype.adapter));
  if (!options_.rules.ignore_nvext) {
    PX_CHECK_OK(ReadRoutingHeaders(call.exchange.request(), plan.prototype));
  }
  if (plan.prototype.routing && plan.prototype.routing->worker && !call.service->link().routes()) {
    return Fail(
        Code::kUnsupported,
        "nvext.backend_instance_id: this server has one worker, and a request cannot choose",
        "nvext.backend_instance_id");
  }
  plan.prototype.tenant = call.key->tenant;
  plan.prototype.priority =
      call.ahead ? kLowest : PriorityOf(plan.prototype.priority, call.background);
  return {};
}

void Frontend::Begin(Call& call, Surface surface, bool stream, Result<GenerationPlan> plan) {
  const Result<void> complete = plan ? Complete(call, *plan) : Result<void>();
  if (!plan || !complete) {
    RefuseWork(call, surface, stream, plan ? complete.error() : plan.error());
    return;
  }
  plan->shape.id = NewId(surface == Surface::kChat ? "chatcmpl-" : "cmpl-");
  plan->shape.created = environment_.loop.WallNow().unix_seconds;
  plan->ticket = std::move(call.ticket);
  for (const std::vector<TokenId>& prompt : plan->prompts) {
    plan->ticket.Charge(prompt.size(), Now());
  }
  if (plan->shape.nvext.query_worker) {
    AnswerQuery(call, surface, *plan);
    return;
  }
  if (call.exchange.plan_taker() != nullptr) {
    HandOver(call, surface, *plan);
    return;
  }
  const bool ahead = call.ahead;
  if (!ahead && !plan->prototype.session.empty() && !next_turns_.empty()) {
    next_turns_.Arrived(call.key->Owner(), plan->prototype.session);
  }
  if (call.trace) {
    KeepForTrace(call, *plan);
    plan->trace = std::move(call.trace);
  }
  plan->fields = call.fields;
  plan->dialect = call.route->dialect;
  if (plan->writer) {
    plan->writer->Begin({.id = NewId(""),
                         .created = plan->shape.created,
                         .model = plan->shape.model,
                         .tenant = call.key->tenant,
                         .now = Now()});
  }
  auto generation = std::make_unique<Generation>(*call.service, call.exchange, std::move(*plan));
  Generation* raw = generation.get();
  Take(*call.service, std::move(generation), ahead);
  raw->Start();
}

void Frontend::KeepForTrace(Call& call, GenerationPlan& plan) const {
  RequestTrace& trace = *call.trace;
  trace.prepared = Now();
  trace.prompt_times = plan.prompt_times;
  if (plan.warms_next_turn && !call.ahead && !trace.session.is_final) {
    trace.next_turn_of = call.key->Owner();
  }
  if (traces_.options().wants_payload || !trace.next_turn_of.empty()) {
    trace.payload = std::make_unique<TracePayload>();
    trace.payload->body = std::move(plan.kept_body);
  }
}

void Frontend::OnTraced(std::unique_ptr<RequestTrace> trace) {
  if (!trace->next_turn_of.empty() && !draining_) {
    next_turns_.OnEnded(*trace);
  }
  traces_.Add(std::move(trace));
}

namespace {

Result<SurfaceRequest> ReadCompletions(const wire::Json& body, Surface surface,
                                       const RequestRules& rules) {
  PX_TRY(OpenAiRequest request, ParseOpenAiRequest(body, surface, rules));
  return SurfaceRequest{.request = std::move(request), .body = {}, .writer = nullptr};
}

}  // namespace

void Frontend::HandleChat(Call& call) {
  Generate(call, Surface::kChat, [this](const wire::Json& body) {
    return ReadCompletions(body, Surface::kChat, options_.rules);
  });
}

void Frontend::HandleCompletions(Call& call) {
  Generate(call, Surface::kCompletions, [this](const wire::Json& body) {
    return ReadCompletions(body, Surface::kCompletions, options_.rules);
  });
}

}  // namespace pixii::frontend
