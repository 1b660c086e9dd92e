#include "kernels/cpu/cpu_weight.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/checked.h"
#include "kernels/cpu/memory.h"
#include "kernels/weight_source.h"

namespace pixii::kernels {
namespace {

/// Writes panels. Rows that hold the panel's words already are transposed where they lie; others
/// are converted first, a panel's rows at a time.
class Packer final {
 public:
  /// `column`: of the parts, where the packed K begins.
  Packer(std::vector<PartRow> rows, Index column, const PackedWeight& shape,
         const KernelTable& kernels)
      : shape_(shape), kernels_(kernels), column_(column), rows_(std::move(rows)) {
    row_words_ = shape.bf16 ? CeilDiv(shape.in_features, Index{2}) : shape.in_features;
  }

  /// A worker's own: one panel's rows in words, and one row in fp32.
  struct Scratch {
    std::vector<std::uint32_t> words;
    std::vector<float> values;
  };

  /// Writes panel `index` at `panel`, which is zeroed.
  void Pack(Index index, std::byte* panel, Scratch& scratch) const {
    const Index first = index * kPanelOutputs;
    const Index count = std::min(kPanelOutputs, std::ssize(rows_) - first);
    std::array<const unsigned char*, kPanelOutputs> rows{};
    for (Index lane = 0; lane < count; ++lane) {
      rows[static_cast<std::size_t>(lane)] =
          Words(rows_[static_cast<std::size_t>(first + lane)], lane, scratch);
    }
    const Index per_word = shape_.bf16 ? 2 : 1;
    const Index shard_words = shape_.shard_size / per_word + shape_.shard_size % per_word;
    for (Index shard = 0; shard < shape_.shard_count; ++shard) {
      const Index begin = shard * shard_words;
      const Index end = std::min(row_words_, begin + shard_words);
      if (begin >= end) {
        return;
      }
      std::array<const unsigned char*, kPanelOutputs> at{};
      for (std::size_t lane = 0; lane < static_cast<std::size_t>(count); ++lane) {
        at[lane] = rows[lane] + begin * kWordBytes;
      }
      kernels_.pack_words(
          {.rows = at.data(),
           .row_count = count,
           .words = end - begin,
           .out = panel + shard * shape_.shard_padded / per_word * kPanelOutputs * kWordBytes});
    }
  }

 private:
  static constexpr Index kWordBytes = 4;

  /// The row as words: where it lies, or in scratch.
  const unsigned char* Words(const PartRow& source, Index lane, Scratch& scratch) const {
    const WeightPart& part = *source.part;
    const Index cols = shape_.in_features;
    if (part.code == WeightCode::kNone &&
        (shape_.bf16 ? part.dtype == DType::kBf16 && cols % 2 == 0 : part.dtype == DType::kF32)) {
      return static_cast<const unsigned char*>(part.data) + source.row * RowSizeBytes(part) +
             column_ * (shape_.bf16 ? 2 : 4);
    }
    scratch.words.resize(static_cast<std::size_t>(kPanelOutputs * row_words_));
    std::uint32_t* out = scratch.words.data() + lane * row_words_;
    scratch.values.resize(static_cast<std::size_t>(part.cols));
    ReadRow(part, source.row, scratch.values.data());
    const float* values = scratch.values.data() + column_;
    if (!shape_.bf16) {
      std::memcpy(out, values, static_cast<std::size_t>(cols) * sizeof(float));
    } else {
      out[row_words_ - 1] = 0;  // half of it is no element of an odd row
      kernels_.round_row(values, cols, reinterpret_cast<std::uint16_t*>(out));
    }
    return reinterpret_cast<const unsigned char*>(out);
  }

  const PackedWeight& shape_;
  const KernelTable& kernels_;
  Index column_;
  std::vector<PartRow> rows_;
  Index row_words_ = 0;
};

std::vector<float> StackBias(std::span<const PartRow> rows, Index padded_rows) {
  if (std::ranges::none_of(rows, [](const PartRow& row) { return row.part->bias != nullptr; })) {
    return {};
  }
  std::vector<float> out(static_cast<std::size_t>(padded_rows));
  std::ranges::transform(rows, out.begin(), [](const PartRow& row) { return row.bias(); });
  return out;
}

}  // namespace

Result<std::unique_ptr<LinearWeight>> CpuWeight::PackLinear(std::span<const WeightPart> parts,
                                                            const LinearOptions& options,
                                                            const KernelTable& kernels,
                                                            ThreadPool& pool) {
  if (options.compute == ComputeType::kInt8) {
    if (const auto plan = PlanIntegers(parts, options)) {
      return PackIntegers(parts, options, *plan, {kernels, pool});
    }
  }
  const bool all_bf16 = std::ranges::all_of(parts, [](const WeightPart& part) {
    return part.code == WeightCode::kNone && part.dtype == DType::kBf16;
  });
  std::vector<PartRow> part_rows = RowsOf(parts, options);
  const Index rows = std::ssize(part_rows);
  const ShardPlan plan = MakeShardPlan(parts.front().cols, options);
  auto weight = std::make_unique<CpuWeight>(plan.k, rows);
  PackedWeight& packed = weight->packed_;
  packed.in_features = plan.k;
  packed.out_features = rows;
  packed.round_input = options.compute != ComputeType::kF32;
  packed.bf16 =
      packed.round_input || all_bf16;  // bf16 weights widen exactly, so fp32 results are the same
  packed.shard_count = plan.count;
  packed.shard_size = plan.size;
  const Index align = packed.round_input ? kernels.k_align : 2;
  packed.shard_padded = CeilDiv(plan.size, align) * align;
  packed.k_padded = packed.shard_padded * plan.count;

  const Index panels = CeilDiv(rows, kPanelOutputs);
  const Index panel_size_bytes = packed.k_padded * kPanelOutputs * (packed.bf16 ? 2 : 4);
  PX_TRY(weight->buffer_, AllocateHostMemory(static_cast<std::size_t>(panels * panel_size_bytes)));
  packed.panels = weight->buffer_.data();
  weight->bias_ = StackBias(part_rows, panels * kPanelOutputs);
  packed.bias = weight->bias_.empty() ? nullptr : weight->bias_.data();

  const Packer packer(std::move(part_rows), plan.column, packed, kernels);
  pool.Run([&](std::int32_t worker) {
    Packer::Scratch scratch;
    for (Index panel = worker; panel < panels; panel += pool.thread_count()) {
      packer.Pack(panel, static_cast<std::byte*>(weight->buffer_.data()) + panel * panel_size_bytes,
                  scratch);
    }
  });
  return std::unique_ptr<LinearWeight>(std::move(weight));
}

Result<std::unique_ptr<LinearWeight>> CpuWeight::PackIntegers(std::span<const WeightPart> parts,
                                                              const LinearOptions& options,
                                                              const IntegerPlan& plan,
                                                              const PackTools& tools) {
  const std::vector<PartRow> part_rows = RowsOf(parts, options);
  const Index rows = std::ssize(part_rows);
  auto weight = std::make_unique<CpuWeight>(plan.columns, rows);
  PX_TRY(weight->integers_, PackIntegerPanels(parts, part_rows, plan, tools));
  weight->bias_ = StackBias(part_rows, CeilDiv(rows, kIntegerPanelOutputs) * kIntegerPanelOutputs);
  PackedWeight& packed = weight->packed_;
  packed.panels = weight->integers_.panels.data();
  packed.bias = weight->bias_.empty() ? nullptr : weight->bias_.data();
  packed.in_features = plan.columns;
  packed.out_features = rows;
  packed.integers = weight->integers_.view;
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
