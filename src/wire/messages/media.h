// Pictures and films that stand in a prompt.
//
// Thread: values.
// A prompt has one token for each row of features that a model's tower makes of an item. These
// tokens are no words of the vocabulary: MediaToken derives them from the digest of what is seen,
// so that whatever looks at tokens alone (block identity, prefix caches and their tiers, routers,
// hand-over, events) tells pictures apart and finds equal ones, and need not know of media.
#pragma once

#include <cstdint>
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
};

/// How a model's pictures come to size.
enum class MediaFit : std::uint8_t {
  kExact,  // `width` x `height`, whatever the shape
  kCrop,   // the short side to `short_side`, then the centre of `width` x `height`
  kSmart,  // sides of whole merged patches, pixels between two bounds
  kTiles,  // the best of `pinpoints` in tiles of `width` x `height`; the whole squeezed comes first
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
  std::uint32_t filter = 0;                   // media::Filter
  std::uint32_t patch_size = 0;               // pixels of a side
  std::uint32_t merge_size = 1;               // patches of a side that are one token
  std::uint32_t frames_per_row = 1;
  std::uint32_t tokens_more = 0;  // of each frame beside its patches
  std::uint32_t tiles_max = 0;    // of kTiles: larger ones are scaled down to so many
};

/// Media tokens lie in [kMediaTokenFirst, 2^31): no vocabulary reaches so far.
inline constexpr TokenId kMediaTokenFirst = TokenId{1} << 30;

constexpr bool IsMediaToken(TokenId id) { return id >= kMediaTokenFirst; }

/// Fewer tokens than this hold less than 240 bits of a digest; such an item's request shares
/// cached blocks only with requests of the same salt (a digest of those items).
inline constexpr std::uint32_t kMediaTokensSafe = 8;

/// SHA-256, 32 bytes, over everything of the item but its place in the prompt, each with its length
/// or width in front.
std::string MediaDigest(const MediaItem& item);

/// The id of an item's token `index`: 30 bits of the digest, turned by the index so that the
/// tokens of one item differ. Pre: `digest` has 32 bytes.
TokenId MediaToken(std::string_view digest, std::uint32_t index);

/// Puts each item's tokens into its place. Pre: places lie in the prompt.
void PutMediaTokens(std::span<const MediaItem> media, std::span<TokenId> prompt);

}  // namespace pixii::wire
