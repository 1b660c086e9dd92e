#include "model/adapted_linear.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/assert.h"
#include "kernels/weight_source.h"

namespace pixii::model {
namespace {

/// Rows `begin` to `begin + count` of `part`, as fp32 and transposed: [cols, count].
std::vector<float> TransposedRows(const kernels::WeightPart& part, std::int64_t begin,
                                  std::int64_t count) {
  std::vector<float> out(static_cast<std::size_t>(part.cols * count));
  std::vector<float> row(static_cast<std::size_t>(part.cols));
  for (std::int64_t i = 0; i < count; ++i) {
    kernels::ReadRow(part, begin + i, row.data());
    for (std::int64_t k = 0; k < part.cols; ++k) {
      out[static_cast<std::size_t>(k * count + i)] = row[static_cast<std::size_t>(k)];
    }
  }
  return out;
}

void FillZeros(const kernels::Matrix& out) {
  for (std::int64_t row = 0; row < out.rows; ++row) {
    std::fill_n(out.f32(row), out.cols, 0.0F);
  }
}

/// row += bias, as a linear adds its own.
void AddTo(std::span<const float> bias, float* row) {
  for (const float value : bias) {
    *row++ += value;
  }
}

}  // namespace

AdapterSites AdapterSlots::AddSites(std::span<const std::int64_t> columns,
                                    std::int32_t variant_count) {
  const AdapterSites added = {.first = sites_.size(), .count = columns.size()};
  for (const std::int64_t count : columns) {
    sites_.push_back(
        {.columns = count, .variant_count = variant_count, .pair_count = 0, .pairs = {}});
  }
  return added;
}

void AdapterSlots::AddLinear(AdaptableLinear linear, std::vector<AdapterPlace> places) {
  linears_.push_back(std::move(linear));
  places_.push_back(std::move(places));
}

AdapterSites AdapterSlots::Add(std::span<const LinearRows> linears) {
  std::vector<std::int64_t> columns;
  std::vector<std::vector<AdapterPlace>> places;
  for (const LinearRows& linear : linears) {
    places.emplace_back();
    for (const RowRange& rows : linear.rows) {
      places.back().push_back({.site = sites_.size() + columns.size(),
                               .row_begin = rows.begin,
                               .row_count = SizeOf(rows)});
      columns.push_back(SizeOf(rows));
    }
  }
  const AdapterSites added = AddSites(columns, 1);
  for (std::size_t i = 0; i < linears.size(); ++i) {
    AddLinear(linears[i].linear, std::move(places[i]));
  }
  return added;
}

void AdapterSlots::RunJoined(const kernels::Matrix& in, const AdaptedLinear& linear,
                             const kernels::Matrix& out) {
  if (linear.weight != nullptr) {
    operators_.Linear(in, *linear.weight, out);
  } else {
    FillZeros(out);
  }
  ranks_->Sum(out);
  for (std::int64_t row = 0; !linear.bias.empty() && row < out.rows; ++row) {
    AddTo(linear.bias, out.f32(row));
  }
  // A pair's inner sum has one order, so it is taken over the whole input.
  if (!rows_.empty() && HasPairs(linear.sites)) {
    AddPairs(ranks_->Gather(in, linear.in_features), linear.sites, rows_, out);
  }
}

void AdapterSlots::JoinExperts(bool any, std::span<const std::int32_t> experts,
                               std::span<const std::vector<float>> biases,
                               const kernels::Matrix& each) {
  if (!any) {
    FillZeros(each);
  }
  ranks_->Sum(each);
  for (std::int64_t row = 0; !biases.empty() && row < each.rows; ++row) {
    const std::int32_t expert = experts[static_cast<std::size_t>(row)];
    AddTo(biases[static_cast<std::size_t>(expert)], each.f32(row));
  }
}

Result<void> AdapterSlots::LoadPair(std::size_t slot, const LoraPair& pair) {
  if (pair.linear >= linears_.size() || linears_[pair.linear].in_features != pair.down.cols ||
      linears_[pair.linear].out_features != pair.up.rows) {
    return Fail(Code::kInvalidArgument, "the adapter was made for another model", "adapter");
  }
  for (const AdapterPlace& place : places_[pair.linear]) {
    // Rows of up are the linear's outputs. Transposed, (up * down)^T = down^T * up^T.
    const std::int64_t rank = pair.down.rows;
    kernels::WeightPart down = pair.down;
    kernels::WeightPart up = pair.up;
    std::vector<float> transposed_up;
    std::vector<float> transposed_down;
    if (place.transposed) {
      transposed_up = TransposedRows(pair.up, place.row_begin, place.row_count);
      transposed_down = TransposedRows(pair.down, 0, rank);
      down = {.data = transposed_up.data(), .rows = rank, .cols = place.row_count};
      up = {.data = transposed_down.data(), .rows = pair.down.cols, .cols = rank};
    } else if (place.row_count != pair.up.rows) {
      transposed_up.resize(static_cast<std::size_t>(place.row_count * rank));
      for (std::int64_t i = 0; i < place.row_count; ++i) {
        kernels::ReadRow(pair.up, place.row_begin + i, transposed_up.data() + i * rank);
      }
      up = {.data = transposed_up.data(), .rows = place.row_count, .cols = rank};
    }
    PX_TRY(auto prepared, operators_.PrepareLora(down, up, pair.scale));
    Site& site = sites_[place.site];
    const auto variants = static_cast<std::size_t>(site.variant_count);
    const std::size_t index = slot * variants + static_cast<std::size_t>(place.variant);
    site.pairs.resize(slots_.size() * variants);
    PX_ASSERT(site.pairs[index] == nullptr && prepared->out_features() == site.columns);
    site.pairs[index] = prepared.get();
    ++site.pair_count;
    slots_[slot].pairs.push_back(std::move(prepared));
    slots_[slot].uses.emplace_back(place.site, index);
  }
  return {};
}

Result<void> AdapterSlots::Load(std::int32_t slot, const LoraAdapter& adapter) {
  if (slot < 0 || slot >= slot_count()) {
    return Fail(Code::kInvalidArgument,
                fmt::format("adapter slot {} is not in 0 to {}", slot, slot_count() - 1), "slot");
  }
  Unload(slot);
  const auto index = static_cast<std::size_t>(slot);
  for (const LoraPair& pair : adapter.pairs()) {
    Result<void> loaded = LoadPair(index, pair);
    if (!loaded) {
      Unload(slot);
      return loaded;
    }
  }
  slots_[index].loaded = true;
  return {};
}

void AdapterSlots::Unload(std::int32_t slot) {
  PX_ASSERT(slot >= 0 && slot < slot_count());
  Slot& at = slots_[static_cast<std::size_t>(slot)];
  for (const auto& [site, index] : at.uses) {
    sites_[site].pairs[index] = nullptr;
    --sites_[site].pair_count;
  }
  at = {};
}

Result<void> AdapterSlots::CheckRows(std::span<const std::int32_t> slots,
                                     std::size_t row_count) const {
  if (slots.empty()) {
    return {};
  }
  if (slots.size() != row_count) {
    return Fail(Code::kInvalidArgument,
                fmt::format("step batch: adapter_slots has {} entries for {} rows", slots.size(),
                            row_count),
                "adapter_slots");
  }
  for (const std::int32_t slot : slots) {
    if (slot != -1 && !is_loaded(slot)) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("step batch: adapter_slots names slot {}, where no adapter is", slot),
                  "adapter_slots");
    }
  }
  return {};
}

