// The routes that need no engine: models, tokenizer, health, metrics.
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "frontend/field_error.h"
#include "frontend/frontend.h"
#include "frontend/media_service.h"

namespace pixii::frontend {

using wire::Json;

namespace {

Error NoTokenizer(const ServedModel& model) {
  return Error(Code::kUnsupported, fmt::format("the model \"{}\" has no tokenizer", model.name()),
               "model");
}

void AppendIds(std::string& out, std::span<const TokenId> ids) {
  out += '[';
  for (std::size_t i = 0; i < ids.size(); ++i) {
    fmt::format_to(std::back_inserter(out), "{}{}", i == 0 ? "" : ",", ids[i]);
  }
  out += ']';
}

struct TokenizeRequest {
  std::string model;
  std::optional<std::string> prompt;
  ChatPrompt chat;
  std::optional<bool> add_special_tokens;
  std::optional<bool> add_generation_prompt;
  bool return_token_strs = false;
};

Result<bool> ReadFlag(std::string_view name, const Json& value) {
  if (!value.is_bool()) {
    return Bad(name, fmt::format("{} is neither true nor false", Shown(value)));
  }
  return value.boolean();
}

Result<std::string> ReadString(std::string_view name, const Json& value) {
  if (!value.is_string()) {
    return Bad(name, fmt::format("{} is not a string", Shown(value)));
  }
  return value.string();
}

Result<void> ReadTokenizeField(const std::string& name, const Json& value, TokenizeRequest& out) {
  if (name == "model") {
    PX_TRY(out.model, ReadString(name, value));
  } else if (name == "prompt") {
    PX_TRY(out.prompt, ReadString(name, value));
  } else if (name == "messages") {
    PX_TRY(ChatMessages read, ParseMessages(value));
    if (!read.media.empty()) {
      return NotDone(read.media[0].where, "pictures are not tokenized here");
    }
    out.chat.messages = std::move(read.messages);
  } else if (name == "tools") {
    PX_TRY(out.chat.tools, ParseTools(value));
  } else if (name == "chat_template_kwargs") {
    if (!value.is_object()) {
      return Bad(name, "must be an object");
    }
    out.chat.template_kwargs = value;
  } else if (name == "add_special_tokens") {
    PX_TRY(out.add_special_tokens, ReadFlag(name, value));
  } else if (name == "return_token_strs") {
    PX_TRY(out.return_token_strs, ReadFlag(name, value));
  } else if (name == "add_generation_prompt") {
    PX_TRY(out.add_generation_prompt, ReadFlag(name, value));
  } else if (name == "continue_final_message") {
    PX_TRY(out.chat.continue_final_message, ReadFlag(name, value));
  } else {
    std::string shown = name.substr(0, 100);
    return Fail(Code::kInvalidArgument, fmt::format("unknown field \"{}\"", shown), shown);
  }
  return {};
}

// The field that means nothing beside a prompt, or beside messages; empty: there is none.
std::string_view StrayField(const TokenizeRequest& request) {
  if (!request.prompt) {
    return request.add_special_tokens == true ? "add_special_tokens" : "";
  }
  return !request.chat.tools.is_null()             ? "tools"
         : !request.chat.template_kwargs.is_null() ? "chat_template_kwargs"
         : request.add_generation_prompt           ? "add_generation_prompt"
         : request.chat.continue_final_message     ? "continue_final_message"
                                                   : "";
}

Result<TokenizeRequest> ReadTokenize(const Json& body) {
  TokenizeRequest out;
  for (const auto& [name, value] : body.object()) {
    if (!value.is_null()) {
      PX_CHECK_OK(ReadTokenizeField(name, value, out));
    }
  }
  if (out.prompt.has_value() == !out.chat.messages.is_null()) {
    return Bad("prompt", "exactly one of prompt and messages is needed");
  }
  const std::string_view stray = StrayField(out);
  if (!stray.empty()) {
    return Bad(stray, out.prompt ? "is for messages, not for a prompt"
                                 : "is for a prompt; the template says it of messages");
  }
  if (out.chat.continue_final_message && out.add_generation_prompt == true) {
    return Bad("continue_final_message", "excludes add_generation_prompt");
  }
  out.chat.add_generation_prompt =
      out.add_generation_prompt.value_or(!out.chat.continue_final_message);
  return out;
}

}  // namespace

namespace {

std::string MediaModelObject(const MediaModel& model) {
  Json out{Json::Object{}};
  out.Set("id", model.name);
  out.Set("object", "model");
  out.Set("created", model.created);
  out.Set("owned_by", "pixii");
  out.Set("task", "video,image");
  out.Set("size", fmt::format("{}x{}", model.defaults.width, model.defaults.height));
  out.Set("num_frames", static_cast<std::int64_t>(model.defaults.frames));
  out.Set("fps", model.defaults.frames_per_second);
  return out.Dump();
}

}  // namespace

std::string_view Frontend::TaskName(const wire::ModelCard& card, const ServedModel& model) {
  switch (card.task) {
    case wire::ModelTask::kEmbed:
      return "embed";
    case wire::ModelTask::kClassify:
      return card.feature_count == 1 ? "score" : "classify";
    case wire::ModelTask::kGenerate:
      break;
  }
  return model.pooling.score ? "generate,score" : "generate";
}

std::string Frontend::ModelObject(const ModelService& service) {
  const wire::ModelCard& card = service.card();
  std::string out = R"({"id":)";
  wire::AppendJsonString(out, service.name());
  fmt::format_to(
      std::back_inserter(out),
      R"(,"object":"model","created":{},"owned_by":"pixii","max_model_len":{},"task":"{}")",
      service.model().created, card.context_tokens_max, TaskName(card, service.model()));
  if (card.task == wire::ModelTask::kEmbed) {
    fmt::format_to(std::back_inserter(out), R"(,"dimensions":{})", card.feature_count);
  } else if (card.task == wire::ModelTask::kClassify) {
    fmt::format_to(std::back_inserter(out), R"(,"num_classes":{})", card.feature_count);
  }
  out += '}';
  return out;
}

std::string Frontend::AdapterObject(const ModelService& service, const wire::AdapterCard& card) {
  std::string out = R"({"id":)";
  wire::AppendJsonString(out, card.name);
  fmt::format_to(
      std::back_inserter(out),
      R"(,"object":"model","created":{},"owned_by":"pixii","max_model_len":{},"parent":)",
      service.model().created, service.card().context_tokens_max);
  wire::AppendJsonString(out, service.name());
  out += R"(,"root":)";
  wire::AppendJsonString(out, card.source);
  out += '}';
  return out;
}

/// What a name means. Errors: those of ModelTable::Find, kNotFound also if the call's key may not
/// use it.
Result<Frontend::Named> Frontend::FindAllowed(const Call& call, std::string_view name) const {
  if (media_ && (models_.serving().empty() || name == media_->model().name)) {
    return Fail(MediaOnly());
  }
  PX_TRY(ModelService * service, models_.Find(name));
  PX_TRY(const wire::AdapterCard* adapter, FindAdapter(name, service->model(), service->card()));
  const std::string& used = adapter != nullptr ? adapter->name : service->name();
  if (!call.key->MayUse(used)) {
    return Fail(ModelNotFound(used));
  }
  return Named{.service = service, .adapter = adapter};
}

// Listed once it answers, so that a client that sees a model can use it.
void Frontend::HandleModels(Call& call) {
  std::string models;
  const auto add = [&](const std::string& name, std::string object) {
    if (call.key->MayUse(name)) {
      models += (models.empty() ? "" : ",") + std::move(object);
    }
  };
  for (const auto& service : models_.serving()) {
    if (service->ever_ready()) {
      add(service->name(), ModelObject(*service));
      for (const wire::AdapterCard& card : service->card().adapters) {
        add(card.name, AdapterObject(*service, card));
      }
    }
  }
  if (media_) {
    add(media_->model().name, MediaModelObject(media_->model()));
  }
  Answer(call, fmt::format(R"({{"object":"list","data":[{}]}})", models));
}

void Frontend::HandleModel(Call& call) {
  constexpr std::string_view kPrefix = "/v1/models/";
  std::optional<std::string> name =
      wire::PercentDecode(std::string_view(call.exchange.request().path).substr(kPrefix.size()));
  if (media_ && name == media_->model().name && call.key->MayUse(*name)) {
    Answer(call, MediaModelObject(media_->model()));
    return;
  }
  const Result<Named> named =
      name ? FindAllowed(call, *name) : Result<Named>(Bad("model", "the name is badly encoded"));
  if (!named) {
    Refuse(call, named.error());
    return;
  }
  Answer(call, named->adapter != nullptr ? AdapterObject(*named->service, *named->adapter)
                                         : ModelObject(*named->service));
}

Result<std::string> Frontend::Tokenize(const Call& call) {
  PX_TRY(Json body, ParseBody(call.exchange.request()));
  PX_TRY(TokenizeRequest wanted, ReadTokenize(body));
  PX_TRY(const Named named, FindAllowed(call, wanted.model));
  const ServedModel& model = named.service->model();
  const wire::ModelCard& card = named.service->card();
  if (!model.text) {
    return Fail(NoTokenizer(model));
  }
  std::vector<TokenId> tokens;
  if (wanted.prompt) {
    PX_CHECK_OK(CheckTextSize(*wanted.prompt, "prompt", card));
    PX_TRY(tokens, model.text->Encode(*wanted.prompt,
                                      {.add_special = wanted.add_special_tokens.value_or(true),
                                       .parse_special = true}));
  } else {
    PX_TRY(tokens, model.text->EncodeChat(wanted.chat));
  }
  std::string out = fmt::format(R"({{"count":{},"max_model_len":{},"tokens":)", tokens.size(),
                                card.context_tokens_max);
  AppendIds(out, tokens);
  if (wanted.return_token_strs) {
    out += R"(,"token_strs":[)";
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (i > 0) {
        out += ',';
      }
      wire::AppendJsonString(out, model.text->TokenBytes(tokens[i]));
    }
    out += ']';
  }
  out += '}';
  return out;
}

