// What a client shows beside its text, and who makes of it what a model's tower takes.
//
// Thread: a MediaReader is shared by the threads that read bodies.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "wire/messages/media.h"

namespace pixii::frontend {

inline constexpr std::size_t kMediaPartsMax = 256;  // of a request
inline constexpr std::size_t kFilmPartsMax = 16;    // of them: each may cost a minute
/// Of all frames of a request's videos: it travels in one message of 64 MiB at most.
inline constexpr std::uint64_t kFilmBytesMax = std::uint64_t{48} << 20U;

/// Of all that a request shows a model in another process: it travels in the same message as its
/// words.
inline constexpr std::uint64_t kMediaBytesMax = std::uint64_t{60} << 20U;

/// A picture or film as a message names it.
struct MediaPart {
  wire::MediaKind kind = wire::MediaKind::kImage;
  std::string url;
  std::string where;         // its field, for errors
  bool is_features = false;  // what a tower made of it, in a safetensors file
};

/// An item as the model is shown it.
struct ReadMedia {
  wire::MediaItem item;      // without `begin`
  std::uint64_t pixels = 0;  // that were decoded for it

  /// A part of the item that stands alone, between two marks and behind words of its own.
  struct Row {
    std::string words;
    wire::MediaItem item;
  };

  std::vector<Row> rows = {};  // where there are some, they are the item
  TokenId start_mark = -1;     // of each row
  TokenId end_mark = -1;
};

class MediaReader {
 public:
  virtual ~MediaReader() = default;

  /// The token that stands for an item of this kind in a rendered prompt; nothing: the model is
  /// not shown such.
  virtual std::optional<TokenId> Placeholder(wire::MediaKind kind) const = 0;

  /// Gets, decodes and resizes; waits for the network and for other processes, so never on a loop.
  /// Errors name `part.where`: kInvalidArgument, kUnsupported, kDeadlineExceeded,
  /// kResourceExhausted, kUnavailable.
  virtual Result<ReadMedia> Read(const MediaPart& part) const = 0;
};

/// How far the pictures of one request may go.
struct MediaBounds {
  std::uint64_t tokens_max = 0;                        // of the whole prompt
  std::uint64_t pixels_max = std::uint64_t{1} << 28U;  // that are decoded
  std::uint64_t bytes_max = 0;           // of all items as the model is sent them; 0: any number
  std::function<bool()> abandoned = {};  // nobody waits any more; asked before each picture
  /// Puts words behind a prompt, as if they had stood in its text; needed where rows have words.
  std::function<Result<void>(std::string_view words, std::vector<TokenId>& prompt)> add_words = {};
};

/// A rendered prompt whose placeholders have become as many as their items take.
struct MediaPrompt {
  std::vector<TokenId> tokens;  // of an item the placeholder, again and again
  std::vector<wire::MediaItem> media;
};

/// Reads `parts`, which the placeholders of `tokens` stand for in order; parts of one URL once.
/// Errors: those of Read; kUnsupported where the template has another number of places than there
/// are parts; kTooLarge past the bounds, kInvalidArgument past bytes_max, before the rest is read;
/// kCancelled.
Result<MediaPrompt> ShowMedia(std::span<const TokenId> tokens, std::span<const MediaPart> parts,
                              const MediaReader& reader, const MediaBounds& bounds);

}  // namespace pixii::frontend
