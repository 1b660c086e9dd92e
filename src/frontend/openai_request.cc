#include "frontend/openai_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <span>

#include "frontend/openai_draft.h"
#include "text/tokenizer/stop_matcher.h"

namespace pixii::frontend {

using wire::Json;

namespace {

constexpr std::uint8_t kChat = 1;
constexpr std::uint8_t kText = 2;
constexpr std::uint8_t kBoth = kChat | kText;

// The one table of scalar fields: name, where it is known, least and greatest value, where it goes.
struct NumberField {
  std::string_view name;
  std::uint8_t surfaces;
  double min;
  double max;
  bool above_min;  // the least value itself is not allowed
  std::optional<double> Draft::* member;
};

struct IntegerField {
  std::string_view name;
  std::uint8_t surfaces;
  std::int64_t min;
  std::int64_t max;
  std::optional<std::int64_t> Draft::* member;
};

struct BoolField {
  std::string_view name;
  std::uint8_t surfaces;
  std::optional<bool> Draft::* member;
};

template <class T, class Base>
constexpr std::optional<T> Draft::* Of(std::optional<T> Base::* member) {
  return static_cast<std::optional<T> Draft::*>(member);
}

constexpr std::int64_t kAnyLength =
    std::numeric_limits<std::int32_t>::max();  // the context is the real limit

constexpr auto kNumbers = std::to_array<NumberField>({
    {"temperature", kBoth, 0, 2, false, Of(&OpenAiRequest::temperature)},
    {"top_p", kBoth, 0, 1, true, Of(&OpenAiRequest::top_p)},
    {"min_p", kBoth, 0, 1, false, Of(&OpenAiRequest::min_p)},
    {"presence_penalty", kBoth, -2, 2, false, Of(&OpenAiRequest::presence_penalty)},
    {"frequency_penalty", kBoth, -2, 2, false, Of(&OpenAiRequest::frequency_penalty)},
    {"repetition_penalty", kBoth, 0, 2, true, Of(&OpenAiRequest::repetition_penalty)},
    {"top_a", kBoth, 0, 1, false, Of(&OpenAiRequest::top_a)},
    {"typical_p", kBoth, 0, 1, true, Of(&OpenAiRequest::typical_p)},
    {"length_penalty", kBoth, -10, 10, false, Of(&OpenAiRequest::length_penalty)},
    {"dry_multiplier", kBoth, 0, 100, false, Of(&OpenAiRequest::dry_multiplier)},
    {"dry_base", kBoth, 1, 10, false, Of(&OpenAiRequest::dry_base)},
    {"xtc_probability", kBoth, 0, 1, false, Of(&OpenAiRequest::xtc_probability)},
    {"xtc_threshold", kBoth, 0, 1, false, Of(&OpenAiRequest::xtc_threshold)},
    {"mirostat_tau", kBoth, 0, 100, true, Of(&OpenAiRequest::mirostat_tau)},
    {"mirostat_eta", kBoth, 0, 1, false, Of(&OpenAiRequest::mirostat_eta)},
});

constexpr auto kIntegers = std::to_array<IntegerField>({
    {"n", kBoth, 1, kChoicesMax, Of(&OpenAiRequest::n)},
    {"best_of", kText, 1, kChoicesMax, Of(&OpenAiRequest::best_of)},
    {"max_tokens", kBoth, 0, kAnyLength, Of(&OpenAiRequest::max_tokens)},  // 0: only with echo
    {"max_completion_tokens", kChat, 1, kAnyLength, &Draft::max_completion_tokens},
    {"min_tokens", kBoth, 0, kAnyLength, Of(&OpenAiRequest::min_tokens)},
    {"priority", kBoth, -kAnyLength, kAnyLength, Of(&OpenAiRequest::priority)},
    {"top_k", kBoth, -1, kAnyLength, Of(&OpenAiRequest::top_k)},  // -1 and 0: off
    {"dry_allowed_length", kBoth, 1, kAnyLength, Of(&OpenAiRequest::dry_allowed_length)},
    {"dry_range", kBoth, 0, kAnyLength, Of(&OpenAiRequest::dry_range)},  // 0: all
    {"prompt_logprobs", kBoth, 0, kTopLogprobsMax, Of(&OpenAiRequest::prompt_logprobs)},
    {"beam_width", kBoth, 1, kBeamWidthMax, Of(&OpenAiRequest::beam_width)},
    {"mirostat_mode", kBoth, 0, 2, &Draft::mirostat_mode},
    {"top_logprobs", kChat, 0, kTopLogprobsMax, &Draft::top_logprobs_count},
    {"logprobs", kText, 0, kTopLogprobsMax, &Draft::logprobs_count},
});

constexpr auto kBools = std::to_array<BoolField>({
    {"stream", kBoth, Of(&OpenAiRequest::stream)},
    {"logprobs", kChat, &Draft::logprobs_flag},
    {"echo", kText, Of(&OpenAiRequest::echo)},
    {"ignore_eos", kBoth, Of(&OpenAiRequest::ignore_eos)},
    {"include_stop_str_in_output", kBoth, Of(&OpenAiRequest::include_stop_str_in_output)},
    {"skip_special_tokens", kBoth, Of(&OpenAiRequest::skip_special_tokens)},
    {"return_token_ids", kBoth, Of(&OpenAiRequest::return_token_ids)},
    {"return_tokens_as_token_ids", kBoth, Of(&OpenAiRequest::tokens_as_ids)},
    {"receipt", kBoth, Of(&OpenAiRequest::receipt)},
    {"include_reasoning", kChat, Of(&OpenAiRequest::include_reasoning)},
    {"use_beam_search", kBoth, Of(&OpenAiRequest::use_beam_search)},
    {"early_stopping", kBoth, Of(&OpenAiRequest::early_stopping)},
    {"add_special_tokens", kText, Of(&OpenAiRequest::add_special_tokens)},
    {"parallel_tool_calls", kChat, Of(&OpenAiRequest::parallel_tool_calls)},
});

// Known to OpenAI, vLLM or Dynamo and not done here: refused with a better sentence than "unknown".
constexpr auto kUnsupportedFields = std::to_array<std::string_view>({
    "audio",
    "chat_template",
    "documents",
    "function_call",
    "functions",
    "guided_decoding",
    "mm_processor_kwargs",
    "prediction",
    "prompt_cache_options",
    "prompt_cache_retention",
    "prompt_embeds",
    "reasoning_effort",
    "suffix",
    "truncate_prompt_tokens",
    "verbosity",
    "web_search_options",
});

Result<void> ReadNumber(const NumberField& field, const Json& value, Draft& draft) {
  std::optional<double> number = value.AsDouble();
  if (!number) {
    return Bad(field.name, fmt::format("{} is not a number that can be used", Shown(value)));
  }
  if (*number > field.max || *number < field.min || (field.above_min && *number <= field.min)) {
    return Bad(field.name, fmt::format("{} is out of range, allowed is {}{}, {}]", Shown(value),
                                       field.above_min ? '(' : '[', field.min, field.max));
  }
  draft.*field.member = *number;
  return {};
}

Result<void> ReadInteger(const IntegerField& field, const Json& value, Draft& draft) {
  if (!value.IsIntegerLiteral()) {
    return Bad(field.name, fmt::format("{} is not an integer", Shown(value)));
  }
  std::optional<std::int64_t> number = value.AsInt();
  if (!number || *number < field.min || *number > field.max) {
    return Bad(field.name, fmt::format("{} is out of range, allowed is [{}, {}]", Shown(value),
                                       field.min, field.max));
  }
  draft.*field.member = *number;
  return {};
}

Result<void> ReadBool(const BoolField& field, const Json& value, Draft& draft) {
  if (!value.is_bool()) {
    return Bad(field.name, fmt::format("{} is neither true nor false", Shown(value)));
  }
  draft.*field.member = value.boolean();
  return {};
}

Result<void> ReadLabel(std::string_view name, const Json& value) {
  if (!value.is_string() || value.string().size() > kLabelBytesMax) {
    return Bad(name,
               fmt::format("{} is not a string of at most {} bytes", Shown(value), kLabelBytesMax));
  }
  return {};
}

Result<void> ReadModel(std::string_view name, const Json& value, Draft& draft) {
  PX_CHECK_OK(ReadLabel(name, value));
  if (value.string().empty()) {
    return Bad(name, "is empty");
  }
  draft.model = value.string();
  return {};
}

// Prefixes are shared only with requests of the same tenant that give the same one.
Result<void> ReadCacheSalt(std::string_view name, const Json& value, Draft& draft) {
  PX_CHECK_OK(ReadLabel(name, value));
  if (value.string().empty()) {
    return Bad(name, "is empty");
  }
  draft.cache_salt = value.string();
  return {};
}

Result<void> ReadDisaggregated(std::string_view name, const Json& value, Draft& draft) {
  PX_TRY(draft.disaggregated, ReadDisaggregatedParams(name, value));
  return {};
}

Result<void> ReadLabelField(std::string_view name, const Json& value, Draft&) {
  return ReadLabel(name, value);
}

Result<void> ReadMetadata(std::string_view name, const Json& value, Draft&) {
  if (!value.is_object() || value.object().size() > 16) {
    return Bad(name, "must be an object of at most 16 labels");
  }
  for (const wire::JsonMember& member : value.object()) {
    PX_CHECK_OK(ReadLabel(fmt::format("metadata.{}", member.first.substr(0, 64)), member.second));
  }
  return {};
}

Result<void> ReadSeed(std::string_view name, const Json& value, Draft& draft) {
  std::uint64_t seed = 0;
  if (value.is_number()) {
    const std::string& digits = value.digits();
    auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), seed);
    if (error == std::errc{} && end == digits.data() + digits.size()) {
      draft.seed = seed;
      return {};
    }
  }
  return Bad(name, fmt::format("{} is not an integer in [0, 18446744073709551615]", Shown(value)));
}

