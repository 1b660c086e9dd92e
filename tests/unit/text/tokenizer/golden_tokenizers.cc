#include "unit/text/tokenizer/golden_tokenizers.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <sstream>

#include "support/golden.h"
#include "wire/json.h"

namespace pixii::text {

namespace {

std::vector<TokenId> Ids(const wire::Json& line, std::string_view key) {
  std::vector<TokenId> ids;
  for (const wire::Json& id : line.Find(key)->array()) {
    ids.push_back(static_cast<TokenId>(*id.AsInt()));
  }
  return ids;
}

std::vector<GoldenText> ReadTexts(const std::string& path) {
  std::vector<GoldenText> texts;
  std::istringstream lines(testing::ReadFileOrFail(path));
  for (std::string text; std::getline(lines, text);) {
    auto line = wire::ParseJson(text);
    EXPECT_TRUE(line.has_value());
    GoldenText golden;
    golden.text = line->Find("text")->string();
    golden.ids = Ids(*line, "ids");
    golden.ids_special = Ids(*line, "ids_special");
    golden.decoded = line->Find("decoded")->string();
    golden.decoded_skip = line->Find("decoded_skip")->string();
    texts.push_back(std::move(golden));
  }
  return texts;
}

}  // namespace

std::unique_ptr<const Tokenizer> LoadTokenizerFile(const std::string& path) {
  if (!std::filesystem::exists(path)) {
    return nullptr;
  }
  auto tokenizer = Tokenizer::FromJson(testing::ReadFileOrFail(path), path);
  EXPECT_TRUE(tokenizer.has_value()) << tokenizer.error().ToString();
  return tokenizer ? std::move(*tokenizer) : nullptr;
}

std::shared_ptr<const GoldenTokenizer> LoadGoldenTokenizer(const std::string& name) {
  static auto& loaded =
      *new std::map<std::string,
                    std::shared_ptr<const GoldenTokenizer>>();  // lives as long as the process
  auto known = loaded.find(name);
  if (known != loaded.end()) {
    return known->second;
  }
  auto root = testing::GoldenDir();
  bool own = name == "tiny-chat";
  std::string folder = root.value_or("") + "/tokenizers/" + name;
  std::string file =
      own ? testing::SourceDir() + "/models/tiny-chat/tokenizer.json" : folder + "/tokenizer.json";
  std::string texts =
      own ? testing::OwnGoldenDir() + "/tiny-chat/tokenizer.jsonl" : folder + "/golden.jsonl";
  if (!std::filesystem::exists(file) || !std::filesystem::exists(texts)) {
    return nullptr;
  }
  auto golden = std::make_shared<GoldenTokenizer>();
  golden->tokenizer = LoadTokenizerFile(file);
  if (golden->tokenizer == nullptr) {
    return nullptr;
  }
  golden->texts = ReadTexts(texts);
  loaded[name] = golden;
  return golden;
}

}  // namespace pixii::text
