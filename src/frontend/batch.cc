#include "frontend/batch.h"

#include <fmt/format.h>

#include <array>
#include <optional>
#include <utility>

#include "frontend/field_error.h"
#include "frontend/openai_request.h"

namespace pixii::frontend {

using wire::Json;

namespace {

struct Named {
  BatchStatus status;
  std::string_view name;
  std::string_view time;  // the field that says when it was reached; empty: none
};

constexpr auto kStatuses = std::to_array<Named>({
    {BatchStatus::kValidating, "validating", ""},
    {BatchStatus::kInProgress, "in_progress", "in_progress_at"},
    {BatchStatus::kFinalizing, "finalizing", "finalizing_at"},
    {BatchStatus::kCompleted, "completed", "completed_at"},
    {BatchStatus::kFailed, "failed", "failed_at"},
    {BatchStatus::kExpired, "expired", "expired_at"},
    {BatchStatus::kCancelling, "cancelling", "cancelling_at"},
    {BatchStatus::kCancelled, "cancelled", "cancelled_at"},
});

constexpr std::int64_t kWindowSecondsMax = 7 * 24 * 3600;
constexpr std::int64_t kExpirySecondsMin = 3600;
constexpr std::int64_t kExpirySecondsMax = 30 * 24 * 3600;
constexpr std::size_t kMetadataCountMax = 16;
constexpr std::size_t kMetadataNameBytesMax = 64;

Json TextOrNull(const std::string& text) { return text.empty() ? Json() : Json(text); }

Json ErrorList(const std::vector<BatchError>& errors) {
  Json::Array data;
  for (const BatchError& error : errors) {
    Json entry{Json::Object{}};
    entry.Set("code", error.code);
    entry.Set("message", error.message);
    entry.Set("param", TextOrNull(error.param));
    entry.Set("line", error.line == 0 ? Json() : Json(error.line));
    data.push_back(std::move(entry));
  }
  Json out{Json::Object{}};
  out.Set("object", "list");
  out.Set("data", std::move(data));
  return out;
}

Json Describe(const Batch& batch) {
  Json out{Json::Object{}};
  out.Set("id", batch.id);
  out.Set("object", "batch");
  out.Set("endpoint", batch.endpoint);
  if (!batch.errors.empty()) {
    out.Set("errors", ErrorList(batch.errors));
  }
  out.Set("input_file_id", batch.input_file_id);
  out.Set("completion_window", batch.completion_window);
  out.Set("status", BatchStatusName(batch.status));
  if (batch.has_output) {
    out.Set("output_file_id", batch.output_file_id);
  }
  if (batch.has_errors) {
    out.Set("error_file_id", batch.error_file_id);
  }
  out.Set("created_at", batch.created_at);
  out.Set("expires_at", batch.expires_at);
  for (const Named& named : kStatuses) {
    auto reached = batch.reached.find(named.status);
    if (!named.time.empty() && reached != batch.reached.end()) {
      out.Set(named.time, reached->second);
    }
  }
  Json counts{Json::Object{}};
  counts.Set("total", batch.total);
  counts.Set("completed", batch.completed);
  counts.Set("failed", batch.failed);
  out.Set("request_counts", std::move(counts));
  if (batch.metadata.is_object()) {
    out.Set("metadata", batch.metadata);
  }
  return out;
}

// Of a record, which is this server's own: what is missing reads as empty.
std::string TextOf(const Json& record, std::string_view name) {
  const Json* found = record.Find(name);
  return found != nullptr && found->is_string() ? found->string() : std::string();
}

std::int64_t CountOf(const Json& record, std::string_view name) {
  const Json* found = record.Find(name);
  return found == nullptr ? 0 : found->AsInt().value_or(0);
}

Result<std::string> ReadText(std::string_view name, const Json& value) {
  if (!value.is_string() || value.string().empty()) {
    return Bad(name, fmt::format("{} is not a string with something in it", Shown(value)));
  }
  return value.string();
}

// "24h", "30m", "90s", "7d".
Result<std::int64_t> ReadWindow(std::string_view name, const std::string& text) {
  const std::int64_t unit = text.ends_with('s')   ? 1
                            : text.ends_with('m') ? 60
                            : text.ends_with('h') ? 3600
                            : text.ends_with('d') ? 24 * 3600
                                                  : 0;
  std::int64_t count = 0;
  bool whole = unit != 0 && text.size() >= 2 && text.size() <= 8;
  for (std::size_t i = 0; whole && i + 1 < text.size(); ++i) {
    whole = text[i] >= '0' && text[i] <= '9';
    count = count * 10 + (text[i] - '0');
  }
  if (!whole || count < 1 || count * unit > kWindowSecondsMax) {
    return Bad(name,
               fmt::format("{} is no time from 1s to 7d, for example 24h", Shown(Json(text))));
  }
  return count * unit;
}

Result<Json> ReadMetadata(std::string_view name, const Json& value) {
  if (!value.is_object() || value.object().size() > kMetadataCountMax) {
    return Bad(name, fmt::format("must be an object of at most {} entries", kMetadataCountMax));
  }
  for (const auto& [key, label] : value.object()) {
    if (key.size() > kMetadataNameBytesMax || !label.is_string() ||
        label.string().size() > kLabelBytesMax) {
      return Bad(name, fmt::format("names have at most {} bytes, values are texts of at most {}",
                                   kMetadataNameBytesMax, kLabelBytesMax));
    }
  }
  return value;
}

Result<void> ReadField(const std::string& name, const Json& value, BatchRequest& out) {
  if (name == "input_file_id") {
    PX_TRY(out.input_file_id, ReadText(name, value));
  } else if (name == "endpoint") {
    PX_TRY(out.endpoint, ReadText(name, value));
    if (!IsBatchEndpoint(out.endpoint)) {
      return Bad(name, fmt::format("{} is none of /v1/chat/completions, /v1/completions, "
                                   "/v1/embeddings, /v1/responses",
                                   Shown(value)));
    }
  } else if (name == "completion_window") {
    PX_TRY(out.completion_window, ReadText(name, value));
    PX_TRY(out.window_seconds, ReadWindow(name, out.completion_window));
  } else if (name == "metadata") {
    PX_TRY(out.metadata, ReadMetadata(name, value));
  } else if (name == "output_expires_after") {
    PX_TRY(out.output_lifetime_seconds, ReadExpiry(value, name));
  } else {
    const std::string shown = name.substr(0, 100);
    return Fail(Code::kInvalidArgument, fmt::format("unknown field \"{}\"", shown), shown);
  }
  return {};
}

}  // namespace

std::string_view BatchStatusName(BatchStatus status) {
  for (const Named& named : kStatuses) {
    if (named.status == status) {
      return named.name;
    }
  }
  return {};
}

bool HasEnded(BatchStatus status) {
  return status == BatchStatus::kCompleted || status == BatchStatus::kFailed ||
         status == BatchStatus::kExpired || status == BatchStatus::kCancelled;
}

std::string Batch::Body() const { return Describe(*this).Dump(); }

std::string Batch::Record() const {
  Json own{Json::Object{}};
  own.Set("tenant", tenant);
  own.Set("owner", owner);
  own.Set("output_file_id", output_file_id);
  own.Set("error_file_id", error_file_id);
  own.Set("output_lifetime_seconds", output_lifetime_seconds);
  Json out{Json::Object{}};
  out.Set("batch", Describe(*this));
  out.Set("own", std::move(own));
  return out.Dump();
}

Result<Batch> Batch::FromRecord(std::string_view text) {
  PX_TRY(const Json record, wire::ParseJson(text));
  const Json* shown = record.Find("batch");
  const Json* own = record.Find("own");
  if (shown == nullptr || own == nullptr) {
    return Fail(Code::kDataCorrupt, "it is no record of a batch");
  }
  Batch out;
  out.id = TextOf(*shown, "id");
  out.endpoint = TextOf(*shown, "endpoint");
  out.input_file_id = TextOf(*shown, "input_file_id");
  out.completion_window = TextOf(*shown, "completion_window");
  out.created_at = CountOf(*shown, "created_at");
  out.expires_at = CountOf(*shown, "expires_at");
  out.has_output = shown->Find("output_file_id") != nullptr;
  out.has_errors = shown->Find("error_file_id") != nullptr;
  const std::string status = TextOf(*shown, "status");
  bool known = false;
  for (const Named& named : kStatuses) {
    if (named.name == status) {
      out.status = named.status;
      known = true;
    }
    if (const std::int64_t at = named.time.empty() ? 0 : CountOf(*shown, named.time); at != 0) {
      out.reached[named.status] = at;
    }
  }
  if (const Json* counts = shown->Find("request_counts"); counts != nullptr) {
    out.total = static_cast<std::uint64_t>(CountOf(*counts, "total"));
    out.completed = static_cast<std::uint64_t>(CountOf(*counts, "completed"));
    out.failed = static_cast<std::uint64_t>(CountOf(*counts, "failed"));
  }
  const Json* errors = shown->Find("errors");
  const Json* data = errors == nullptr ? nullptr : errors->Find("data");
  if (data != nullptr && data->is_array()) {
    for (const Json& error : data->array()) {
      out.errors.push_back({.code = TextOf(error, "code"),
                            .message = TextOf(error, "message"),
                            .param = TextOf(error, "param"),
                            .line = static_cast<std::uint64_t>(CountOf(error, "line"))});
    }
  }
  if (const Json* metadata = shown->Find("metadata"); metadata != nullptr) {
    out.metadata = *metadata;
  }
  out.tenant = TextOf(*own, "tenant");
  out.owner = TextOf(*own, "owner");
  out.output_file_id = TextOf(*own, "output_file_id");
  out.error_file_id = TextOf(*own, "error_file_id");
  out.output_lifetime_seconds = CountOf(*own, "output_lifetime_seconds");
  if (!known || out.id.empty() || out.output_file_id.empty() || out.error_file_id.empty()) {
    return Fail(Code::kDataCorrupt, "it is no whole record of a batch");
  }
  return out;
}

Result<BatchRequest> ReadBatchRequest(const Json& body) {
  BatchRequest out;
  for (const auto& [name, value] : body.object()) {
    if (!value.is_null()) {
      PX_CHECK_OK(ReadField(name, value, out));
    }
  }
  if (out.input_file_id.empty()) {
    return Bad("input_file_id", "is needed");
  }
  if (out.endpoint.empty()) {
    return Bad("endpoint", "is needed");
  }
  if (out.completion_window.empty()) {
    return Bad("completion_window", "is needed, for example \"24h\"");
  }
  return out;
}

Result<std::int64_t> ReadExpiry(const Json& value, std::string_view param) {
  const Json* anchor = value.Find("anchor");
  const Json* seconds = value.Find("seconds");
  const std::optional<std::int64_t> count = seconds == nullptr ? std::nullopt : seconds->AsInt();
  if (!value.is_object() || value.object().size() != 2 || anchor == nullptr ||
      *anchor != Json("created_at") || !count || *count < kExpirySecondsMin ||
      *count > kExpirySecondsMax) {
    return Bad(param, fmt::format("must be {{\"anchor\": \"created_at\", \"seconds\": {} .. {}}}",
                                  kExpirySecondsMin, kExpirySecondsMax));
  }
  return *count;
}

}  // namespace pixii::frontend
