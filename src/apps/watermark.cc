#include "apps/watermark.h"

#include <fmt/format.h>

#include <charconv>
#include <iostream>
#include <iterator>
#include <vector>

#include "apps/command.h"
#include "apps/model_source.h"
#include "engine/watermark.h"
#include "rt/file.h"
#include "text/tokenizer/tokenizer.h"

namespace pixii::apps {

namespace {

constexpr double kFoundZ = 4;  // by chance once in 30,000 texts

// Numbers between spaces, commas, brackets.
Result<std::vector<TokenId>> ReadIds(std::string_view text) {
  constexpr std::string_view kBetween = " \t\r\n,[]";
  std::vector<TokenId> out;
  while (true) {
    std::size_t begin = text.find_first_not_of(kBetween);
    if (begin == std::string_view::npos) {
      return out;
    }
    text.remove_prefix(begin);
    std::string_view word = text.substr(0, text.find_first_of(kBetween));
    TokenId id = -1;
    auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (error != std::errc{} || end != word.data() + word.size() || id < 0) {
      return Fail(Code::kInvalidArgument, fmt::format("\"{}\" is no token id", word.substr(0, 40)),
                  "ids");
    }
    out.push_back(id);
    text.remove_prefix(word.size());
  }
}

Result<std::vector<TokenId>> ReadTokens(const WatermarkQuestion& question) {
  std::string text(std::istreambuf_iterator<char>(std::cin), {});
  if (question.ids) {
    return ReadIds(text);
  }
  PX_TRY(ModelSource source, ResolveModel(question.model, false));
  std::string path = source.folder + "/tokenizer.json";
  PX_TRY(std::string json, rt::ReadFile(path, text::kTokenizerJsonBytesMax));
  PX_TRY(auto tokenizer, text::Tokenizer::FromJson(json, path));
  text::EncodeOptions options;
  options.add_special_tokens = false;
  return tokenizer->Encode(text, options);
}

Result<engine::WatermarkOptions> ReadConfig(const std::string& text) {
  PX_TRY(wire::Json config, wire::ParseJson(text));
  if (!config.is_object()) {
    return Fail(Code::kInvalidArgument, "watermark: the configuration must be a JSON object",
                "watermark");
  }
  // What --logits-processor takes beside.
  std::erase_if(config.object(), [](const wire::JsonMember& member) {
    return member.first == "policy" || member.first == "always";
  });
  return engine::ReadWatermark(config);
}

}  // namespace

int RunWatermark(const WatermarkQuestion& question) {
  Result<engine::WatermarkOptions> options = ReadConfig(question.config);
  if (!options) {
    return Complain(options.error());
  }
  Result<std::vector<TokenId>> tokens = ReadTokens(question);
  if (!tokens) {
    return Complain(tokens.error());
  }
  engine::WatermarkScore score = engine::DetectWatermark(options->key, *tokens);
  bool found = score.z > kFoundZ;
  if (question.json) {
    wire::Json out{wire::Json::Object{}};
    out.Set("tokens", static_cast<std::int64_t>(tokens->size()));
    out.Set("scored", std::int64_t{score.scored});
    out.Set("green", std::int64_t{score.green});
    out.Set("z", score.z);
    out.Set("p_value", score.p_value);
    out.Set("found", found);
    Say("{}\n", out.Dump());
  } else {
    Say("{} of {} scored tokens are green; z = {:.2f}, by chance with p = {:.2g}\n{}\n",
        score.green, score.scored, score.z, score.p_value,
        found ? "the watermark is there" : "no watermark is seen");
  }
  return found ? kExitDone : kExitNotSo;
}

}  // namespace pixii::apps