Result<std::string> Frontend::Detokenize(const Call& call) {
  PX_TRY(Json body, ParseBody(call.exchange.request()));
  std::optional<std::vector<TokenId>> tokens;
  std::string name;
  for (const auto& [field, value] : body.object()) {
    if (value.is_null()) {
      continue;
    }
    if (field == "model") {
      PX_TRY(name, ReadString(field, value));
    } else if (field == "tokens") {
      PX_TRY(tokens, ParseTokenIds(value, field));
    } else {
      std::string shown = field.substr(0, 100);
      return Fail(Code::kInvalidArgument, fmt::format("unknown field \"{}\"", shown), shown);
    }
  }
  PX_TRY(const Named named, FindAllowed(call, name));
  const ServedModel& model = named.service->model();
  const std::uint32_t vocab_size = named.service->card().vocab_size;
  if (!tokens) {
    return Bad("tokens", "is missing");
  }
  if (!model.text) {
    return Fail(NoTokenizer(model));
  }
  for (TokenId token : *tokens) {
    if (static_cast<std::uint32_t>(token) >= vocab_size) {
      return Bad("tokens", fmt::format("token id {} is out of range, allowed is [0, {}]", token,
                                       vocab_size - 1));
    }
  }
  std::string out = R"({"prompt":)";
  wire::AppendJsonString(out, DecodeAll(*model.text, *tokens, false));
  out += '}';
  return out;
}

