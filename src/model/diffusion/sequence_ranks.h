// Ranks that hold parts of a sequence each (Ulysses): for attention they swap them for some heads
// of the whole sequence, and back.
//
// Thread: its rank's; all ranks call the same verbs in the same order. Nothing is computed, so bits
// are those of one rank. Source: DeepSpeed Ulysses, Jacobs et al. 2023 (arXiv 2309.14509).
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "kernels/collective.h"
#include "kernels/tensor.h"
#include "model/model_cut.h"

namespace pixii::model {

class SequenceRanks final {
 public:
  SequenceRanks(std::int32_t rank, std::int32_t count) : rank_(rank), count_(count) {}

  bool alone() const { return count_ == 1; }

  std::int32_t count() const { return count_; }

  /// Tokens of each lane of `all` that rank `rank` holds.
  RowRange TokensOf(std::int64_t all, std::int32_t rank) const {
    return CutEvenly(all, rank, count_);
  }

  RowRange own_tokens(std::int64_t all) const { return TokensOf(all, rank_); }

  /// `mine` [lanes * own tokens, all columns] to `out` [lanes * all tokens, own columns]: the
  /// rank-th of count equal parts of them. Errors: the collective's.
  Result<void> ToHeads(kernels::Collective& link, const kernels::Matrix& mine, std::int32_t lanes,
                       const kernels::Matrix& out);

  /// The way back.
  Result<void> ToTokens(kernels::Collective& link, const kernels::Matrix& mine, std::int32_t lanes,
                        const kernels::Matrix& out);

 private:
  struct Piece {
    std::int64_t row = 0;
    std::int64_t rows = 0;
    std::int64_t column = 0;
    std::int64_t columns = 0;
  };

  /// One lane's piece of `whole` that belongs to rank `rank`: tokens, or columns of all tokens.
  Piece TokenPiece(const kernels::Matrix& whole, std::int32_t lanes, std::int32_t lane,
                   std::int32_t rank) const;
  Piece ColumnPiece(const kernels::Matrix& whole, std::int32_t lanes, std::int32_t lane,
                    std::int32_t rank) const;

  template <class From, class To>
  Result<void> Swap(kernels::Collective& link, std::int32_t lanes, const kernels::Matrix& mine,
                    const From& from, const kernels::Matrix& out, const To& to);

  std::int32_t rank_;
  std::int32_t count_;
  std::vector<std::vector<float>> outgoing_;  // [rank]
  std::vector<std::vector<float>> incoming_;
};

}  // namespace pixii::model
