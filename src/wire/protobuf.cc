#include "wire/protobuf.h"

#include <fmt/format.h>

namespace pixii::wire {

namespace {

constexpr unsigned kVarintBitsMax = 64;
constexpr std::uint32_t kFieldNumberMax = (1U << 29) - 1;

void AppendVarint(std::string& out, std::uint64_t value) {
  while (value >= 0x80) {
    out += static_cast<char>((value & 0x7F) | 0x80);
    value >>= 7;
  }
  out += static_cast<char>(value);
}

tl::unexpected<Error> Bad(std::string_view why) {
  return Fail(Code::kInvalidArgument, fmt::format("the message is no protocol buffer: {}", why));
}

}  // namespace

Result<std::uint64_t> ProtoReader::Varint() {
  std::uint64_t out = 0;
  for (unsigned shift = 0; shift < kVarintBitsMax; shift += 7) {
    if (rest_.empty()) {
      return Bad("it ends inside a number");
    }
    const auto byte = static_cast<unsigned char>(rest_.front());
    rest_.remove_prefix(1);
    out |= std::uint64_t{byte & 0x7FU} << shift;
    if (byte < 0x80) {
      return out;
    }
  }
  return Bad("a number has more than ten bytes");
}

Result<std::uint64_t> ProtoReader::Fixed(std::size_t size) {
  if (rest_.size() < size) {
    return Bad("it ends inside a number");
  }
  std::uint64_t out = 0;
  for (std::size_t i = 0; i < size; ++i) {
    out |= std::uint64_t{static_cast<unsigned char>(rest_[i])} << (8 * i);
  }
  rest_.remove_prefix(size);
  return out;
}

Result<std::optional<ProtoField>> ProtoReader::Next() {
  if (rest_.empty()) {
    return std::optional<ProtoField>();
  }
  PX_TRY(const std::uint64_t tag, Varint());
  const std::uint64_t number = tag >> 3;
  if (number == 0 || number > kFieldNumberMax) {
    return Bad("a field has no number");
  }
  ProtoField out{.number = static_cast<std::uint32_t>(number), .bytes = {}};
  switch (tag & 7) {
    case 0: {
      PX_TRY(out.value, Varint());
      break;
    }
    case 1: {
      out.kind = ProtoField::Kind::kFixed64;
      PX_TRY(out.value, Fixed(8));
      break;
    }
    case 2: {
      out.kind = ProtoField::Kind::kBytes;
      PX_TRY(const std::uint64_t size, Varint());
      if (size > rest_.size()) {
        return Bad("it ends inside a field");
      }
      out.bytes = rest_.substr(0, size);
      rest_.remove_prefix(size);
      break;
    }
    case 5: {
      out.kind = ProtoField::Kind::kFixed32;
      PX_TRY(out.value, Fixed(4));
      break;
    }
    default:
      return Bad("a field is of no known kind");
  }
  return std::optional<ProtoField>(out);
}

Result<void> AppendProtoIntegers(const ProtoField& field, std::size_t count_max,
                                 std::vector<std::uint64_t>& out) {
  if (field.is_varint()) {
    out.push_back(field.value);
  } else if (field.is_bytes()) {
    ProtoReader packed(field.bytes);
    while (!packed.rest_.empty() && out.size() <= count_max) {
      PX_TRY(const std::uint64_t value, packed.Varint());
      out.push_back(value);
    }
  } else {
    return Bad("a list of integers is of another kind");
  }
  return out.size() > count_max ? Result<void>(Bad("a list is too long")) : Result<void>();
}

void AppendProtoVarint(std::string& out, std::uint32_t number, std::uint64_t value) {
  AppendVarint(out, std::uint64_t{number} << 3);
  AppendVarint(out, value);
}

void AppendProtoBytes(std::string& out, std::uint32_t number, std::string_view bytes) {
  AppendVarint(out, (std::uint64_t{number} << 3) | 2);
  AppendVarint(out, bytes.size());
  out += bytes;
}

}  // namespace pixii::wire
