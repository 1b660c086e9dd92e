// Adapters by HTTP: /v1/loras as Dynamo's workers have it, /v1/load_lora_adapter and
// /v1/unload_lora_adapter as vLLM has them.
#include <fmt/format.h>

#include <iterator>
#include <utility>

#include "frontend/error_body.h"
#include "frontend/field_error.h"
#include "frontend/frontend.h"

namespace pixii::frontend {

using wire::Json;

namespace {

tl::unexpected<Error> UnknownMember(std::string_view field) {
  std::string shown(field.substr(0, 100));
  return Fail(Code::kInvalidArgument, fmt::format("unknown field \"{}\"", shown), shown);
}

Result<std::string> ReadText(std::string_view field, const Json& value) {
  if (!value.is_string() || value.string().empty()) {
    return Bad(field, "is no string, or an empty one");
  }
  return value.string();
}

Result<bool> ReadFlag(std::string_view field, const Json& value) {
  if (!value.is_bool()) {
    return Bad(field, "is neither true nor false");
  }
  return value.boolean();
}

/// The folder that a file:// URI or a path means.
Result<std::string> FolderOf(std::string_view field, std::string_view uri) {
  constexpr std::string_view kFile = "file://";
  if (uri.starts_with(kFile)) {
    std::optional<std::string> path = wire::PercentDecode(uri.substr(kFile.size()));
    if (!path || !path->starts_with('/') || path->find('\0') != std::string::npos) {
      return Bad(field, "is no file:///PATH");
    }
    return *path;
  }
  if (uri.find('\0') != std::string_view::npos) {
    return Bad(field, "holds a NUL");
  }
  const std::size_t scheme = uri.find("://");
  if (scheme != std::string_view::npos) {
    return Fail(Code::kUnsupported,
                fmt::format("{}: adapters are read from folders (file://), not from {}://", field,
                            uri.substr(0, std::min<std::size_t>(scheme, 20))),
                std::string(field));
  }
  return std::string(uri);
}

Result<std::string> ReadSource(const Json& value) {
  if (!value.is_object()) {
    return Bad("source", "is no object with a uri");
  }
  std::string folder;
  for (const auto& [name, inner] : value.object()) {
    if (name != "uri") {
      return UnknownMember("source." + name);
    }
    PX_TRY(const std::string uri, ReadText("source.uri", inner));
    PX_TRY(folder, FolderOf("source.uri", uri));
  }
  return folder;
}

Result<void> ReadLoadField(const std::string& name, const Json& value, bool dynamo,
                           wire::LoadAdapterRequest& out, std::string& base) {
  if (name == "lora_name") {
    PX_TRY(out.name, ReadText(name, value));
  } else if (name == "pinned") {
    PX_TRY(out.pinned, ReadFlag(name, value));
  } else if (dynamo && name == "source") {
    PX_TRY(out.source, ReadSource(value));
  } else if (!dynamo && name == "lora_path") {
    PX_TRY(const std::string path, ReadText(name, value));
    PX_TRY(out.source, FolderOf(name, path));
  } else if (!dynamo && name == "load_inplace") {
    PX_TRY(out.replace, ReadFlag(name, value));
  } else if (name == "base_model_name") {
    PX_TRY(base, ReadText(name, value));
  } else {
    return UnknownMember(name);
  }
  return {};
}

/// What is wrong with the client's files is for the client.
Error ForClient(const Error& error) {
  if (error.code() == Code::kDataCorrupt) {
    return Error(Code::kInvalidArgument, error.detail(), error.param());
  }
  return error;
}

std::string DynamoBody(const wire::AdapterCard& card, std::string_view message) {
  std::string out = R"({"status":"success","message":)";
  wire::AppendJsonString(out, message);
  out += R"(,"lora_name":)";
  wire::AppendJsonString(out, card.name);
  fmt::format_to(std::back_inserter(out), R"(,"lora_id":{}}})", card.id);
  return out;
}

Response Plain(std::string text) {
  return {.content_type = "text/plain; charset=utf-8", .body = std::move(text), .fields = {}};
}

}  // namespace

struct Frontend::AdapterJob final : ExchangeWatcher {
  void OnClientGone() override { exchange = nullptr; }

  void OnRoom() override {}

