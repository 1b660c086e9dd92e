// Linear in AMX: one instruction multiplies 16 rows by 16 outputs over 32 elements of K.
//
// Order: groups of 32 elements ascending; within a group even and odd elements apart, each
// ascending, then both are added to the accumulator (the instruction's definition). Shards are
// padded to 32 with zeros, so the groups never straddle one. A row of a tile does not see the other
// rows, so bits do not depend on the row count.
//
// Blocks of 32 rows by one panel of 32 outputs sum in four tiles. Input is packed once, in tiles:
// [row block][step of 32 elements][row][32]. A group of row blocks by a slab of K stays in L2 while
// panel after panel passes, the next one fetched meanwhile; a K block of a panel stays in L1 while
// the group's row blocks pass by it, loaded so that they do not displace it. What a block's sums
// still need (joins, bias, the way to rows of `out`) is done row by row between the steps of the
// next block. Outputs of many rows are written past the caches: waiting for lines that are only
// overwritten took longer than multiplying. Include after simd_gemm.h and simd_blocked.h. Anonymous
// for the reason in kernel_table.h. Source: Intel SDM volume 2, TDPBF16PS, LDTILECFG, TILELOADDT1.
#pragma once

namespace pixii::kernels {
namespace {  // NOLINT(google-build-namespaces)

inline constexpr Index kTileRows = 16;
inline constexpr Index kTileDepth = 32;  // bf16 elements of K in a tile
inline constexpr Index kTileRowBytes = 64;
inline constexpr Index kTileBlockRows = 2 * kTileRows;
inline constexpr Index kTileBlockFloats = kTileBlockRows * kPanelOutputs;
inline constexpr Index kTilePanelBytes = kTileDepth * kPanelOutputs * 2;  // of a step of a panel
inline constexpr Index kTileChunk = 8;           // panels whose partial sums are kept at a time
inline constexpr Index kTileBlockSteps = 20;     // of K whose weights stay in L1: 40 KiB
inline constexpr Index kTileWholeSteps = 80;     // of K summed for a panel before the next one
inline constexpr Index kTileSlabSteps = 40;      // the same where K is longer
inline constexpr Index kTileGroupKiB = 1300;     // packed input and partial sums of a slab, in L2
inline constexpr Index kTileGroupBlocksMin = 4;  // row blocks that share a reading of the weights
inline constexpr Index kTileAhead = 4;           // steps: weights fetched ahead for few rows

/// Memory form of LDTILECFG.
struct TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

static_assert(sizeof(TileConfig) == 64);

/// How rows and K of a linear are cut.
struct TilePlan {
  Index rows = 0;
  Index row_blocks = 0;
  Index steps = 0;  // of K
  Index shard_steps = 0;
  Index shard_blocks = 0;  // k blocks of a shard
  Index block_steps = 0;   // of a k block, the last one of a shard may have fewer
  Index k_blocks = 0;
  Index slab_blocks = 0;  // k blocks of a slab
  Index groups = 0;
  Index group_blocks = 0;  // row blocks of a group, the last one may have fewer

  TilePlan(const PackedWeight& weight, Index row_count)
      : rows(row_count), row_blocks((row_count + kTileBlockRows - 1) / kTileBlockRows) {
    shard_steps = weight.shard_padded / kTileDepth;
    steps = shard_steps * weight.shard_count;
    if (row_blocks == 1) {
      block_steps = shard_steps;
      k_blocks = slab_blocks = weight.shard_count;
      shard_blocks = groups = group_blocks = 1;
      return;
    }
    shard_blocks = (shard_steps + kTileBlockSteps - 1) / kTileBlockSteps;
    block_steps = (shard_steps + shard_blocks - 1) / shard_blocks;
    k_blocks = shard_blocks * weight.shard_count;
    slab_blocks = (steps <= kTileWholeSteps ? kTileWholeSteps : kTileSlabSteps) / block_steps;
    const Index slabs = (k_blocks + slab_blocks - 1) / slab_blocks;
    slab_blocks = (k_blocks + slabs - 1) / slabs;
    const Index block_bytes = slab_blocks * block_steps * kTileBlockRows * kTileRowBytes +
                              (slabs == 1 ? 1 : kTileChunk) * kTileBlockFloats * 4;
    const Index fit = kTileGroupKiB * 1024 / block_bytes;
    const Index most = fit > kTileGroupBlocksMin ? fit : kTileGroupBlocksMin;
    groups = (row_blocks + most - 1) / most;
    group_blocks = (row_blocks + groups - 1) / groups;
  }

