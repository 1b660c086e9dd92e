// Compiled grammars by their content, shared by whoever checks requests and whoever runs them.
//
// Thread: any; compiling happens on the caller's thread, outside the lock.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "text/grammar/grammar.h"
#include "text/grammar/grammar_vocabulary.h"

namespace pixii::text::grammar {

/// A text as a tokenizer writes it.
using TextEncoder = std::function<Result<std::vector<TokenId>>(std::string_view)>;

struct GrammarLibraryOptions {
  std::uint32_t grammars_max = 256;            // kept; the one not asked for the longest goes first
  std::uint64_t text_bytes_max = 16'777'216;   // of their specifications together
  std::uint64_t size_bytes_max = 134'217'728;  // of their automata together
  CompileBudget budget;
  TextEncoder encode = {};  // to jump ahead; empty: nothing is guessed
};

class GrammarLibrary final {
 public:
  using VocabularyBuilder = std::function<Result<std::shared_ptr<const GrammarVocabulary>>()>;

  /// `build` is called once, by the first who needs it; the others wait for it.
  explicit GrammarLibrary(VocabularyBuilder build, const GrammarLibraryOptions& options = {});
  ~GrammarLibrary();

  /// Errors: those of Compile, which are remembered like grammars.
  Result<std::shared_ptr<const Grammar>> Get(const GrammarSpec& spec);

  /// Errors: those of `build`.
  Result<std::shared_ptr<const GrammarVocabulary>> Vocabulary();

  /// May be empty.
  const TextEncoder& encode() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

/// The content of `spec` as one string: equal if and only if the specifications are.
std::string KeyOf(const GrammarSpec& spec);

}  // namespace pixii::text::grammar
