#include "text/jinja/string.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/assert.h"
#include "base/utf8.h"

namespace pixii::text::jinja {

namespace {

constexpr std::size_t kSizeMax = std::numeric_limits<std::uint32_t>::max() / 2;

bool IsAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<signed char>(c) >= 0; });
}

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

/// Bytes of the sequence that starts with `lead`. Pre: valid UTF-8.
std::size_t SequenceLength(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

}  // namespace

struct Str::Buffer {
  std::string bytes;
  std::vector<ByteRange> untrusted;
  MemoryMeter* meter = nullptr;  // null: frozen
  std::uint64_t charged = 0;
  bool ascii = true;

  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  ~Buffer() {
    if (meter != nullptr) {
      meter->Release(charged);
    }
  }

  void Mark(std::uint32_t begin, std::uint32_t end) {
    if (begin == end) {
      return;
    }
    if (!untrusted.empty() && untrusted.back().end == begin) {
      untrusted.back().end = end;
    } else {
      untrusted.push_back({begin, end});
    }
  }
};

Str Str::Literal(std::string text) {
  if (text.empty()) {
    return {};
  }
  PX_ASSERT(text.size() <= kSizeMax);
  auto buffer = std::make_shared<Buffer>();
  buffer->ascii = IsAscii(text);
  buffer->bytes = std::move(text);
  const auto size = static_cast<std::uint32_t>(buffer->bytes.size());
  return {std::move(buffer), 0, size};
}

std::string_view Str::view() const {
  return buffer_ == nullptr ? std::string_view()
                            : std::string_view(buffer_->bytes).substr(begin_, end_ - begin_);
}

bool Str::ascii() const { return buffer_ == nullptr || buffer_->ascii; }

Str Str::Slice(std::size_t begin, std::size_t end) const {
  PX_DASSERT(begin <= end && end <= size());
  Str out = *this;
  out.begin_ = begin_ + static_cast<std::uint32_t>(begin);
  out.end_ = begin_ + static_cast<std::uint32_t>(end);
  if (begin == end) {
    out.buffer_.reset();
    out.begin_ = out.end_ = 0;
  }
  return out;
}

std::vector<ByteRange> Str::untrusted() const {
  std::vector<ByteRange> out;
  if (buffer_ == nullptr) {
    return out;
  }
  const auto& all = buffer_->untrusted;
  auto it = std::partition_point(all.begin(), all.end(),
                                 [&](const ByteRange& r) { return r.end <= begin_; });
  for (; it != all.end() && it->begin < end_; ++it) {
    out.push_back({std::max(it->begin, begin_) - begin_, std::min(it->end, end_) - begin_});
  }
  return out;
}

bool Str::any_untrusted() const {
  if (buffer_ == nullptr) {
    return false;
  }
  const auto& all = buffer_->untrusted;
  const auto it = std::partition_point(all.begin(), all.end(),
                                       [&](const ByteRange& r) { return r.end <= begin_; });
  return it != all.end() && it->begin < end_;
}

StrBuilder::StrBuilder(MemoryMeter& meter, const Str& base) : meter_(&meter) {
  if (base.buffer_ != nullptr && base.buffer_->meter == meter_ &&
      base.end_ == base.buffer_->bytes.size()) {
    buffer_ = base.buffer_;
    begin_ = base.begin_;
    end_ = base.end_;
  } else {
    Append(base);
  }
}

bool StrBuilder::Grow(std::size_t bytes) {
  if (failed_) {
    return false;
  }
  if (buffer_ == nullptr) {
    buffer_ = std::make_shared<Str::Buffer>();
    buffer_->meter = meter_;
    buffer_->charged = sizeof(Str::Buffer);
    meter_->Charge(buffer_->charged);
  }
  std::string& text = buffer_->bytes;
  const std::size_t needed = text.size() + bytes;
  if (needed <= text.capacity()) {
    return true;
  }
  const std::size_t wanted = std::max(needed, text.capacity() * 2);
  if (needed > kSizeMax || wanted - text.capacity() > meter_->left()) {
    failed_ = true;
    return false;
  }
  const std::size_t before = text.capacity();
  text.reserve(wanted);
  buffer_->charged += text.capacity() - before;
  meter_->Charge(text.capacity() - before);
  return true;
}

void StrBuilder::Append(const Str& text) {
  if (text.empty() || !Grow(text.size())) {
    return;
  }
  // `text` may be part of the buffer that grows: capacity is there now, so its bytes stay where
  // they are.
  Str::Buffer& to = *buffer_;
  const Str::Buffer& from = *text.buffer_;
  const std::uint32_t base = end_;
  const std::uint32_t first = text.begin_;
  const std::uint32_t last = text.end_;
  to.ascii = to.ascii && (from.ascii || IsAscii(text.view()));
  to.bytes.append(from.bytes, first, last - first);
  end_ += last - first;
  const auto begin = std::partition_point(from.untrusted.begin(), from.untrusted.end(),
                                          [&](const ByteRange& r) { return r.end <= first; });
  const auto count = from.untrusted.size();
  for (auto i = static_cast<std::size_t>(begin - from.untrusted.begin()); i < count; ++i) {
    const ByteRange range = from.untrusted[i];
    if (range.begin >= last) {
      break;
    }
    to.Mark(base + (std::max(range.begin, first) - first),
            base + (std::min(range.end, last) - first));
  }
}

void StrBuilder::Append(std::string_view text, bool untrusted) {
  if (text.empty() || !Grow(text.size())) {
    return;
  }
  buffer_->ascii = buffer_->ascii && IsAscii(text);
  buffer_->bytes.append(text);
  const std::uint32_t begin = end_;
  end_ += static_cast<std::uint32_t>(text.size());
  if (untrusted) {
    buffer_->Mark(begin, end_);
  }
}

void StrBuilder::Append(char32_t code_point, bool untrusted) {
  std::string text;
  AppendUtf8(text, code_point);
  Append(text, untrusted);
}

Str StrBuilder::Finish() {
  if (buffer_ == nullptr || begin_ == end_) {
    return {};
  }
  return {std::move(buffer_), begin_, end_};
}

StrBuilder::Taken StrBuilder::Take() {
  if (buffer_ == nullptr) {
    return {};
  }
  PX_ASSERT(buffer_.use_count() == 1);
  return {std::move(buffer_->bytes), std::move(buffer_->untrusted)};
}

StrCursor::StrCursor(const Str& text) : text_(text.view()), ranges_(text.untrusted()) {}

std::string_view StrCursor::bytes() const { return text_.substr(at_, SequenceLength(text_[at_])); }

char32_t StrCursor::code_point() const {
  const auto byte = static_cast<unsigned char>(text_[at_]);
  return byte < 0x80 ? byte : DecodeUtf8(text_.substr(at_));
}

void StrCursor::Next() {
  at_ += SequenceLength(text_[at_]);
  if (range_ < ranges_.size() && at_ >= ranges_[range_].end) {
    ++range_;
  }
}

std::size_t CharacterCount(const Str& text) {
  if (text.ascii()) {
    return text.size();
  }
  const std::string_view bytes = text.view();
  return static_cast<std::size_t>(
      std::count_if(bytes.begin(), bytes.end(), [](char c) { return !IsContinuation(c); }));
}

std::size_t CharacterOffset(const Str& text, std::size_t index) {
  if (text.ascii()) {
    return std::min(index, text.size());
  }
  const std::string_view bytes = text.view();
  std::size_t at = 0;
  for (std::size_t i = 0; i < index && at < bytes.size(); ++i) {
    at += SequenceLength(bytes[at]);
  }
  return at;
}

}  // namespace pixii::text::jinja
