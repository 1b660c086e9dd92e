// What a vision tower with its projector is, as values: a family turns config.json into this, the
// tower runs it.
//
// The shape of all of them: patches -> linear -> (+ positions) -> pre-norm blocks of attention in
// both directions over one frame or window -> projector to rows as wide as the text's embeddings.
// What differs is said here, and names of tensors; nothing of a family is known further on.
//
// Thread: values. Adding a family: docs/multimodal.md.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/operators.h"
#include "media/image.h"
#include "model/sequence_media.h"
#include "model/weights.h"

namespace pixii::model {

inline constexpr std::int64_t kPatchSizeMax = 256;      // pixels
inline constexpr std::int64_t kImageSideMax = 1 << 16;  // pixels

/// Ids that stand for media in a prompt; -1: the model has none.
struct MediaTokens {
  std::int32_t image = -1;
  std::int32_t video = -1;
  std::int32_t vision_start = -1;
  std::int32_t vision_end = -1;
};

/// Patches of one item: frames * rows * cols of them. A frame of a tower with a fixed side is one
/// tile of the picture.
struct PatchGrid {
  std::int32_t frames = 1;
  std::int32_t rows = 0;
  std::int32_t cols = 0;

  std::int64_t patches() const { return std::int64_t{frames} * rows * cols; }

  friend bool operator==(const PatchGrid&, const PatchGrid&) = default;
};

/// How a token is made of the patches that become one.
enum class ProjectorKind : std::uint8_t {
  kTwoLinears,  // side by side; a norm if it has a name; two linears with an activation between
  kMeans,       // their mean; RMS norm with weights around 0; times `out`, stored [in, out]
};

/// Tensors of a projector; of kMeans no `in`, and `norm` and `out` are whole names.
struct ProjectorNames {
  std::string norm;
  std::string in;
  std::string out;
};

struct VisionNames {
  /// What may stand before the tower's names and the projector's; the first that fits the
  /// checkpoint is put before them (ResolveVisionNames).
  std::vector<std::string> tower_prefixes;
  std::vector<std::string> projector_prefixes;  // empty: the projector is under the tower's

  std::string patch;           // without ".weight", as all linears and norms
  std::string class_token;     // a whole name; empty: none
  std::string positions;       // empty: none
  std::string entry_norm;      // empty: none
  std::string exit_norm;       // of the last block's states; empty: none
  std::string attention_norm;  // "{}" stands for the block's index
  std::vector<std::string> qkv;
  std::string attention_out;
  std::string feed_forward_norm;
  std::vector<std::string> up;  // gate and up where gated
  std::string down;
  ProjectorNames projector;  // without names: features are the tower's own rows
  ProjectorNames deepstack;  // "{}" stands for the level
  std::string newline;       // [out_size], a whole name with the projector's prefix; empty: none
  /// Tensors that change nothing, tower's names; one that ends in "." stands for all below.
  std::vector<std::string> harmless;
};

/// A picture of any shape in tiles of the tower's side (LLaVA-NeXT and OneVision): the whole
/// squeezed first, then the tiles, row by row.
struct TileSpec {
  std::vector<media::ImageSize> pinpoints;  // of all tiles together; empty: one tile a picture
  /// Features of larger pictures are scaled down to about so many tiles; 0: they are not.
  std::int32_t tiles_max = 0;
};

struct VisionSpec {
  std::string architecture;  // of the whole model: "Qwen2VLForConditionalGeneration"
  MediaTokens tokens;
  std::int32_t positions_per_second = 0;  // of a video's time; 0: one a row of frames
  /// Each row of a video's frames is an item of its own, with its time written before it.
  bool timed_frames = false;
  bool three_positions = false;  // the text turns by time, height and width (MakeRopePositions)
  bool mutual_rows = false;      // the text's attention goes both ways among a picture's tokens
  /// Chat templates write vision_start alone for a picture, which stands for two newlines,
  /// vision_start, the picture's tokens, vision_end and two newlines.
  bool framed = false;

