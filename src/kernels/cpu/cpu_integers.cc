#include "kernels/cpu/cpu_integers.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <utility>

#include "base/checked.h"
#include "kernels/cpu/memory.h"
#include "kernels/tensor.h"
#include "kernels/weight_source.h"

namespace pixii::kernels {
namespace {

static_assert(kPieceElementsMax == kPieceBytesMax && kPieceMagnitudeMin == kPieceMagnitudeLeast);

constexpr Index kWordCodes = 4;
constexpr std::uint32_t kSigns = 0x80808080U;  // int8 codes are stored 128 larger
constexpr std::int32_t kInt8Zero = 128;

std::vector<IntegerPieceView> ViewsOf(const IntegerPlan& plan, Index align_words) {
  std::vector<IntegerPieceView> out;
  Index word = 0;
  for (const IntegerPiece& piece : plan.pieces) {
    const Index count = piece.end - piece.begin;
    const Index words = CeilDiv(CeilDiv(count, kWordCodes), align_words) * align_words;
    out.push_back({.begin = piece.begin - plan.column,
                   .count = count,
                   .word = word,
                   .words = words,
                   .shard = piece.shard});
    word += words;
  }
  return out;
}

bool FitsF16(float value) { return FloatFromF16(F16FromFloat(value)) == value; }

/// Writes codes and scales, a panel at a time.
class IntegerPacker final {
 public:
  IntegerPacker(const std::vector<PartRow>& rows, const IntegerPlan& plan,
                const PackedIntegers& shape, const KernelTable& kernels)
      : shape_(shape),
        kernels_(kernels),
        cols_(rows.front().part->cols),
        column_(plan.column),
        rows_(rows) {
    words_per_stored_ = shape.code_bits == 4 ? 2 : 1;
  }

  Index panel_count() const { return CeilDiv(std::ssize(rows_), kIntegerPanelOutputs); }

  Index panel_words() const { return shape_.words / words_per_stored_ * kIntegerPanelOutputs; }

  /// A worker's own: the words of a panel's rows, and the codes of one row, one a byte.
  struct Scratch {
    std::vector<std::uint32_t> words;
    std::vector<unsigned char> codes;
  };

  void PackCodes(Index panel, std::uint32_t* out, Scratch& scratch) const {
    const Index first = panel * kIntegerPanelOutputs;
    const Index count = std::min(kIntegerPanelOutputs, std::ssize(rows_) - first);
    const Index stored_words = shape_.words / words_per_stored_;
    scratch.words.resize(static_cast<std::size_t>(kIntegerPanelOutputs * stored_words));
    std::array<const unsigned char*, kIntegerPanelOutputs> at{};
    for (Index lane = 0; lane < count; ++lane) {
      std::uint32_t* words = scratch.words.data() + lane * stored_words;
      RowWords(rows_[static_cast<std::size_t>(first + lane)], words, scratch.codes);
      at[static_cast<std::size_t>(lane)] = reinterpret_cast<const unsigned char*>(words);
    }
    kernels_.pack_words({.rows = at.data(),
                         .row_count = count,
                         .words = stored_words,
                         .outputs = kIntegerPanelOutputs,
                         .out = out});
  }

  /// Scales, or offsets, of a panel from index panel * pieces * outputs on.
  template <class ValueAt>
  void PackScales(Index panel, void* out, ValueAt&& value_at) const {
    const Index pieces = shape_.grouped ? shape_.piece_count : 1;
    for (Index p = 0; p < pieces; ++p) {
      const Index column = std::min(column_ + shape_.pieces[p].begin, cols_ - 1);
      for (Index lane = 0; lane < kIntegerPanelOutputs; ++lane) {
        const Index row = panel * kIntegerPanelOutputs + lane;
        if (row >= std::ssize(rows_)) {
          break;
        }
        const PartRow& from = rows_[static_cast<std::size_t>(row)];
        const float value = value_at(*from.part, from.row, column);
        const Index at = (panel * pieces + p) * kIntegerPanelOutputs + lane;
        if (shape_.f16_scales) {
          static_cast<std::uint16_t*>(out)[at] = F16FromFloat(value);
        } else {
          static_cast<float*>(out)[at] = value;
        }
      }
    }
  }

