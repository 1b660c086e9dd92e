// Where images stand in a sequence of tokens: placeholders become rows of given embeddings, and
// positions of three axes where the model turns by them.
//
// Thread: pure functions and values. An engine keeps one SequenceMedia per request and calls
// AddMedia for each chunk of it that goes into a step, so a chunk may end inside an image.
// Source: transformers' get_rope_index of Qwen2-VL (facts only).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "kernels/step.h"

namespace pixii::model {

inline constexpr std::int32_t kMediaTokensMax = 1 << 20;  // of one item

/// What a tower makes of one image: a row for each of its tokens. Immutable, so that a cache and
/// several sequences may share it.
struct VisionFeatures {
  std::int32_t rows = 0;
  std::int32_t size = 0;              // of a row: the text's hidden size
  std::vector<float> rows_data = {};  // [rows, size]
  /// [rows, levels, size] added after the text's first layers; empty: levels is 0.
  std::vector<float> layers_data = {};
  std::int32_t levels = 0;
};

/// Features as they travel between processes: [rows, 1 + levels, size], a row's levels behind it.
std::vector<float> PackFeatures(const VisionFeatures& features);
/// Pre: `packed` has rows * (1 + levels) * size floats.
VisionFeatures UnpackFeatures(std::span<const float> packed, std::int32_t rows, std::int32_t size,
                              std::int32_t levels);

/// How an item's tokens lie in time, height and width: frames * rows * cols of them.
struct MediaGrid {
  std::int32_t frames = 1;
  std::int32_t rows = 1;
  std::int32_t cols = 1;
  std::int32_t frame_step = 1;  // positions from one frame to the next

  friend bool operator==(const MediaGrid&, const MediaGrid&) = default;
};

/// Tokens [begin, begin + count) of a sequence stand for one item.
struct MediaSpan {
  std::int32_t begin = 0;
  std::int32_t count = 0;

  friend bool operator==(const MediaSpan&, const MediaSpan&) = default;
};

/// Finds the items of a prompt in which each has as many placeholders as rows. Errors:
/// kInvalidArgument if the placeholders are not runs of these counts, or a count is not in
/// 1 .. kMediaTokensMax.
Result<std::vector<MediaSpan>> FindPlaceholders(std::span<const std::int32_t> tokens,
                                                std::int32_t placeholder,
                                                std::span<const std::int32_t> counts);

/// Positions of a prompt whose items turn by three axes.
struct RopePositions {
  std::vector<std::int32_t> values;  // [tokens, 3]: time, height, width
  /// Position of a token after the prompt less its index. It stays with the sequence.
  std::int32_t delta = 0;
};

/// Text counts on all three axes; an item's tokens count from where the text stopped, each axis by
/// its own; text goes on after the larger of rows and cols. Pre: `spans` are ascending, inside the
/// prompt, and as large as their grids.
RopePositions MakeRopePositions(std::int32_t token_count, std::span<const MediaSpan> spans,
                                std::span<const MediaGrid> grids);

/// The media of one sequence.
struct SequenceMedia {
  struct Item {
    std::int32_t begin = 0;                          // token of its first row
    std::shared_ptr<const VisionFeatures> features;  // null: not made yet
    /// Its tokens, if they see each other both ways and thus end in one chunk; 0: they do not.
    std::int32_t mutual_count = 0;
  };

  std::vector<Item> items;         // ascending, not overlapping
  std::vector<std::int32_t> rope;  // RopePositions::values of the prompt; empty: one axis
  std::int32_t rope_delta = 0;     // of tokens after it

  /// Where a chunk of tokens [begin, end) may end: `end`, or before the item that `end` cuts and
  /// whose tokens see each other both ways. `begin`: there is no such chunk.
  std::int32_t ChunkEnd(std::int32_t begin, std::int32_t end) const;

  /// The tokens that a chunk from `begin` on has to take at once, at least: those left of such an
  /// item that `begin` lies in, else 1.
  std::int32_t ChunkMin(std::int32_t begin) const;
};

/// Adds to `batch` what the rows of tokens [begin, begin + count) of a sequence ask for, after
/// these rows were added as its last ones. To be called for every sequence of the step, in order;
/// null: it has text alone. Items without features are left out: such a step must be made anew.
/// Pre: ChunkEnd(begin, begin + count) is begin + count.
void AddMedia(const SequenceMedia* media, std::int32_t begin, std::int32_t count,
              kernels::StepBatch& batch);

}  // namespace pixii::model
