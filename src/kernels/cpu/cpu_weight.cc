#include "kernels/cpu/cpu_weight.h"

#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "kernels/cpu/memory.h"
#include "kernels/weight_source.h"

namespace pixii::kernels {
namespace {

/// Row `row` of the stacked parts.
struct StackedRow {
  const WeightPart* part = nullptr;
  std::int64_t row = 0;
};

class Packer final {
 public:
  Packer(std::span<const WeightPart> parts, const PackedWeight& shape) : shape_(shape) {
    for (const WeightPart& part : parts) {
      for (std::int64_t row = 0; row < part.rows; ++row) {
        rows_.push_back({&part, row});
      }
    }
  }

  /// Writes panel `index` at `panel`, which is zeroed. `values` is scratch of [32, in_features].
  void Pack(Index index, void* panel, std::vector<float>& values) const {
    const Index first = index * kPanelOutputs;
    const Index count = std::min(kPanelOutputs, std::ssize(rows_) - first);
    const Index k = shape_.in_features;
    for (Index lane = 0; lane < count; ++lane) {
      const StackedRow& source = rows_[static_cast<std::size_t>(first + lane)];
      ReadRow(*source.part, source.row, values.data() + lane * k);
    }
    for (Index i = 0; i < k; ++i) {
      const Index shard = i / shape_.shard_size;
      const Index at = shard * shape_.shard_padded + i % shape_.shard_size;
      if (shape_.bf16) {
        auto* out = static_cast<std::uint16_t*>(panel) + (at / 2 * kPanelOutputs * 2) + at % 2;
        for (Index lane = 0; lane < count; ++lane) {
          out[lane * 2] = Bf16FromFloat(values[static_cast<std::size_t>(lane * k + i)]);
        }
      } else {
        float* out = static_cast<float*>(panel) + at * kPanelOutputs;
        for (Index lane = 0; lane < count; ++lane) {
          out[lane] = values[static_cast<std::size_t>(lane * k + i)];
        }
      }
    }
  }

 private:
  const PackedWeight& shape_;
  std::vector<StackedRow> rows_;
};

std::vector<float> StackBias(std::span<const WeightPart> parts, Index padded_rows) {
  if (std::none_of(parts.begin(), parts.end(),
                   [](const WeightPart& part) { return part.bias != nullptr; })) {
    return {};
  }
  std::vector<float> out(static_cast<std::size_t>(padded_rows));
  auto at = out.begin();
  for (const WeightPart& part : parts) {
    if (part.bias != nullptr) {
      std::copy_n(part.bias, part.rows, at);
    }
    at += part.rows;
  }
  return out;
}

}  // namespace

Result<std::unique_ptr<LinearWeight>> CpuWeight::PackLinear(std::span<const WeightPart> parts,
                                                            const LinearOptions& options,
                                                            Index k_align, ThreadPool& pool) {
  Index rows = 0;
  bool all_bf16 = true;
  for (const WeightPart& part : parts) {
    rows += part.rows;
    all_bf16 = all_bf16 && part.code == WeightCode::kNone && part.dtype == DType::kBf16;
  }
  auto weight = std::make_unique<CpuWeight>(parts.front().cols, rows);
  PackedWeight& packed = weight->packed_;
  packed.in_features = parts.front().cols;
  packed.out_features = rows;
  packed.round_input = options.compute == ComputeType::kBf16;
  packed.bf16 =
      packed.round_input || all_bf16;  // bf16 weights widen exactly, so fp32 results are the same
  const ShardPlan plan = MakeShardPlan(packed.in_features, options.k_shards);
  packed.shard_count = plan.count;
  packed.shard_size = plan.size;
  const Index align = packed.round_input ? k_align : 2;
  packed.shard_padded = CeilDiv(plan.size, align) * align;
  packed.k_padded = packed.shard_padded * plan.count;

  const Index panels = CeilDiv(rows, kPanelOutputs);
  const Index panel_size_bytes = packed.k_padded * kPanelOutputs * (packed.bf16 ? 2 : 4);
  PX_TRY(weight->buffer_, AllocateHostMemory(static_cast<std::size_t>(panels * panel_size_bytes)));
  packed.panels = weight->buffer_.data();
  weight->bias_ = StackBias(parts, panels * kPanelOutputs);
  packed.bias = weight->bias_.empty() ? nullptr : weight->bias_.data();

  const Packer packer(parts, packed);
  pool.Run([&](std::int32_t worker) {
    std::vector<float> values(static_cast<std::size_t>(kPanelOutputs * packed.in_features));
    for (Index panel = worker; panel < panels; panel += pool.thread_count()) {
      packer.Pack(panel, static_cast<std::byte*>(weight->buffer_.data()) + panel * panel_size_bytes,
                  values);
    }
  });
  return std::unique_ptr<LinearWeight>(std::move(weight));
}

Result<std::unique_ptr<LinearWeight>> CpuWeight::CopyTable(const WeightPart& table) {
  auto weight = std::make_unique<CpuWeight>(table.cols, table.rows);
  const auto size_bytes = static_cast<std::size_t>(table.rows * RowSizeBytes(table));
  PX_TRY(weight->buffer_, AllocateHostMemory(size_bytes));
  std::memcpy(weight->buffer_.data(), table.data, size_bytes);
  weight->table_element_ = ElementOf(table.dtype);
  if (table.code != WeightCode::kNone) {
    const std::int64_t count = ScaleRows(table) * ScaleColumns(table);
    std::vector<float>& scales = weight->scales_;
    scales.assign(table.scales, table.scales + count);
    if (table.offsets != nullptr) {
      scales.insert(scales.end(), table.offsets, table.offsets + count);
    }
    WeightPart& own = weight->coded_table_;
    own = table;
    own.data = weight->buffer_.data();
    own.bias = nullptr;
    own.scales = scales.data();
    own.offsets = table.offsets != nullptr ? scales.data() + count : nullptr;
  }
  return std::unique_ptr<LinearWeight>(std::move(weight));
}

}  // namespace pixii::kernels