Result<void> ReadStop(std::string_view name, const Json& value, Draft& draft) {
  if (value.is_string()) {
    draft.stop.push_back(value.string());
  } else if (value.is_array()) {
    for (const Json& item : value.array()) {
      if (!item.is_string()) {
        return Bad(name, fmt::format("{} is not a string", Shown(item)));
      }
      draft.stop.push_back(item.string());
      if (draft.stop.size() > text::kStopStringsMax) {
        return Bad(name, fmt::format("more than {} stop strings", text::kStopStringsMax));
      }
    }
  } else {
    return Bad(name, fmt::format("{} is neither a string nor a list of strings", Shown(value)));
  }
  for (const std::string& stop : draft.stop) {
    if (stop.empty() || stop.size() > text::kStopStringBytesMax) {
      return Bad(name, fmt::format("a stop string has {} bytes, allowed is [1, {}]", stop.size(),
                                   text::kStopStringBytesMax));
    }
  }
  return {};
}

Result<void> ReadStopTokenIds(std::string_view name, const Json& value, Draft& draft) {
  PX_TRY(draft.stop_token_ids, ParseTokenIds(value, name));
  if (draft.stop_token_ids.size() > kStopTokenIdsMax) {
    return Bad(name, fmt::format("{} ids, allowed are at most {}", draft.stop_token_ids.size(),
                                 kStopTokenIdsMax));
  }
  return {};
}

