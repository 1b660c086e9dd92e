// A schema, a pattern or a grammar, a zero byte, then a text: nothing crashes, and masks agree with
// what is accepted byte by byte.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "text/grammar/grammar_matcher.h"

namespace {

namespace gr = pixii::text::grammar;

const std::shared_ptr<const gr::GrammarVocabulary>& Vocabulary() {
  static const std::shared_ptr<const gr::GrammarVocabulary> vocabulary = [] {
    std::vector<std::string> bytes;
    for (int byte = 0; byte < 256; ++byte) {
      bytes.emplace_back(1, static_cast<char>(byte));
    }
    for (const char* token : {"\":", "\",\"", "{\"", "true", "null", "12", "abc", "a\"}", "\\u00",
                              "  ", "]}", "\xC3\xA9\"", ".5", "e-"}) {
      bytes.emplace_back(token);
    }
    return *gr::GrammarVocabulary::FromBytes(std::move(bytes), {});
  }();
  return vocabulary;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2 || size > 4096) {
    return 0;
  }
  std::string_view all(reinterpret_cast<const char*>(data), size);
  gr::GrammarSpec spec;
  switch (all[0] % 4) {
    case 0:
      spec.kind = gr::GrammarKind::kJsonSchema;
      break;
    case 1:
      spec.kind = gr::GrammarKind::kRegex;
      break;
    case 2:
      spec.kind = gr::GrammarKind::kEbnf;
      break;
    default:
      spec.kind = gr::GrammarKind::kLark;
  }
  all.remove_prefix(1);
  std::size_t split = std::min(all.find('\0'), all.size());
  spec.text = all.substr(0, split);
  all.remove_prefix(std::min(split + 1, all.size()));
  gr::CompileBudget budget;
  budget.steps_max = 100'000;
  budget.nodes_max = 100'000;
  auto grammar = gr::Compile(spec, budget);
  if (!grammar) {
    return 0;
  }
  auto runtime = std::make_shared<gr::GrammarRuntime>(*grammar, Vocabulary());
  gr::GrammarMatcher matcher(runtime);
  std::vector<std::uint32_t> mask(Vocabulary()->mask_words());
  for (char c : all.substr(0, 64)) {
    matcher.FillMask(mask);
    for (std::uint32_t id = 0; id < Vocabulary()->vocab_size(); ++id) {
      gr::GrammarMatcher copy = matcher;
      bool set = (mask[id / 32] >> (id % 32) & 1) != 0;
      if (!matcher.exhausted() && copy.Accept(static_cast<pixii::TokenId>(id)) != set &&
          !copy.exhausted()) {
        std::abort();
      }
    }
    if (!matcher.AcceptBytes(std::string_view(&c, 1))) {
      break;
    }
  }
  return 0;
}
