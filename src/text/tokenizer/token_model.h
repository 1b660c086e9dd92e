// What turns one word into ids: the model of tokenizer.json.
//
// Thread: immutable after load; the scratch belongs to one call.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "text/tokenizer/bpe_long_word.h"

namespace pixii::text {

class ByteBpe;

/// A part of a word while pairs are merged.
struct BpeSymbol {
  TokenId id;
  std::uint32_t rank = 0;      // short words: of merging this with the next one
  std::uint32_t previous = 0;  // long words: indices of its neighbours
  std::uint32_t next = 0;
};

/// The best cut of a word's beginning into pieces.
struct UnigramCut {
  static constexpr std::uint32_t kNone = 0xFFFFFFFF;
  static constexpr TokenId kUnknown = -1;

  double score = 0;             // of the whole beginning
  std::uint32_t begin = kNone;  // of its last piece
  TokenId id = kUnknown;        // of its last piece
};

/// Working memory of one call, kept between words.
struct ModelScratch {
  std::vector<BpeSymbol> symbols;
  BpeLongWord long_word;
  std::vector<UnigramCut> cuts;  // by byte offset
  // By id: pieces that the model must not make of this text, though the characters are there:
  // control tokens that stand in the model's own vocabulary, when a user wrote the text. Null:
  // none.
  const std::vector<bool>* forbidden = nullptr;
  std::uint64_t steps = 0;  // work done: symbols and pending merges looked at; tests bound it
};

/// Whether `id` is one of `forbidden`, which may be null or shorter than the vocabulary.
inline bool IsForbidden(const std::vector<bool>* forbidden, TokenId id) {
  auto index = static_cast<std::size_t>(id);
  return forbidden != nullptr && index < forbidden->size() && (*forbidden)[index];
}

class TokenModel {
 public:
  TokenModel() = default;
  TokenModel(const TokenModel&) = delete;
  TokenModel& operator=(const TokenModel&) = delete;
  virtual ~TokenModel() = default;

  /// Appends the ids of `word` (not empty, valid UTF-8). O(n log n).
  virtual void Tokenize(std::string_view word, ModelScratch& scratch,
                        std::vector<TokenId>& out) const = 0;

  /// The same for words as bytes instead of in the byte alphabet; null if there is no such thing.
  virtual std::unique_ptr<const ByteBpe> FromBytes() const;
};

}  // namespace pixii::text
