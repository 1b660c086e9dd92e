// MessagePack: a writer into a string and a reader that believes nothing. docs/subsystems/wire.md
//
// Thread: values. Source: the MessagePack specification, format family table.
// The writer uses the shortest form of each value; the reader takes any form.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace pixii::wire {

class MsgpackWriter final {
 public:
  /// Appends to `out`, which outlives the writer.
  explicit MsgpackWriter(std::string& out) : out_(out) {}

  void Nil() { Byte(0xC0); }

  void Bool(bool value) { Byte(value ? 0xC3 : 0xC2); }

  void Int(std::int64_t value);
  void Uint(std::uint64_t value);
  void Float(float value);
  void Double(double value);
  /// At most 4 GiB, as what follows.
  void Text(std::string_view text);
  void Bytes(std::string_view bytes);
  /// `count` values follow; of a map `count` keys, each with its value.
  void Array(std::size_t count);
  void Map(std::size_t count);

 private:
  void Byte(unsigned value) { out_.push_back(static_cast<char>(value)); }

  template <class T>
  void Number(unsigned head, T value);
  void Length(std::size_t count, unsigned fixed, std::size_t fixed_max, unsigned head16);

  std::string& out_;
};

/// Errors of every verb: kInvalidArgument naming what was found, or that the bytes end too soon.
class MsgpackReader final {
 public:
  enum class Kind : std::uint8_t {
    kNil,
    kBool,
    kInteger,
    kFloat,
    kText,
    kBytes,
    kArray,
    kMap,
    kExtension,
    kEnd,      // no bytes are left
    kInvalid,  // 0xC1
  };

  explicit MsgpackReader(std::string_view bytes) : rest_(bytes) {}

  Kind Peek() const;

  bool at_end() const { return rest_.empty(); }

  std::size_t size_bytes_left() const { return rest_.size(); }

  Result<bool> Bool();
  Result<std::int64_t> Int();    // also unsigned ones up to 2^63 - 1
  Result<std::uint64_t> Uint();  // also signed ones from 0
  /// The 64 bits of an integer, whether it was written signed or unsigned.
  Result<std::uint64_t> Bits();
  Result<double> Double();  // also integers
  /// A text or bytes; lives as long as the input.
  Result<std::string_view> Text();
  /// How many values follow; never more than there are bytes left.
  Result<std::uint32_t> Array();
  /// How many pairs follow; likewise.
  Result<std::uint32_t> Map();
  /// Leaves one value out, whatever it holds.
  Result<void> Skip();

  /// Takes a nil, if one is next.
  bool TakeNil();

 private:
  /// Leaves out a value but for those inside it; returns how many these are.
  Result<std::uint64_t> SkipHead();
  Result<std::uint64_t> SkipExtension();
  Result<std::uint64_t> BigEndian(std::size_t size);
  Result<std::string_view> Take(std::size_t size);
  Result<std::uint32_t> Count(unsigned fixed, unsigned head16, std::string_view what);

  unsigned Head() const { return static_cast<unsigned char>(rest_.front()); }

  tl::unexpected<Error> Unexpected(std::string_view wanted) const;

  std::string_view rest_;
};

}  // namespace pixii::wire
