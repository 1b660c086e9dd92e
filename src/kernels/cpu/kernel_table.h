// The inner loops of one instruction set, as plain functions over plain pointers. cpu_operators.cc
// cuts the work and calls them; each isa_*.cc compiles the same loops with its own flags.
//
// Rule: isa_*.cc and what they include may use no header with inline functions of external linkage
// (so no standard library beyond <cstdint>): the linker keeps one copy of such a function, and it
// could be the one with instructions that the host lacks. Hence raw pointers here, and anonymous
// namespaces in the simd_*.h headers. Thread: every function works on the range it is given and its
// own scratch; any number may run at once. Layout: matrices row-major, strides in elements.
#pragma once

#include <cstdint>

namespace pixii::kernels {

using Index = std::int64_t;

inline constexpr Index kPanelOutputs = 32;  // output features side by side in a packed weight
inline constexpr Index kIntegerPanelOutputs = 32;         // the same of integer codes
inline constexpr Index kPieceBytesMax = 128;              // elements of K in a piece, one byte each
inline constexpr float kPieceMagnitudeLeast = 0x1p-100F;  // pieces below count as zeros

enum class Element : std::uint8_t { kF32, kBf16, kF16, kFp8E4m3, kInt8 };  // as KvDType

/// Elements [begin, begin + count) of K, whose integer products are summed before they are scaled.
struct IntegerPieceView {
  Index begin = 0;
  Index count = 0;  // 0 .. kPieceBytesMax
  Index word = 0;   // of four elements: where the piece begins in the packed K
  Index words = 0;  // zeros after the last element; an even number of four-bit codes
  std::int32_t shard = 0;
};

/// A weight of unsigned integer codes in panels of kIntegerPanelOutputs outputs: [panel][word of
/// K][output][4 codes], or, of four-bit codes, two words of K in one of memory, the first in the
/// low halves of the bytes.
struct PackedIntegers {
  const IntegerPieceView* pieces = nullptr;
  Index piece_count = 0;
  Index words = 0;  // of K, of all pieces
  /// fp32 or fp16: of each piece [panel][piece][output] if `grouped`, else [panel][output].
  const void* scales = nullptr;
  const void* offsets = nullptr;  // as scales, or null
  std::int32_t zero = 0;          // taken from each code
  std::int32_t shard_count = 1;
  std::uint8_t code_bits = 0;  // 8 or 4; 0: the weight holds values
  bool grouped = false;
  bool f16_scales = false;
};

/// A weight cut into panels of 32 outputs: [panel][k_padded][32] in fp32 or [panel][k_padded /
/// 2][32][2] in bf16, zeros where there is no weight. K is laid out shard after shard, each padded
/// to `shard_padded` elements.
struct PackedWeight {
  const void* panels = nullptr;
  const float* bias = nullptr;  // [panels * 32] or null
  Index in_features = 0;
  Index out_features = 0;
  Index k_padded = 0;            // shard_count * shard_padded
  Index shard_size = 0;          // elements of K in a shard, the last ones may have fewer
  Index shard_padded = 0;        // even
  std::int32_t shard_count = 1;  // 1 or 8
  bool bf16 = false;
  bool round_input = false;
  PackedIntegers integers;  // if its code_bits are set, of the above only panels, bias,
                            // in_features and out_features count
};

/// Output features of a panel.
inline constexpr Index PanelOutputsOf(const PackedWeight& weight) {
  return weight.integers.code_bits != 0 ? kIntegerPanelOutputs : kPanelOutputs;
}

struct LinearCall {
  const float* in = nullptr;
  Index in_stride = 0;
  float* out = nullptr;
  Index out_stride = 0;
  Index row_begin = 0;
  Index row_end = 0;
  Index panel_begin = 0;
  Index panel_end = 0;
  const PackedWeight* weight = nullptr;
  void* packed_input = nullptr;  // linear_input_bytes(), or null where rows are fewer than
                                 // kBlockedRowsMin
  Index block_begin = 0;         // row blocks to pack
  Index block_end = 0;
  void* scratch = nullptr;      // linear_scratch_bytes(), 64-byte aligned
  bool scratch_packed = false;  // an earlier call of this worker left the packed rows there
};

/// A convolution over rows of pixels that hold what surrounds them, too. Output pixel p, counted
/// row by row, sees segment_units elements from each of `segments` on, which are offsets from
/// in + p / width * row_stride + p % width * pixel_stride.
struct ConvolveCall {
  const PackedWeight* weight = nullptr;  // of fp32, one shard: SeesPixels
  const float* in = nullptr;
  Index row_stride = 0;  // from one output row's pixels to the next one's
  Index pixel_stride = 0;
  const Index* segments = nullptr;  // [segment_count], in order of K
  Index segment_count = 0;
  Index segment_units = 0;
  Index width = 0;  // output pixels of a row
  float* out = nullptr;
  Index out_stride = 0;
  Index pixel_begin = 0;
  Index pixel_end = 0;
  void* scratch = nullptr;  // kPanelOutputs floats a pixel, 64-byte aligned
};

/// Whether `convolve` takes the weight.
inline constexpr bool SeesPixels(const PackedWeight& weight) {
  return weight.integers.code_bits == 0 && !weight.bf16 && !weight.round_input &&
         weight.shard_count == 1;
}

/// Linears of fewer rows are read straight from their input: reading the weights is all that
/// counts.
inline constexpr Index kBlockedRowsMin = 5;

/// Rows of 32-bit words (fp32, or pairs of bf16) to one panel, or a part of its K: [words][32],
/// zeros right of the last row.
struct PackWordsCall {
  const unsigned char* const* rows = nullptr;  // [row_count], aligned or not
  Index row_count = 0;                         // 1 .. 32
  Index words = 0;
  Index outputs = kPanelOutputs;  // of a panel; or fewer: the next ones lie behind `out`
  void* out = nullptr;
};

/// rows x segments pieces of `cols` elements each, side by side in a row; weight [cols] is common
/// to them.
struct NormCall {
  float* in = nullptr;  // written only with delta: in += delta comes first
  Index in_stride = 0;
  const float* delta = nullptr;  // or null
  Index delta_stride = 0;
  float* out = nullptr;
  Index out_stride = 0;
  const float* weight = nullptr;
  const float* bias = nullptr;  // of a layer norm
  Index run_rows = 0;           // of a layer norm: so many rows share weight and bias [cols], the
                                // next ones have the next cols of them
  float weight_offset = 0.0F;
  float epsilon = 0.0F;
  Index cols = 0;
  Index segments = 1;
  Index row_begin = 0;
  Index row_end = 0;
};

/// x *= factors.
struct ScaleCall {
  float* x = nullptr;
  Index stride = 0;
  const float* factors = nullptr;  // [cols], of run_rows rows; the next ones have the next ones
  Index run_rows = 0;
  Index cols = 0;
  Index row_begin = 0;
  Index row_end = 0;
};

struct RotaryCall {
  float* x = nullptr;
  Index stride = 0;
  Index heads = 0;
  Index head_dim = 0;
  const std::int32_t* positions = nullptr;
  const float* cos = nullptr;  // [position][half]
  const float* sin = nullptr;
  Index half = 0;
  bool interleaved = false;
  Index row_begin = 0;
  Index row_end = 0;
};

struct AddCall {
  float* residual = nullptr;
  Index residual_stride = 0;
  const float* delta = nullptr;
  Index delta_stride = 0;
  Index cols = 0;
  Index row_begin = 0;
  Index row_end = 0;
};

struct ActivationCall {
  const float* gate_up = nullptr;  // [rows, 2 * cols]
  Index gate_up_stride = 0;
  float* out = nullptr;
  Index out_stride = 0;
  Index cols = 0;
  std::uint8_t activation = 0;  // kernels::Activation
  Index row_begin = 0;
  Index row_end = 0;
};

/// x = act(x).
struct ActivateCall {
  float* x = nullptr;
  Index stride = 0;
  Index cols = 0;
  std::uint8_t activation = 0;  // kernels::Activation
  Index row_begin = 0;
  Index row_end = 0;
};

struct EmbedCall {
  const void* table = nullptr;  // [vocab, cols], row-major
  Element element = Element::kF32;
  const std::int32_t* ids = nullptr;
  float scale = 1.0F;
  float* out = nullptr;
  Index out_stride = 0;
  Index cols = 0;
  Index row_begin = 0;
  Index row_end = 0;
};

/// Where one layer's K or V lies in a block of the paged cache.
struct KvSlices {
  Index offset_bytes = 0;         // of the first head
  Index slice_size_bytes = 0;     // from one head to the next
  Index scales_offset_bytes = 0;  // within a slice, of the tokens' fp32 scales
  Index dim = 0;                  // elements of a token that are used
  Index row_elements = 0;         // from one token to the next
};

struct KvView {
  unsigned char* blocks = nullptr;
  Index block_size_bytes = 0;
  KvSlices k;
  KvSlices v;                 // lies in K's slices where V is a part of K
  bool value_in_key = false;  // then V is not stored
  Index block_tokens = 0;
  Index kv_heads = 0;
  Element element = Element::kF32;
};

struct StoreKvCall {
  KvView kv;
  const float* k = nullptr;
  Index k_stride = 0;
  const float* v = nullptr;
  Index v_stride = 0;
  const std::int32_t* slots = nullptr;
  Index row_begin = 0;
  Index row_end = 0;
};

// Order of attention's sums, the same for every caller: positions in tiles of 64, tiles in spans of
// 512, both at absolute positions. A span is reduced tile by tile (online softmax); spans are
// joined in ascending order.
inline constexpr Index kTileTokens = 64;
inline constexpr Index kSpanTokens = 512;

// Outputs and states of a row are padded to whole panels of this many elements.
inline constexpr Index kAttentionPanel = 32;

/// Query rows of one kv head: `tokens` consecutive positions times the `group` heads that share it.
struct AttentionCall {
  KvView kv;
  const std::int32_t* block_table = nullptr;  // of this sequence
  const float* q = nullptr;                   // row of the first token, first head of the group
  Index q_stride = 0;
  float* out = nullptr;
  Index out_stride = 0;
  Index kv_head = 0;
  Index group = 0;
  Index tokens = 0;
  Index position_first = 0;  // absolute position of the first token
  float scale = 1.0F;
  Index window = 0;              // tokens, 0 = all
  Index sight_end = 0;           // bidirectional: positions of the sequence; 0 = causal
  Index mutual_begin = 0;        // mutual rows: their first position, and one past their last,
  Index mutual_end = 0;          // which all tokens see; 0 = none
  float soft_cap = 0;            // 0 = none
  const float* sinks = nullptr;  // [group] or null
  /// [group], bias_stride apart: what is added to the score of the first token at position 0 and,
  /// one behind the other, at those after it; of the next token one element before. Or null.
  const float* bias = nullptr;
  Index bias_stride = 0;
  Index span_begin = 0;  // spans to reduce
  Index span_end = 0;
  float* partials =
      nullptr;  // null: join and write `out`; else [span][row][padded value dim + 16] to join later
  void* scratch = nullptr;  // attention_scratch_bytes(kv, rows), 64-byte aligned
};

inline constexpr int kLoraRanks = 4;      // ranks whose sums run side by side
inline constexpr int kLoraColumns = 128;  // outputs that run side by side

/// A low-rank pair, packed so that both halves are read from front to back. down: ranks in blocks
/// of kLoraRanks, the last ones single; in a block 16 inputs of each rank in turn. up: outputs in
/// blocks of kLoraColumns, the last ones of 16; in a block the outputs of each rank in turn. Inputs
/// and outputs are padded to multiples of 16 with zeros.
struct LoraView {
  const void* down = nullptr;
  const void* up = nullptr;
  Element element = Element::kF32;
  Index rank = 0;
  Index in_features = 0;
  Index out_features = 0;
  float scale = 1.0F;
};

struct LoraCall {
  const float* in = nullptr;
  Index in_stride = 0;
  const LoraView* const* rows = nullptr;  // pair of each row, or null
  float* mid = nullptr;                   // [rows, mid_stride]
  Index mid_stride = 0;                   // at least the largest rank
  float* out = nullptr;
  Index out_stride = 0;
  Index row_begin = 0;
  Index row_end = 0;
};

/// A linear of one kind of weight. All functions are set.
struct LinearKernels {
  Index (*scratch_bytes)(const PackedWeight& weight, Index rows) = nullptr;
  /// Of at least kBlockedRowsMin rows, which all workers pack together first: bytes of the packed
  /// input, 0 if `run` needs none; into how many row blocks it is cut; and the packing.
  Index (*input_bytes)(const PackedWeight& weight, Index rows) = nullptr;
  Index (*row_blocks)(const PackedWeight& weight, Index rows) = nullptr;
  void (*pack)(const LinearCall& call) = nullptr;
  void (*run)(const LinearCall& call) = nullptr;
  /// `rounds` of the multiply-adds that `run` does, in registers only; returns how many.
  Index (*multiply_adds)(Index rounds, float* result) = nullptr;
};

/// What one instruction set offers. All functions are set.
struct KernelTable {
  Index k_align =
      2;  // shards of a bf16 weight that is multiplied as bf16 are padded to this many elements
  void (*pack_words)(const PackWordsCall& call) = nullptr;
  /// fp32 to bf16, round to nearest even.
  void (*round_row)(const float* in, Index count, std::uint16_t* out) = nullptr;
  LinearKernels linear;    // of values
  LinearKernels integers;  // of codes, see PackedIntegers
  void (*rms_norm)(const NormCall& call) = nullptr;
  void (*layer_norm)(const NormCall& call) = nullptr;  // delta is set, segments is 1
  void (*scale_columns)(const ScaleCall& call) = nullptr;
  void (*rotary)(const RotaryCall& call) = nullptr;
  void (*add)(const AddCall& call) = nullptr;
  void (*activation_mul)(const ActivationCall& call) = nullptr;
  void (*activate)(const ActivateCall& call) = nullptr;
  void (*embed)(const EmbedCall& call) = nullptr;
  void (*store_kv)(const StoreKvCall& call) = nullptr;
  void (*lora)(const LoraCall& call) = nullptr;
  void (*convolve)(const ConvolveCall& call) = nullptr;
  Index (*attention_scratch_bytes)(const KvView& kv, Index rows) = nullptr;
  void (*attention)(const AttentionCall& call) = nullptr;
  /// Whether `attention` multiplies in bf16, not in fp32.
  bool (*attention_rounds)(const AttentionCall& call) = nullptr;
  /// Joins the partials of all spans of `call` and writes its out.
  void (*attention_join)(const AttentionCall& call) = nullptr;
  float (*read_stream)(const void* data, Index size_bytes) = nullptr;
  Index (*multiply_adds_f32)(Index rounds, float* result) = nullptr;
};

const KernelTable& Avx2Kernels();
const KernelTable& Avx512Kernels();
const KernelTable& Avx512VnniKernels();
const KernelTable& Avx512Bf16Kernels();
const KernelTable& AmxKernels();
const KernelTable& NeonKernels();
const KernelTable& NeonI8mmKernels();

}  // namespace pixii::kernels
