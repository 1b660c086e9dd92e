// A tokenizer's tokens as bytes, laid out so that the tokens an automaton allows are found without
// trying each.
//
// Thread: immutable after Build. Built once for a tokenizer, shared by all grammars.
// Layout: tokens sorted by bytes; the byte trie in depth-first order, so that a subtree is a range
// of nodes and of tokens.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "text/grammar/regex_store.h"
#include "text/tokenizer/tokenizer.h"

namespace pixii::text::grammar {

inline constexpr std::size_t kGrammarVocabularyMax = 4'194'304;  // tokens
inline constexpr std::size_t kGrammarTokenBytesMax = 4'096;  // bytes; longer tokens are never set
inline constexpr std::size_t kSlicePrefixMax = 24;           // characters that slices tell apart
inline constexpr std::size_t kMixedPrefixMax = 8;            // likewise, in front of others
inline constexpr std::size_t kSliceCount = 35;

/// Kinds of bytes, as bits: what a subtree of the trie holds, what a state loops on.
enum ByteClass : std::uint32_t {
  kLowerHex = 1 << 0,   // a-f
  kLowerRest = 1 << 1,  // g-z
  kUpperHex = 1 << 2,   // A-F
  kUpperRest = 1 << 3,  // G-Z
  kDigit = 1 << 4,      // 0-9
  kUnderscore = 1 << 5,
  kHyphen = 1 << 6,
  kDot = 1 << 7,
  kSpace = 1 << 8,  // U+0020
  kSlash = 1 << 9,
  kColon = 1 << 10,
  kOtherPrintable = 1 << 11,
  kNonAscii = 1 << 12,   // bytes of well-formed sequences, but for
  kWideSpace = 1 << 16,  // those of what \s matches beyond ASCII, and U+0085
  kQuote = 1 << 13,      // " and the backslash
  kControl = 1 << 14,    // below U+0020
  kPartial = 1 << 17,    // bytes of a sequence that this token begins and others end
  kBroken = 1 << 15,     // other bytes that are no part of a sequence
};

inline constexpr std::uint32_t kPlainClasses = 0x31FFF;  // what JSON strings hold as it is

struct VocabularyOptions {
  /// Tokens that end an answer; set in masks where the grammar may end, and never else.
  std::vector<TokenId> eos_ids;
  /// Ids the model's logits have; 0: the tokenizer's. Ids past the tokenizer's are never set.
  std::uint32_t vocab_size = 0;
  /// Tokens that mark parts of an answer though the tokenizer does not call them special.
  std::vector<std::string> markers = {};
};

class GrammarVocabulary final {
 public:
  struct Node {
    std::uint32_t end;          // one past the last node of the subtree
    std::uint32_t token_begin;  // into tokens(): those that end here, then those below
    std::uint32_t token_end;    // one past those that end in the subtree
    std::uint32_t classes;      // kinds of the bytes below this node
    std::uint8_t byte;          // that leads here
    std::uint8_t chars_below;   // most characters below this node, 255: that many or more
    std::uint16_t own_tokens;   // that end at this very node
    std::uint16_t depth;        // bytes from the root
  };

  struct Trie {
    std::vector<Node> nodes;  // node 0 is the root
    std::vector<TokenId> tokens;
  };

  /// Mixed tokens of one slice, whole, by the kind of the first byte that is not of the set; 0: any
  /// kind, behind more than kMixedPrefixMax characters of the set.
  struct Group {
    std::uint32_t kind = 0;
    Trie trie;
  };

  /// Tokens seen by one set of kinds of bytes: pure ones, that have no other; mixed ones, that
  /// begin with such a byte (or a broken sequence, if kNonAscii is of the set) and go on with
  /// others. All else begins otherwise and is found in the vocabulary's own trie.
  struct Slice {
    std::uint32_t classes = 0;
    std::uint32_t index = 0;  // of SliceClasses()
    /// masks[n]: pure tokens of at most n characters; the last: all.
    std::vector<std::vector<std::uint32_t>> masks;
    std::vector<Group> mixed;  // that begin with such a character
    Trie tails;                // of the same: what follows the run of such characters
    Trie broken;               // mixed ones that begin with a partial sequence or a wide space
    std::uint8_t sample = 0;   // a byte of these kinds
    std::size_t count = 0;
  };

  /// Special tokens and markers are spelled behind wire::kTokenMark: no text of a grammar is them,
  /// only a script that names them. O(bytes of the vocabulary). Errors: kTooLarge past the bounds.
  static Result<std::shared_ptr<const GrammarVocabulary>> Build(const Tokenizer& tokenizer,
                                                                const VocabularyOptions& options);
  /// The same from bytes: token i is bytes[i]; an empty one is never set.
  static Result<std::shared_ptr<const GrammarVocabulary>> FromBytes(
      std::vector<std::string> bytes, const VocabularyOptions& options);

  /// One past the largest id: bits of a mask.
  std::uint32_t vocab_size() const { return static_cast<std::uint32_t>(bytes_.size()); }

  std::size_t mask_words() const { return (bytes_.size() + 31) / 32; }

  /// Empty for ends and ids without a piece.
  std::string_view Bytes(TokenId id) const { return bytes_[static_cast<std::size_t>(id)]; }

  bool IsEos(TokenId id) const;

  std::span<const TokenId> eos_ids() const { return eos_ids_; }

  /// Node 0 is the root.
  std::span<const Node> nodes() const { return trie_.nodes; }

  /// In the order of the trie.
  std::span<const TokenId> tokens() const { return trie_.tokens; }

  /// Those of more than kSlicePrefixMax characters.
  const Trie& long_tokens() const { return long_tokens_; }

  /// Characters of the longest token.
  std::uint32_t longest_chars() const { return longest_chars_; }

  /// The sets most worth having, the largest first.
  std::span<const Slice> slices() const { return slices_; }

 private:
  struct Text;  // a token or its tail, with the kinds of its bytes

  GrammarVocabulary() = default;

  /// Pre: sorted by bytes.
  static Trie BuildTrie(std::span<const Text> texts);
  Slice BuildSlice(std::uint32_t index, std::span<const Text> texts) const;

  std::vector<std::string> bytes_;
  std::vector<TokenId> eos_ids_;
  Trie trie_;
  Trie long_tokens_;
  std::uint32_t longest_chars_ = 0;
  std::vector<Slice> slices_;
};

/// The sets of kinds of bytes that slices are made for, kSliceCount of them.
std::span<const std::uint32_t> SliceClasses();

/// Non-ASCII characters of kWideSpace, sorted.
std::span<const Interval> WideSpaces();

/// Kind of one ASCII byte.
std::uint32_t ClassOfAscii(std::uint8_t byte);

}  // namespace pixii::text::grammar
