// What both notations of grammars share: names, literals, counts, comments.
//
// Thread: one owner.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "text/grammar/regex_store.h"

namespace pixii::text::grammar {

inline constexpr int kRuleNestingMax = 200;  // groups within groups

class RuleScanner final {
 public:
  RuleScanner(std::string_view text, std::string_view comment) : text_(text), comment_(comment) {}

  /// Steps over white space and comments; over line ends too if `lines`.
  void Skip(bool lines);

  bool AtEnd() const { return at_ >= text_.size(); }

  char Peek(std::size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }

  bool Take(std::string_view word);
  /// Letters, digits, - and _; empty if there is none.
  std::string_view Name();
  std::optional<std::uint32_t> Number();
  /// A quoted text with its escapes resolved. Pre: Peek() is the quote.
  Result<std::u32string> Quoted();
  /// The inside of [...] or /.../ as it stands. Pre: Peek() opens it.
  Result<std::string> Delimited(char close);

  std::size_t position() const { return at_; }

  void Return(std::size_t position) { at_ = position; }

  tl::unexpected<Error> Bad(std::string_view what) const;
  tl::unexpected<Error> Refuse(std::string_view what) const;

 private:
  std::size_t Line() const;

  std::string_view text_;
  std::string_view comment_;
  std::size_t at_ = 0;
};

/// One word, letters in either case if `fold`.
RegexId WordOf(RegexStore& regexes, std::u32string_view word, bool fold);

}  // namespace pixii::text::grammar