bool AdapterSlots::HasPairs(const AdapterSites& sites) const {
  for (std::size_t i = sites.first; i < sites.first + sites.count; ++i) {
    if (sites_[i].pair_count > 0) {
      return true;
    }
  }
  return false;
}

void AdapterSlots::AddPairs(const kernels::Matrix& in, const AdapterSites& sites,
                            std::span<const std::int32_t> row_pairs, const kernels::Matrix& out) {
  PX_ASSERT(std::ssize(row_pairs) == in.rows);
  std::int64_t column = 0;
  for (std::size_t i = sites.first; i < sites.first + sites.count; ++i) {
    const Site& site = sites_[i];
    if (site.pair_count > 0) {
      operators_.AddLora(in, site.pairs, row_pairs, out.Columns(column, site.columns));
    }
    column += site.columns;
  }
}

void AdapterSlots::AddExperts(const kernels::Matrix& in, std::span<const std::int32_t> experts,
                              const AdapterSites& sites, const kernels::Matrix& out) {
  const std::int32_t expert_count = sites_[sites.first].variant_count;
  const std::size_t per_token = experts.size() / rows_.size();
  expert_rows_.clear();
  for (std::size_t i = 0; i < experts.size(); ++i) {
    const std::int32_t slot = rows_[i / per_token];
    expert_rows_.push_back(slot < 0 ? -1 : slot * expert_count + experts[i]);
  }
  AddPairs(in, sites, expert_rows_, out);
}

}  // namespace pixii::model
