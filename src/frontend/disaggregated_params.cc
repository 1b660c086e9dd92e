#include "frontend/disaggregated_params.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "frontend/field_error.h"
#include "frontend/openai_request.h"
#include "wire/base64.h"

namespace pixii::frontend {

namespace {

using wire::Json;

/// Members that are read and mean nothing here: ids are the record's own, and the worker is in it.
constexpr std::array<std::string_view, 5> kIgnored = {
    "ctx_request_id", "disagg_request_id", "ctx_dp_rank", "ctx_info_endpoint", "worker_id"};
/// Members that would change the answer.
constexpr std::array<std::string_view, 7> kNotDone = {
    "first_gen_log_probs", "first_gen_logits",          "multimodal_embedding_handles",
    "multimodal_hashes",   "mrope_position_ids_handle", "mrope_position_deltas_handle",
    "_epd_metadata"};

Result<void> ReadType(const std::string& field, const Json& value, DisaggregatedParams& out) {
  std::string type = value.is_string() ? value.string() : std::string();
  std::ranges::transform(type, type.begin(), [](char c) {
    return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  });
  out.context_only = type == "context_only";
  out.generation_only = type == "generation_only";
  if (!out.context_only && !out.generation_only && type != "context_and_generation") {
    return Bad(field,
               "must be \"context_only\", \"generation_only\" or \"context_and_generation\"");
  }
  return {};
}

Result<void> ReadState(const std::string& field, const Json& value, DisaggregatedParams& out) {
  const std::optional<std::string> bytes =
      value.is_string() ? wire::DecodeBase64(value.string()) : std::nullopt;
  if (!bytes) {
    return Bad(field, "must be base64");
  }
  out.opaque_state = *bytes;
  return {};
}

Result<void> ReadMember(const std::string& field, std::string_view name, const Json& value,
                        DisaggregatedParams& out) {
  if (name == "request_type") {
    return ReadType(field, value, out);
  }
  if (name == "first_gen_tokens") {
    PX_TRY(out.first_gen_tokens, ParseTokenIds(value, field));
    return {};
  }
  if (name == "opaque_state") {
    return ReadState(field, value, out);
  }
  if (name == "schedule_style") {
    return value == Json(0) ? Result<void>()
                            : Result<void>(NotDone(field, "only 0, context first, is available"));
  }
  if (name == "draft_tokens") {
    const bool none = value.is_array() && value.array().empty();
    return none ? Result<void>() : Result<void>(NotDone(field, "drafts are not handed over"));
  }
  if (std::ranges::find(kNotDone, name) != kNotDone.end()) {
    return NotDone(field, "this is not handed over");
  }
  if (std::ranges::find(kIgnored, name) != kIgnored.end()) {
    return {};
  }
  return Fail(Code::kInvalidArgument, fmt::format("unknown field \"{}\"", field), field);
}

}  // namespace

Result<DisaggregatedParams> ReadDisaggregatedParams(std::string_view field, const Json& value) {
  if (!value.is_object()) {
    return Bad(field, "must be an object");
  }
  DisaggregatedParams out;
  bool typed = false;
  for (const wire::JsonMember& member : value.object()) {
    const std::string inner = fmt::format("{}.{}", field, member.first.substr(0, 64));
    typed = typed || member.first == "request_type";
    if (!member.second.is_null()) {
      PX_CHECK_OK(ReadMember(inner, member.first, member.second, out));
    }
  }
  if (!typed) {
    return Bad(fmt::format("{}.request_type", field), "is missing");
  }
  if (out.generation_only && out.first_gen_tokens.size() != 1) {
    return Bad(fmt::format("{}.first_gen_tokens", field),
               fmt::format("{} tokens; the one that the prompt's worker drew belongs there",
                           out.first_gen_tokens.size()));
  }
  return out;
}

std::string DisaggregatedMember(const DisaggregatedParams& params, std::uint64_t request,
                                std::uint32_t rank) {
  return fmt::format(
      R"(,"disaggregated_params":{{"request_type":"context_only","first_gen_tokens":[{}],)"
      R"("first_gen_log_probs":null,"first_gen_logits":null,"ctx_request_id":{},)"
      R"("disagg_request_id":{},"opaque_state":"{}","draft_tokens":null,"ctx_dp_rank":{},)"
      R"("ctx_info_endpoint":null,"schedule_style":0}})",
      fmt::join(params.first_gen_tokens, ","), request, request,
      wire::EncodeBase64(params.opaque_state), rank);
}

}  // namespace pixii::frontend
