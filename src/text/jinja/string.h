// Strings of a template run: shared bytes that remember which of them came from the request.
// docs/subsystems/text.md
//
// A Str is a view [begin, end) of a shared, append-only buffer: slicing costs nothing, and `a + b +
// c` appends in place when `a` ends its buffer, so building a prompt piece by piece is linear. All
// text is valid UTF-8; views and ranges lie on character boundaries. Thread: a buffer of a run
// belongs to that run's thread; literals (frozen) are immutable and shared by all.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace pixii::text::jinja {

/// Bytes [begin, end) of a text.
struct ByteRange {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;

  friend bool operator==(const ByteRange&, const ByteRange&) = default;
};

/// Counts the bytes a run holds at this moment. Charging past the limit is seen by whoever asks
/// `exceeded`.
class MemoryMeter final {
 public:
  explicit MemoryMeter(std::uint64_t bytes_max) : bytes_max_(bytes_max) {}

  void Charge(std::uint64_t bytes) { used_ += bytes; }

  void Release(std::uint64_t bytes) { used_ -= bytes; }

  bool exceeded() const { return used_ > bytes_max_; }

  std::uint64_t left() const { return exceeded() ? 0 : bytes_max_ - used_; }

  std::uint64_t used() const { return used_; }

 private:
  std::uint64_t bytes_max_;
  std::uint64_t used_ = 0;
};

class StrBuilder;

class Str final {
 public:
  Str() = default;

  /// Text of the template itself or of the engine: trusted, never appended to. Pre: valid UTF-8,
  /// below 4 GiB.
  static Str Literal(std::string text);

  std::string_view view() const;

  std::size_t size() const { return end_ - begin_; }

  bool empty() const { return begin_ == end_; }

  /// True if bytes are characters. False negatives only cost time.
  bool ascii() const;

  /// Bytes [begin, end) of this string, shared. Pre: both on character boundaries.
  Str Slice(std::size_t begin, std::size_t end) const;

  /// Whether this text is HTML-escaped or declared `safe`, which Python's type Markup stands for:
  /// text that meets it in
  /// `+`, `%` or join is escaped first.
  bool markup() const { return markup_; }

  Str AsMarkup() const {
    Str out = *this;
    out.markup_ = true;
    return out;
  }

  Str AsPlain() const {
    Str out = *this;
    out.markup_ = false;
    return out;
  }

  /// Ranges from the request, relative to this string, sorted, disjoint, not adjacent.
  std::vector<ByteRange> untrusted() const;
  bool any_untrusted() const;

  /// Calls piece(text, untrusted) for the maximal pieces of equal provenance, in order.
  template <class F>
  void ForEachPiece(F&& piece) const {
    const std::string_view text = view();
    std::uint32_t at = 0;
    for (const ByteRange& range : untrusted()) {
      if (range.begin > at) {
        piece(text.substr(at, range.begin - at), false);
      }
      piece(text.substr(range.begin, range.end - range.begin), true);
      at = range.end;
    }
    if (at < text.size()) {
      piece(text.substr(at), false);
    }
  }

 private:
  friend class StrBuilder;
  struct Buffer;

  Str(std::shared_ptr<Buffer> buffer, std::uint32_t begin, std::uint32_t end)
      : buffer_(std::move(buffer)), begin_(begin), end_(end) {}

  std::shared_ptr<Buffer> buffer_;  // null: empty
  std::uint32_t begin_ = 0;
  std::uint32_t end_ = 0;
  bool markup_ = false;
};

/// Builds one string, never marked as markup. Past the meter's limit appends do nothing and
/// `failed` is true: the caller ends the run.
class StrBuilder final {
 public:
  explicit StrBuilder(MemoryMeter& meter) : meter_(&meter) {}

  /// Continues `base`; in place if `base` is the end of a buffer of this run.
  StrBuilder(MemoryMeter& meter, const Str& base);

  void Append(const Str& text);
  void Append(std::string_view text, bool untrusted = false);
  void Append(char32_t code_point, bool untrusted);

  bool failed() const { return failed_; }

  std::size_t size() const { return end_ - begin_; }

  Str Finish();

  /// The text and its untrusted ranges, moved out. Pre: built without a base, nobody shares it.
  struct Taken {
    std::string text;
    std::vector<ByteRange> untrusted;
  };

  Taken Take();

 private:
  bool Grow(std::size_t bytes);

  MemoryMeter* meter_;
  std::shared_ptr<Str::Buffer> buffer_;
  std::uint32_t begin_ = 0;
  std::uint32_t end_ = 0;
  bool failed_ = false;
};

/// Walks a string by characters with their provenance.
class StrCursor final {
 public:
  explicit StrCursor(const Str& text);

  bool done() const { return at_ == text_.size(); }

  char32_t code_point() const;
  std::string_view bytes() const;

  bool untrusted() const { return range_ < ranges_.size() && at_ >= ranges_[range_].begin; }

  std::size_t offset() const { return at_; }

  void Next();

 private:
  std::string_view text_;
  std::vector<ByteRange> ranges_;
  std::size_t range_ = 0;
  std::size_t at_ = 0;
};

/// Characters of `text`. O(bytes) unless ASCII.
std::size_t CharacterCount(const Str& text);
/// Byte offset of character `index` (0 .. count), by a scan unless ASCII.
std::size_t CharacterOffset(const Str& text, std::size_t index);

}  // namespace pixii::text::jinja