Result<void> ReadStreamOptions(std::string_view name, const Json& value, Draft& draft) {
  if (!value.is_object()) {
    return Bad(name, "must be an object");
  }
  for (const auto& [key, item] : value.object()) {
    std::string field = fmt::format("stream_options.{}", key.substr(0, 60));
    if (key != "include_usage" && key != "include_obfuscation") {
      return Fail(Code::kInvalidArgument, fmt::format("unknown field {}", field), field);
    }
    if (!item.is_bool()) {
      return Bad(field, fmt::format("{} is neither true nor false", Shown(item)));
    }
    if (key == "include_usage") {
      draft.include_usage = item.boolean();
    } else if (item.boolean()) {
      return NotDone(field, "not supported");
    }
  }
  return {};
}

Result<void> ReadModalities(std::string_view name, const Json& value, Draft&) {
  if (!value.is_array() || value.array().size() != 1 || value.array()[0] != Json("text")) {
    return NotDone(name, "only [\"text\"] is supported");
  }
  return {};
}

Result<void> ReadServiceTier(std::string_view name, const Json& value, Draft&) {
  if (value != Json("auto") && value != Json("default")) {
    return NotDone(
        name, fmt::format("{} is not supported, only \"auto\" and \"default\" are", Shown(value)));
  }
  return {};
}

Result<void> ReadStore(std::string_view name, const Json& value, Draft&) {
  if (!value.is_bool()) {
    return Bad(name, fmt::format("{} is neither true nor false", Shown(value)));
  }
  if (value.boolean()) {
    return NotDone(name, "nothing is stored here, only false is supported");
  }
  return {};
}

