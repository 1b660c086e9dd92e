#include <fmt/format.h>

#include <cstdio>
#include <iostream>

#include "apps/command.h"
#include "apps/load_tokenizer.h"
#include "apps/model_source.h"
#include "model/checkpoint_folder.h"
#include "text/tokenizer/tokenizer.h"
#include "wire/json.h"

namespace pixii::apps {

namespace {

struct TokenizeFlags {
  std::string model = kBundledModel;
  bool special = false;
  bool skip_special = false;
};

config::Option ModelOption(TokenizeFlags& flags) {
  config::Option option;
  option.name = "model";
  option.field = config::TextField{&flags.model, {}};
  option.help = "folder, bundled name or org/name[@revision]";
  return option;
}

config::Option Switch(const char* name, bool* target, const char* help) {
  config::Option option;
  option.name = name;
  option.field = config::BoolField{target};
  option.help = help;
  return option;
}

// Applies `convert` to every line of standard input; the first bad line ends it with its number.
template <class Convert>
int ForEachLine(Convert convert) {
  std::string line;
  for (std::uint64_t number = 1; std::getline(std::cin, line); ++number) {
    Result<wire::Json> input = wire::ParseJson(line);
    Result<std::string> output = input ? convert(*input) : Result<std::string>(Fail(input.error()));
    if (!output) {
      return Complain(Error(output.error().code(),
                            fmt::format("line {}: {}", number, output.error().detail())));
    }
    *output += '\n';
    if (std::fwrite(output->data(), 1, output->size(), stdout) != output->size()) {
      return kExitFailed;  // nobody reads any more
    }
  }
  return kExitDone;
}

Result<std::string> TokenizeLine(const text::Tokenizer& tokenizer, const wire::Json& line,
                                 const TokenizeFlags& flags) {
  if (!line.is_string()) {
    return Fail(Code::kInvalidArgument, "a line holds one JSON string");
  }
  text::EncodeOptions options;
  options.add_special_tokens = flags.special;
  PX_TRY(std::vector<TokenId> ids, tokenizer.Encode(line.string(), options));
  return fmt::format("[{}]", fmt::join(ids, ", "));
}

Result<std::string> DetokenizeLine(const text::Tokenizer& tokenizer, const wire::Json& line,
                                   const TokenizeFlags& flags) {
  if (!line.is_array()) {
    return Fail(Code::kInvalidArgument, "a line holds one JSON list of token ids");
  }
  std::vector<TokenId> ids;
  for (const wire::Json& item : line.array()) {
    std::optional<std::int64_t> id = item.AsInt();
    if (!id || *id < 0 || *id >= tokenizer.vocab_size()) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("{} is no token id: 0 .. {}", item.Dump().substr(0, 40),
                              tokenizer.vocab_size() - 1));
    }
    ids.push_back(static_cast<TokenId>(*id));
  }
  std::string out;
  wire::AppendJsonString(out, tokenizer.Decode(ids, {.skip_special_tokens = flags.skip_special}));
  return out;
}

config::Command TokenizeCommand(TokenizeFlags& flags) {
  config::Command command;
  command.name = "tokenize";
  command.summary = "Reads JSON strings, writes lists of token ids, a line each.";
  command.options = {
      ModelOption(flags),
      Switch("special", &flags.special, "adds the model's special tokens around each text")};
  return command;
}

config::Command DetokenizeCommand(TokenizeFlags& flags) {
  config::Command command;
  command.name = "detokenize";
  command.summary = "Reads lists of token ids, writes JSON strings, a line each.";
  command.options = {ModelOption(flags),
                     Switch("skip-special", &flags.skip_special, "leaves special tokens out")};
  return command;
}

template <class Convert>
int ConvertLines(const config::Command& command, const TokenizeFlags& flags,
                 const Arguments& arguments, Convert convert) {
  auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  Result<std::unique_ptr<const text::Tokenizer>> tokenizer = LoadTokenizer(flags.model);
  if (!tokenizer) {
    return Complain(tokenizer.error());
  }
  return ForEachLine([&](const wire::Json& line) { return convert(**tokenizer, line, flags); });
}

}  // namespace

Result<std::unique_ptr<const text::Tokenizer>> LoadTokenizer(const std::string& model) {
  PX_TRY(ModelSource source, ResolveModel(model, false));
  PX_TRY(const model::CheckpointFolder folder, model::CheckpointFolder::Open(source.folder));
  PX_TRY(std::string json, folder.ReadText("tokenizer.json", text::kTokenizerJsonBytesMax));
  return text::Tokenizer::FromJson(json, source.folder + "/tokenizer.json");
}

int RunTokenize(const Arguments& arguments) {
  TokenizeFlags flags;
  return ConvertLines(TokenizeCommand(flags), flags, arguments, TokenizeLine);
}

int RunDetokenize(const Arguments& arguments) {
  TokenizeFlags flags;
  return ConvertLines(DetokenizeCommand(flags), flags, arguments, DetokenizeLine);
}

}  // namespace pixii::apps
