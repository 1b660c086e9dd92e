#include "model/gguf_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "model/gguf_pre_tokenizer.h"
#include "text/tokenizer/scored_merges.h"
#include "wire/json.h"
#include "wire/quoted.h"

namespace pixii::model {
namespace {

enum class TokenType : std::uint8_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

std::string Dump(std::string_view text) { return wire::Json(std::string(text)).Dump(); }

/// The vocabulary, checked to fit together.
struct Tokens {
  std::vector<std::string_view> pieces;
  std::vector<double> types;   // as many, or empty: all normal
  std::vector<double> scores;  // as many, or empty

  TokenType TypeOf(std::size_t id) const {
    return types.empty() ? TokenType::kNormal
                         : static_cast<TokenType>(static_cast<std::uint8_t>(types[id]));
  }

  /// Found in a text before the model sees it.
  bool IsAdded(std::size_t id) const {
    const TokenType type = TypeOf(id);
    return type == TokenType::kControl || type == TokenType::kUserDefined ||
           type == TokenType::kUnknown;
  }
};

Result<Tokens> ReadTokens(const GgufFile& file) {
  Tokens out;
  PX_TRY(out.pieces, file.Strings("tokenizer.ggml.tokens"));
  PX_TRY(out.types, file.Numbers("tokenizer.ggml.token_type"));
  PX_TRY(out.scores, file.Numbers("tokenizer.ggml.scores"));
  if (out.pieces.empty()) {
    return file.Bad("tokenizer.ggml.tokens", "is absent or empty");
  }
  if (!out.types.empty() && out.types.size() != out.pieces.size()) {
    return file.Bad("tokenizer.ggml.token_type", "does not have one entry for each token");
  }
  if (!out.scores.empty() && out.scores.size() != out.pieces.size()) {
    return file.Bad("tokenizer.ggml.scores", "does not have one entry for each token");
  }
  for (std::size_t i = 0; i < out.types.size(); ++i) {
    if (out.types[i] < 1.0 || out.types[i] > 6.0) {
      return file.Bad("tokenizer.ggml.token_type",
                      fmt::format("is {} for token {}, allowed 1 to 6", out.types[i], i));
    }
  }
  return out;
}

/// "{"piece":id,…}" of the tokens that `keep` lets pass.
template <class Keep>
std::string VocabularyJson(const Tokens& tokens, Keep keep) {
  std::string out = "{";
  for (std::size_t id = 0; id < tokens.pieces.size(); ++id) {
    if (keep(id)) {
      fmt::format_to(std::back_inserter(out), "{}{}:{}", out.size() == 1 ? "" : ",",
                     Dump(tokens.pieces[id]), id);
    }
  }
  return out + "}";
}

std::string AddedTokensJson(const Tokens& tokens) {
  std::string out = "[";
  for (std::size_t id = 0; id < tokens.pieces.size(); ++id) {
    if (!tokens.IsAdded(id)) {
      continue;
    }
    fmt::format_to(std::back_inserter(out),
                   R"({}{{"id":{},"content":{},"single_word":false,"lstrip":false,"rstrip":false,)"
                   R"("normalized":false,"special":{}}})",
                   out.size() == 1 ? "" : ",", id, Dump(tokens.pieces[id]),
                   tokens.TypeOf(id) != TokenType::kUserDefined);
  }
  return out + "]";
}

/// Tokens put before and after a text, as a post-processor; "null" if there are none.
Result<std::string> PostProcessorJson(const GgufFile& file, const Tokens& tokens,
                                      bool add_bos_default) {
  const auto wanted = [&](std::string_view flag, std::string_view id_key,
                          bool fallback) -> Result<std::optional<std::int64_t>> {
    PX_TRY(const auto add, file.Bool(flag));
    if (!add.value_or(fallback)) {
      return std::optional<std::int64_t>();
    }
    PX_TRY(const auto id, file.Int(id_key, 0, static_cast<std::int64_t>(tokens.pieces.size()) - 1));
    if (!id && add) {
      return file.Bad(id_key, fmt::format("is absent, although {} is set", flag));
    }
    return id;
  };
  PX_TRY(const auto bos,
         wanted("tokenizer.ggml.add_bos_token", "tokenizer.ggml.bos_token_id", add_bos_default));
  PX_TRY(const auto eos,
         wanted("tokenizer.ggml.add_eos_token", "tokenizer.ggml.eos_token_id", false));
  if (!bos && !eos) {
    return std::string("null");
  }
  std::string special;
  const auto piece = [&](std::int64_t id) {
    return Dump(tokens.pieces[static_cast<std::size_t>(id)]);
  };
  const auto part = [&](int type) {
    std::string out;
    if (bos) {
      out += fmt::format(R"({{"SpecialToken":{{"id":{},"type_id":{}}}}},)", piece(*bos), type);
    }
    out += fmt::format(R"({{"Sequence":{{"id":"{}","type_id":{}}}}})", type == 0 ? "A" : "B", type);
    if (eos) {
      out += fmt::format(R"(,{{"SpecialToken":{{"id":{},"type_id":{}}}}})", piece(*eos), type);
    }
    return out;
  };
  for (const auto& id : {bos, eos}) {
    if (id && (special.empty() || bos != eos)) {
      special += fmt::format(R"({}{}:{{"id":{},"ids":[{}],"tokens":[{}]}})",
                             special.empty() ? "" : ",", piece(*id), piece(*id), *id, piece(*id));
    }
  }
  const std::string single = part(0);
  const std::string pair = single + "," + part(1);
  return fmt::format(
      R"({{"type":"TemplateProcessing","single":[{}],"pair":[{}],"special_tokens":{{{}}}}})",
      single, pair, special);
}

Result<std::string> ByteLevelTokenizer(const GgufFile& file) {
  PX_TRY(const GgufPreTokenizer* pre, FindGgufPreTokenizer(file));
  PX_TRY(const Tokens tokens, ReadTokens(file));
  PX_TRY(const auto merges, file.Strings("tokenizer.ggml.merges"));
  if (merges.empty()) {
    return file.Bad("tokenizer.ggml.merges", "is absent or empty");
  }
  PX_TRY(const std::string post, PostProcessorJson(file, tokens, pre->add_bos));
  std::string merge_list;
  for (const std::string_view merge : merges) {
    merge_list.append(merge_list.empty() ? "" : ",").append(Dump(merge));
  }
  std::string splits;
  for (const std::string_view pattern : pre->patterns) {
    if (!pattern.empty()) {
      fmt::format_to(
          std::back_inserter(splits),
          R"({{"type":"Split","pattern":{{"Regex":{}}},"behavior":"Isolated","invert":false}},)",
          Dump(pattern));
    }
  }
  constexpr std::string_view kByteLevel =
      R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false})";
  return fmt::format(
      R"({{"version":"1.0","truncation":null,"padding":null,"added_tokens":{},"normalizer":{},)"
      R"("pre_tokenizer":{{"type":"Sequence","pretokenizers":[{}{}]}},"post_processor":{},"decoder":{},)"
      R"("model":{{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,)"
      R"("end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"ignore_merges":{},)"
      R"("vocab":{},"merges":[{}]}}}})",
      AddedTokensJson(tokens), pre->nfc ? R"({"type":"NFC"})" : "null", splits, kByteLevel, post,
      kByteLevel, pre->ignore_merges,
      VocabularyJson(tokens, [&](std::size_t id) { return !tokens.IsAdded(id); }), merge_list);
}