  /// Rows in memory of a row block: those of a single one, else whole tiles.
  Index StoredRows(Index block) const {
    if (row_blocks == 1) {
      return rows;
    }
    const Index left = rows - block * kTileBlockRows;
    return left > kTileRows ? kTileBlockRows : kTileRows;
  }

  Index BlockRows(Index block) const {
    const Index left = rows - block * kTileBlockRows;
    return left < kTileBlockRows ? left : kTileBlockRows;
  }

  Index BlockSteps(Index k_block) const {
    const Index left = shard_steps - k_block % shard_blocks * block_steps;
    return left < block_steps ? left : block_steps;
  }

  Index FirstStep(Index k_block) const {
    return k_block / shard_blocks * shard_steps + k_block % shard_blocks * block_steps;
  }

  /// Bytes into the packed input.
  Index InputAt(Index row_block, Index step) const {
    return row_block * kTileBlockRows * steps * kTileRowBytes +
           step * StoredRows(row_block) * kTileRowBytes;
  }

  Index input_bytes() const { return InputAt(row_blocks - 1, steps); }

  /// Whether a panel's sums are done before the next one begins.
  bool one_slab() const { return slab_blocks >= k_blocks; }

  /// Panels whose partial sums are kept at a time.
  Index partial_panels() const { return one_slab() ? 1 : kTileChunk; }

  /// Of one of the four buffers of partial sums.
  Index partial_floats() const {
    return k_blocks == 1 ? 0 : kTileBlockFloats * group_blocks * partial_panels();
  }
};

/// 32 floats at most to bf16, zeros behind them.
inline void PackTileRow(const float* in, Index count, unsigned char* out) {
  const Vec low = count >= 16 ? Vec::Load(in) : Vec::LoadPart(in, count);
  const Vec high = count >= 32   ? Vec::Load(in + 16)
                   : count <= 16 ? Vec::Zero()
                                 : Vec::LoadPart(in + 16, count - 16);
  _mm512_store_si512(out, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high.v, low.v)));
}

inline void PackTileBlock(const LinearCall& call, const TilePlan& plan, Index block,
                          unsigned char* packed) {
  const PackedWeight& weight = *call.weight;
  const Index stored = plan.StoredRows(block);
  const Index rows = plan.BlockRows(block);
  for (Index r = 0; r < stored; ++r) {
    const float* in = call.in + (call.row_begin + block * kTileBlockRows + r) * call.in_stride;
    unsigned char* out = packed + plan.InputAt(block, 0) + r * kTileRowBytes;
    for (Index shard = 0; shard < weight.shard_count; ++shard) {
      const Index begin = shard * weight.shard_size;
      const Index end = begin + weight.shard_size < weight.in_features ? begin + weight.shard_size
                                                                       : weight.in_features;
      for (Index step = 0; step < plan.shard_steps; ++step, out += stored * kTileRowBytes) {
        const Index at = begin + step * kTileDepth;
        PackTileRow(in + at, r < rows ? end - at : 0, out);
      }
    }
  }
}

inline void PackTiles(const LinearCall& call) {
  const TilePlan plan(*call.weight, call.row_end - call.row_begin);
  for (Index block = call.block_begin; block < call.block_end; ++block) {
    PackTileBlock(call, plan, block, static_cast<unsigned char*>(call.packed_input));
  }
}

/// Sums of a block that are still to be joined and written, row by row.
struct TileTail {
  const float* sums = nullptr;  // [kTileBlockRows][kPanelOutputs]
  Tile tile;
  bool stream = false;  // past the caches: rows of `out` are read much later
  Index row = 0;
  Index rows = 0;

  void Run(Index count) {
    const Index end = row + count < rows ? row + count : rows;
    for (; row < end; ++row) {
      Vec acc[1][2] = {{Vec::Load(sums), Vec::Load(sums + 16)}};
      if (stream) {
        JoinTile(tile, acc);
        _mm512_stream_ps(tile.out, acc[0][0].v);
        _mm512_stream_ps(tile.out + 16, acc[0][1].v);
      } else {
        EndTile(tile, acc);
      }
      sums += kPanelOutputs;
      tile.out += tile.out_stride;
      for (const float*& join : tile.joins) {
        join = join != nullptr ? join + tile.join_stride : nullptr;
      }
    }
  }
};

