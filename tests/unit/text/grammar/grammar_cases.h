// Grammars and what they allow, for tests.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/grammar/grammar.h"
#include "text/grammar/grammar_matcher.h"

namespace pixii::text::grammar {

inline GrammarSpec SchemaSpec(std::string_view schema) {
  GrammarSpec spec;
  spec.kind = GrammarKind::kJsonSchema;
  spec.text = schema;
  return spec;
}

inline GrammarSpec RegexSpec(std::string_view regex) {
  GrammarSpec spec;
  spec.kind = GrammarKind::kRegex;
  spec.text = regex;
  return spec;
}

/// One token a byte.
inline std::shared_ptr<const GrammarVocabulary> ByteVocabulary() {
  std::vector<std::string> bytes;
  for (int byte = 0; byte < 256; ++byte) {
    bytes.emplace_back(1, static_cast<char>(byte));
  }
  return *GrammarVocabulary::FromBytes(std::move(bytes), {});
}

/// Runs texts against one grammar, byte by byte.
class Judge final {
 public:
  explicit Judge(const GrammarSpec& spec, const CompileBudget& budget = {}) {
    Result<std::shared_ptr<const Grammar>> grammar = Compile(spec, budget);
    if (grammar) {
      runtime_ = std::make_shared<GrammarRuntime>(*grammar, ByteVocabulary());
    } else {
      error_ = grammar.error().ToString();
    }
  }

  bool compiled() const { return runtime_ != nullptr; }

  const std::string& error() const { return error_; }

  const std::shared_ptr<GrammarRuntime>& runtime() const { return runtime_; }

  bool Takes(std::string_view text) {
    EXPECT_TRUE(compiled()) << error_;
    GrammarMatcher matcher(runtime_);
    return matcher.AcceptBytes(text) && matcher.CanEnd();
  }

  /// Some continuation of `text` is allowed.
  bool Begins(std::string_view text) {
    EXPECT_TRUE(compiled()) << error_;
    return GrammarMatcher(runtime_).AcceptBytes(text);
  }

 private:
  std::shared_ptr<GrammarRuntime> runtime_;
  std::string error_;
};

}  // namespace pixii::text::grammar
