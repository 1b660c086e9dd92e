// /busy_threshold and /clear_kv_blocks, as Dynamo's frontend has them.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <memory>
#include <utility>

#include "frontend/error_body.h"
#include "frontend/field_error.h"
#include "frontend/frontend.h"

namespace pixii::frontend {

using wire::Json;

namespace {

constexpr std::string_view kBlocks = "active_decode_blocks_threshold";
constexpr std::string_view kTokens = "active_prefill_tokens_threshold";
constexpr std::string_view kTokensShare = "active_prefill_tokens_threshold_frac";
constexpr int kUnprocessable = 422;  // this route's status for JSON of another shape

struct Thresholds {
  std::string model;
  control::BusyThresholds values;

  bool sets() const {
    return values.decode_blocks || values.prefill_tokens || values.prefill_tokens_frac;
  }
};

std::string NumberText(const std::optional<double>& number) {
  return number ? Json(*number).Dump() : "null";
}

// Of those that may be set. Errors: kInvalidArgument.
Result<void> CheckThresholds(const control::BusyThresholds& wanted) {
  if (wanted.decode_blocks && !(*wanted.decode_blocks >= 0 && *wanted.decode_blocks <= 1)) {
    return Bad(kBlocks, "must be from 0 to 1");
  }
  if (wanted.prefill_tokens_frac && !(*wanted.prefill_tokens_frac >= 0)) {
    return Bad(kTokensShare, "must be at least 0");
  }
  return {};
}

Result<Thresholds> ReadThresholds(const Json& body) {
  Thresholds out;
  for (const auto& [name, value] : body.object()) {
    if (name == "model" && value.is_string()) {
      out.model = value.string();
    } else if (value.is_null() && name != "model") {
      continue;
    } else if (name == kBlocks && value.is_number()) {
      out.values.decode_blocks = value.AsDouble();
    } else if (name == kTokens && value.AsInt().value_or(-1) >= 0) {
      out.values.prefill_tokens = static_cast<std::uint64_t>(*value.AsInt());
    } else if (name == kTokensShare && value.is_number()) {
      out.values.prefill_tokens_frac = value.AsDouble();
    } else {
      const std::string shown = name.substr(0, 100);
      return Bad(shown, "is no field of this route, or of another type");
    }
  }
  if (out.model.empty()) {
    return Bad("model", "is missing");
  }
  return out;
}

}  // namespace

std::string Frontend::BusyThreshold(std::string_view model,
                                    const control::BusyThresholds& thresholds) {
  std::string out = R"({"model":)";
  wire::AppendJsonString(out, model);
  const std::optional<std::uint64_t>& tokens = thresholds.prefill_tokens;
  fmt::format_to(std::back_inserter(out), R"(,"{}":{},"{}":{},"{}":{}}})", kBlocks,
                 NumberText(thresholds.decode_blocks), kTokens,
                 tokens ? std::to_string(*tokens) : "null", kTokensShare,
                 NumberText(thresholds.prefill_tokens_frac));
  return out;
}

void Frontend::HandleBusyThreshold(Call& call) {
  std::string all;
  for (const auto& service : models_.serving()) {
    const control::BusyThresholds thresholds = service->busy_thresholds();
    if (thresholds.decode_blocks || thresholds.prefill_tokens || thresholds.prefill_tokens_frac) {
      all += (all.empty() ? "" : ",") + BusyThreshold(service->name(), thresholds);
    }
  }
  Answer(call, fmt::format(R"({{"thresholds":[{}]}})", all));
}

void Frontend::HandleSetBusyThreshold(Call& call) {
  Result<Json> body = ParseBody(call.exchange.request());
  if (!body) {
    Refuse(call, body.error());
    return;
  }
  Result<Thresholds> wanted = ReadThresholds(*body);
  if (!wanted) {
    Response response = ErrorResponse(wanted.error(), 0, Dialect::kKserve);
    response.status = kUnprocessable;
    response.fields = std::move(call.fields);
    call.exchange.Respond(std::move(response));
    return;
  }
  const auto named = std::ranges::find_if(
      models_.serving(), [&](const auto& one) { return one->model().Serves(wanted->model); });
  ModelService* service = named != models_.serving().end() ? named->get() : nullptr;
  if (wanted->sets()) {
    if (const Result<void> good = CheckThresholds(wanted->values); !good) {
      Refuse(call, good.error());
      return;
    }
    if (service == nullptr) {
      Refuse(call, Error(Code::kNotFound,
                         fmt::format("Model {} not found. Thresholds can only be set for "
                                     "discovered models.",
                                     Json(wanted->model.substr(0, 100)).Dump())));
      return;
    }
    if (const Result<void> set = service->SetBusyThresholds(wanted->values); !set) {
      Refuse(call, set.error());
      return;
    }
  }
  Answer(call, BusyThreshold(wanted->model, service != nullptr ? service->busy_thresholds()
                                                               : control::BusyThresholds{}));
}

namespace {

// A client that hangs up does not stop it.
struct ClearJob final : ExchangeWatcher {
  void OnClientGone() override { exchange = nullptr; }

