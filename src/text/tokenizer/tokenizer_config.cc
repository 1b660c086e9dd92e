#include "text/tokenizer/tokenizer_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "text/tokenizer/vocabulary.h"

namespace pixii::text {

namespace {

// "<s>" or {"content": "<s>", ...}; empty if absent or null.
Result<std::string> TokenField(const wire::Json& config, std::string_view key,
                               const JsonPlace& place) {
  const wire::Json* value = config.Find(key);
  if (value != nullptr && value->is_object()) {
    return StringField(*value, "content", "", place.Member(key));
  }
  return StringField(config, key, "", place);
}

Result<std::optional<bool>> Flag(const wire::Json& config, std::string_view key,
                                 const JsonPlace& place) {
  const wire::Json* value = config.Find(key);
  if (value == nullptr || value->is_null()) {
    return std::optional<bool>();
  }
  PX_TRY(bool flag, BoolField(config, key, false, place));
  return std::optional(flag);
}

Result<std::vector<AddedToken>> ListedTokens(const wire::Json& config, const JsonPlace& place) {
  std::vector<AddedToken> out;
  const wire::Json* listed = config.Find("added_tokens_decoder");
  if (listed == nullptr || listed->is_null()) {
    return out;
  }
  if (!listed->is_object()) {
    return place.Member("added_tokens_decoder").Refuse("must be an object");
  }
  for (const auto& [key, value] : listed->object()) {
    JsonPlace at = place.Member("added_tokens_decoder").Member(key.substr(0, 40));
    AddedToken token;
    auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), token.id);
    if (error != std::errc{} || end != key.data() + key.size() || token.id < 0 ||
        token.id > kTokenIdMax || !value.is_object()) {
      return at.Refuse(fmt::format("must be a token with an id in 0 to {}", kTokenIdMax));
    }
    PX_TRY(token.content, StringField(value, "content", "", at));
    PX_TRY(token.single_word, BoolField(value, "single_word", false, at));
    PX_TRY(token.lstrip, BoolField(value, "lstrip", false, at));
    PX_TRY(token.rstrip, BoolField(value, "rstrip", false, at));
    PX_TRY(token.special, BoolField(value, "special", false, at));
    PX_TRY(token.normalized, BoolField(value, "normalized", !token.special, at));
    if (!token.content.empty()) {
      out.push_back(std::move(token));
    }
  }
  std::sort(out.begin(), out.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  return out;
}

}  // namespace

Result<TokenizerConfig> ReadTokenizerConfig(std::string_view json, std::string_view file) {
  TokenizerConfig out;
  if (json.empty()) {
    return out;
  }
  JsonPlace place{std::string(file), {}};
  auto config = wire::ParseJson(json);
  if (!config || !config->is_object()) {
    return place.Refuse(config ? "must be an object" : config.error().detail());
  }
  PX_TRY(out.added, ListedTokens(*config, place));
  PX_TRY(out.add_bos_token, Flag(*config, "add_bos_token", place));
  PX_TRY(out.add_eos_token, Flag(*config, "add_eos_token", place));
  PX_TRY(out.bos_token, TokenField(*config, "bos_token", place));
  PX_TRY(out.eos_token, TokenField(*config, "eos_token", place));
  PX_TRY(out.tokenizer_class, StringField(*config, "tokenizer_class", "", place));
  PX_TRY(out.pattern, StringField(*config, "pat_str", "", place));
  return out;
}

std::string AddedTokensToJson(const std::vector<AddedToken>& tokens) {
  std::string out = "[";
  for (const AddedToken& token : tokens) {
    out += fmt::format(R"({}{{"id":{},"content":)", out.size() == 1 ? "" : ",", token.id);
    wire::AppendJsonString(out, token.content);
    out +=
        fmt::format(R"(,"single_word":{},"lstrip":{},"rstrip":{},"normalized":{},"special":{}}})",
                    token.single_word, token.lstrip, token.rstrip, token.normalized, token.special);
  }
  return out + "]";
}

std::string PostProcessorToJson(const std::optional<AddedToken>& before,
                                const std::optional<AddedToken>& after) {
  if (!before && !after) {
    return "null";
  }
  auto quoted = [](const AddedToken& token) {
    std::string out;
    wire::AppendJsonString(out, token.content);
    return out;
  };
  auto part = [&](int type) {
    std::string out;
    if (before) {
      out += fmt::format(R"({{"SpecialToken":{{"id":{},"type_id":{}}}}},)", quoted(*before), type);
    }
    out += fmt::format(R"({{"Sequence":{{"id":"{}","type_id":{}}}}})", type == 0 ? "A" : "B", type);
    if (after) {
      out += fmt::format(R"(,{{"SpecialToken":{{"id":{},"type_id":{}}}}})", quoted(*after), type);
    }
    return out;
  };
  std::string special;
  for (const std::optional<AddedToken>* token : {&before, &after}) {
    bool same = token == &after && before && after && before->content == after->content;
    if (*token && !same) {
      std::string name = quoted(**token);
      special += fmt::format(R"({}{}:{{"id":{},"ids":[{}],"tokens":[{}]}})",
                             special.empty() ? "" : ",", name, name, (*token)->id, name);
    }
  }
  return fmt::format(
      R"({{"type":"TemplateProcessing","single":[{}],"pair":[{},{}],"special_tokens":{{{}}}}})",
      part(0), part(0), part(1), special);
}

}  // namespace pixii::text
