// The golden tokenizers and our own tiny-chat's, loaded once for all tests of text/.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/tokenizer.h"

namespace pixii::text {

struct GoldenText {
  std::string text;
  std::vector<TokenId> ids;
  std::vector<TokenId> ids_special;
  std::string decoded;
  std::string decoded_skip;
};

struct GoldenTokenizer {
  std::unique_ptr<const Tokenizer> tokenizer;
  std::vector<GoldenText> texts;
};

inline constexpr const char* kGoldenTokenizers[] = {"tiny-chat", "llama3", "o200k", "mistral-v3",
                                                    "qwen2",     "llama2", "clip",  "t5"};

/// Null if the goldens are not there. Fails the running test if they do not load.
std::shared_ptr<const GoldenTokenizer> LoadGoldenTokenizer(const std::string& name);

/// Null if the file is not there.
std::unique_ptr<const Tokenizer> LoadTokenizerFile(const std::string& path);

}  // namespace pixii::text
