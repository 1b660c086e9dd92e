// /v1/chat/completions and /v1/completions: from a body to a running generation.
#include <fmt/format.h>

#include <utility>

#include "frontend/error_body.h"
#include "frontend/frontend.h"

namespace pixii::frontend {

namespace {

constexpr wire::JsonLimits kBodyLimits{.depth_max = 128, .values_max = 4'000'000};

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

std::string NewId(std::string_view prefix, rt::Random& random) {
  return fmt::format("{}{:016x}{:08x}", prefix, random.Next(), random.Next() >> 32);
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

Result<GenerationPlan> Frontend::Plan(const Call& call, Surface surface, GenerationRecord& record) {
  if (draining_) {
    return Fail(Code::kShuttingDown, "the server shuts down; ask another");
  }
  if (generations_.size() - done_.size() >= options_.generations_max) {
    metrics_.OnRejected(surface);
    return Fail(Code::kResourceExhausted,
                fmt::format("{} requests run or wait, which is the limit; try again later",
                            options_.generations_max));
  }
  PX_TRY(wire::Json body, ParseBody(call.exchange.request()));
  PX_TRY(OpenAiRequest request, ParseOpenAiRequest(body, surface));
  record.stream = request.streams();
  rt::Random& random = environment_.loop.random();
  PX_TRY(GenerationPlan plan,
         PlanGeneration(request, model_, environment_.link.card(), random.Next()));
  plan.shape.id = NewId(surface == Surface::kChat ? "chatcmpl-" : "cmpl-", random);
  plan.shape.created = environment_.loop.WallNow().unix_seconds;
  plan.prototype.tenant = call.tenant;
  plan.fields = call.fields;
  return plan;
}

void Frontend::Generate(Call& call, Surface surface) {
  GenerationRecord record;
  record.surface = surface;
  Result<GenerationPlan> plan = Plan(call, surface, record);
  if (!plan) {
    metrics_.OnRequest(surface, record.stream, ClientStatus(plan.error()),
                       MetricClass(plan.error()));
    Refuse(call, plan.error());
    return;
  }
  GenerationHost& host = *this;
  auto generation = std::make_unique<Generation>(host, call.exchange, std::move(*plan));
  Generation* raw = generation.get();
  generations_.emplace(raw, std::move(generation));
  metrics_.OnAdmitted();
  raw->Start();
}

void Frontend::HandleChat(Call& call) { Generate(call, Surface::kChat); }

void Frontend::HandleCompletions(Call& call) { Generate(call, Surface::kCompletions); }

}  // namespace pixii::frontend
