// Linears that adapters may change, and the adapters that lie in a model's slots.
//
// Thread: the model's one caller; slots change between steps alone.
// What the model computes is weight * x + bias; then each row's pair is added, where its slot has
// one: a row's bits depend on its own adapter and nobody else's. A prepared weight may hold several
// linears of the checkpoint (q, k, v; gate, up), so its outputs are cut into sites, each with a
// table of pairs by slot and, among experts, by expert.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "kernels/operators.h"
#include "model/lora_adapter.h"
#include "model/model_cut.h"
#include "model/tensor_ranks.h"

namespace pixii::model {

/// The sites of a weight, in the order of its outputs.
struct AdapterSites {
  std::size_t first = 0;
  std::size_t count = 0;  // 0: no adapter changes this weight
};

/// A prepared weight and where adapters add to its outputs.
struct AdaptedLinear {
  std::unique_ptr<kernels::LinearWeight> weight;  // null: this rank has nothing of it
  AdapterSites sites;
  std::int64_t in_features = 0;  // of the whole linear
  bool joined = false;           // outputs are the sum over the tensor ranks, then the bias
  std::vector<float> bias = {};  // of a joined one; else it is in the weight
};

/// A linear of the checkpoint and which ranges of its rows a weight holds: a site for each.
struct LinearRows {
  AdaptableLinear linear;
  std::vector<RowRange> rows;
};

/// How the pair of a checkpoint's linear lands in a site: rows of the linear's weight, or of its
/// weight transposed (inputs and outputs change places).
struct AdapterPlace {
  std::size_t site = 0;
  std::int32_t variant = 0;  // expert, or 0
  std::int64_t row_begin = 0;
  std::int64_t row_count = 0;
  bool transposed = false;
};

class AdapterSlots final {
 public:
  /// `operators` outlives this.
  AdapterSlots(kernels::Operators& operators, std::int32_t slot_count)
      : operators_(operators), slots_(static_cast<std::size_t>(slot_count)) {}

  /// `ranks`, which outlive this, join what is joined.
  void SetRanks(TensorRanks& ranks) { ranks_ = &ranks; }

  // While the model is made.

  /// `linears` stacked in one weight.
  AdapterSites Add(std::span<const LinearRows> linears);
  /// Sites of `columns` outputs each, with `variant_count` pairs for each slot.
  AdapterSites AddSites(std::span<const std::int64_t> columns, std::int32_t variant_count);
  /// A linear that adapters may name, and where it is computed.
  void AddLinear(AdaptableLinear linear, std::vector<AdapterPlace> places);

  std::span<const AdaptableLinear> linears() const { return linears_; }

  std::int32_t slot_count() const { return static_cast<std::int32_t>(slots_.size()); }

  /// Prepares `adapter` in `slot`, in place of what was there. Errors: kInvalidArgument (no such
  /// slot, another model's adapter), kUnsupported (the backend runs none), kResourceExhausted; the
  /// slot is then empty.
  Result<void> Load(std::int32_t slot, const LoraAdapter& adapter);
  /// Pre: `slot` is one of slot_count().
  void Unload(std::int32_t slot);

  bool is_loaded(std::int32_t slot) const {
    return slot >= 0 && slot < slot_count() && slots_[static_cast<std::size_t>(slot)].loaded;
  }

  /// Errors: kInvalidArgument unless `slots` is empty or has an entry for each of `row_count` rows,
  /// each -1 or a slot with an adapter.
  Result<void> CheckRows(std::span<const std::int32_t> slots, std::size_t row_count) const;

  /// The slots of the rows that are run from now on; empty: none has an adapter. What it points to
  /// lives as long as they run.
  void SetRows(std::span<const std::int32_t> slots) { rows_ = slots; }

  std::span<const std::int32_t> rows() const { return rows_; }

  /// out = weight * in + bias, and what the rows' adapters add.
  void Run(const kernels::Matrix& in, const AdaptedLinear& linear, const kernels::Matrix& out) {
    if (linear.joined) {
      RunJoined(in, linear, out);
      return;
    }
    operators_.Linear(in, *linear.weight, out);
    if (!rows_.empty()) {
      AddPairs(in, linear.sites, rows_, out);
    }
  }

  /// Of a joined linear of experts: each = the ranks' sums (of one that has nothing of it: zeros,
  /// `any` says so), then each row's bias of the expert that it chose, if there are biases.
  void JoinExperts(bool any, std::span<const std::int32_t> experts,
                   std::span<const std::vector<float>> biases, const kernels::Matrix& each);

  /// Pre: SetRanks was called.
  TensorRanks& ranks() { return *ranks_; }

  /// Whether any slot has a pair at these sites.
  bool HasPairs(const AdapterSites& sites) const;

  /// What adapters add after ExpertLinear: row t * K + j of `in` and `out` belongs to row t and
  /// took `experts[t * K + j]`, all of the host's memory.
  void AddExperts(const kernels::Matrix& in, std::span<const std::int32_t> experts,
                  const AdapterSites& sites, const kernels::Matrix& out);

 private:
  struct Site {
    std::int64_t columns = 0;
    std::int32_t variant_count = 1;
    std::int32_t pair_count = 0;                    // that are not null
    std::vector<const kernels::LoraWeight*> pairs;  // [slot, variant], null: none; empty: all null
  };

  struct Slot {
    bool loaded = false;
    std::vector<std::unique_ptr<kernels::LoraWeight>> pairs;
    std::vector<std::pair<std::size_t, std::size_t>> uses;  // site, index into its pairs
  };

  void RunJoined(const kernels::Matrix& in, const AdaptedLinear& linear,
                 const kernels::Matrix& out);
  Result<void> LoadPair(std::size_t slot, const LoraPair& pair);
  void AddPairs(const kernels::Matrix& in, const AdapterSites& sites,
                std::span<const std::int32_t> row_pairs, const kernels::Matrix& out);

  kernels::Operators& operators_;
  TensorRanks* ranks_ = nullptr;
  std::vector<AdaptableLinear> linears_;
  std::vector<std::vector<AdapterPlace>> places_;  // [linears_]
  std::vector<Site> sites_;
  std::vector<Slot> slots_;
  std::span<const std::int32_t> rows_;
  std::vector<std::int32_t> expert_rows_;
};

}  // namespace pixii::model