Result<void> ReadTemplateKwargs(std::string_view name, const Json& value, Draft& draft) {
  if (!value.is_object() || value.object().size() > 64) {
    return Bad(name, "must be an object of at most 64 entries");
  }
  draft.chat.template_kwargs = value;
  return {};
}

Result<void> ReadChatFlag(std::string_view name, const Json& value, Draft& draft) {
  if (!value.is_bool()) {
    return Bad(name, fmt::format("{} is neither true nor false", Shown(value)));
  }
  bool& flag = name == "add_generation_prompt" ? draft.chat.add_generation_prompt
                                               : draft.chat.continue_final_message;
  flag = value.boolean();
  return {};
}

Result<void> ReadMessagesField(std::string_view, const Json& value, Draft& draft) {
  PX_TRY(ChatMessages read, ParseMessages(value));
  draft.chat.messages = std::move(read.messages);
  draft.media = std::move(read.media);
  return {};
}

Result<void> ReadToolsField(std::string_view, const Json& value, Draft& draft) {
  PX_TRY(draft.chat.tools, ParseTools(value));
  return {};
}

Result<void> ReadPrompt(std::string_view name, const Json& value, Draft& draft) {
  if (value.is_string()) {
    draft.prompts.emplace_back(value.string());
    return {};
  }
  if (!value.is_array() || value.array().empty()) {
    return Bad(name,
               "must be a string, a list of strings, a list of token ids or a list of such lists, "
               "not empty");
  }
  if (value.array()[0].is_number()) {
    PX_TRY(auto ids, ParseTokenIds(value, name));
    draft.prompts.emplace_back(std::move(ids));
    return {};
  }
  if (value.array().size() > kChoicesMax) {
    return Bad(
        name, fmt::format("{} prompts, allowed are at most {}", value.array().size(), kChoicesMax));
  }
  for (const Json& item : value.array()) {
    if (item.is_string()) {
      draft.prompts.emplace_back(item.string());
      continue;
    }
    PX_TRY(auto ids, ParseTokenIds(item, name));
    if (ids.empty()) {
      return Bad(name, "an empty list of token ids");
    }
    draft.prompts.emplace_back(std::move(ids));
  }
  return {};
}

struct OtherField {
  std::string_view name;
  std::uint8_t surfaces;
  Result<void> (*read)(std::string_view name, const Json& value, Draft& draft);
};

constexpr auto kOthers = std::to_array<OtherField>({
    {"model", kBoth, ReadModel},
    {"messages", kChat, ReadMessagesField},
    {"prompt", kText, ReadPrompt},
    {"stop", kBoth, ReadStop},
    {"stop_token_ids", kBoth, ReadStopTokenIds},
    {"logit_bias", kBoth, ReadLogitBias},
    {"allowed_token_ids", kBoth, ReadAllowedTokenIds},
    {"bad_words", kBoth, ReadBadWords},
    {"dry_sequence_breakers", kBoth, ReadDryBreakers},
    {"logprobs_mode", kBoth, ReadLogprobsMode},
    {"seed", kBoth, ReadSeed},
    {"cache_salt", kBoth, ReadCacheSalt},
    {"disaggregated_params", kBoth, ReadDisaggregated},
    {"stream_options", kBoth, ReadStreamOptions},
    {"response_format", kBoth, ReadResponseFormat},
    {"structured_outputs", kBoth, ReadStructuredOutputs},
    {"guided_json", kBoth, ReadGuided},
    {"guided_regex", kBoth, ReadGuided},
    {"guided_choice", kBoth, ReadGuided},
    {"guided_grammar", kBoth, ReadGuided},
    {"tools", kChat, ReadToolsField},
    {"tool_choice", kChat, ReadToolChoice},
    {"chat_template_kwargs", kChat, ReadTemplateKwargs},
    {"add_generation_prompt", kChat, ReadChatFlag},
    {"continue_final_message", kChat, ReadChatFlag},
    {"modalities", kChat, ReadModalities},
    {"service_tier", kChat, ReadServiceTier},
    {"store", kChat, ReadStore},
    {"user", kBoth, ReadLabelField},
    {"request_id", kBoth, ReadLabelField},
    {"safety_identifier", kChat, ReadLabelField},
    {"prompt_cache_key", kChat, ReadLabelField},
    {"metadata", kChat, ReadMetadata},
});

