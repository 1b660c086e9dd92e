#include "text/tokenizer/vocabulary.h"

#include <algorithm>
#include <array>
#include <span>

#include "base/hash.h"

namespace pixii::text {

namespace {

std::uint64_t HashOf(std::string_view piece) {
  return Hash64(std::as_bytes(std::span(piece.data(), piece.size())));
}

std::uint32_t Tag(std::uint64_t hash) { return static_cast<std::uint32_t>(hash >> 32); }

}  // namespace

std::string_view Vocabulary::TextAt(Place place) const {
  return std::string_view(text_).substr(place.begin, place.size);
}

std::size_t Vocabulary::Find(std::string_view piece, std::uint64_t hash) const {
  std::size_t mask = slots_.size() - 1;
  for (std::size_t at = hash & mask;; at = (at + 1) & mask) {
    const Slot& slot = slots_[at];
    if (slot.id == kEmpty || (slot.tag == Tag(hash) && TextAt(slot.place) == piece)) {
      return at;
    }
  }
}

void Vocabulary::Grow() {
  slots_.assign(slots_.empty() ? 1024 : slots_.size() * 2, Slot{});
  for (TokenId id = 0; id < id_end(); ++id) {
    if (Has(id)) {
      std::uint64_t hash = HashOf(Piece(id));
      slots_[Find(Piece(id), hash)] = {Tag(hash), id, places_[static_cast<std::size_t>(id)]};
    }
  }
}

Vocabulary::Added Vocabulary::Add(std::string_view piece, TokenId id) {
  if (id < 0 || id > kTokenIdMax) {
    return Added::kIdOutOfRange;
  }
  if (Has(id)) {
    return Added::kDuplicateId;
  }
  if (piece.size() > kVocabularyBytesMax - text_.size()) {
    return Added::kTooLarge;
  }
  if ((count_ + 1) * 2 > slots_.size()) {
    Grow();
  }
  std::uint64_t hash = HashOf(piece);
  Slot& slot = slots_[Find(piece, hash)];
  if (slot.id != kEmpty) {
    return Added::kDuplicatePiece;
  }
  if (id >= id_end()) {
    places_.resize(static_cast<std::size_t>(id) + 1);
  }
  Place place{static_cast<std::uint32_t>(text_.size()), static_cast<std::uint32_t>(piece.size())};
  places_[static_cast<std::size_t>(id)] = place;
  slot = {Tag(hash), id, place};
  text_.append(piece);
  ++count_;
  return Added::kYes;
}

std::optional<TokenId> Vocabulary::IdOf(std::string_view piece) const {
  if (slots_.empty()) {
    return std::nullopt;
  }
  const Slot& slot = slots_[Find(piece, HashOf(piece))];
  return slot.id == kEmpty ? std::nullopt : std::optional(slot.id);
}

void Vocabulary::IdsOf(std::span<const std::string_view> pieces, std::span<TokenId> ids) const {
  std::array<std::uint64_t, kBatchMax> hashes;
  if (slots_.empty()) {
    std::fill(ids.begin(), ids.end(), -1);
    return;
  }
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    hashes[i] = HashOf(pieces[i]);
    __builtin_prefetch(&slots_[hashes[i] & (slots_.size() - 1)]);
  }
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const Slot& slot = slots_[hashes[i] & (slots_.size() - 1)];
    if (slot.id != kEmpty) {
      __builtin_prefetch(text_.data() + slot.place.begin);
    }
  }
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const Slot& slot = slots_[Find(pieces[i], hashes[i])];
    ids[i] = slot.id == kEmpty ? -1 : slot.id;
  }
}

bool Vocabulary::Has(TokenId id) const {
  return id >= 0 && id < id_end() && places_[static_cast<std::size_t>(id)].size != kAbsent;
}

std::string_view Vocabulary::Piece(TokenId id) const {
  if (!Has(id)) {
    return {};
  }
  return TextAt(places_[static_cast<std::size_t>(id)]);
}

}  // namespace pixii::text
