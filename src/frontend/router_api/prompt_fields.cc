#include "frontend/router_api/prompt_fields.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "frontend/field_error.h"
#include "frontend/router_api/json_fields.h"
#include "wire/public_hash.h"

namespace pixii::frontend {

using router::HashedPrompt;
using router::InstanceId;
using router::RouteRequest;
using wire::Json;

namespace {

constexpr std::uint64_t kPromptTokensMax = 1U << 24U;

Result<std::string> EitherText(const Json& body, std::string_view name, std::string_view other) {
  PX_TRY(std::optional<std::string> value, TextField(body, name));
  if (!value) {
    PX_TRY(value, TextField(body, other));
  }
  return value.value_or("");
}

Result<void> ReadConstraints(const Json& body, RouteRequest& out) {
  PX_TRY(const Json* const constraints, ObjectField(body, "routing_constraints"));
  if (constraints == nullptr) {
    return {};
  }
  PX_TRY(const auto required, TextsField(*constraints, "required_taints"));
  out.required_taints = required.value_or(std::vector<std::string>());
  const Json* const preferred = constraints->Find("preferred_taints");
  if (preferred == nullptr || preferred->is_null()) {
    return {};
  }
  if (!preferred->is_object()) {
    return Bad("preferred_taints", "is no object of taints and their weights");
  }
  for (const auto& [taint, weight] : preferred->object()) {
    const std::optional<double> number = weight.AsDouble();
    if (!number) {
      return Bad("preferred_taints", "has a weight that is no number");
    }
    out.preferred_taints.push_back({taint, *number});
  }
  return {};
}

Result<void> ReadOverride(const Json& body, RouteRequest& out) {
  PX_TRY(const Json* const given, ObjectField(body, "router_config_override"));
  if (given == nullptr) {
    return {};
  }
  PX_TRY(out.instead.overlap_credit, RealField(*given, "overlap_score_credit"));
  PX_TRY(out.instead.prefill_load_scale, RealField(*given, "prefill_load_scale"));
  PX_TRY(out.instead.temperature, RealField(*given, "router_temperature"));
  PX_TRY(out.instead.assume_kv_reuse, BoolField(*given, "assume_kv_reuse"));
  PX_TRY(out.instead.track_prefill_tokens, BoolField(*given, "track_prefill_tokens"));
  PX_TRY(out.instead.shared_cache_multiplier, RealField(*given, "shared_cache_multiplier"));
  for (const std::optional<double>& value :
       {out.instead.overlap_credit, out.instead.prefill_load_scale, out.instead.temperature,
        out.instead.shared_cache_multiplier}) {
    if (value && !(*value >= 0 && *value <= 1e6)) {
      return Bad("router_config_override", "has a number below 0 or above 1000000");
    }
  }
  return {};
}

Result<void> ReadPlace(const Json& body, const std::vector<InstanceId>& known, RouteRequest& out) {
  PX_TRY(const Json* const pinned, ObjectField(body, "pinned_worker"));
  if (pinned != nullptr) {
    PX_TRY(const std::uint64_t worker, Required("worker_id", WordField(*pinned, "worker_id")));
    PX_TRY(const auto rank, CountField(*pinned, "dp_rank", 0, 0xffffffff));
    out.pinned = InstanceId{worker};
    if (rank) {
      out.rank = static_cast<std::uint32_t>(*rank);
    }
  }
  PX_TRY(const auto allowed, WordsField(body, "allowed_worker_ids"));
  if (allowed) {
    for (const InstanceId id : known) {
      if (std::ranges::find(*allowed, Raw(id)) == allowed->end()) {
        out.excluded.push_back(id);
      }
    }
  }
  return {};
}

}  // namespace

Result<HashedPrompt> PromptFields(const Json& body, std::uint32_t block_tokens) {
  PX_TRY(std::optional<std::vector<TokenId>> tokens, TokensField(body, "token_ids"));
  if (!tokens) {
    PX_TRY(tokens, TokensField(body, "tokens"));
  }
  HashedPrompt out;
  if (tokens) {
    PX_TRY(const std::string adapter, EitherText(body, "lora_name", "lora"));
    PX_TRY(const std::string salt, EitherText(body, "cache_salt", "cache_namespace"));
    out.block_hashes =
        wire::PublicBlockHashes(*tokens, block_tokens, wire::PublicHashSeed(salt, adapter));
    out.token_count = tokens->size();
    return out;
  }
  PX_TRY(std::optional<std::vector<std::uint64_t>> hashes, WordsField(body, "block_hashes"));
  if (!hashes) {
    PX_TRY(hashes, WordsField(body, "sequence_hashes"));
  }
  if (!hashes) {
    return Fail(Code::kInvalidArgument, "token_ids: is missing, and so is block_hashes",
                "token_ids");
  }
  PX_TRY(const std::optional<std::uint64_t> count,
         CountField(body, "isl_tokens", 0, kPromptTokensMax));
  out.block_hashes = std::move(*hashes);
  out.token_count = count.value_or(out.block_hashes.size() * block_tokens);
  if (out.token_count / block_tokens < out.block_hashes.size()) {
    return Bad("isl_tokens", "is less than the tokens of the complete blocks");
  }
  return out;
}

Result<RouteRequest> SelectionFields(const Json& body, std::uint32_t block_tokens,
                                     const std::vector<InstanceId>& known) {
  RouteRequest out;
  PX_TRY(out.hashed, PromptFields(body, block_tokens));
  PX_CHECK_OK(ReadPlace(body, known, out));
  PX_CHECK_OK(ReadConstraints(body, out));
  PX_CHECK_OK(ReadOverride(body, out));
  PX_TRY(const std::optional<double> jump, RealField(body, "priority_jump"));
  out.priority_jump_s = std::max(jump.value_or(0), 0.0);
  PX_TRY(const auto strict, CountField(body, "strict_priority", 0, 0x7fffffff));
  out.strict_priority = static_cast<std::int64_t>(strict.value_or(0));
  PX_TRY(const auto expected, CountField(body, "expected_output_tokens", 0, 0xffffffff));
  out.expected_output_tokens = static_cast<std::uint32_t>(expected.value_or(0));
  PX_TRY(const std::optional<std::string> session, TextField(body, "session_id"));
  out.session = session.value_or("");
  PX_TRY(const std::optional<std::string> policy_class, TextField(body, "policy_class"));
  out.policy_class = policy_class.value_or("");
  return out;
}

}  // namespace pixii::frontend