  Exchange* exchange = nullptr;
  std::vector<wire::HttpField> fields;
};

Result<void> Frontend::CheckAdapterApi() const {
  if (draining_) {
    return Fail(Code::kShuttingDown, "the server shuts down; ask another");
  }
  if (!options_.adapter_api) {
    return Fail(Code::kUnsupported,
                "adapters are not loaded by HTTP here; start the server with --enable-lora",
                "lora_name");
  }
  return {};
}

control::WorkerLink::AdapterHandler Frontend::MakeAdapterHandler(Call& call, AdapterAnswer answer) {
  auto job = std::make_shared<AdapterJob>();
  job->exchange = &call.exchange;
  job->fields = std::move(call.fields);
  call.exchange.Watch(job.get());
  return [this, job, answer](const Result<wire::AdapterCard>& card) {
    if (job->exchange == nullptr) {
      return;
    }
    Call again{*job->exchange, std::move(job->fields)};
    if (!card) {
      Refuse(again, ForClient(card.error()));
      return;
    }
    Response response = answer(*card);
    response.fields = std::move(again.fields);
    again.exchange.Respond(std::move(response));
  };
}

// Chooses the call's model, too: the only one, or the one that base_model_name says.
Result<wire::LoadAdapterRequest> Frontend::ReadLoadRequest(Call& call, bool dynamo) const {
  PX_TRY(const Json body, ParseBody(call.exchange.request()));
  wire::LoadAdapterRequest out;
  out.replace = dynamo;
  std::string base;
  for (const auto& [name, value] : body.object()) {
    if (!value.is_null()) {
      PX_CHECK_OK(ReadLoadField(name, value, dynamo, out, base));
    }
  }
  if (out.name.empty()) {
    return Bad("lora_name", "is missing");
  }
  if (out.source.empty()) {
    return Bad(dynamo ? "source.uri" : "lora_path", "is missing");
  }
  for (const auto& service : models_.serving()) {
    if (service->model().Serves(out.name)) {
      return Bad("lora_name",
                 models_.only() != nullptr ? "is the model's own name" : "is a model's own name");
    }
  }
  call.service = models_.only();  // the adapter's tensors say what it fits
  if (call.service == nullptr) {
    if (base.empty()) {
      return Bad("base_model_name", "is missing, and there are several models");
    }
    PX_TRY(call.service, models_.Find(base));
  }
  return out;
}

void Frontend::LoadAdapter(Call& call, bool dynamo, AdapterAnswer answer) {
  const auto read = [&]() -> Result<wire::LoadAdapterRequest> {
    PX_CHECK_OK(CheckAdapterApi());
    return ReadLoadRequest(call, dynamo);
  };
  Result<wire::LoadAdapterRequest> request = read();
  if (!request) {
    Refuse(call, request.error());
    return;
  }
  control::WorkerLink& link = call.service->link();
  link.LoadAdapter(std::move(*request), MakeAdapterHandler(call, answer));
}

void Frontend::UnloadAdapter(Call& call, Result<std::string> name, AdapterAnswer answer) {
  if (!name) {
    Refuse(call, name.error());
    return;
  }
  ModelService* service = models_.only();
  for (const auto& one : models_.serving()) {
    service = service == nullptr && one->Serves(*name) ? one.get() : service;
  }
  if (service == nullptr) {
    Refuse(call, Error(Code::kNotFound,
                       fmt::format("there is no adapter {}", Json(name->substr(0, 100)).Dump()),
                       "lora_name"));
    return;
  }
  service->link().UnloadAdapter(std::move(*name), MakeAdapterHandler(call, answer));
}

void Frontend::HandleAdapters(Call& call) {
  std::string loras;
  std::string adapters;
  std::size_t count = 0;
  for (const auto& service : models_.serving()) {
    for (const wire::AdapterCard& card : service->card().adapters) {
      if (!adapters.empty()) {
        adapters += ',';
      }
      adapters += R"({"name":)";
      wire::AppendJsonString(adapters, card.name);
      adapters += R"(,"source":)";
      wire::AppendJsonString(adapters, card.source);
      adapters += R"(,"fingerprint":)";
      wire::AppendJsonString(adapters, card.version);
      fmt::format_to(std::back_inserter(adapters), R"(,"loaded":{},"pinned":{},"size_bytes":{}}})",
                     card.is_loaded(), card.pinned, card.size_bytes);
      if (card.is_loaded()) {
        loras += count++ == 0 ? "" : ",";
        wire::AppendJsonString(loras, card.name);
        fmt::format_to(std::back_inserter(loras), ":{}", card.id);
      }
    }
  }
  Answer(call, fmt::format(R"({{"status":"success","loras":{{{}}},"count":{},"adapters":[{}]}})",
                           loras, count, adapters));
}

void Frontend::HandleLoadAdapter(Call& call) {
  LoadAdapter(call, true, [](const wire::AdapterCard& card) {
    return Response{
        .body = DynamoBody(card, fmt::format("LoRA adapter '{}' loaded successfully", card.name)),
        .fields = {}};
  });
}

void Frontend::HandleDeleteAdapter(Call& call) {
  auto read = [&]() -> Result<std::string> {
    PX_CHECK_OK(CheckAdapterApi());
    constexpr std::string_view kPrefix = "/v1/loras/";
    std::optional<std::string> name =
        wire::PercentDecode(std::string_view(call.exchange.request().path).substr(kPrefix.size()));
    if (!name) {
      return Bad("lora_name", "is badly encoded");
    }
    return *name;
  };
  UnloadAdapter(call, read(), [](const wire::AdapterCard& card) {
    return Response{
        .body = DynamoBody(card, fmt::format("LoRA adapter '{}' unloaded successfully", card.name)),
        .fields = {}};
  });
}

void Frontend::HandleLoadLoraAdapter(Call& call) {
  LoadAdapter(call, false, [](const wire::AdapterCard& card) {
    return Plain(fmt::format("Success: LoRA adapter '{}' added successfully.", card.name));
  });
}

void Frontend::HandleUnloadLoraAdapter(Call& call) {
  auto read = [&]() -> Result<std::string> {
    PX_CHECK_OK(CheckAdapterApi());
    PX_TRY(const Json body, ParseBody(call.exchange.request()));
    std::string name;
    for (const auto& [field, value] : body.object()) {
      if (field == "lora_name") {
        PX_TRY(name, ReadText(field, value));
      } else if (field != "lora_int_id") {
        return UnknownMember(field);
      }
    }
    if (name.empty()) {
      return Bad("lora_name", "is missing");
    }
    return name;
  };
  UnloadAdapter(call, read(), [](const wire::AdapterCard& card) {
    return Plain(fmt::format("Success: LoRA adapter '{}' removed successfully.", card.name));
  });
}

}  // namespace pixii::frontend
