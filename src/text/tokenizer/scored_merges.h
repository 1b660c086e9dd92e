// The merges that a vocabulary with scores stands for: SentencePiece's BPE as a list of pairs.
//
// Thread: pure functions.
// Source: SentencePiece's BPE joins the neighbours whose joined piece has the best score; the order
// of equal scores as in Hugging Face's conversion.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pixii::text {

inline constexpr std::size_t kScoredPieceBytesMax =
    512;  // bytes of a piece that merges are made for

struct ScoredPieces {
  std::span<const std::string_view> pieces;      // by id
  std::span<const double> scores;                // as many
  std::function<bool(std::size_t)> may_be_part;  // by id: joined to others
  std::function<bool(std::size_t)> may_be_made;  // by id: made of others
};

struct ScoredMerge {
  double score;
  std::size_t left;  // ids
  std::size_t right;
  std::size_t left_characters;
  std::size_t right_characters;
  std::size_t order = 0;  // equal ones keep the order of their pieces
};

/// Every way to join two pieces to a third, the best score first.
/// Errors: kDataCorrupt for a piece past kScoredPieceBytesMax or a score that is no number.
Result<std::vector<ScoredMerge>> MergesOfScores(const ScoredPieces& vocabulary);

/// The same as a JSON list of pairs.
std::string MergesJson(std::span<const std::string_view> pieces,
                       std::span<const ScoredMerge> merges);

}  // namespace pixii::text
