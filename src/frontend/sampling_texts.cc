#include "frontend/sampling_texts.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include <fmt/format.h>

#include "frontend/field_error.h"

namespace pixii::frontend {

using wire::Json;

namespace {

constexpr std::string_view kProcessorField = "nvext.logits_processors";
constexpr TextProcessor::EncodeOptions kPlain{.add_special = false, .parse_special = false};
// What the proposal of DRY names.
constexpr std::array<std::string_view, 4> kDefaultBreakers = {"\n", ":", "\"", "*"};

enum class TextKind : std::uint8_t { kPlain, kWithSpecial, kPrompt, kWords };

// Arguments of built-in processors that are texts, and what they become.
struct TextArgument {
  std::string_view processor;
  std::string_view name;
  std::string_view becomes;
  TextKind kind;
};

constexpr auto kTextArguments = std::to_array<TextArgument>({
    {"bans", "words", "sequences", TextKind::kWords},
    {"forced_sequence", "text", "tokens", TextKind::kPlain},
    {"guidance", "negative_prompt", "negative_tokens", TextKind::kPrompt},
    {"thinking_budget", "start", "start_tokens", TextKind::kWithSpecial},
    {"thinking_budget", "end", "end_tokens", TextKind::kWithSpecial},
});

Result<std::vector<TokenId>> Encoded(std::string_view words, std::string_view field,
                                     const TextProcessor* text,
                                     TextProcessor::EncodeOptions options) {
  if (text == nullptr) {
    return Fail(Code::kUnsupported,
                fmt::format("{}: the model has no tokenizer; give token ids", field),
                std::string(field));
  }
  PX_TRY(auto tokens, text->Encode(words, options));
  if (tokens.empty()) {
    return Bad(field, "a text encodes to no tokens");
  }
  return tokens;
}

Json IdsJson(std::span<const TokenId> ids) {
  Json::Array out;
  for (TokenId id : ids) {
    out.emplace_back(std::int64_t{id});
  }
  return out;
}

Result<Json> TokensOf(const TextArgument& argument, const Json& value, const TextProcessor* text) {
  if (argument.kind == TextKind::kWords) {
    if (!value.is_array() || value.array().size() > kBadWordsMax) {
      return Bad(kProcessorField, fmt::format("{} must be a list of at most {} strings",
                                              argument.name, kBadWordsMax));
    }
    Json::Array out;
    for (const Json& word : value.array()) {
      if (!word.is_string() || word.string().empty()) {
        return Bad(kProcessorField,
                   fmt::format("{} has {}, which is no word", argument.name, Shown(word)));
      }
      PX_TRY(auto ways, WordTokens(word.string(), kProcessorField, text));
      for (const std::vector<TokenId>& way : ways) {
        out.push_back(IdsJson(way));
      }
    }
    return Json(std::move(out));
  }
  if (!value.is_string()) {
    return Bad(kProcessorField, fmt::format("{} is not a string", argument.name));
  }
  TextProcessor::EncodeOptions options{.add_special = argument.kind == TextKind::kPrompt,
                                       .parse_special = argument.kind != TextKind::kPlain};
  PX_TRY(auto tokens, Encoded(value.string(), kProcessorField, text, options));
  return IdsJson(tokens);
}

// Lists of both are joined; anything else is given once.
Result<void> Put(std::string_view name, Json tokens, Json& arguments) {
  const Json* there = arguments.Find(name);
  if (there == nullptr || there->is_null()) {
    arguments.Set(name, std::move(tokens));
    return {};
  }
  if (name != "sequences" || !there->is_array()) {
    return Bad(kProcessorField, fmt::format("{} is given as text too; give one of them", name));
  }
  Json joined = *there;
  for (Json& item : tokens.array()) {
    joined.array().push_back(std::move(item));
  }
  arguments.Set(name, std::move(joined));
  return {};
}

// Thinking is marked by <think> and </think> unless the request says otherwise.
void FillThinkingDefaults(Json& arguments) {
  if (arguments.Find("end") == nullptr && arguments.Find("end_tokens") == nullptr) {
    arguments.Set("end", "</think>");
    if (arguments.Find("start") == nullptr && arguments.Find("start_tokens") == nullptr) {
      arguments.Set("start", "<think>");
    }
  }
}

}  // namespace

Result<std::vector<std::vector<TokenId>>> WordTokens(std::string_view word, std::string_view field,
                                                     const TextProcessor* text) {
  std::vector<std::vector<TokenId>> out;
  for (std::string_view space : {"", " "}) {
    PX_TRY(auto tokens, Encoded(std::string(space) + std::string(word), field, text, kPlain));
    if (std::ranges::find(out, tokens) == out.end()) {
      out.push_back(std::move(tokens));
    }
  }
  return out;
}

Result<void> FillSamplingTexts(const OpenAiRequest& request, const TextProcessor* text,
                               wire::SamplingParams& out) {
  for (const PromptInput& word : request.bad_words) {
    if (const auto* ids = std::get_if<std::vector<TokenId>>(&word)) {
      out.bad_words.push_back(*ids);
      continue;
    }
    PX_TRY(auto ways, WordTokens(std::get<std::string>(word), "bad_words", text));
    std::ranges::move(ways, std::back_inserter(out.bad_words));
  }
  if (out.dry.multiplier <= 0 || (!request.dry_sequence_breakers && text == nullptr)) {
    return {};
  }
  std::vector<std::string> breakers(kDefaultBreakers.begin(), kDefaultBreakers.end());
  for (const std::string& breaker : request.dry_sequence_breakers.value_or(breakers)) {
    // Behind a letter it is written as inside a text; its last token is what ends with it.
    PX_TRY(auto tokens, Encoded("a" + breaker, "dry_sequence_breakers", text, kPlain));
    if (std::ranges::find(out.dry.breakers, tokens.back()) == out.dry.breakers.end()) {
      out.dry.breakers.push_back(tokens.back());
    }
  }
  return {};
}

Result<wire::LogitsProcessorCall> MakeProcessorCall(const ProcessorRequest& request,
                                                    const TextProcessor* text) {
  Json arguments = request.arguments.is_null() ? Json(Json::Object{}) : request.arguments;
  if (request.name == "thinking_budget") {
    FillThinkingDefaults(arguments);
  }
  for (const TextArgument& row : kTextArguments) {
    const Json* value = row.processor == request.name ? arguments.Find(row.name) : nullptr;
    if (value == nullptr) {
      continue;
    }
    if (!value->is_null()) {
      PX_TRY(Json tokens, TokensOf(row, *value, text));
      PX_CHECK_OK(Put(row.becomes, std::move(tokens), arguments));
    }
    std::erase_if(arguments.object(),
                  [&](const wire::JsonMember& member) { return member.first == row.name; });
  }
  return wire::LogitsProcessorCall{.name = request.name, .arguments = arguments.Dump()};
}

}  // namespace pixii::frontend
