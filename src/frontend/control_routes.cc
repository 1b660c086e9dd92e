// Sleep and wake: /engine/control/release_memory_occupation and resume_memory_occupation, as
// Dynamo's workers have them.
#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <utility>

#include "frontend/error_body.h"
#include "frontend/field_error.h"
#include "frontend/frontend.h"

namespace pixii::frontend {

using wire::Json;

namespace {

constexpr double kPatienceDefault = 30;  // seconds
constexpr double kPatienceMax = 3600;

struct MemoryRequest {
  control::MemoryTags tags;
  std::string model;  // empty: every one
  double patience_seconds = kPatienceDefault;
};

Result<control::MemoryTags> ReadTags(const Json& value) {
  if (!value.is_array() || value.array().empty()) {
    return Bad("tags", "is no list of \"kv_cache\" and \"weights\", or an empty one");
  }
  control::MemoryTags tags;
  for (const Json& tag : value.array()) {
    if (tag.is_string() && tag.string() == "kv_cache") {
      tags.kv_cache = true;
    } else if (tag.is_string() && tag.string() == "weights") {
      tags.weights = true;
    } else {
      return Bad("tags", fmt::format("{} is neither \"kv_cache\" nor \"weights\"", Shown(tag)));
    }
  }
  return tags;
}

Result<double> ReadPatience(const Json& value) {
  std::optional<double> seconds = value.is_number() ? value.AsDouble() : std::nullopt;
  if (!seconds || !(*seconds >= 0 && *seconds <= kPatienceMax)) {
    return Bad("timeout_s",
               fmt::format("{} is no number of seconds from 0 to {}", Shown(value), kPatienceMax));
  }
  return *seconds;
}

Result<MemoryRequest> ReadMemoryRequest(const Json& body) {
  MemoryRequest out{.tags = {.kv_cache = true, .weights = true}, .model = {}};
  for (const auto& [name, value] : body.object()) {
    if (value.is_null()) {
      continue;
    }
    if (name == "tags") {
      PX_TRY(out.tags, ReadTags(value));
    } else if (name == "timeout_s") {
      PX_TRY(out.patience_seconds, ReadPatience(value));
    } else if (name == "model" && value.is_string()) {
      out.model = value.string();
    } else {
      std::string shown = name.substr(0, 100);
      return Fail(Code::kInvalidArgument, fmt::format("unknown field \"{}\"", shown), shown);
    }
  }
  return out;
}

// The typed error, with status and message where Dynamo's clients look for them.
Response Failure(const Error& error, std::uint32_t retry_after_seconds) {
  Response response = ErrorResponse(error, retry_after_seconds);
  response.body.replace(0, 1, R"({"status":"error",)");
  return response;
}

}  // namespace

struct Frontend::MemoryJob final : ExchangeWatcher {
  void OnClientGone() override { exchange = nullptr; }  // what was asked for goes on

  void OnRoom() override {}

  void OnDone(const Result<void>& done, std::uint32_t retry_after_seconds) {
    result = result ? done : result;
    if (--left > 0 || exchange == nullptr) {
      return;
    }
    Response response;
    if (result) {
      response.body = fmt::format(R"({{"status":"{}","message":)", said.status);
      wire::AppendJsonString(response.body, said.message);
      response.body += '}';
    } else {
      response = Failure(result.error(), retry_after_seconds);
    }
    response.fields.insert(response.fields.end(), fields.begin(), fields.end());
    Exchange& waiting = *std::exchange(exchange, nullptr);
    waiting.Watch(nullptr);
    waiting.Respond(std::move(response));
  }

  Exchange* exchange = nullptr;
  std::vector<wire::HttpField> fields;
  ControlDone said;
  std::size_t left = 0;  // models that have not answered
  Result<void> result;   // the first error
};

// Asks the models that are meant; `done` is the answer once the last one has done it.
void Frontend::ControlMemory(Call& call, std::string_view model, ControlDone done,
                             const MemoryCall& ask) {
  std::vector<ModelService*> services;
  if (model.empty()) {
    for (const auto& service : models_.serving()) {
      services.push_back(service.get());
    }
  } else if (const Result<ModelService*> one = models_.Find(model)) {
    services.push_back(*one);
  } else {
    Refuse(call, one.error());
    return;
  }
  if (services.empty()) {
    Refuse(call, Error(Code::kUnavailable, models_.Trouble()));
    return;
  }
  auto job = std::make_shared<MemoryJob>();
  job->exchange = &call.exchange;
  job->fields = std::move(call.fields);
  job->said = done;
  job->left = services.size();
  call.exchange.Watch(job.get());
  for (ModelService* service : services) {
    ask(service->link(), [this, job, id = service->id()](const Result<void>& result) {
      if (ModelService* asked = models_.ById(id)) {
        asked->Probe();  // whoever woke up has to answer first
      }
      job->OnDone(result, options_.retry_after_seconds);
    });
  }
}

Result<wire::Json> Frontend::ReadControlBody(const Call& call) const {
  if (draining_) {
    return Fail(Code::kShuttingDown, "the server shuts down; ask another");
  }
  if (!options_.engine_control) {
    return Fail(Code::kUnsupported, "/engine/control is switched off: --no-engine-control");
  }
  const wire::HttpRequest& request = call.exchange.request();
  return request.body.empty() ? Result<Json>(Json(Json::Object{})) : ParseBody(request);
}

void Frontend::HandleReleaseMemory(Call& call) {
  Result<Json> body = ReadControlBody(call);
  Result<MemoryRequest> asked =
      body ? ReadMemoryRequest(*body) : Result<MemoryRequest>(Fail(body.error()));
  if (!asked) {
    Refuse(call, asked.error());
    return;
  }
  const auto patience = std::chrono::duration_cast<rt::Duration>(
      std::chrono::duration<double>(asked->patience_seconds));
  ControlMemory(call, asked->model,
                {"ok", "memory is released; the engine sleeps until it is resumed"},
                [&](control::WorkerLink& link, control::WorkerLink::MemoryHandler on_done) {
                  link.ReleaseMemory(asked->tags, patience, std::move(on_done));
                });
}

void Frontend::HandleResumeMemory(Call& call) {
  Result<Json> body = ReadControlBody(call);
  Result<MemoryRequest> asked =
      body ? ReadMemoryRequest(*body) : Result<MemoryRequest>(Fail(body.error()));
  if (!asked) {
    Refuse(call, asked.error());
    return;
  }
  ControlMemory(call, asked->model, {"ok", "memory is there again"},
                [&](control::WorkerLink& link, control::WorkerLink::MemoryHandler on_done) {
                  link.ResumeMemory(asked->tags, std::move(on_done));
                });
}

// As /clear_kv_blocks, in the form of Dynamo's workers.
void Frontend::HandleClearBlocks(Call& call) {
  const Result<Json> body = ReadControlBody(call);
  const Result<control::CacheDepth> depth =
      body ? ReadCacheDepth(call) : Result<control::CacheDepth>(Fail(body.error()));
  if (!depth) {
    Refuse(call, depth.error());
    return;
  }
  ControlMemory(call, {}, {"success", "KV cache cleared"},
                [&](control::WorkerLink& link, control::WorkerLink::MemoryHandler on_done) {
                  link.ClearCache(*depth, std::move(on_done));
                });
}

}  // namespace pixii::frontend