 private:
  /// The row's codes as words, piece by piece, zeros after each.
  void RowWords(const PartRow& row, std::uint32_t* out, std::vector<unsigned char>& codes) const {
    const auto* bytes =
        static_cast<const unsigned char*>(row.part->data) + row.row * RowSizeBytes(*row.part);
    if (shape_.code_bits == 4) {
      codes.resize(static_cast<std::size_t>(cols_ + 1));
      for (Index i = 0; i < (cols_ + 1) / 2; ++i) {
        codes[static_cast<std::size_t>(2 * i)] = bytes[i] & 0xFU;
        codes[static_cast<std::size_t>(2 * i + 1)] = static_cast<unsigned char>(bytes[i] >> 4U);
      }
      bytes = codes.data();
    }
    std::array<std::uint32_t, kPieceBytesMax / kWordCodes + 2> piece_words;
    for (Index p = 0; p < shape_.piece_count; ++p) {
      const IntegerPieceView& piece = shape_.pieces[p];
      if (piece.words == 0) {
        continue;
      }
      piece_words[static_cast<std::size_t>(piece.words - 1)] = 0;
      piece_words[static_cast<std::size_t>(std::max<Index>(piece.words - 2, 0))] = 0;
      std::memcpy(piece_words.data(), bytes + column_ + piece.begin,
                  static_cast<std::size_t>(piece.count));
      if (shape_.code_bits == 8) {
        for (Index i = 0; i < piece.words; ++i) {
          *out++ = piece_words[static_cast<std::size_t>(i)] ^ kSigns;
        }
      } else {
        for (std::size_t i = 0; i < static_cast<std::size_t>(piece.words); i += 2) {
          *out++ = piece_words[i] | piece_words[i + 1] << 4U;
        }
      }
    }
  }

  const PackedIntegers& shape_;
  const KernelTable& kernels_;
  Index cols_;    // of the parts
  Index column_;  // where the packed K begins
  Index words_per_stored_ = 1;
  const std::vector<PartRow>& rows_;
};

/// Whether fp16 holds every scale and offset exactly, as GGUF's do.
bool AllFitF16(std::span<const WeightPart> parts, ThreadPool& pool) {
  std::atomic<bool> all = true;
  pool.Run([&](std::int32_t worker) {
    for (const WeightPart& part : parts) {
      const Index count = ScaleRows(part) * ScaleColumns(part);
      const Index end = count * (worker + 1) / pool.thread_count();
      for (Index i = count * worker / pool.thread_count(); i < end; ++i) {
        if (!FitsF16(part.scales[i]) || (part.offsets != nullptr && !FitsF16(part.offsets[i]))) {
          all.store(false, std::memory_order_relaxed);
          return;
        }
      }
    }
  });
  return all;
}

}  // namespace

Result<IntegerPanels> PackIntegerPanels(std::span<const WeightPart> parts,
                                        const std::vector<PartRow>& rows, const IntegerPlan& plan,
                                        const PackTools& tools) {
  ThreadPool& pool = tools.pool;
  const bool four_bits = plan.code == WeightCode::kUint4;
  IntegerPanels out;
  out.pieces = ViewsOf(plan, four_bits ? 2 : 1);
  PackedIntegers& view = out.view;
  view.pieces = out.pieces.data();
  view.piece_count = std::ssize(out.pieces);
  view.words = out.pieces.back().word + out.pieces.back().words;
  view.zero = plan.zero + (four_bits ? 0 : kInt8Zero);
  view.shard_count = plan.shard_count;
  view.code_bits = four_bits ? 4 : 8;
  view.grouped = plan.grouped;
  view.f16_scales = plan.grouped && AllFitF16(parts, pool);

  const IntegerPacker packer(rows, plan, view, tools.kernels);
  const Index panels = packer.panel_count();
  PX_TRY(out.panels, AllocateHostMemory(static_cast<std::size_t>(panels * packer.panel_words() *
                                                                 Index{sizeof(std::uint32_t)})));
  const Index scales_bytes = panels * (view.grouped ? view.piece_count : 1) * kIntegerPanelOutputs *
                             (view.f16_scales ? 2 : 4);
  PX_TRY(out.scales,
         AllocateHostMemory(static_cast<std::size_t>(scales_bytes * (plan.offsets ? 2 : 1))));
  auto* scales = static_cast<std::byte*>(out.scales.data());
  view.scales = scales;
  view.offsets = plan.offsets ? scales + scales_bytes : nullptr;
  pool.Run([&](std::int32_t worker) {
    IntegerPacker::Scratch scratch;
    for (Index panel = worker; panel < panels; panel += pool.thread_count()) {
      packer.PackCodes(
          panel, static_cast<std::uint32_t*>(out.panels.data()) + panel * packer.panel_words(),
          scratch);
      packer.PackScales(panel, scales, ScaleAt);
      if (plan.offsets) {
        packer.PackScales(panel, scales + scales_bytes, OffsetAt);
      }
    }
  });
  return out;
}

}  // namespace pixii::kernels
