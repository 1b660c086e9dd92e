// Numbers from the bytes of a file, which may end anywhere.
//
// Thread: a value over bytes that outlive it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace pixii::media {

using Bytes = std::span<const std::uint8_t>;

class ByteReader final {
 public:
  explicit ByteReader(Bytes bytes) : bytes_(bytes) {}

  std::size_t left() const { return bytes_.size() - at_; }

  std::size_t at() const { return at_; }

  /// False once something was asked for that is not there; what was read then is zero.
  bool ok() const { return ok_; }

  std::uint8_t Byte() { return static_cast<std::uint8_t>(BigEndian(1)); }

  std::uint32_t Big16() { return BigEndian(2); }

  std::uint32_t Big32() { return BigEndian(4); }

  std::uint32_t Big24() { return BigEndian(3); }

  std::uint64_t Big64() {
    const std::uint64_t high = Big32();
    return high << 32 | Big32();
  }

  std::uint32_t Little16() { return LittleEndian(2); }

  std::uint32_t Little24() { return LittleEndian(3); }

  std::uint32_t Little32() { return LittleEndian(4); }

  /// `size` bytes; none, and not ok, if there are fewer.
  Bytes Take(std::size_t size) {
    if (!ok_ || size > left()) {
      ok_ = false;
      return {};
    }
    const Bytes taken = bytes_.subspan(at_, size);
    at_ += size;
    return taken;
  }

  void Skip(std::size_t size) { (void)Take(size); }

  /// Whether the next bytes are `text`; they are taken then.
  bool TakeText(std::string_view text) {
    if (!ok_ || text.size() > left() ||
        std::string_view(reinterpret_cast<const char*>(bytes_.data()) + at_, text.size()) != text) {
      return false;
    }
    at_ += text.size();
    return true;
  }

 private:
  std::uint32_t BigEndian(std::size_t size) {
    std::uint32_t value = 0;
    for (const std::uint8_t byte : Take(size)) {
      value = value << 8 | byte;
    }
    return value;
  }

  std::uint32_t LittleEndian(std::size_t size) {
    std::uint32_t value = 0;
    std::uint32_t shift = 0;
    for (const std::uint8_t byte : Take(size)) {
      value |= std::uint32_t{byte} << shift;
      shift += 8;
    }
    return value;
  }

  Bytes bytes_;
  std::size_t at_ = 0;
  bool ok_ = true;
};

}  // namespace pixii::media