Result<std::string> ScoredTokenizer(const GgufFile& file) {
  PX_TRY(const Tokens tokens, ReadTokens(file));
  if (tokens.scores.empty()) {
    return file.Bad("tokenizer.ggml.scores", "is absent");
  }
  const auto merges = text::MergesOfScores(
      {.pieces = tokens.pieces,
       .scores = tokens.scores,
       .may_be_part = [&](std::size_t id) { return !tokens.IsAdded(id); },
       .may_be_made = [&](std::size_t id) { return tokens.TypeOf(id) == TokenType::kNormal; }});
  if (!merges) {
    return file.Bad("tokenizer.ggml.tokens", merges.error().detail());
  }
  PX_TRY(const std::string post, PostProcessorJson(file, tokens, true));
  PX_TRY(const auto prefix, file.Bool("tokenizer.ggml.add_space_prefix"));
  const bool prepend = prefix.value_or(true);
  const std::string strip =
      prepend ? R"(,{"type":"Strip","content":" ","start":1,"stop":0})" : std::string();
  return fmt::format(
      R"({{"version":"1.0","truncation":null,"padding":null,"added_tokens":{},"normalizer":null,)"
      R"("pre_tokenizer":{{"type":"Metaspace","replacement":"▁","prepend_scheme":"{}","split":false}},)"
      R"("post_processor":{},"decoder":{{"type":"Sequence","decoders":[{{"type":"Replace",)"
      R"("pattern":{{"String":"▁"}},"content":" "}},{{"type":"ByteFallback"}},{{"type":"Fuse"}}{}]}},)"
      R"("model":{{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,)"
      R"("end_of_word_suffix":null,"fuse_unk":true,"byte_fallback":true,"ignore_merges":false,)"
      R"("vocab":{},"merges":{}}}}})",
      AddedTokensJson(tokens), prepend ? "first" : "never", post, strip,
      VocabularyJson(tokens, [](std::size_t) { return true; }),
      text::MergesJson(tokens.pieces, *merges));
}

}  // namespace

Result<std::string> GgufTokenizer(const GgufFile& file) {
  PX_TRY(const auto whole, file.String("tokenizer.huggingface.json"));
  if (whole) {
    return std::string(*whole);
  }
  PX_TRY(const auto model, file.String("tokenizer.ggml.model"));
  if (!model || *model == "none" || *model == "no_vocab") {
    return std::string();
  }
  if (*model == "gpt2") {
    return ByteLevelTokenizer(file);
  }
  if (*model == "llama") {
    return ScoredTokenizer(file);
  }
  return file.Unsupported(
      "tokenizer.ggml.model",
      fmt::format("= {} is not built; this build reads gpt2 and llama", wire::Quoted(*model)));
}

Result<std::string> GgufTokenizerConfig(const GgufFile& file) {
  wire::Json out(wire::Json::Object{});
  PX_TRY(const auto pieces, file.Strings("tokenizer.ggml.tokens"));
  for (const auto& [name, key] : {std::pair{"bos_token", "tokenizer.ggml.bos_token_id"},
                                  std::pair{"eos_token", "tokenizer.ggml.eos_token_id"},
                                  std::pair{"unk_token", "tokenizer.ggml.unknown_token_id"},
                                  std::pair{"pad_token", "tokenizer.ggml.padding_token_id"}}) {
    PX_TRY(const auto id, file.Int(key, 0, std::int64_t{1} << 32));
    if (id && static_cast<std::size_t>(*id) < pieces.size()) {
      out.Set(name, std::string(pieces[static_cast<std::size_t>(*id)]));
    }
  }
  PX_TRY(const auto chat_template, file.String("tokenizer.chat_template"));
  if (chat_template) {
    out.Set("chat_template", std::string(*chat_template));
  }
  return out.Dump();
}

}  // namespace pixii::model
