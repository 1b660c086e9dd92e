#include "wire/msgpack.h"

#include <fmt/format.h>

#include <array>
#include <bit>
#include <limits>
#include <utility>

namespace pixii::wire {

namespace {

using Kind = MsgpackReader::Kind;

constexpr std::array<std::string_view, 11> kKindNames = {
    "nil",   "a boolean", "an integer",   "a number", "a text",         "bytes",
    "array", "a map",     "an extension", "the end",  "a reserved byte"};

Kind KindOf(unsigned head) {
  if (head <= 0x7F || head >= 0xE0 || (head >= 0xCC && head <= 0xD3)) {
    return Kind::kInteger;
  }
  if (head <= 0x8F || head == 0xDE || head == 0xDF) {
    return Kind::kMap;
  }
  if (head <= 0x9F || head == 0xDC || head == 0xDD) {
    return Kind::kArray;
  }
  if (head <= 0xBF || (head >= 0xD9 && head <= 0xDB)) {
    return Kind::kText;
  }
  switch (head) {
    case 0xC0:
      return Kind::kNil;
    case 0xC1:
      return Kind::kInvalid;
    case 0xC2:
    case 0xC3:
      return Kind::kBool;
    case 0xC4:
    case 0xC5:
    case 0xC6:
      return Kind::kBytes;
    case 0xCA:
    case 0xCB:
      return Kind::kFloat;
    default:
      return Kind::kExtension;
  }
}

}  // namespace

template <class T>
void MsgpackWriter::Number(unsigned head, T value) {
  Byte(head);
  for (int shift = static_cast<int>(sizeof(T)) * 8 - 8; shift >= 0; shift -= 8) {
    Byte(static_cast<unsigned>(value >> shift) & 0xFFU);
  }
}

void MsgpackWriter::Uint(std::uint64_t value) {
  if (value <= 0x7F) {
    Byte(static_cast<unsigned>(value));
  } else if (value <= 0xFF) {
    Number(0xCC, static_cast<std::uint8_t>(value));
  } else if (value <= 0xFFFF) {
    Number(0xCD, static_cast<std::uint16_t>(value));
  } else if (value <= 0xFFFFFFFF) {
    Number(0xCE, static_cast<std::uint32_t>(value));
  } else {
    Number(0xCF, value);
  }
}

void MsgpackWriter::Int(std::int64_t value) {
  if (value >= 0) {
    Uint(static_cast<std::uint64_t>(value));
  } else if (value >= -32) {
    Byte(static_cast<unsigned>(value) & 0xFFU);
  } else if (value >= std::numeric_limits<std::int8_t>::min()) {
    Number(0xD0, static_cast<std::uint8_t>(value));
  } else if (value >= std::numeric_limits<std::int16_t>::min()) {
    Number(0xD1, static_cast<std::uint16_t>(value));
  } else if (value >= std::numeric_limits<std::int32_t>::min()) {
    Number(0xD2, static_cast<std::uint32_t>(value));
  } else {
    Number(0xD3, static_cast<std::uint64_t>(value));
  }
}

void MsgpackWriter::Float(float value) { Number(0xCA, std::bit_cast<std::uint32_t>(value)); }

void MsgpackWriter::Double(double value) { Number(0xCB, std::bit_cast<std::uint64_t>(value)); }

void MsgpackWriter::Length(std::size_t count, unsigned fixed, std::size_t fixed_max,
                           unsigned head16) {
  if (count <= fixed_max) {
    Byte(fixed | static_cast<unsigned>(count));
  } else if (count <= 0xFFFF) {
    Number(head16, static_cast<std::uint16_t>(count));
  } else {
    Number(head16 + 1, static_cast<std::uint32_t>(count));
  }
}

void MsgpackWriter::Text(std::string_view text) {
  if (text.size() > 31 && text.size() <= 0xFF) {
    Number(0xD9, static_cast<std::uint8_t>(text.size()));
  } else {
    Length(text.size(), 0xA0, 31, 0xDA);
  }
  out_.append(text);
}

void MsgpackWriter::Bytes(std::string_view bytes) {
  if (bytes.size() <= 0xFF) {
    Number(0xC4, static_cast<std::uint8_t>(bytes.size()));
  } else if (bytes.size() <= 0xFFFF) {
    Number(0xC5, static_cast<std::uint16_t>(bytes.size()));
  } else {
    Number(0xC6, static_cast<std::uint32_t>(bytes.size()));
  }
  out_.append(bytes);
}

void MsgpackWriter::Array(std::size_t count) { Length(count, 0x90, 15, 0xDC); }

void MsgpackWriter::Map(std::size_t count) { Length(count, 0x80, 15, 0xDE); }

MsgpackReader::Kind MsgpackReader::Peek() const {
  return rest_.empty() ? Kind::kEnd : KindOf(Head());
}

tl::unexpected<Error> MsgpackReader::Unexpected(std::string_view wanted) const {
  return Fail(Code::kInvalidArgument, fmt::format("msgpack: expected {}, found {}", wanted,
                                                  kKindNames[static_cast<std::size_t>(Peek())]));
}

Result<std::string_view> MsgpackReader::Take(std::size_t size) {
  if (rest_.size() < size) {
    return Fail(Code::kInvalidArgument,
                fmt::format("msgpack: {} bytes are announced, {} are left", size, rest_.size()));
  }
  const std::string_view taken = rest_.substr(0, size);
  rest_.remove_prefix(size);
  return taken;
}

Result<std::uint64_t> MsgpackReader::BigEndian(std::size_t size) {
  PX_TRY(const std::string_view bytes, Take(size));
  std::uint64_t value = 0;
  for (const char byte : bytes) {
    value = value << 8 | static_cast<unsigned char>(byte);
  }
  return value;
}

bool MsgpackReader::TakeNil() {
  const bool nil = Peek() == Kind::kNil;
  rest_.remove_prefix(nil ? 1 : 0);
  return nil;
}

Result<bool> MsgpackReader::Bool() {
  if (Peek() != Kind::kBool) {
    return Unexpected("a boolean");
  }
  const bool value = Head() == 0xC3;
  rest_.remove_prefix(1);
  return value;
}

Result<std::uint64_t> MsgpackReader::Bits() {
  if (Peek() != Kind::kInteger) {
    return Unexpected("an integer");
  }
  const unsigned head = Head();
  rest_.remove_prefix(1);
  if (head <= 0x7F) {
    return head;
  }
  if (head >= 0xE0) {
    return static_cast<std::uint64_t>(static_cast<std::int8_t>(head));
  }
  const bool is_signed = head >= 0xD0;
  const std::size_t size = std::size_t{1} << (head & 3U);
  PX_TRY(std::uint64_t value, BigEndian(size));
  if (is_signed && size < 8) {
    const auto shift = static_cast<unsigned>(64 - size * 8);
    value = static_cast<std::uint64_t>(static_cast<std::int64_t>(value << shift) >> shift);
  }
  return value;
}

Result<std::int64_t> MsgpackReader::Int() {
  const bool is_unsigned = Peek() == Kind::kInteger && Head() == 0xCF;
  PX_TRY(const std::uint64_t bits, Bits());
  const auto value = static_cast<std::int64_t>(bits);
  if (is_unsigned && value < 0) {
    return Fail(Code::kInvalidArgument, fmt::format("msgpack: {} is above 2^63 - 1", bits));
  }
  return value;
}

Result<std::uint64_t> MsgpackReader::Uint() {
  const bool is_unsigned = Peek() == Kind::kInteger && Head() <= 0xCF;
  PX_TRY(const std::uint64_t bits, Bits());
  if (!is_unsigned && static_cast<std::int64_t>(bits) < 0) {
    return Fail(Code::kInvalidArgument,
                fmt::format("msgpack: {} is below 0", static_cast<std::int64_t>(bits)));
  }
  return bits;
}

Result<double> MsgpackReader::Double() {
  if (Peek() == Kind::kInteger) {
    if (Head() == 0xCF) {
      PX_TRY(const std::uint64_t value, Uint());
      return static_cast<double>(value);
    }
    PX_TRY(const std::int64_t value, Int());
    return static_cast<double>(value);
  }
  if (Peek() != Kind::kFloat) {
    return Unexpected("a number");
  }
  const bool narrow = Head() == 0xCA;
  rest_.remove_prefix(1);
  PX_TRY(const std::uint64_t bits, BigEndian(narrow ? 4 : 8));
  return narrow ? std::bit_cast<float>(static_cast<std::uint32_t>(bits))
                : std::bit_cast<double>(bits);
}

Result<std::string_view> MsgpackReader::Text() {
  const Kind kind = Peek();
  if (kind != Kind::kText && kind != Kind::kBytes) {
    return Unexpected("a text");
  }
  const unsigned head = Head();
  rest_.remove_prefix(1);
  if (head <= 0xBF) {
    return Take(head & 0x1FU);
  }
  const unsigned first = kind == Kind::kText ? 0xD9 : 0xC4;
  PX_TRY(const std::uint64_t size, BigEndian(std::size_t{1} << (head - first)));
  return Take(size);
}

Result<std::uint32_t> MsgpackReader::Count(unsigned fixed, unsigned head16, std::string_view what) {
  const unsigned head = Head();
  rest_.remove_prefix(1);
  std::uint64_t count = head & 0x0FU;
  if ((head & 0xF0U) != fixed) {
    PX_TRY(count, BigEndian(head == head16 ? 2 : 4));
  }
  if (count > rest_.size()) {
    return Fail(Code::kInvalidArgument,
                fmt::format("msgpack: {} of {} in {} bytes", what, count, rest_.size()));
  }
  return static_cast<std::uint32_t>(count);
}

Result<std::uint32_t> MsgpackReader::Array() {
  return Peek() == Kind::kArray ? Count(0x90, 0xDC, "an array") : Unexpected("an array");
}

Result<std::uint32_t> MsgpackReader::Map() {
  return Peek() == Kind::kMap ? Count(0x80, 0xDE, "a map") : Unexpected("a map");
}

Result<std::uint64_t> MsgpackReader::SkipHead() {
  switch (Peek()) {
    case Kind::kNil:
    case Kind::kBool:
      rest_.remove_prefix(1);
      return 0;
    case Kind::kInteger: {
      PX_CHECK_OK(Bits());
      return 0;
    }
    case Kind::kFloat: {
      PX_CHECK_OK(Double());
      return 0;
    }
    case Kind::kText:
    case Kind::kBytes: {
      PX_CHECK_OK(Text());
      return 0;
    }
    case Kind::kArray: {
      PX_TRY(const std::uint64_t count, Array());
      return count;
    }

    case Kind::kMap: {
      PX_TRY(const std::uint64_t count, Map());
      return 2 * count;
    }

    case Kind::kExtension:
      return SkipExtension();
    case Kind::kEnd:
    case Kind::kInvalid:
      break;
  }
  return Unexpected("a value");
}

Result<std::uint64_t> MsgpackReader::SkipExtension() {
  const unsigned head = Head();
  rest_.remove_prefix(1);
  std::uint64_t size = std::uint64_t{1} << ((head - 0xD4U) & 7U);
  if (head <= 0xC9) {
    PX_TRY(size, BigEndian(std::size_t{1} << (head - 0xC7U)));
  }
  PX_CHECK_OK(Take(size + 1));  // its type, too
  return 0;
}

Result<void> MsgpackReader::Skip() {
  for (std::uint64_t left = 1; left > 0; --left) {
    PX_TRY(const std::uint64_t inner, SkipHead());
    left += inner;
  }
  return {};
}

}  // namespace pixii::wire
