// The printable alphabet for bytes that byte-level vocabularies are written in.
//
// Thread: constants. Source: GPT-2's bytes_to_unicode: printable Latin-1 stands for itself, the
// other 68 bytes take the characters from U+0100 on, in order.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/utf8.h"

namespace pixii::text {

struct ByteAlphabet {
  static constexpr std::uint32_t kEnd = 0x144;  // one past the last character of the alphabet

  std::array<std::uint16_t, 256> char_of{};
  std::array<std::int16_t, kEnd> byte_of{};  // -1: not of the alphabet

  constexpr ByteAlphabet() {
    byte_of.fill(-1);
    std::uint16_t next = 0x100;
    for (std::uint16_t byte = 0; byte < 256; ++byte) {
      bool itself =
          (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      std::uint16_t c = itself ? byte : next++;
      char_of[byte] = c;
      byte_of[c] = static_cast<std::int16_t>(byte);
    }
  }
};

inline constexpr ByteAlphabet kByteAlphabet;

/// Appends `bytes` in the alphabet: one or two bytes of UTF-8 for each.
inline void AppendInByteAlphabet(std::string& out, std::string_view bytes) {
  for (char byte : bytes) {
    std::uint16_t c = kByteAlphabet.char_of[static_cast<unsigned char>(byte)];
    if (c < 0x80) {
      out += static_cast<char>(c);
    } else {
      out += static_cast<char>(0xC0 | (c >> 6));
      out += static_cast<char>(0x80 | (c & 0x3F));
    }
  }
}

/// Appends the bytes that `piece` stands for. False if one character is not of the alphabet: then
/// the piece itself is appended.
inline bool AppendFromByteAlphabet(std::string& out, std::string_view piece) {
  std::size_t start = out.size();
  for (std::string_view rest = piece; !rest.empty();) {
    std::size_t length = Utf8SequenceLength(rest);
    char32_t c = length == 0 ? ByteAlphabet::kEnd : DecodeUtf8(rest);
    if (c >= ByteAlphabet::kEnd || kByteAlphabet.byte_of[c] < 0) {
      out.resize(start);
      out.append(piece);
      return false;
    }
    out += static_cast<char>(kByteAlphabet.byte_of[c]);
    rest.remove_prefix(length);
  }
  return true;
}

}  // namespace pixii::text
