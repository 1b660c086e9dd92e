// Classes of characters as the patterns of tokenizers name them, one look-up a character.
//
// Thread: the table is built at first use and immutable then.
// Layout: two stages, blocks of 256 characters; equal blocks are one.
// Source: general categories and normal forms of utf8proc's Unicode version.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace pixii::text {

/// General categories, joined where no pattern tells them apart. White space is taken out of all.
enum class CharClass : std::uint8_t {
  kOther,        // Cc, Cf, Cn, Co, and what else has no class below
  kPunctuation,  // P*
  kSymbol,       // S*
  kUpper,        // Lu, Lt
  kLower,        // Ll
  kLetter,       // Lm, Lo
  kMark,         // M*
  kNumber,       // N*
  kSpace,        // White_Space but for the next
  kNewline,      // U+000A, U+000D
};

/// A set of classes, a bit for each.
using CharSet = std::uint32_t;

template <class... Classes>
constexpr CharSet SetOf(Classes... classes) {
  return ((CharSet{1} << static_cast<unsigned>(classes)) | ...);
}

inline constexpr CharSet kLetters = SetOf(CharClass::kUpper, CharClass::kLower, CharClass::kLetter);
inline constexpr CharSet kNumbers = SetOf(CharClass::kNumber);
inline constexpr CharSet kMarks = SetOf(CharClass::kMark);
inline constexpr CharSet kNewlines = SetOf(CharClass::kNewline);
inline constexpr CharSet kWhitespace = SetOf(CharClass::kSpace, CharClass::kNewline);

constexpr bool Holds(CharSet set, CharClass char_class) {
  return (set >> static_cast<unsigned>(char_class) & 1) != 0;
}

class CharTable final {
 public:
  /// The one table.
  static const CharTable& Get();

  CharClass ClassOf(char32_t c) const { return static_cast<CharClass>(Entry(c) & kClassMask); }

  /// Whether NFC may change `c` or what stands before it: a text without such characters is its own
  /// NFC, and what stands before and after a run of them normalizes apart.
  bool MayCompose(char32_t c) const { return (Entry(c) & kMayCompose) != 0; }

 private:
  static constexpr std::size_t kBlock = 256;      // characters
  static constexpr std::uint8_t kClassMask = 15;  // bits of an entry
  static constexpr std::uint8_t kMayCompose = 128;

  CharTable();

  std::uint8_t Entry(char32_t c) const { return blocks_[first_[c / kBlock] + c % kBlock]; }

  std::array<std::uint32_t, 0x110000 / kBlock> first_;  // of a block, where it begins in blocks_
  std::vector<std::uint8_t> blocks_;
};

/// One character of a text.
struct ReadChar {
  CharClass char_class;
  std::uint8_t bytes;
};

/// The character at `at`. Pre: a well-formed sequence stands there.
inline ReadChar ReadCharAt(const CharTable& table, const char* at) {
  auto byte = [at](int i) { return static_cast<char32_t>(static_cast<unsigned char>(at[i])); };
  char32_t lead = byte(0);
  if (lead < 0x80) {
    return {table.ClassOf(lead), 1};
  }
  if (lead < 0xE0) {
    return {table.ClassOf((lead & 0x1F) << 6 | (byte(1) & 0x3F)), 2};
  }
  if (lead < 0xF0) {
    return {table.ClassOf((lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F)), 3};
  }
  return {table.ClassOf((lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 |
                        (byte(3) & 0x3F)),
          4};
}

}  // namespace pixii::text