  // The picture.
  std::int32_t patch_size = 0;      // pixels of a side
  std::int32_t frames_per_row = 1;  // temporal patch: so many frames are one row of patches
  std::int32_t merge_size = 1;      // patches of a side that become one token
  std::int32_t image_size = 0;      // the side every picture has; 0: any multiple of the merge
  TileSpec tiles;

  // The tower.
  std::int32_t hidden_size = 0;
  std::int32_t intermediate_size = 0;
  std::int32_t layer_count = 0;  // in the checkpoint
  std::int32_t head_count = 0;
  float norm_epsilon = 1e-6F;
  bool rms_norm = false;  // else layer norm with a bias
  bool gated = false;     // feed-forward: act(gate) * up
  bool patch_bias = false;
  kernels::Activation activation = kernels::Activation::kGelu;
  std::int32_t position_count = 0;      // rows of the table of positions
  bool interpolated_positions = false;  // the table is a square that is stretched over the picture
  bool rotary = false;                  // queries and keys turn by row and column
  double rotary_theta = 10000.0;
  std::int32_t window_size = 0;   // pixels of a side; 0: attention spans the frame
  std::vector<bool> full_layers;  // [layer_count] of a tower with windows
  /// States after so many blocks, side by side, are what the projector reads; ascending.
  std::vector<std::int32_t> feature_layers;
  bool drop_first = false;  // the projector does not read a frame's first row

  // The projector.
  ProjectorKind projector = ProjectorKind::kTwoLinears;
  std::int32_t projector_size = 0;  // between its two linears
  std::int32_t out_size = 0;        // the text's hidden size
  kernels::Activation projector_activation = kernels::Activation::kGelu;
  bool projector_bias = true;
  std::vector<std::int32_t> deepstack_layers;  // blocks whose states go to the text's first layers

  VisionNames names;

  bool shows_videos() const {
    return tokens.video >= 0 && frames_per_row > 1 && image_size == 0 &&
           (!timed_frames || (tokens.vision_start >= 0 && tokens.vision_end >= 0));
  }

  std::int32_t head_dim() const { return hidden_size / head_count; }

  bool has_class_token() const { return !names.class_token.empty(); }

  /// Values of a patch: [channel][frame][row][column].
  std::int32_t patch_values() const { return 3 * frames_per_row * patch_size * patch_size; }

  /// Blocks that are run.
  std::int32_t depth() const { return feature_layers.back(); }

  /// Values the projector reads a row.
  std::int32_t feature_size() const {
    return hidden_size * static_cast<std::int32_t>(feature_layers.size());
  }

  /// Rows of a frame that the blocks see.
  std::int64_t frame_rows(const PatchGrid& grid) const {
    return std::int64_t{grid.rows} * grid.cols + (has_class_token() ? 1 : 0);
  }

  /// Rows that the projector gives for `grid`.
  std::int64_t projected_rows(const PatchGrid& grid) const {
    return grid.frames * ((frame_rows(grid) - (drop_first ? 1 : 0)) / merge_size / merge_size);
  }

  /// As the text's positions see the item. `row_seconds`: of a video, the time from one row of
  /// frames to the next; whole seconds count, as the reference does it.
  MediaGrid media_grid(const PatchGrid& grid, double row_seconds = 0.0) const {
    return {.frames = grid.frames,
            .rows = grid.rows / merge_size,
            .cols = grid.cols / merge_size,
            .frame_step = positions_per_second == 0
                              ? 1
                              : positions_per_second * static_cast<std::int32_t>(row_seconds)};
  }
};

/// Whether the tower takes pictures of `grid`. Errors: kInvalidArgument naming the side.
Result<void> CheckGrid(const VisionSpec& spec, const PatchGrid& grid);

/// Every tensor that the tower reads, prefixes resolved.
std::vector<ExpectedTensor> ExpectedTensors(const VisionSpec& spec);

/// Puts before each name the prefix that `checkpoint` uses; none fits: the first.
void ResolveVisionNames(const Checkpoint& checkpoint, VisionSpec& spec);

}  // namespace pixii::model