/// What the steps of a block fetch meanwhile.
struct TileFetch {
  const unsigned char* weights = nullptr;  // of the next panel or slab, to L2
  Index weight_lines = 0;                  // a step
};

/// Linear of the rows and panels of one call.
class TileLoop {
 public:
  explicit TileLoop(const LinearCall& call)
      : call_(call), weight_(*call.weight), plan_(weight_, call.row_end - call.row_begin) {
    auto* scratch = static_cast<unsigned char*>(call.scratch);
    if (call.packed_input != nullptr) {
      input_ = static_cast<const unsigned char*>(call.packed_input);
    } else {
      PackTileBlock(call, plan_, 0, scratch);
      input_ = scratch;
      scratch += plan_.input_bytes();
    }
    sums_ = reinterpret_cast<float*>(scratch);
    for (Index i = 0; i < 4; ++i) {
      partials_[i] = sums_ + 2 * kTileBlockFloats + i * plan_.partial_floats();
    }
  }

  void Run() {
    TileConfig config;
    if (plan_.row_blocks == 1) {
      const Index upper = plan_.rows < kTileRows ? plan_.rows : kTileRows;
      const Index lower = plan_.rows - upper;
      config.rows[0] = config.rows[1] = config.rows[4] = static_cast<std::uint8_t>(upper);
      config.rows[2] = config.rows[3] = config.rows[5] =
          static_cast<std::uint8_t>(lower > 0 ? lower : 1);
    }
    _tile_loadconfig(&config);
    for (Index group = 0; group < plan_.groups; ++group) {
      group_first_ = group * plan_.group_blocks;
      const Index end = group_first_ + plan_.group_blocks;
      group_last_ = end < plan_.row_blocks ? end : plan_.row_blocks;
      RunGroup();
    }
    tail_.Run(kTileBlockRows);
    _mm_sfence();  // outputs are written past the caches
    _tile_release();
  }

 private:
  const unsigned char* WeightAt(Index panel, Index step) const {
    return static_cast<const unsigned char*>(weight_.panels) +
           (panel * plan_.steps + step) * kTilePanelBytes;
  }

  void RunGroup() {
    for (Index panel = call_.panel_begin; panel < call_.panel_end; panel += kTileChunk) {
      const Index left = call_.panel_end - panel;
      chunk_ = panel;
      chunk_panels_ = left < kTileChunk ? left : kTileChunk;
      for (Index block = 0; block < plan_.k_blocks; block += plan_.slab_blocks) {
        const Index end = block + plan_.slab_blocks;
        RunSlab(block, end < plan_.k_blocks ? end : plan_.k_blocks);
      }
    }
  }

  void RunSlab(Index first, Index last) {
    slab_first_ = first;
    slab_last_ = last;
    for (Index panel = 0; panel < chunk_panels_; ++panel) {
      for (Index k_block = first; k_block < last; ++k_block) {
        for (Index row_block = group_first_; row_block < group_last_; ++row_block) {
          RunBlock(row_block, panel, k_block);
        }
      }
    }
  }

  /// One K block of one row block by one panel.
  void RunBlock(Index row_block, Index panel, Index k_block) {
    const Index steps = plan_.BlockSteps(k_block);
    const Index step = plan_.FirstStep(k_block);
    const unsigned char* a = input_ + plan_.InputAt(row_block, step);
    const unsigned char* w = WeightAt(chunk_ + panel, step);
    const Index rows = plan_.BlockRows(row_block);
    const Index shard = k_block / plan_.shard_blocks;
    const bool ends = k_block % plan_.shard_blocks == plan_.shard_blocks - 1;
    Begin(k_block % plan_.shard_blocks == 0 ? nullptr : PartialAt(3, row_block, panel));
    if (plan_.row_blocks == 1) {
      if (rows > kTileRows) {
        RunFew<true>(a, w, steps);
      } else {
        RunFew<false>(a, w, steps);
      }
    } else {
      const TileFetch fetch = FetchOf(row_block, panel, k_block);
      if (rows > kTileRows) {
        RunSteps<true>(a, w, steps, fetch);
      } else {
        RunSteps<false>(a, w, steps, fetch);
      }
    }
    tail_.Run(kTileBlockRows);
    if (!ends || (shard % 2 == 0 && k_block != plan_.k_blocks - 1)) {
      StoreSums(rows, PartialAt(ends ? 0 : 3, row_block, panel));
      return;
    }
    float* sums = sums_ + turn_ * kTileBlockFloats;
    turn_ ^= 1;
    StoreSums(rows, sums);
    tail_.sums = sums;
    tail_.row = 0;
    tail_.rows = rows;
    SetTail(row_block, panel, k_block, shard);
  }

