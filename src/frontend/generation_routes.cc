// /v1/chat/completions and /v1/completions: from a body to a running generation.
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "frontend/error_body.h"
#include "frontend/frontend.h"

namespace pixii::frontend {

namespace {

constexpr std::int32_t kBackgroundLevels = 8;  // of priority, below what clients wait for
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

// On any thread: `model` is immutable.
Result<GenerationPlan> PrepareBody(
    const std::string& text, const std::function<Result<SurfaceRequest>(const wire::Json&)>& reader,
    const ServedModel& model, const wire::ModelCard& card, std::uint64_t seed, bool keep_body,
    bool ignore_nvext, bool& stream) {
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
  Result<GenerationPlan> plan = PlanGeneration(read.request, model, card, seed);
  if (!plan) {
    return Fail(read.request.names.InCallersWords(plan.error()));
  }
  if (keep_body) {
    plan->recorded_body = read.writer ? read.body.Dump() : text;
  }
  plan->writer = std::move(read.writer);
  plan->tokens_only = read.tokens_only;
  plan->choices.wants_tokens = plan->choices.wants_tokens || read.tokens_only;
  return plan;
}

}  // namespace

// Shared by the loop and one thread of the pool, each in its turn.
struct Frontend::Preparation final : ExchangeWatcher {
  void OnClientGone() override { exchange = nullptr; }

  void OnRoom() override {}

  Exchange* exchange = nullptr;
  std::vector<wire::HttpField> fields;
  std::shared_ptr<const ApiKeys> keys;  // that `key` is one of
  const ApiKey* key = nullptr;
  QuotaTicket ticket;
  const Route* route = nullptr;
  bool background = false;
  std::string body;
  BodyReader reader;
  AfterBody after;
};

Result<void> Frontend::Admit(Call& call, Surface surface) {
  if (draining_) {
    return Fail(Code::kShuttingDown, "the server shuts down; ask another");
  }
  if (call.key->limited()) {
    PX_CHECK_OK(AdmitByQuota(call));
  }
  if (Result<void> room = AdmitByLoad(); !room) {
    metrics_.OnRejected(surface);
    return room;
  }
  if (admitted_count() >= options_.generations_max) {
    metrics_.OnRejected(surface);
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
  const std::string& name = adapter.empty() ? model_.name() : adapter;
  return call.key->MayUse(name) ? Result<void>() : Fail(ModelNotFound(name));
}

namespace {

/// Whether reading it may compile a grammar. May be wrong: that costs a thread change.
bool MayConstrain(std::string_view body) {
  return body.find("response_format") != std::string_view::npos ||
         body.find("guided_") != std::string_view::npos ||
         body.find("structured_outputs") != std::string_view::npos;
}

}  // namespace

// Reads the body here, or on a thread if it is long or may take long.
void Frontend::Prepare(Call& call, Surface surface, BodyReader reader, AfterBody after) {
  Result<void> admitted = Admit(call, surface);
  if (admitted) {
    admitted = CheckContentType(call.exchange.request());
  }
  if (!admitted) {
    after(call, Fail(admitted.error()));
    return;
  }
  const std::string& body = call.exchange.request().body;
  if (pool_ && (body.size() >= options_.text_offload_bytes_min || MayConstrain(body))) {
    PrepareOnThread(call, surface, std::move(reader), std::move(after));
    return;
  }
  reader(body, environment_.link.card());
  after(call, {});
}

void Frontend::PrepareOnThread(Call& call, Surface surface, BodyReader reader, AfterBody after) {
  auto job = std::make_shared<Preparation>();
  job->exchange = &call.exchange;
  job->fields = std::move(call.fields);
  job->keys = keys_;
  job->key = call.key;
  job->ticket = std::move(call.ticket);
  job->route = call.route;
  job->background = call.background;
  job->body = call.exchange.request().body;
  job->reader = std::move(reader);
  job->after = std::move(after);
  call.exchange.Watch(job.get());
  bool taken = pool_->Submit(
      [job, card = std::make_unique<wire::ModelCard>(environment_.link.card())] {
        job->reader(job->body, *card);
      },
      [this, job] {
        --preparing_count_;
        idle_.WakeAll();
        if (job->exchange != nullptr) {
          Call again{*job->exchange, std::move(job->fields), job->key, std::move(job->ticket)};
          again.route = job->route;
          again.background = job->background;
          job->after(again, {});
        }
      });
  if (!taken) {
    call.exchange.Watch(nullptr);
    call.fields = std::move(job->fields);
    metrics_.OnRejected(surface);
    job->after(call, Fail(Code::kResourceExhausted,
                          "too many long prompts wait to be tokenized; try again later"));
    return;
  }
  ++preparing_count_;
}

void Frontend::Generate(Call& call, Surface surface, SurfaceReader reader) {
  struct Prepared {
    bool stream = false;
    Result<GenerationPlan> plan = Fail(Code::kInternal, "not prepared");
  };

  auto prepared = std::make_shared<Prepared>();
  std::uint64_t seed = environment_.loop.random().Next();
  bool keep_body = static_cast<bool>(environment_.record);
  Prepare(
      call, surface,
      [this, prepared, seed, keep_body, reader = std::move(reader)](const std::string& body,
                                                                    const wire::ModelCard& card) {
        prepared->plan = PrepareBody(body, reader, model_, card, seed, keep_body,
                                     options_.rules.ignore_nvext, prepared->stream);
      },
      [this, prepared, surface](Call& ready, Result<void> read) {
        Begin(ready, surface, prepared->stream,
              read ? std::move(prepared->plan) : Fail(read.error()));
      });
}

void Frontend::RefuseWork(Call& call, Surface surface, bool stream, const Error& error) {
  metrics_.OnRequest(surface, stream, ClientStatus(error), MetricClass(error));
  call.exchange.Watch(nullptr);
  Refuse(call, error);
}

std::int32_t Frontend::PriorityOf(std::int32_t asked, bool background) {
  constexpr std::int32_t kLowest = std::numeric_limits<std::int32_t>::min() + 1;
  return background ? std::max(asked, kLowest + kBackgroundLevels) - kBackgroundLevels : asked;
}

std::string Frontend::NewId(std::string_view prefix) {
  rt::Random& random = environment_.loop.random();
  return fmt::format("{}{:016x}{:08x}", prefix, random.Next(), random.Next() >> 32);
}

void Frontend::Begin(Call& call, Surface surface, bool stream, Result<GenerationPlan> plan) {
  const Result<void> allowed = plan ? CheckMayUse(call, plan->prototype.adapter) : Result<void>();
  if (!plan || !allowed) {
    RefuseWork(call, surface, stream, plan ? allowed.error() : plan.error());
    return;
  }
  plan->shape.id = NewId(surface == Surface::kChat ? "chatcmpl-" : "cmpl-");
  plan->shape.created = environment_.loop.WallNow().unix_seconds;
  plan->prototype.tenant = call.key->tenant;
  plan->prototype.priority = PriorityOf(plan->prototype.priority, call.background);
  plan->ticket = std::move(call.ticket);
  for (const std::vector<TokenId>& prompt : plan->prompts) {
    plan->ticket.Charge(prompt.size(), Now());
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
  GenerationHost& host = *this;
  auto generation = std::make_unique<Generation>(host, call.exchange, std::move(*plan));
  Generation* raw = generation.get();
  work_.emplace(raw, std::move(generation));
  metrics_.OnAdmitted();
  raw->Start();
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