  void OnRoom() override {}

  // All workers of a model are one entry.
  void OnCleared(std::size_t number, std::string_view model, const Result<void>& result) {
    std::string instance = fmt::format(R"({{"name":"dynamo/backend-instance-{}","model":)", number);
    wire::AppendJsonString(instance, model);
    instance += R"(,"endpoint":"clear_kv_blocks","status":)";
    wire::AppendJsonString(
        instance, result ? "Successfully cleared kv blocks for instance" : result.error().detail());
    instance += '}';
    std::string& list = result ? cleared : failed;
    list += (list.empty() ? "" : ",") + std::move(instance);
    if (--left > 0 || exchange == nullptr) {
      return;
    }
    Exchange& waiting = *std::exchange(exchange, nullptr);
    waiting.Watch(nullptr);
    waiting.Respond({.body = fmt::format(R"({{"cleared_workers":[{}],"failed_workers":[{}]}})",
                                         cleared, failed),
                     .fields = std::move(fields)});
  }

  Exchange* exchange = nullptr;
  std::vector<wire::HttpField> fields;
  std::size_t left = 0;  // models that have not answered
  std::string cleared;
  std::string failed;
};

}  // namespace

// No body, or {"tiers": "memory" | "all"}.
Result<control::CacheDepth> Frontend::ReadCacheDepth(const Call& call) const {
  const wire::HttpRequest& request = call.exchange.request();
  if (request.body.empty()) {
    return control::CacheDepth::kMemory;
  }
  PX_TRY(const Json body, ParseBody(request));
  for (const auto& [name, value] : body.object()) {
    if (name != "tiers") {
      return Fail(Code::kInvalidArgument,
                  fmt::format("{}: this route's only field is tiers", name.substr(0, 100)), "body");
    }
    if (!value.is_string() || (value.string() != "memory" && value.string() != "all")) {
      return Fail(Code::kInvalidArgument,
                  "tiers: memory clears device and host memory, all also the blocks in files and "
                  "stores",
                  "tiers");
    }
    if (value.string() == "all") {
      return control::CacheDepth::kLasting;
    }
  }
  return control::CacheDepth::kMemory;
}

void Frontend::HandleClearCache(Call& call) {
  const Result<control::CacheDepth> depth = ReadCacheDepth(call);
  if (!depth) {
    Refuse(call, depth.error());
    return;
  }
  if (models_.serving().empty()) {
    Answer(call, std::string(R"({"message":"No active worker groups found"})"));
    return;
  }
  auto job = std::make_shared<ClearJob>();
  job->exchange = &call.exchange;
  job->fields = std::move(call.fields);
  job->left = models_.serving().size();
  call.exchange.Watch(job.get());
  std::size_t number = 0;
  for (const auto& service : models_.serving()) {
    service->link().ClearCache(*depth,
                               [job, number, model = service->name()](const Result<void>& result) {
                                 job->OnCleared(number, model, result);
                               });
    ++number;
  }
}

}  // namespace pixii::frontend