  float* PartialAt(Index buffer, Index row_block, Index panel) const {
    const Index panels = plan_.partial_panels();
    return partials_[buffer] +
           ((row_block - group_first_) * panels + panel % panels) * kTileBlockFloats;
  }

  static constexpr Index kSumStride = kPanelOutputs * 4;

  static void Begin(const float* init) {
    if (init == nullptr) {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
      return;
    }
    _tile_loadd(0, init, kSumStride);
    _tile_loadd(1, init + 16, kSumStride);
    _tile_loadd(2, init + kTileRows * kPanelOutputs, kSumStride);
    _tile_loadd(3, init + kTileRows * kPanelOutputs + 16, kSumStride);
  }

  static void StoreSums(Index rows, float* sums) {
    _tile_stored(0, sums, kSumStride);
    _tile_stored(1, sums + 16, kSumStride);
    if (rows > kTileRows) {
      _tile_stored(2, sums + kTileRows * kPanelOutputs, kSumStride);
      _tile_stored(3, sums + kTileRows * kPanelOutputs + 16, kSumStride);
    }
  }

  /// kBoth: the block has rows in both tiles. kPasses: the input passes by the weights in L1;
  /// without the hint it displaces them, and with both out of L2 a loop reached 0.7 of the peak,
  /// not 0.99.
  template <bool kBoth, bool kPasses>
  [[gnu::always_inline]] static void Step(const unsigned char* a, const unsigned char* w) {
    if constexpr (kPasses) {
      _tile_stream_loadd(4, a, kTileRowBytes);
    } else {
      _tile_loadd(4, a, kTileRowBytes);
    }
    _tile_loadd(6, w, 2 * kTileRowBytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, w + kTileRowBytes, 2 * kTileRowBytes);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (kBoth) {
      if constexpr (kPasses) {
        _tile_stream_loadd(5, a + kTileRows * kTileRowBytes, kTileRowBytes);
      } else {
        _tile_loadd(5, a + kTileRows * kTileRowBytes, kTileRowBytes);
      }
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }

  template <bool kBoth>
  void RunSteps(const unsigned char* a, const unsigned char* w, Index steps, TileFetch fetch) {
    const Index stride = (kBoth ? kTileBlockRows : kTileRows) * kTileRowBytes;
    const Index tail_rows = (kTileBlockRows + steps - 1) / steps;
    for (Index step = 0; step < steps; ++step, a += stride, w += kTilePanelBytes) {
      Step<kBoth, true>(a, w);
      for (Index i = 0; i < fetch.weight_lines; ++i, fetch.weights += 64) {
        PrefetchFar(fetch.weights);
      }
      tail_.Run(tail_rows);
    }
  }

  /// Of one row block: reading the weights is all that counts.
  template <bool kBoth>
  void RunFew(const unsigned char* a, const unsigned char* w, Index steps) {
    const Index stride = plan_.rows * kTileRowBytes;
    for (Index step = 0; step < steps; ++step, a += stride, w += kTilePanelBytes) {
      for (Index at = 0; at < kTilePanelBytes; at += 64) {
        Prefetch(w + kTileAhead * kTilePanelBytes + at);
      }
      Step<kBoth, false>(a, w);
      tail_.Run(2);
    }
  }

  /// Spreads the fetching of the weights that come next over the row blocks of a K block: the same
  /// block of the next panel, or of the first panel in the next slab.
  TileFetch FetchOf(Index row_block, Index panel, Index k_block) const {
    TileFetch out;
    Index next = k_block;
    Index next_panel = chunk_ + panel + 1;
    if (panel + 1 == chunk_panels_) {
      next = slab_last_ + k_block - slab_first_;
      if (slab_last_ == plan_.k_blocks) {
        next = k_block - slab_first_;
      } else if (next < plan_.k_blocks) {
        next_panel = chunk_;
      } else {
        return out;
      }
    }
    if (next_panel >= call_.panel_end) {
      return out;
    }
    const Index lines_a_step = kTilePanelBytes / 64;
    out.weight_lines = (lines_a_step + plan_.group_blocks - 1) / plan_.group_blocks;
    out.weights = WeightAt(next_panel, plan_.FirstStep(next)) +
                  (row_block - group_first_) * plan_.BlockSteps(k_block) * out.weight_lines * 64;
    return out;
  }

  /// Shards are joined ((0+1)+(2+3))+((4+5)+(6+7)) as they end: partial 0 holds an even shard, 1
  /// the sum of the first half so far, 2 shards 4 and 5, 3 the shard being summed.
  void SetTail(Index row_block, Index panel, Index k_block, Index shard) {
    const Index output = (chunk_ + panel) * kPanelOutputs;
    const bool last = k_block == plan_.k_blocks - 1;
    Tile& tile = tail_.tile;
    tile = Tile();
    tile.join_stride = kPanelOutputs;
    if (shard % 2 == 1) {
      tile.joins[0] = PartialAt(0, row_block, panel);
      tile.joins[1] = shard == 7 ? PartialAt(2, row_block, panel) : nullptr;
      tile.joins[2] = shard == 3 || shard == 7 ? PartialAt(1, row_block, panel) : nullptr;
    }
    if (!last) {
      tail_.stream = false;
      tile.out = PartialAt(shard == 5 ? 2 : 1, row_block, panel);
      tile.out_stride = kPanelOutputs;
      tile.outputs = kPanelOutputs;
      return;
    }
    tile.bias = weight_.bias != nullptr ? weight_.bias + output : nullptr;
    tile.out =
        call_.out + (call_.row_begin + row_block * kTileBlockRows) * call_.out_stride + output;
    tile.out_stride = call_.out_stride;
    tile.outputs = weight_.out_features - output;
    tail_.stream = plan_.row_blocks > 1 && tile.outputs >= kPanelOutputs &&
                   (reinterpret_cast<std::uintptr_t>(tile.out) | tile.out_stride * 4) % 64 == 0;
  }

  const LinearCall& call_;
  const PackedWeight& weight_;
  TilePlan plan_;
  const unsigned char* input_ = nullptr;
  float* sums_ = nullptr;  // two blocks: one being made, one being written
  float* partials_[4] = {};
  Index group_first_ = 0;  // row blocks
  Index group_last_ = 0;
  Index chunk_ = 0;  // first panel
  Index chunk_panels_ = 0;
  Index slab_first_ = 0;  // k blocks
  Index slab_last_ = 0;
  Index turn_ = 0;
  TileTail tail_;  // of the block before
};

inline bool UsesAmx(const PackedWeight& weight) { return weight.bf16 && weight.round_input; }

inline Index AmxInputBytes(const PackedWeight& weight, Index rows) {
  return UsesAmx(weight) ? TilePlan(weight, rows).input_bytes() : FmaInputBytes(weight, rows);
}

inline Index AmxScratchBytes(const PackedWeight& weight, Index rows) {
  if (!UsesAmx(weight)) {
    return LinearScratchBytes(weight, rows);
  }
  const TilePlan plan(weight, rows);
  return (rows < kBlockedRowsMin ? plan.input_bytes() : 0) +
         (2 * kTileBlockFloats + 4 * plan.partial_floats()) * 4;
}

inline Index AmxRowBlocks(const PackedWeight& weight, Index rows) {
  return UsesAmx(weight) ? TilePlan(weight, rows).row_blocks : BlockedRowBlocks(weight, rows);
}

inline void PackAmx(const LinearCall& call) {
  if (UsesAmx(*call.weight)) {
    PackTiles(call);
  } else {
    PackBlocks<FmaUnits>(call);
  }
}

inline void LinearAmx(const LinearCall& call) {
  if (UsesAmx(*call.weight)) {
    TileLoop(call).Run();
  } else {
    LinearFma(call);
  }
}

/// Of numbers as weights have them: zeros were multiplied a fifth faster where this was tried.
inline Index MultiplyAddsAmx(Index rounds, float* result) {
  const TileConfig config;
  alignas(64) float sums[16 * 16] = {};
  alignas(64) std::uint16_t numbers[kTileRows * kTileDepth];
  std::uint32_t state = 1;
  for (std::uint16_t& number : numbers) {
    state = state * 1664525U + 1013904223U;  // Numerical Recipes' generator
    number = static_cast<std::uint16_t>(0x3F00U | (state >> 25U) | (state >> 9U & 0x8000U));
  }
  _tile_loadconfig(&config);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, numbers, kTileRowBytes);
  _tile_loadd(5, numbers, kTileRowBytes);
  _tile_loadd(6, numbers, kTileRowBytes);
  _tile_loadd(7, numbers, kTileRowBytes);
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
