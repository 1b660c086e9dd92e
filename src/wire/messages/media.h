// Pictures and films that stand in a prompt.
//
// Thread: values.
// A prompt has one token for each row of features that a model's tower makes of an item. These
// tokens are no words of the vocabulary: MediaToken derives them from the digest of what is seen,
// so that whatever looks at tokens alone (block identity, prefix caches and their tiers, routers,
// hand-over, events) tells pictures apart and finds equal ones, and need not know of media.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"

namespace pixii::wire {

enum class MediaKind : std::uint8_t {
  kImage,
  kVideo,
};

/// What a model is shown, as integers: equal pictures are equal bytes. A frontend may bring one to
/// the tower's size where doing that again changes nothing; the worker does the rest.
struct MediaItem {
  MediaKind kind = MediaKind::kImage;
  std::uint32_t begin = 0;         // index of its first token in the prompt
  std::uint32_t count = 0;         // tokens: MediaToken(digest, 0 .. count - 1); >= 1
  std::uint32_t frames = 1;        // of a film
  std::uint32_t height = 0;        // pixels
  std::uint32_t width = 0;         // pixels
  std::string pixels = {};         // [frames, height, width, 3] RGB8
  std::string digest = {};         // 32 bytes: SHA-256 as MediaDigest makes it
  float seconds_per_frame = 0.0F;  // of a film
  /// In place of pixels: what a tower made of it elsewhere, [count, VisionCard::row_size] floats
  /// of fp32, little endian. frames x height x width are then tokens, `count` of them.
  std::string features = {};
  /// FeatureRecord of the worker that has encoded the pixels; empty: nobody has.
  std::string encoded = {};
};

/// Where a worker that encodes keeps what its tower made of an item, for one that computes the
/// prompt. docs/formats/features.md
struct FeatureRecord {
  std::string agent;  // what its transfer agent says of itself
  std::uint64_t region = 0;
  std::uint64_t generation = 0;
  std::string digest;  // of the item
  std::uint32_t rows = 0;
  std::uint32_t row_size = 0;  // floats
  std::string model_fingerprint;
  std::string numerics_id;     // what the tower's bits depend on
  std::uint64_t sum_high = 0;  // keyed digest of the bytes
  std::uint64_t sum_low = 0;
};

/// How a model's pictures come to size.
enum class MediaFit : std::uint8_t {
  kExact,  // `width` x `height`, whatever the shape
  kCrop,   // the short side to `short_side`, then the centre of `width` x `height`
  kSmart,  // sides of whole merged patches, pixels between two bounds
  kTiles,  // the best of `pinpoints` in tiles of `width` x `height`; the whole squeezed comes first
};

/// By which filter they are resized.
enum class MediaFilter : std::uint8_t {
  kBilinear,
  kBicubic,
  kLanczos,
};

/// What a frontend has to know to show a model films: it takes frames out of them and brings these
/// to the tower's size.
struct FilmCard {
  std::uint64_t pixels_min = 0;  // of a frame, or of all together
  std::uint64_t pixels_max = 0;
  bool bounds_all_frames = false;
  bool shares_bounds = false;  // of those: a frame has an equal share at most
  double frames_per_second = 2.0;
  std::uint32_t frames = 0;  // so many, whatever the time; 0: by frames_per_second
  std::uint32_t frames_min = 0;
  std::uint32_t frames_max = 0;
  bool with_ends = false;  // the first and the last frame are taken, the others between them
  /// Each row of frames stands alone, between these two words and behind its time in seconds.
  bool timed = false;
  TokenId start_token = -1;
  TokenId end_token = -1;
};

/// What a frontend has to know of a model's tower: which words stand for media, and how many tokens
/// a picture takes.
struct VisionCard {
  TokenId image_token = -1;  // -1: it is shown none
  TokenId video_token = -1;
  MediaFit fit = MediaFit::kExact;
  std::uint32_t width = 0;  // pixels
  std::uint32_t height = 0;
  std::uint32_t short_side = 0;
  std::uint64_t pixels_min = 0;
  std::uint64_t pixels_max = 0;
  std::vector<std::uint32_t> pinpoints = {};  // width, height of each
  MediaFilter filter = MediaFilter::kBilinear;
  std::uint32_t patch_size = 0;  // pixels of a side
  std::uint32_t merge_size = 1;  // patches of a side that are one token
  std::uint32_t frames_per_row = 1;
  std::uint32_t tokens_more = 0;  // of each frame beside its patches
  std::uint32_t tiles_max = 0;    // of kTiles: larger ones are scaled down to so many
  std::uint32_t row_size = 0;     // floats of a token's features, those of all levels; 0: unknown
  std::uint32_t row_levels = 0;   // of these, the text's first layers have so many equal parts
  bool has_axes = false;          // a token's place in rows and columns counts
  /// Not -1: templates write `frame_begin` for a picture, and the model reads in its place two
  /// newlines, frame_begin, the picture's tokens, frame_end and two newlines.
  TokenId frame_begin = -1;
  TokenId frame_end = -1;
  std::optional<FilmCard> film = {};  // nothing: it is shown no films

  /// Whether `id` is a word that stands for media: nobody may say it for its own sake.
  bool StandsForMedia(TokenId id) const {
    return id >= 0 && (id == image_token || id == video_token);
  }
};

/// Media tokens lie in [kMediaTokenFirst, 2^31): no vocabulary reaches so far.
inline constexpr TokenId kMediaTokenFirst = TokenId{1} << 30;

constexpr bool IsMediaToken(TokenId id) { return id >= kMediaTokenFirst; }

/// Fewer tokens than this hold less than 240 bits of a digest; such an item's request shares
/// cached blocks only with requests of the same salt (a digest of those items).
inline constexpr std::uint32_t kMediaTokensSafe = 8;

/// SHA-256, 32 bytes, over everything that is shown of the item, each with its length or width in
/// front: of features in place of pixels, too.
std::string MediaDigest(const MediaItem& item);

/// The id of an item's token `index`: 30 bits of the digest, turned by the index so that the
/// tokens of one item differ. Pre: `digest` has 32 bytes.
TokenId MediaToken(std::string_view digest, std::uint32_t index);

/// Puts each item's tokens into its place. Pre: places lie in the prompt.
void PutMediaTokens(std::span<const MediaItem> media, std::span<TokenId> prompt);

}  // namespace pixii::wire
