// Numbers in records, least significant byte first. Private to the folder.
//
// Thread: pure functions.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace pixii::kv {

template <class Number>
void Put(std::string& out, Number value) {
  for (std::size_t i = 0; i < sizeof(Number); ++i) {
    out.push_back(static_cast<char>(static_cast<unsigned char>(value >> (8 * i))));
  }
}

template <class Number>
Number Get(std::string_view bytes, std::size_t at) {
  Number value = 0;
  for (std::size_t i = 0; i < sizeof(Number); ++i) {
    value |= static_cast<Number>(static_cast<unsigned char>(bytes[at + i])) << (8 * i);
  }
  return value;
}

}  // namespace pixii::kv
