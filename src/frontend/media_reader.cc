#include "frontend/media_reader.h"

#include <fmt/format.h>

#include <map>
#include <string>
#include <tuple>
#include <utility>

namespace pixii::frontend {

namespace {

/// Of what is sent of it: its rows, if there are some.
std::uint64_t BytesOf(const ReadMedia& read) {
  std::uint64_t bytes = read.item.pixels.size() + read.item.features.size();
  for (const ReadMedia::Row& row : read.rows) {
    bytes += row.item.pixels.size();
  }
  return bytes;
}

/// The parts of one request, each URL read once.
class PartReader final {
 public:
  PartReader(const MediaReader& reader, const MediaBounds& bounds)
      : reader_(reader), bounds_(bounds) {}

  /// It is there as long as the reader.
  Result<const ReadMedia*> Read(const MediaPart& part) {
    const auto known = read_.find(KeyOf(part));
    if (known != read_.end()) {
      return &known->second;
    }
    if (bounds_.abandoned && bounds_.abandoned()) {
      return Fail(Code::kCancelled, "the client is gone", part.where);
    }
    PX_TRY(ReadMedia read, reader_.Read(part));
    pixels_ += read.pixels;
    film_bytes_ += part.kind == wire::MediaKind::kVideo ? BytesOf(read) : 0;
    if (film_bytes_ > kFilmBytesMax) {
      return Fail(Code::kTooLarge,
                  fmt::format("{}: with it the frames of the request's videos are {} bytes; at "
                              "most {} are taken",
                              part.where, film_bytes_, kFilmBytesMax),
                  part.where);
    }
    if (pixels_ > bounds_.pixels_max) {
      return Fail(Code::kTooLarge,
                  fmt::format("{}: with it the request shows {} pixels; at most {} are taken",
                              part.where, pixels_, bounds_.pixels_max),
                  part.where);
    }
    return &read_.emplace(KeyOf(part), std::move(read)).first->second;
  }

 private:
  const MediaReader& reader_;
  const MediaBounds& bounds_;
  using Key = std::tuple<wire::MediaKind, bool, std::string>;

  static Key KeyOf(const MediaPart& part) { return {part.kind, part.is_features, part.url}; }

  std::map<Key, ReadMedia> read_;
  std::uint64_t pixels_ = 0;
  std::uint64_t film_bytes_ = 0;
};

void AddItem(wire::MediaItem item, TokenId placeholder, MediaPrompt& out) {
  item.begin = static_cast<std::uint32_t>(out.tokens.size());
  out.tokens.insert(out.tokens.end(), item.count, placeholder);
  out.media.push_back(std::move(item));
}

/// Rows bring their own marks: those that the template has put around the placeholder go. `after`
/// is what follows it; says how many of that are left out.
Result<std::size_t> AddRows(const ReadMedia& read, std::span<const TokenId> after,
                            TokenId placeholder, const MediaBounds& bounds, MediaPrompt& out) {
  const bool marked = !out.tokens.empty() && out.tokens.back() == read.start_mark &&
                      !after.empty() && after.front() == read.end_mark;
  if (marked) {
    out.tokens.pop_back();
  }
  for (const ReadMedia::Row& row : read.rows) {
    if (!row.words.empty() && bounds.add_words) {
      PX_CHECK_OK(bounds.add_words(row.words, out.tokens));
    }
    out.tokens.push_back(read.start_mark);
    AddItem(row.item, placeholder, out);
    out.tokens.push_back(read.end_mark);
  }
  return marked ? 1 : 0;
}

/// Tokens that `read` takes at least.
std::uint64_t TokensOf(const ReadMedia& read) {
  std::uint64_t tokens = read.rows.empty() ? read.item.count : 0;
  for (const ReadMedia::Row& row : read.rows) {
    tokens += row.item.count;
  }
  return tokens;
}

}  // namespace

Result<MediaPrompt> ShowMedia(std::span<const TokenId> tokens, std::span<const MediaPart> parts,
                              const MediaReader& reader, const MediaBounds& bounds) {
  const std::optional<TokenId> image = reader.Placeholder(wire::MediaKind::kImage);
  const std::optional<TokenId> video = reader.Placeholder(wire::MediaKind::kVideo);
  PartReader part_reader(reader, bounds);
  MediaPrompt out;
  out.tokens.reserve(tokens.size());
  std::size_t next = 0;
  std::uint64_t bytes = 0;
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
    const std::string& where = parts[next].where;
    PX_TRY(const ReadMedia* read, part_reader.Read(parts[next]));
    ++next;
    bytes += BytesOf(*read);
    if (bounds.bytes_max > 0 && bytes > bounds.bytes_max) {
      // Not kTooLarge, of which clients are told that the context is too short.
      return Fail(Code::kInvalidArgument,
                  fmt::format("{}: with it the pictures and videos of the request are {} bytes as "
                              "the model is sent them; at most {} fit a message to its worker",
                              where, bytes, bounds.bytes_max),
                  where);
    }
    const std::uint64_t least = out.tokens.size() + TokensOf(*read) + (tokens.size() - i - 1);
    if (least > bounds.tokens_max) {
      return Fail(Code::kTooLarge,
                  fmt::format("messages: this model's maximum context length is {} tokens, and "
                              "the prompt has {} with the first {} of {} pictures",
                              bounds.tokens_max, least, next, parts.size()),
                  "messages");
    }
    if (read->rows.empty()) {
      AddItem(read->item, token, out);
    } else {
      PX_TRY(const std::size_t left_out, AddRows(*read, tokens.subspan(i + 1), token, bounds, out));
      i += left_out;
    }
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