template <class Table>
const typename Table::value_type* FindField(const Table& table, std::string_view name,
                                            std::uint8_t surface) {
  auto found = std::find_if(table.begin(), table.end(), [&](const auto& row) {
    return row.name == name && (row.surfaces & surface) != 0;
  });
  return found == table.end() ? nullptr : &*found;
}

Result<void> ReadNvext(std::string_view name, const Json& value, Draft& draft);

bool Known(const std::string& name, std::uint8_t surface) {
  return FindField(kNumbers, name, surface) != nullptr ||
         FindField(kIntegers, name, surface) != nullptr ||
         FindField(kBools, name, surface) != nullptr ||
         FindField(kOthers, name, surface) != nullptr || name == "nvext";
}

// Of nvext: fields that also stand at the root, as deployments of Dynamo spell them.
constexpr auto kNvextRootFields = std::to_array<std::string_view>({
    "ignore_eos",
    "top_k",
    "min_p",
    "top_a",
    "typical_p",
    "repetition_penalty",
    "logprobs_mode",
    "cache_salt",
});

constexpr auto kNvextFields = std::to_array<OtherField>({
    {"logits_processors", kBoth, ReadLogitsProcessors},
});

Result<void> ReadField(const std::string& name, const Json& value, std::uint8_t surface,
                       Draft& draft) {
  if (const NumberField* number = FindField(kNumbers, name, surface)) {
    return value.is_null() ? Result<void>() : ReadNumber(*number, value, draft);
  }
  if (const IntegerField* integer = FindField(kIntegers, name, surface)) {
    return value.is_null() ? Result<void>() : ReadInteger(*integer, value, draft);
  }
  if (const BoolField* flag = FindField(kBools, name, surface)) {
    return value.is_null() ? Result<void>() : ReadBool(*flag, value, draft);
  }
  if (const OtherField* other = FindField(kOthers, name, surface)) {
    return value.is_null() ? Result<void>() : other->read(other->name, value, draft);
  }
  if (name == "nvext") {
    return value.is_null() ? Result<void>() : ReadNvext(name, value, draft);
  }
  if (std::find(kUnsupportedFields.begin(), kUnsupportedFields.end(), name) !=
      kUnsupportedFields.end()) {
    return value.is_null() ? Result<void>()
                           : Result<void>(NotDone(name, "this field is not supported"));
  }
  std::string shown = name.substr(0, 100);
  return Fail(Code::kInvalidArgument, fmt::format("unknown field \"{}\"", shown), shown);
}

Result<void> ReadNvextField(const std::string& key, const Json& value, Draft& draft) {
  std::string field = "nvext." + key.substr(0, 100);
  auto surface = static_cast<std::uint8_t>(draft.surface);
  if (const OtherField* own = FindField(kNvextFields, key, surface)) {
    return own->read(field, value, draft);
  }
  if (std::ranges::find(kNvextRootFields, key) != kNvextRootFields.end()) {
    if (draft.root_fields.contains(key)) {
      return Bad(field, "stands at the root of the body too; give it once");
    }
    draft.names.Add({.inner = key, .outer = field});
    Result<void> read = ReadField(key, value, surface, draft);
    return read ? std::move(read) : Fail(draft.names.InCallersWords(read.error()));
  }
  return ReadNvextOnly(key, value, draft);
}

Result<void> ReadNvext(std::string_view name, const Json& value, Draft& draft) {
  if (!value.is_object()) {
    return Bad(name, "must be an object");
  }
  for (const auto& [key, member] : value.object()) {
    if (!member.is_null()) {
      PX_CHECK_OK(ReadNvextField(key, member, draft));
    }
  }
  return {};
}

