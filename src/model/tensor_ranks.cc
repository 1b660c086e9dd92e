#include "model/tensor_ranks.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace pixii::model {
namespace {

using kernels::Matrix;

std::span<float> Flat(const Matrix& rows) {
  PX_ASSERT(rows.stride == rows.cols || rows.rows <= 1);
  return {rows.f32(), static_cast<std::size_t>(rows.rows * rows.cols)};
}

}  // namespace

void TensorRanks::Keep(Result<void> result) {
  if (!result && !error_) {
    error_ = std::move(result).error();
  }
}

Result<void> TensorRanks::TakeError() {
  if (const auto error = std::exchange(error_, std::nullopt)) {
    return Fail(*error);
  }
  return {};
}

void TensorRanks::Sum(const Matrix& values) {
  if (!failed()) {
    Keep(links_->tensor->AllReduce(Flat(values)));
  }
}

Matrix TensorRanks::Gather(const Matrix& mine, std::int64_t size) {
  mine_.clear();
  for (std::int64_t row = 0; row < mine.rows; ++row) {
    mine_.insert(mine_.end(), mine.f32(row), mine.f32(row) + mine.cols);
  }
  all_.resize(static_cast<std::size_t>(mine.rows * size));
  if (!failed()) {
    Keep(links_->tensor->AllGather(std::as_bytes(std::span(mine_)),
                                   std::as_writable_bytes(std::span(all_))));
  }
  // all_ has one rank's columns behind the other's.
  gathered_.resize(all_.size());
  const Matrix out{gathered_.data(), kernels::DType::kF32, mine.rows, size, size};
  const float* from = all_.data();
  for (std::int32_t rank = 0; rank < share_.tensor_count; ++rank) {
    const RowRange columns = CutSum(size, rank, share_.tensor_count).columns;
    for (std::int64_t row = 0; row < mine.rows; ++row, from += SizeOf(columns)) {
      std::copy_n(from, SizeOf(columns), out.f32(row) + columns.begin);
    }
  }
  return out;
}

void TensorRanks::Embed(kernels::Operators& operators, const kernels::LinearWeight& table,
                        std::span<const std::int32_t> ids, float scale, const Matrix& out) {
  const auto own_of = [&](std::int32_t rank, std::int64_t vocab) {
    return CutEvenly(vocab, rank, share_.tensor_count);
  };
  const auto in = [](const RowRange& range, std::int32_t id) {
    return id >= range.begin && id < range.end;
  };
  const RowRange own = own_of(share_.tensor_rank, vocab_size_);
  own_ids_.clear();
  for (const std::int32_t id : ids) {
    if (in(own, id)) {
      own_ids_.push_back(id - static_cast<std::int32_t>(own.begin));
    }
  }
  mine_.resize(own_ids_.size() * static_cast<std::size_t>(out.cols));
  operators.Embed(table, own_ids_, scale,
                  {mine_.data(), kernels::DType::kF32, std::ssize(own_ids_), out.cols, out.cols});
  all_.resize(ids.size() * static_cast<std::size_t>(out.cols));
  if (!failed()) {
    Keep(links_->tensor->AllGather(std::as_bytes(std::span(mine_)),
                                   std::as_writable_bytes(std::span(all_))));
  }
  // all_ has the rows of one rank behind the other's, each in the order of the step.
  const float* from = all_.data();
  for (std::int32_t rank = 0; rank < share_.tensor_count; ++rank) {
    const RowRange rows = own_of(rank, vocab_size_);
    for (std::size_t t = 0; t < ids.size(); ++t) {
      if (in(rows, ids[t])) {
        std::copy_n(from, out.cols, out.f32(static_cast<std::int64_t>(t)));
        from += out.cols;
      }
    }
  }
}

void TensorRanks::Send(const Matrix& rows) {
  if (!failed()) {
    Keep(links_->after->Broadcast(0, std::as_writable_bytes(Flat(rows))));
  }
}

void TensorRanks::Receive(const Matrix& rows) {
  if (!failed()) {
    Keep(links_->before->Broadcast(0, std::as_writable_bytes(Flat(rows))));
  }
}

}  // namespace pixii::model
