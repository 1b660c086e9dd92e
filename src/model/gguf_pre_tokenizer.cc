#include "model/gguf_pre_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "text/tokenizer/known_patterns.h"
#include "wire/quoted.h"

namespace pixii::model {
namespace {

struct Kind {
  std::string_view names;  // of tokenizer.ggml.pre, separated by spaces
  GgufPreTokenizer pre;
};

constexpr GgufPreTokenizer Plain(std::string_view first, std::string_view second = {}) {
  return {.patterns = {first, second}};
}

constexpr GgufPreTokenizer WholePieces(std::string_view pattern, bool add_bos) {
  return {.patterns = {pattern}, .ignore_merges = true, .add_bos = add_bos};
}

constexpr std::array kKinds = {
    Kind{"llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2",
         WholePieces(text::kLlama3Pattern, true)},
    Kind{"dbrx smaug-bpe chatglm-bpe glm4", Plain(text::kLlama3Pattern)},
    Kind{"qwen2 deepseek-r1-qwen",
         GgufPreTokenizer{.patterns = {text::kQwen2Pattern}, .nfc = true}},
    Kind{"stablelm2 hunyuan megrez", Plain(text::kQwen2Pattern)},
    Kind{"gpt-2 phi-2 mpt olmo jais trillion granite-docling jina-es jina-de gigachat jina-v1-en "
         "jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert roberta-bpe exaone4",
         Plain(text::kGpt2Pattern)},
    Kind{"starcoder refact command-r smollm codeshell exaone minerva-7b",
         Plain(text::kOneNumber, text::kGpt2Pattern)},
    Kind{"deepseek-v3 deepseek-r1",
         GgufPreTokenizer{
             .patterns = {text::kDeepseekNumbers, text::kDeepseekCjk, text::kDeepseekWords}}},
    Kind{"bloom poro-chat gpt3-finnish", Plain(text::kBloomPattern)},
    Kind{"gpt-4o llama4", WholePieces(text::kO200kPattern, false)},
    Kind{"kimi-k2", WholePieces(text::kKimiPattern, false)},
    Kind{"tekken", WholePieces(text::kTekkenPattern, true)},
};

bool Names(std::string_view names, std::string_view name) {
  for (std::size_t end = 0; !names.empty(); names.remove_prefix(std::min(end + 1, names.size()))) {
    end = std::min(names.find(' '), names.size());
    if (names.substr(0, end) == name) {
      return true;
    }
  }
  return false;
}

}  // namespace

Result<const GgufPreTokenizer*> FindGgufPreTokenizer(const GgufFile& file) {
  PX_TRY(const auto name, file.String("tokenizer.ggml.pre"));
  std::string known;
  for (const Kind& kind : kKinds) {
    if (name && Names(kind.names, *name)) {
      return &kind.pre;
    }
    known.append(known.empty() ? "" : " ").append(kind.names);
  }
  return file.Unsupported("tokenizer.ggml.pre",
                          fmt::format("= {} is not built; this build knows {}",
                                      name ? wire::Quoted(*name) : "(absent)", known));
}

}  // namespace pixii::model