void Frontend::HandleTokenize(Call& call) { Answer(call, Tokenize(call)); }

void Frontend::HandleDetokenize(Call& call) { Answer(call, Detokenize(call)); }

namespace {

constexpr std::string_view kOwnEndpoint = "dyn://dynamo.backend.generate";  // of an engine in here

Json InstanceObject(const ShownInstance& shown) {
  const control::Instance& instance = shown.instance;
  Json transport{Json::Object{}};
  transport.Set("pixii", instance.address);
  Json out{Json::Object{}};
  out.Set("component", instance.component);
  out.Set("endpoint", instance.endpoint);
  out.Set("instance_id", static_cast<std::uint64_t>(instance.id));
  out.Set("namespace", instance.ns);
  out.Set("transport", std::move(transport));
  out.Set("model", instance.card.name);
  out.Set("draining", instance.draining);
  if (!shown.state.empty()) {
    out.Set("state", shown.state);
    out.Set("reason", shown.reason);
    out.Set("message", shown.detail);
  }
  return out;
}

}  // namespace

std::string Frontend::HealthBody(bool healthy, std::string_view status,
                                 std::string_view message) const {
  const bool discovered =
      ever_ready_ || std::ranges::any_of(models_.serving(),
                                         [](const auto& service) { return service->ever_ready(); });
  std::set<std::string> endpoints;
  Json::Array instances;
  if (environment_.instances) {
    for (const ShownInstance& shown : environment_.instances()) {
      const control::Instance& instance = shown.instance;
      endpoints.insert(
          fmt::format("dyn://{}.{}.{}", instance.ns, instance.component, instance.endpoint));
      instances.push_back(InstanceObject(shown));
    }
  } else if (healthy) {
    endpoints.emplace(kOwnEndpoint);
  }
  Json::Array names;
  for (const std::string& endpoint : endpoints) {
    names.emplace_back(endpoint);
  }
  std::string out = fmt::format(R"({{"status":"{}","message":)", status);
  wire::AppendJsonString(out, message);
  out += draining_ ? R"(,"stage":"draining")" : "";
  fmt::format_to(
      std::back_inserter(out),
      R"(,"initial_discovery_complete":{},"initial_discovery_error":null,"endpoints":{},"instances":{}}})",
      discovered, Json(std::move(names)).Dump(), Json(std::move(instances)).Dump());
  return out;
}