// Rules between fields.
Result<void> CheckTogether(Draft& draft) {
  PX_CHECK_OK(ApplyNvext(draft));
  if (draft.surface == Surface::kChat && draft.chat.messages.is_null() && draft.prompts.empty()) {
    return Bad("messages", "is missing");
  }
  if (draft.surface == Surface::kCompletions && draft.prompts.empty()) {
    return Bad("prompt", "is missing");
  }
  if (draft.include_usage && !draft.streams()) {
    return Bad("stream_options", "is allowed only with \"stream\": true");
  }
  PX_CHECK_OK(CheckSamplingTogether(draft));
  if (draft.max_completion_tokens) {
    if (draft.max_tokens && *draft.max_tokens != *draft.max_completion_tokens) {
      return Bad("max_completion_tokens", "differs from max_tokens; give one of them");
    }
    draft.max_tokens = draft.max_completion_tokens;
  }
  if (draft.prompt_logprobs && draft.streams()) {
    return Bad("prompt_logprobs", "is not possible with \"stream\": true");
  }
  if (draft.max_tokens == 0 && !draft.echo.value_or(false)) {
    return Bad("max_tokens", "0 is allowed only with \"echo\": true; the least value is 1");
  }
  if (draft.max_tokens && draft.min_tokens.value_or(0) > *draft.max_tokens) {
    return Bad("min_tokens", fmt::format("{} is more than max_tokens", *draft.min_tokens));
  }
  if (draft.prompts.size() * draft.candidate_count() > kChoicesMax) {
    return Bad(draft.best_of ? "best_of" : "n",
               fmt::format("prompts times {} is {}, allowed are at most {} choices",
                           draft.best_of ? "best_of" : "n",
                           draft.prompts.size() * draft.candidate_count(), kChoicesMax));
  }
  if (draft.top_logprobs_count && !draft.logprobs_flag.value_or(false)) {
    return Bad("top_logprobs", "is allowed only with \"logprobs\": true");
  }
  if (draft.chat.add_generation_prompt && draft.chat.continue_final_message) {
    return Bad("continue_final_message",
               "excludes add_generation_prompt, which is true by default");
  }
  if (draft.logprobs_flag.value_or(false)) {
    draft.top_logprobs = static_cast<std::int32_t>(draft.top_logprobs_count.value_or(0));
  } else if (draft.logprobs_count) {
    draft.top_logprobs = static_cast<std::int32_t>(*draft.logprobs_count);
  }
  return {};
}

}  // namespace

void DropNvext(Json& body) {
  if (body.is_object()) {
    std::erase_if(body.object(), [](const auto& member) { return member.first == "nvext"; });
  }
}

std::string Shown(const Json& value) {
  std::string text = value.is_array() ? "a list" : value.is_object() ? "an object" : value.Dump();
  constexpr std::size_t kShownMax = 60;
  if (text.size() <= kShownMax) {
    return text;
  }
  std::size_t cut = kShownMax;
  while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xC0U) == 0x80U) {
    --cut;
  }
  return text.substr(0, cut) + "...";
}

Result<std::vector<TokenId>> ParseTokenIds(const Json& list, std::string_view param) {
  if (!list.is_array()) {
    return Bad(param, fmt::format("{} is not a list of token ids", Shown(list)));
  }
  std::vector<TokenId> out;
  out.reserve(list.array().size());
  for (const Json& item : list.array()) {
    std::optional<std::int64_t> id = item.IsIntegerLiteral() ? item.AsInt() : std::nullopt;
    if (!id || *id < 0 || *id > std::numeric_limits<TokenId>::max()) {
      return Bad(param, fmt::format("{} at index {} is not a token id", Shown(item), out.size()));
    }
    out.push_back(static_cast<TokenId>(*id));
  }
  return out;
}

Result<OpenAiRequest> ParseOpenAiRequest(const Json& body, Surface surface,
                                         const RequestRules& rules) {
  if (!body.is_object()) {
    return Fail(Code::kInvalidArgument, "the body must be a JSON object");
  }
  Draft draft;
  draft.surface = surface;
  // "continue_final_message": true alone means no generation prompt.
  const Json* continues = body.Find("continue_final_message");
  if (continues != nullptr && continues->is_bool() && continues->boolean()) {
    draft.chat.add_generation_prompt = false;
  }
  for (const auto& [name, value] : body.object()) {
    draft.root_fields.insert(name);
  }
  const auto bits = static_cast<std::uint8_t>(surface);
  for (const auto& [name, value] : body.object()) {
    if ((rules.ignore_nvext && name == "nvext") || (rules.ignore_unknown && !Known(name, bits))) {
      continue;
    }
    PX_CHECK_OK(ReadField(name, value, bits, draft));
  }
  if (rules.force_usage && draft.streams()) {
    draft.include_usage = true;
  }
  if (draft.max_completion_tokens && !draft.max_tokens) {
    draft.names.Add({.inner = "max_tokens", .outer = "max_completion_tokens"});
  }
  if (Result<void> fits = CheckTogether(draft); !fits) {
    return Fail(draft.names.InCallersWords(fits.error()));
  }
  return static_cast<OpenAiRequest&&>(draft);
}

}  // namespace pixii::frontend
