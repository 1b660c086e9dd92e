#include "model/diffusion/sequence_ranks.h"

#include <algorithm>
#include <span>

#include "base/assert.h"

namespace pixii::model {

using kernels::Matrix;

SequenceRanks::Piece SequenceRanks::TokenPiece(const Matrix& whole, std::int32_t lanes,
                                               std::int32_t lane, std::int32_t rank) const {
  const std::int64_t all = whole.rows / lanes;
  const RowRange tokens = TokensOf(all, rank);
  return {.row = lane * all + tokens.begin, .rows = SizeOf(tokens), .columns = whole.cols};
}

SequenceRanks::Piece SequenceRanks::ColumnPiece(const Matrix& whole, std::int32_t lanes,
                                                std::int32_t lane, std::int32_t rank) const {
  const std::int64_t rows = whole.rows / lanes;
  const std::int64_t columns = whole.cols / count_;
  return {.row = lane * rows, .rows = rows, .column = rank * columns, .columns = columns};
}

/// Piece from(lane, r) of `mine` goes to rank r; what rank r gives is piece to(lane, r) of `out`.
template <class From, class To>
Result<void> SequenceRanks::Swap(kernels::Collective& link, std::int32_t lanes, const Matrix& mine,
                                 const From& from, const Matrix& out, const To& to) {
  const auto count = static_cast<std::size_t>(count_);
  outgoing_.resize(count);
  incoming_.resize(count);
  std::vector<std::span<const std::byte>> give(count);
  std::vector<std::span<std::byte>> take(count);
  for (std::size_t r = 0; r < count; ++r) {
    std::vector<float>& values = outgoing_[r];
    values.clear();
    std::int64_t wanted = 0;
    for (std::int32_t lane = 0; lane < lanes; ++lane) {
      const Piece piece = from(lane, static_cast<std::int32_t>(r));
      for (std::int64_t row = piece.row; row < piece.row + piece.rows; ++row) {
        const float* at = mine.f32(row) + piece.column;
        values.insert(values.end(), at, at + piece.columns);
      }
      const Piece mirrored = to(lane, static_cast<std::int32_t>(r));
      wanted += mirrored.rows * mirrored.columns;
    }
    incoming_[r].resize(static_cast<std::size_t>(wanted));
    give[r] = std::as_bytes(std::span<const float>(values));
    take[r] = std::as_writable_bytes(std::span(incoming_[r]));
  }
  PX_CHECK_OK(link.AllToAll(give, take));
  for (std::size_t r = 0; r < count; ++r) {
    const float* at = incoming_[r].data();
    for (std::int32_t lane = 0; lane < lanes; ++lane) {
      const Piece piece = to(lane, static_cast<std::int32_t>(r));
      for (std::int64_t row = piece.row; row < piece.row + piece.rows; ++row) {
        std::copy_n(at, piece.columns, out.f32(row) + piece.column);
        at += piece.columns;
      }
    }
  }
  return {};
}

Result<void> SequenceRanks::ToHeads(kernels::Collective& link, const Matrix& mine,
                                    std::int32_t lanes, const Matrix& out) {
  PX_ASSERT(mine.cols == out.cols * count_);
  return Swap(
      link, lanes, mine,
      [&](std::int32_t lane, std::int32_t r) { return ColumnPiece(mine, lanes, lane, r); }, out,
      [&](std::int32_t lane, std::int32_t r) { return TokenPiece(out, lanes, lane, r); });
}

Result<void> SequenceRanks::ToTokens(kernels::Collective& link, const Matrix& mine,
                                     std::int32_t lanes, const Matrix& out) {
  PX_ASSERT(mine.cols * count_ == out.cols);
  return Swap(
      link, lanes, mine,
      [&](std::int32_t lane, std::int32_t r) { return TokenPiece(mine, lanes, lane, r); }, out,
      [&](std::int32_t lane, std::int32_t r) { return ColumnPiece(out, lanes, lane, r); });
}

}  // namespace pixii::model