std::string Frontend::SystemHealthBody(const SystemHealth& health) {
  const std::string_view status = health.ready ? "ready" : "notready";
  const auto seconds = std::chrono::floor<std::chrono::seconds>(health.uptime);
  Json endpoints{Json::Object{}};
  endpoints.Set(health.endpoint, status);
  Json uptime{Json::Object{}};
  uptime.Set("secs", std::int64_t{seconds.count()});
  uptime.Set("nanos", std::int64_t{(health.uptime - seconds).count()});
  Json out{Json::Object{}};
  out.Set("status", status);
  out.Set("message", health.message);
  out.Set("endpoints", std::move(endpoints));
  out.Set("uptime", std::move(uptime));
  return out.Dump();
}

void Frontend::HandleHealth(Call& call) {
  if (environment_.system) {
    const SystemHealth health = environment_.system->health();
    call.exchange.Respond({.status = health.ready ? 200 : 503,
                           .body = SystemHealthBody(health),
                           .fields = std::move(call.fields)});
    return;
  }
  bool healthy = ready();
  std::string_view status = draining_ ? "shutting_down" : healthy ? "healthy" : "not_ready";
  std::string message = draining_ ? "Service is shutting down" : readiness();
  call.exchange.Respond({.status = healthy ? 200 : 503,
                         .body = HealthBody(healthy, status, message),
                         .fields = std::move(call.fields)});
}

void Frontend::HandleReady(Call& call) { HandleHealth(call); }

// Alive as long as this loop turns, also while draining: an orchestrator must not kill what is
// ending its work.
void Frontend::HandleLive(Call& call) {
  Answer(call, std::string(R"({"status":"live","message":"Service is live"})"));
}

void Frontend::HandleMetrics(Call& call) {
  for (const auto& service : models_.serving()) {
    service->metrics().Observe(service->link().load());
    if (!environment_.system) {  // else no service makes any
      FrontendMetrics::ExportCanaries(registry_, service->name(), service->canaries());
    }
  }
  obs::Registry& shown = environment_.system ? environment_.system->registry : registry_;
  if (!environment_.system) {
    shown.GetGauge(obs::MetricId::kAdmissionGateLimit, {"requests"})
        .Set(static_cast<double>(options_.generations_max));
  }
  shown.GetGauge(obs::MetricId::kHttpConnectionsOpen).Set(static_cast<double>(connection_count()));
  shown.GetCounter(obs::MetricId::kHttpConnectionsTotal).SetTotal(server_->accepted_count());
  const obs::Exposition wanted =
      obs::ExpositionFor(call.exchange.request().Field("accept").value_or(std::string_view()));
  std::string text = shown.Expose(wanted);
  call.exchange.Respond({.content_type = obs::ContentTypeOf(wanted),
                         .body = std::move(text),
                         .fields = std::move(call.fields)});
}

}  // namespace pixii::frontend
