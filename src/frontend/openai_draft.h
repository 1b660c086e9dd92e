// A body while it is read: the request, and fields that rules between fields still decide about.
//
// Thread: values. Private to openai_*.cc.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "base/result.h"
#include "frontend/field_error.h"
#include "frontend/openai_request.h"
#include "wire/json.h"

namespace pixii::frontend {

// What is kept of a body before the rules between fields are applied.
struct Draft : OpenAiRequest {
  std::optional<std::int64_t> mirostat_mode;
  std::optional<std::int64_t> max_completion_tokens;
  std::optional<std::int64_t> top_logprobs_count;
  std::optional<std::int64_t> logprobs_count;       // completions
  std::optional<bool> logprobs_flag;                // chat
  bool greedy_sampling = false;                     // nvext.greed_sampling
  std::optional<std::int64_t> max_thinking_tokens;  // nvext
  bool raw_prompt = false;                          // nvext.use_raw_prompt
  std::vector<TokenId> token_data;                  // nvext
  std::optional<std::int64_t> hinted_priority;      // nvext.agent_hints: higher goes first
  std::set<std::string, std::less<>> root_fields;   // names that the body has
};

// Readers of what the answer must look like; response_format.cc.
Result<void> ReadResponseFormat(std::string_view name, const wire::Json& value, Draft& draft);
Result<void> ReadGuided(std::string_view name, const wire::Json& value, Draft& draft);
Result<void> ReadStructuredOutputs(std::string_view name, const wire::Json& value, Draft& draft);

// Whether calls may or must come; chat_messages.cc.
Result<void> ReadToolChoice(std::string_view name, const wire::Json& value, Draft& draft);

// Readers of the sampling fields that are no plain numbers; openai_sampling.cc.
Result<void> ReadLogitBias(std::string_view name, const wire::Json& value, Draft& draft);
Result<void> ReadAllowedTokenIds(std::string_view name, const wire::Json& value, Draft& draft);
Result<void> ReadBadWords(std::string_view name, const wire::Json& value, Draft& draft);
Result<void> ReadDryBreakers(std::string_view name, const wire::Json& value, Draft& draft);
Result<void> ReadLogprobsMode(std::string_view name, const wire::Json& value, Draft& draft);
Result<void> ReadLogitsProcessors(std::string_view name, const wire::Json& value, Draft& draft);

// Fields of nvext alone; openai_nvext.cc. Errors: kUnsupported for those that are not known here.
Result<void> ReadNvextOnly(const std::string& key, const wire::Json& value, Draft& draft);

/// Rules between nvext and the rest: prompts that are given otherwise, priority.
Result<void> ApplyNvext(Draft& draft);

/// Rules between sampling fields.
Result<void> CheckSamplingTogether(Draft& draft);

}  // namespace pixii::frontend
