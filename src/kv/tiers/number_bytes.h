// Little-endian numbers at offsets of stored bytes (all hosts that this runs on are), and zeros.
//
// Thread: any; no state. Private to the folder.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>

namespace pixii::kv {

template <class T>
void Put(std::span<std::byte> out, std::size_t offset, T value) {
  std::memcpy(out.data() + offset, &value, sizeof(T));
}

template <class T>
T Get(std::span<const std::byte> bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

inline bool IsZero(std::span<const std::byte> bytes) {
  return std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{0}; });
}

}  // namespace pixii::kv
