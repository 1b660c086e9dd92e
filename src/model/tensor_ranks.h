// What tensor-parallel ranks of a model exchange while a step runs: sums, inputs of sums, rows of
// the embedding.
//
// Thread: the model's one caller; all ranks call the same verbs in the same order.
// An exchange that fails is kept: later ones do nothing, and whoever runs the step asks TakeError.
// Memory is the host's.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "kernels/operators.h"
#include "model/model_cut.h"

namespace pixii::model {

class TensorRanks final {
 public:
  TensorRanks(const RankPlace& place, std::int64_t vocab_size)
      : share_(place.share), links_(place.links), vocab_size_(vocab_size) {}

  bool alone() const { return share_.tensor_count == 1; }

  const ModelShare& share() const { return share_; }

  /// values = the ranks' values, summed in the fixed tree. Rows lie one behind the other.
  void Sum(const kernels::Matrix& values);

  /// All columns of the input of a sum over `size` columns, of which `mine` are the rank's own;
  /// valid until the next call.
  kernels::Matrix Gather(const kernels::Matrix& mine, std::int64_t size);

  /// out[t] = row of ids[t] in the whole table times scale; `table` has the rank's part of it.
  void Embed(kernels::Operators& operators, const kernels::LinearWeight& table,
             std::span<const std::int32_t> ids, float scale, const kernels::Matrix& out);

  /// The stream goes to the next stage, or comes from the one before.
  void Send(const kernels::Matrix& rows);
  void Receive(const kernels::Matrix& rows);

  bool failed() const { return error_.has_value(); }

  /// Whether everything since the last call was exchanged.
  Result<void> TakeError();

 private:
  void Keep(Result<void> result);

  ModelShare share_;
  const RankLinks* links_;
  std::int64_t vocab_size_;
  std::optional<Error> error_;
  std::vector<float> mine_;  // columns or rows of this rank, one behind the other
  std::vector<float> all_;
  std::vector<float> gathered_;
  std::vector<std::int32_t> own_ids_;
};

}  // namespace pixii::model
