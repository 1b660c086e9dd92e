// Linear in AMX: one instruction multiplies 16 rows by 16 outputs over 32 elements of K.
//
// Order: groups of 32 elements ascending; within a group even and odd elements apart, each
// ascending, then both are added to the accumulator (the instruction's definition). Shards are
// padded to 32 with zeros, so the groups never straddle one. A row of a tile does not see the other
// rows, so bits do not depend on the row count. Include after simd_avx512.h and simd_gemm.h.
// Anonymous for the reason in kernel_table.h. Source: Intel SDM volume 2, TDPBF16PS, LDTILECFG.
#pragma once

namespace pixii::kernels {
namespace {  // NOLINT(google-build-namespaces)

inline constexpr Index kTileRows = 16;
inline constexpr Index kTileDepth = 32;  // bf16 elements of K in a tile

/// Memory form of LDTILECFG.
struct TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

static_assert(sizeof(TileConfig) == 64);

struct AmxMath {
  using Input = std::uint16_t;
  static constexpr int kRows = 2 * kTileRows;

  /// Tiles 0 to 3 sum 32 rows by 32 outputs; 4 and 5 hold input rows, 6 and 7 weights. Rows past
  /// `rows` are whatever lies behind the packed input, in the scratch still; what comes of them is
  /// dropped.
  static void RunRows(Index rows, const Input* a, const void* panel, Index k_begin, Index k_count,
                      const Tile& tile) {
    alignas(64) float sums[kRows][kPanelOutputs];
    constexpr Index kSumStride = kPanelOutputs * 4;
    constexpr Index kInputStrideBytes = kInputStride * 2;
    constexpr Index kWeightStride = kPanelOutputs * 4;  // a pair of K for each output
    const bool both = rows > kTileRows;
    if (tile.init == nullptr) {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
    } else {
      for (Index r = 0; r < rows; ++r) {
        for (Index c = 0; c < kPanelOutputs; c += 16) {
          Vec::LoadPart(tile.init + r * tile.init_stride + c, tile.outputs - c).Store(&sums[r][c]);
        }
      }
      _tile_loadd(0, &sums[0][0], kSumStride);
      _tile_loadd(1, &sums[0][16], kSumStride);
      _tile_loadd(2, &sums[16][0], kSumStride);
      _tile_loadd(3, &sums[16][16], kSumStride);
    }
    const std::uint16_t* w = static_cast<const std::uint16_t*>(panel) + k_begin * kPanelOutputs;
    for (Index k = 0; k < k_count; k += kTileDepth, w += kTileDepth * kPanelOutputs) {
      _tile_loadd(4, a + k, kInputStrideBytes);
      _tile_loadd(6, w, kWeightStride);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(7, w + 32, kWeightStride);
      _tile_dpbf16ps(1, 4, 7);
      if (both) {
        _tile_loadd(5, a + k + kTileRows * kInputStride, kInputStrideBytes);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
      }
    }
    _tile_stored(0, &sums[0][0], kSumStride);
    _tile_stored(1, &sums[0][16], kSumStride);
    if (both) {
      _tile_stored(2, &sums[16][0], kSumStride);
      _tile_stored(3, &sums[16][16], kSumStride);
    }
    for (Index r = 0; r < rows; ++r) {
      Tile row = tile;
      row.out = tile.out + r * tile.out_stride;
      for (const float*& join : row.joins) {
        join = join != nullptr ? join + r * tile.join_stride : nullptr;
      }
      Vec acc[1][2] = {{Vec::Load(&sums[r][0]), Vec::Load(&sums[r][16])}};
      EndTile(row, acc);
    }
  }

  static void Pack(const float* in, Index count, bool /*round*/, Input* out, Index padded) {
    for (Index i = 0; i < padded; i += 16) {
      Vec::LoadPart(in + i, count - i).StoreBf16(out + i, padded - i);
    }
  }
};

inline bool UsesAmx(const PackedWeight& weight) { return weight.bf16 && weight.round_input; }

/// Tiles read rows as they are: each worker packs its own.
inline Index AmxInputBytes(const PackedWeight& weight, Index rows) {
  return UsesAmx(weight) ? 0 : BlockedInputBytes(weight, rows);
}

inline Index AmxScratchBytes(const PackedWeight& weight, Index rows) {
  return UsesAmx(weight) ? FewRowsScratchBytes(weight, rows) : LinearScratchBytes(weight, rows);
}

inline void LinearAmx(const LinearCall& call) {
  if (!UsesAmx(*call.weight)) {
    LinearFma(call);
    return;
  }
  const TileConfig config;
  _tile_loadconfig(&config);
  LinearLoop<AmxMath>(call).Run();
  _tile_release();
}

inline Index MultiplyAddsAmx(Index rounds, float* result) {
  const TileConfig config;
  alignas(64) float sums[16 * 16] = {};
  _tile_loadconfig(&config);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  for (Index i = 0; i < rounds; ++i) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, sums, 64);
  _tile_release();
  *result = sums[0];
  return rounds * 4 * 16 * 16 * 32;
}

}  // namespace
}  // namespace pixii::kernels
