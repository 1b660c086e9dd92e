// What turns one word into ids: the model of tokenizer.json.
//
// Thread: immutable after load; the scratch belongs to one call.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"

namespace pixii::text {

/// Working memory of one call, kept between words.
struct ModelScratch {
  struct Symbol {
    TokenId id;
    std::uint32_t previous;
    std::uint32_t next;
    std::uint32_t rank;  // of merging this with the next one
  };

  struct Merge {
    std::uint32_t rank;
    std::uint32_t position;
    TokenId merged;
  };

  std::vector<Symbol> symbols;
  std::vector<Merge> heap;
  std::uint64_t steps = 0;  // work done: symbols looked at, heap moves; tests bound it
};

class TokenModel {
 public:
  TokenModel() = default;
  TokenModel(const TokenModel&) = delete;
  TokenModel& operator=(const TokenModel&) = delete;
  virtual ~TokenModel() = default;

  /// Appends the ids of `word` (not empty, valid UTF-8). O(n log n).
  virtual void Tokenize(std::string_view word, ModelScratch& scratch,
                        std::vector<TokenId>& out) const = 0;
};

}  // namespace pixii::text
