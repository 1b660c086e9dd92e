// Convolution in fp32 straight from rows of pixels: a register block takes kBlockRows pixels beside
// each other by kBlockVecs * 16 outputs, so no input is packed, and none is copied for each kernel
// pixel that sees it.
//
// What a kernel row sees of a pixel row lies in one piece, a segment. A slab of a panel's weights
// stays in L1 while all pixels pass by it, their sums so far waiting in scratch. Order of sums as
// in simd_gemm.h: ascending in one accumulator, then the bias. Include after simd_blocked.h.
// Anonymous for the reason in kernel_table.h.
#pragma once

namespace pixii::kernels {
namespace {  // NOLINT(google-build-namespaces)

inline constexpr Index kConvolutionSlab = 320;  // units of K whose weights stay in L1: 40 KiB

/// Some segments, or a part of one, and their weights.
struct ConvolutionSlab {
  const Index* segments = nullptr;
  Index segment_count = 0;
  Index unit_begin = 0;  // of each segment
  Index units = 0;       // of each segment
  const float* weights = nullptr;
};

/// R pixels from `at` on by C * 16 outputs from `column` on.
template <int R, int C>
void ConvolvePixels(const ConvolutionSlab& slab, Index step, const float* at, Index column,
                    const Tile& tile) {
  constexpr int kBases = (R + 2) / 3;  // three pixels from one register
  Vec acc[R][C];
  BeginTile(tile, acc);
  const float* w = slab.weights + column;
  for (Index segment = 0; segment < slab.segment_count; ++segment) {
    const float* base[kBases];
#pragma clang loop unroll(full)
    for (int i = 0; i < kBases; ++i) {
      base[i] = at + slab.segments[segment] + slab.unit_begin + 3 * i * step;
    }
#pragma clang loop unroll_count(4)
    for (Index unit = 0; unit < slab.units; ++unit, w += kPanelOutputs) {
      Vec weight[C];
#pragma clang loop unroll(full)
      for (int c = 0; c < C; ++c) {
        weight[c] = Vec::Load(w + c * 16);
      }
#pragma clang loop unroll(full)
      for (int r = 0; r < R; ++r) {
        const float* x = base[r / 3] + r % 3 * step;
        const Vec pixel = Vec::Set(*x);
#pragma clang loop unroll(full)
        for (int c = 0; c < C; ++c) {
          acc[r][c] = Fma(pixel, weight[c], acc[r][c]);
        }
      }
#pragma clang loop unroll(full)
      for (int i = 0; i < kBases; ++i) {
        ++base[i];
      }
    }
  }
  EndTile(tile, acc);
}

template <int R, int C>
void ConvolvePixelsOf(Index pixels, const ConvolutionSlab& slab, Index step, const float* at,
                      Index column, const Tile& tile) {
  if constexpr (R > 1) {
    if (pixels < R) {
      ConvolvePixelsOf<R - 1, C>(pixels, slab, step, at, column, tile);
      return;
    }
  }
  ConvolvePixels<R, C>(slab, step, at, column, tile);
}

/// All pixels and outputs of one call.
class ConvolutionLoop {
 public:
  explicit ConvolutionLoop(const ConvolveCall& call)
      : call_(call), weight_(*call.weight), sums_(static_cast<float*>(call.scratch)) {}

  void Run() {
    const Index panels = (weight_.out_features + kPanelOutputs - 1) / kPanelOutputs;
    const Index together =
        call_.segment_units < kConvolutionSlab ? kConvolutionSlab / call_.segment_units : 1;
    const Index parts = (call_.segment_units + kConvolutionSlab - 1) / kConvolutionSlab;
    for (panel_ = 0; panel_ < panels; ++panel_) {
      ConvolutionSlab slab;
      slab.weights =
          static_cast<const float*>(weight_.panels) + panel_ * weight_.k_padded * kPanelOutputs;
      for (Index segment = 0; segment < call_.segment_count; segment += together) {
        const Index left = call_.segment_count - segment;
        slab.segments = call_.segments + segment;
        slab.segment_count = left < together ? left : together;
        for (Index part = 0; part < parts; ++part) {
          slab.unit_begin = call_.segment_units * part / parts;
          slab.units = call_.segment_units * (part + 1) / parts - slab.unit_begin;
          RunSlab(slab, segment == 0 && part == 0, left <= together && part == parts - 1);
          slab.weights += slab.segment_count * slab.units * kPanelOutputs;
        }
      }
    }
  }

 private:
  void RunSlab(const ConvolutionSlab& slab, bool begins, bool ends) {
    for (Index begin = call_.pixel_begin; begin < call_.pixel_end;) {
      const Index row = begin / call_.width;
      const Index row_end = (row + 1) * call_.width;
      const Index end = row_end < call_.pixel_end ? row_end : call_.pixel_end;
      const Index blocks = (end - begin + kBlockRows - 1) / kBlockRows;
      for (Index block = 0; block < blocks; ++block) {
        const Index first = begin + (end - begin) * block / blocks;
        const Index pixels = begin + (end - begin) * (block + 1) / blocks - first;
        const float* at =
            call_.in + row * call_.row_stride + (first - row * call_.width) * call_.pixel_stride;
        for (Index column = 0; column < kPanelOutputs; column += kBlockVecs * 16) {
          const Index left = weight_.out_features - panel_ * kPanelOutputs - column;
          if (left <= 0) {
            break;
          }
          const Tile tile = MakeTile(first, column, begins, ends);
          if (left <= 16) {
            ConvolvePixelsOf<kBlockRows, 1>(pixels, slab, call_.pixel_stride, at, column, tile);
          } else {
            ConvolvePixelsOf<kBlockRows, kBlockVecs>(pixels, slab, call_.pixel_stride, at, column,
                                                     tile);
          }
        }
      }
      begin = end;
    }
  }

  Tile MakeTile(Index pixel, Index column, bool begins, bool ends) const {
    float* sums = sums_ + (pixel - call_.pixel_begin) * kPanelOutputs + column;
    const Index output = panel_ * kPanelOutputs + column;
    Tile tile;
    tile.init = begins ? nullptr : sums;
    tile.init_stride = kPanelOutputs;
    tile.out = sums;
    tile.out_stride = kPanelOutputs;
    tile.outputs = kPanelOutputs;
    if (ends) {
      tile.bias = weight_.bias != nullptr ? weight_.bias + output : nullptr;
      tile.out = call_.out + pixel * call_.out_stride + output;
      tile.out_stride = call_.out_stride;
      tile.outputs = weight_.out_features - output;
    }
    return tile;
  }

  const ConvolveCall& call_;
  const PackedWeight& weight_;
  float* sums_;  // [pixel][kPanelOutputs]
  Index panel_ = 0;
};

inline void Convolve(const ConvolveCall& call) { ConvolutionLoop(call).Run(); }

}  // namespace
}  // namespace pixii::kernels
