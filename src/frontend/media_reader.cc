#include "frontend/media_reader.h"

#include <fmt/format.h>

#include <map>
#include <string>
#include <utility>

namespace pixii::frontend {

namespace {

/// The parts of one request, each URL read once.
class PartReader final {
 public:
  PartReader(const MediaReader& reader, const MediaBounds& bounds)
      : reader_(reader), bounds_(bounds) {}

  Result<wire::MediaItem> Read(const MediaPart& part) {
    const auto known = read_.find({part.kind, part.url});
    if (known != read_.end()) {
      return known->second;
    }
    if (bounds_.abandoned && bounds_.abandoned()) {
      return Fail(Code::kCancelled, "the client is gone", part.where);
    }
    PX_TRY(ReadMedia read, reader_.Read(part));
    pixels_ += read.pixels;
    if (pixels_ > bounds_.pixels_max) {
      return Fail(Code::kTooLarge,
                  fmt::format("{}: with it the request shows {} pixels; at most {} are taken",
                              part.where, pixels_, bounds_.pixels_max),
                  part.where);
    }
    return read_.emplace(std::pair(part.kind, part.url), std::move(read.item)).first->second;
  }

 private:
  const MediaReader& reader_;
  const MediaBounds& bounds_;
  std::map<std::pair<wire::MediaKind, std::string>, wire::MediaItem> read_;
  std::uint64_t pixels_ = 0;
};

}  // namespace

Result<MediaPrompt> ShowMedia(std::span<const TokenId> tokens, std::span<const MediaPart> parts,
                              const MediaReader& reader, const MediaBounds& bounds) {
  const std::optional<TokenId> image = reader.Placeholder(wire::MediaKind::kImage);
  const std::optional<TokenId> video = reader.Placeholder(wire::MediaKind::kVideo);
  PartReader part_reader(reader, bounds);
  MediaPrompt out;
  out.tokens.reserve(tokens.size());
  std::size_t next = 0;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const TokenId token = tokens[i];
    const bool is_image = image && token == *image;
    if (!is_image && !(video && token == *video)) {
      out.tokens.push_back(token);
      continue;
    }
    const auto kind = is_image ? wire::MediaKind::kImage : wire::MediaKind::kVideo;
    if (next == parts.size() || parts[next].kind != kind) {
      return Fail(Code::kUnsupported,
                  fmt::format("messages: the chat template shows more than the {} pictures given, "
                              "or in another order",
                              parts.size()),
                  "messages");
    }
    PX_TRY(wire::MediaItem item, part_reader.Read(parts[next]));
    ++next;
    const std::uint64_t least = out.tokens.size() + item.count + (tokens.size() - i - 1);
    if (least > bounds.tokens_max) {
      return Fail(Code::kTooLarge,
                  fmt::format("messages: this model's maximum context length is {} tokens, and "
                              "the prompt has {} with the first {} of {} pictures",
                              bounds.tokens_max, least, next, parts.size()),
                  "messages");
    }
    item.begin = static_cast<std::uint32_t>(out.tokens.size());
    out.tokens.insert(out.tokens.end(), item.count, token);
    out.media.push_back(std::move(item));
  }
  if (next < parts.size()) {
    return Fail(
        Code::kUnsupported,
        fmt::format("{}: the chat template of this model has no place for it", parts[next].where),
        parts[next].where);
  }
  return out;
}

}  // namespace pixii::frontend
