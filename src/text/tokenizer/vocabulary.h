// Pieces and their ids, both ways.
//
// Thread: built by one thread, then immutable.
// Layout: all pieces in one string; by id, where a piece begins; by hash, which id.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"

namespace pixii::text {

inline constexpr TokenId kTokenIdMax = 4'194'303;  // largest id a tokenizer may name
inline constexpr std::size_t kVocabularyBytesMax = 1'073'741'824;  // bytes of all pieces

class Vocabulary final {
 public:
  enum class Added : std::uint8_t { kYes, kDuplicatePiece, kDuplicateId, kIdOutOfRange, kTooLarge };

  /// Amortised O(piece).
  Added Add(std::string_view piece, TokenId id);

  std::optional<TokenId> IdOf(std::string_view piece) const;
  /// Many at once: ids[i] is that of pieces[i], -1 if there is none. Faster, for memory is asked
  /// for ahead. Pre: as many ids as pieces, at most kBatchMax.
  void IdsOf(std::span<const std::string_view> pieces, std::span<TokenId> ids) const;
  static constexpr std::size_t kBatchMax = 96;

  bool Has(TokenId id) const;
  /// The piece, empty if there is none of this id.
  std::string_view Piece(TokenId id) const;

  /// Pieces.
  std::size_t count() const { return count_; }

  /// One past the largest id.
  TokenId id_end() const { return static_cast<TokenId>(places_.size()); }

 private:
  struct Place {
    std::uint32_t begin = 0;
    std::uint32_t size = kAbsent;
  };

  // The place again, to spare a look by id.
  struct Slot {
    std::uint32_t tag = 0;
    TokenId id = kEmpty;
    Place place;
  };

  static constexpr std::uint32_t kAbsent = 0xFFFFFFFF;
  static constexpr TokenId kEmpty = -1;

  /// The slot that holds `piece`, or the empty one where it belongs.
  std::size_t Find(std::string_view piece, std::uint64_t hash) const;
  void Grow();
  std::string_view TextAt(Place place) const;

  std::string text_;
  std::vector<Place> places_;
  std::vector<Slot> slots_;  // a power of two, at most half full
  std::size_t count_ = 0;
};

}  // namespace pixii::text
