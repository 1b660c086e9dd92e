// /busy_threshold and /clear_kv_blocks, as Dynamo's frontend has them.
#include <fmt/format.h>

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
constexpr int kUnprocessable = 422;  // this route's status for JSON of another shape

struct Thresholds {
  std::string model;
  std::optional<double> blocks_share;
  bool sets_blocks = false;
};

Result<Thresholds> ReadThresholds(const Json& body) {
  Thresholds out;
  for (const auto& [name, value] : body.object()) {
    if (name == "model" && value.is_string()) {
      out.model = value.string();
    } else if (value.is_null() && name != "model") {
      continue;
    } else if (name == kBlocks && value.is_number()) {
      out.blocks_share = value.AsDouble();
      out.sets_blocks = true;
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

Result<void> Frontend::AdmitByLoad() const {
  if (!busy_blocks_share_) {
    return {};
  }
  const control::WorkerLoad load = environment_.link.load();
  if (load.blocks_total == 0 ||
      load.blocks_used <= *busy_blocks_share_ * static_cast<double>(load.blocks_total)) {
    return {};
  }
  return Fail(Code::kResourceExhausted,
              fmt::format("{} of {} blocks of the KV cache are in use, past the busy threshold {}",
                          load.blocks_used, load.blocks_total, *busy_blocks_share_));
}

std::string Frontend::BusyThreshold(std::string_view model) const {
  std::string out = R"({"model":)";
  wire::AppendJsonString(out, model);
  const bool ours = model_.Serves(model) && busy_blocks_share_.has_value();
  fmt::format_to(std::back_inserter(out),
                 R"(,"{}":{},"active_prefill_tokens_threshold":null,)"
                 R"("active_prefill_tokens_threshold_frac":null}})",
                 kBlocks, ours ? Json(*busy_blocks_share_).Dump() : "null");
  return out;
}

void Frontend::HandleBusyThreshold(Call& call) {
  Answer(call, fmt::format(R"({{"thresholds":[{}]}})",
                           busy_blocks_share_ ? BusyThreshold(model_.name()) : std::string()));
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
  if (wanted->sets_blocks) {
    const double share = wanted->blocks_share.value_or(-1);
    if (!(share >= 0 && share <= 1)) {
      Refuse(call, Error(Code::kInvalidArgument, fmt::format("{}: must be from 0 to 1", kBlocks),
                         std::string(kBlocks)));
      return;
    }
    if (!model_.Serves(wanted->model)) {
      Refuse(call, Error(Code::kNotFound,
                         fmt::format("Model {} not found. Thresholds can only be set for "
                                     "discovered models.",
                                     Json(wanted->model.substr(0, 100)).Dump())));
      return;
    }
    busy_blocks_share_ = share;
  }
  Answer(call, BusyThreshold(wanted->model));
}

namespace {

// A client that hangs up does not stop it.
struct ClearJob final : ExchangeWatcher {
  void OnClientGone() override { exchange = nullptr; }

  void OnRoom() override {}

  Exchange* exchange = nullptr;
  std::vector<wire::HttpField> fields;
};

}  // namespace

void Frontend::HandleClearCache(Call& call) {
  auto job = std::make_shared<ClearJob>();
  job->exchange = &call.exchange;
  job->fields = std::move(call.fields);
  call.exchange.Watch(job.get());
  environment_.link.ClearCache([job](const Result<void>& result) {
    if (job->exchange == nullptr) {
      return;
    }
    std::string instance =
        R"({"name":"dynamo/backend-instance-0","endpoint":"clear_kv_blocks","status":)";
    wire::AppendJsonString(
        instance, result ? "Successfully cleared kv blocks for instance" : result.error().detail());
    instance += '}';
    Exchange& exchange = *std::exchange(job->exchange, nullptr);
    exchange.Watch(nullptr);
    exchange.Respond({.body = fmt::format(R"({{"cleared_workers":[{}],"failed_workers":[{}]}})",
                                          result ? instance : "", result ? "" : instance),
                      .fields = std::move(job->fields)});
  });
}

}  // namespace pixii::frontend
