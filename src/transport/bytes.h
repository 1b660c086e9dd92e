// Little-endian numbers in byte strings, as the formats of this folder have them.
//
// Thread: values.
#pragma once

#include <concepts>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

namespace pixii::transport {

template <std::unsigned_integral T>
void Append(std::string& out, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    out += static_cast<char>(static_cast<std::uint64_t>(value) >> (8 * i));
  }
}

/// Reads from the front; once something was missing, everything is.
class Reader final {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  template <std::unsigned_integral T>
  T Take() {
    const std::string_view part = Take(sizeof(T));
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < part.size(); ++i) {
      value |= static_cast<std::uint64_t>(static_cast<unsigned char>(part[i])) << (8 * i);
    }
    return static_cast<T>(value);
  }

  std::string_view Take(std::size_t size) {
    if (bytes_.size() < size) {
      missing_ = true;
      bytes_ = {};
      return {};
    }
    const std::string_view part = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return part;
  }

  /// All was there and nothing is left.
  bool complete() const { return !missing_ && bytes_.empty(); }

  bool missing() const { return missing_; }

  std::string_view left() const { return bytes_; }

 private:
  std::string_view bytes_;
  bool missing_ = false;
};

}  // namespace pixii::transport
