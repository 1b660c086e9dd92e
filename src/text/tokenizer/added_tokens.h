// Tokens added beside a model's vocabulary: found in a text before anything else is done to it.
//
// Thread: immutable after load. Source: Hugging Face tokenizers, tokenizer/added_vocabulary.rs.
//
// Untrusted text: what a user wrote must not become a control token. A control token is one that is
// special, or whose content has a character that is neither letter, mark, number nor white space
// ("<tool_call>" is often not marked special). No control token is found where it overlaps an
// untrusted range; other added tokens are found everywhere.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "text/tokenizer/aho_corasick.h"
#include "text/tokenizer/component_json.h"
#include "text/tokenizer/normalizer.h"
#include "text/tokenizer/text_range.h"

namespace pixii::text {

inline constexpr std::size_t kAddedTokensMax = 262'144;    // added tokens of one file
inline constexpr std::size_t kAddedTokenBytesMax = 4'096;  // bytes of one of them

struct AddedToken {
  TokenId id = -1;
  std::string content;
  bool single_word = false;
  bool lstrip = false;
  bool rstrip = false;
  bool normalized = true;
  bool special = false;
};

/// Reads the list "added_tokens". Errors: kDataCorrupt, kTooLarge, naming the entry.
Result<std::vector<AddedToken>> AddedTokensFromJson(const wire::Json& json, const JsonPlace& place);

class AddedTokens final {
 public:
  AddedTokens() = default;

  /// `normalizer` (may be null) is applied to the content of normalized tokens.
  static Result<AddedTokens> Create(std::vector<AddedToken> tokens, const Normalizer* normalizer);

  /// A stretch of text, or an added token where `id` >= 0.
  struct Segment {
    std::size_t begin;
    std::size_t end;
    TokenId id;
  };

  /// Cuts a text as it came. `untrusted`: sorted, not overlapping, within the text. O(text),
  /// amortised.
  void SplitRaw(std::string_view text, std::span<const TextRange> untrusted,
                std::vector<Segment>& out) const;
  /// Cuts a normalized stretch of it. `any_untrusted`: the whole text had an untrusted range; then
  /// only tokens that are no control tokens are found here, since SplitRaw has found the others.
  void SplitNormalized(std::string_view text, bool any_untrusted, std::vector<Segment>& out) const;

  const std::vector<AddedToken>& tokens() const { return tokens_; }

  /// By id: the control tokens.
  const std::vector<bool>& control_ids() const { return control_ids_; }

 private:
  // Some of the tokens and the automaton that finds them.
  struct Matcher {
    AhoCorasick automaton;
    std::vector<std::uint32_t> tokens;  // pattern -> index into tokens_
  };

  template <class Select>
  Matcher MakeMatcher(const std::vector<std::string>& patterns, Select select) const;
  void Split(const Matcher& matcher, std::string_view text, std::span<const TextRange> untrusted,
             std::vector<Segment>& out) const;

  std::vector<AddedToken> tokens_;
  std::vector<bool> control_;      // by index
  std::vector<bool> control_ids_;  // by id
  Matcher raw_;                    // not normalized
  Matcher
      raw_guarded_;  // and the control tokens among the normalized: for texts with untrusted ranges
  Matcher normalized_;       // normalized
  Matcher normalized_text_;  // of these, those that are no control tokens
};

}  // namespace pixii::text
