// nvext: what deployments of Dynamo add to OpenAI's bodies, as far as one process has it.
#include <array>
#include <limits>

#include "frontend/openai_draft.h"
#include "frontend/routing_fields.h"

namespace pixii::frontend {

using wire::Json;

namespace {

constexpr std::int64_t kCountMax = std::numeric_limits<std::int32_t>::max();

Result<bool> ReadFlag(const std::string& field, const Json& value) {
  if (!value.is_bool()) {
    return Bad(field, fmt::format("{} is not true or false", Shown(value)));
  }
  return value.boolean();
}

Result<std::int64_t> ReadInteger(const std::string& field, const Json& value, std::int64_t min) {
  std::optional<std::int64_t> number = value.IsIntegerLiteral() ? value.AsInt() : std::nullopt;
  if (!number || *number < min || *number > kCountMax) {
    return Bad(field,
               fmt::format("{} is not an integer in [{}, {}]", Shown(value), min, kCountMax));
  }
  return *number;
}

// Names that are not known are left out: other deployments know others. What stands behind a colon
// is a value, which none of these has.
Result<void> ReadNames(const std::string& field, const Json& value,
                       std::initializer_list<std::pair<std::string_view, bool*>> known) {
  if (!value.is_array() || value.array().size() > 64) {
    return Bad(field, "must be a list of at most 64 names");
  }
  for (const Json& name : value.array()) {
    if (!name.is_string()) {
      return Bad(field, fmt::format("{} is not a string", Shown(name)));
    }
    const std::string_view asked(name.string());
    for (const auto& [word, flag] : known) {
      *flag = *flag || asked.substr(0, asked.find(':')) == word;
    }
  }
  return {};
}

wire::RoutingHints& HintsOf(Draft& draft) {
  return draft.routing ? *draft.routing : draft.routing.emplace();
}

// Hints about what is to come, for routers; a single process needs none but the priority.
Result<void> ReadHints(const std::string& field, const Json& value, Draft& draft) {
  if (!value.is_object()) {
    return Bad(field, "must be an object");
  }
  for (const auto& [key, hint] : value.object()) {
    std::string name = fmt::format("{}.{}", field, key.substr(0, 60));
    if (hint.is_null()) {
      continue;
    }
    if (key == "priority") {
      PX_TRY(draft.hinted_priority, ReadInteger(name, hint, -kCountMax));
    } else if (key == "osl") {
      PX_TRY(const std::int64_t tokens, ReadInteger(name, hint, 0));
      HintsOf(draft).expected_output_tokens = static_cast<std::uint32_t>(tokens);
    } else if (key == "strict_priority") {
      PX_TRY(const std::int64_t priority, ReadInteger(name, hint, 0));
      HintsOf(draft).strict_priority = priority;
    } else if (key == "speculative_prefill") {
      PX_TRY(draft.warms_next_turn, ReadFlag(name, hint));
    } else {
      return NotDone(name, "this hint is not supported");
    }
  }
  return {};
}

}  // namespace

Result<void> ReadNvextOnly(const std::string& key, const Json& value, Draft& draft) {
  const std::string field = "nvext." + key.substr(0, 100);
  if (key == "greed_sampling") {
    PX_TRY(draft.greedy_sampling, ReadFlag(field, value));
  } else if (key == "max_thinking_tokens") {
    PX_TRY(draft.max_thinking_tokens, ReadInteger(field, value, 0));
  } else if (key == "use_raw_prompt") {
    PX_TRY(draft.raw_prompt, ReadFlag(field, value));
  } else if (key == "token_data") {
    PX_TRY(draft.token_data, ParseTokenIds(value, field));
  } else if (key == "annotations") {
    NvextAnswer& out = draft.nvext;
    PX_CHECK_OK(ReadNames(field, value,
                          {{"request_id", &out.request_id_event},
                           {"token_ids", &out.token_ids_event},
                           {"query_instance_id", &out.query_worker}}));
  } else if (key == "extra_fields") {
    NvextAnswer& out = draft.nvext;
    PX_CHECK_OK(ReadNames(field, value,
                          {{"timing", &out.timing},
                           {"worker_id", &out.worker_id},
                           {"stop_reason", &out.stop_reason}}));
  } else if (key == "backend_instance_id" || key == "decode_worker_id") {
    PX_TRY(HintsOf(draft).worker, ReadWorkerId(field, value));
  } else if (key == "dp_rank") {
    PX_TRY(const std::int64_t rank, ReadInteger(field, value, 0));
    draft.dp_rank = static_cast<std::uint32_t>(rank);
  } else if (key == "router_config_override") {
    PX_TRY(HintsOf(draft).instead, ReadRouteOverride(field, value));
  } else if (key == "routing_constraints") {
    return ReadRoutingConstraints(field, value, HintsOf(draft));
  } else if (key == "agent_hints") {
    return ReadHints(field, value, draft);
  } else if (key == "agent_context") {
    if (!value.is_object()) {
      return Bad(field, "must be an object");
    }
  } else {
    return NotDone(field, "this field is not supported");
  }
  return {};
}

Result<void> ApplyNvext(Draft& draft) {
  if (draft.hinted_priority) {
    if (draft.priority) {
      return Bad("nvext.agent_hints.priority", "stands beside priority; give one of them");
    }
    draft.priority = -*draft.hinted_priority;
  }
  if (!draft.token_data.empty()) {
    draft.prompts.clear();
    draft.prompts.emplace_back(std::move(draft.token_data));
    for (std::string inner : {"prompt", "messages"}) {
      draft.names.Add({.inner = std::move(inner), .outer = "nvext.token_data"});
    }
    return {};
  }
  if (!draft.raw_prompt || draft.surface != Surface::kChat || draft.chat.messages.is_null()) {
    return {};
  }
  const Json::Array& messages = draft.chat.messages.array();
  if (messages.size() != 1) {
    return Bad("nvext.use_raw_prompt", "needs exactly one message, whose content is the prompt");
  }
  if (!messages[0].Find("content")->is_string()) {
    return Bad("nvext.use_raw_prompt", "needs a message of text alone");
  }
  if (!draft.chat.tools.is_null() || !draft.chat.template_kwargs.is_null()) {
    return Bad("nvext.use_raw_prompt",
               "goes past the template, which alone could show tools and chat_template_kwargs");
  }
  draft.prompts.emplace_back(messages[0].Find("content")->string());
  draft.names.Add({.inner = "prompt", .outer = "messages[0].content"});
  return {};
}

}  // namespace pixii::frontend
