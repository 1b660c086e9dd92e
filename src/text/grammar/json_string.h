// The bytes of a JSON string as characters: UTF-8 and escapes, one byte at a time.
//
// Layout of what is pending between bytes, 0 if nothing: bits 28-31 the mode.
// Source: RFC 8259 section 7, RFC 3629.
#pragma once

#include <cstdint>
#include <optional>

#include "text/grammar/regex_store.h"

namespace pixii::text::grammar {

enum class StringEvent : std::uint8_t { kDead, kPending, kCharacter, kQuote };

class StringBytes final {
 public:
  /// Reads `byte`; on kCharacter the character is in `out` and nothing is pending.
  /// `escapes`: false for plain UTF-8, where quotes, backslashes and controls are characters.
  static StringEvent Read(std::uint32_t& pending, std::uint8_t byte, bool escapes, char32_t& out) {
    switch (pending >> 28) {
      case kNothing:
        return First(pending, byte, escapes, out);
      case kSequence:
        return Continue(pending, byte, out);
      case kEscape:
        return Escaped(pending, byte, out);
      case kUnit:
        return Unit(pending, byte, out);
      case kHalf:
        if (byte != '\\') {
          return StringEvent::kDead;
        }
        pending = (kHalfEscape << 28) | (pending & 0x3FF);
        return StringEvent::kPending;
      case kHalfEscape:
        if (byte != 'u') {
          return StringEvent::kDead;
        }
        pending = (kLowUnit << 28) | ((pending & 0x3FF) << 16);
        return StringEvent::kPending;
      default:
        return LowUnit(pending, byte, out);
    }
  }

  /// Whether `any(low, high)` holds for some range of characters that what is pending can become.
  /// `needless`: escapes may stand for characters that need none.
  template <class Any>
  static bool CanBecome(std::uint32_t pending, bool needless, Any any) {
    switch (pending >> 28) {
      case kSequence: {
        std::uint32_t left = (pending >> 24) & 3;
        std::uint32_t length = (pending >> 26) & 3;
        char32_t low = (pending & 0x1FFFFF) << (6 * left);
        char32_t high = low | ((1U << (6 * left)) - 1);
        constexpr char32_t kLeast[] = {0, 0x80, 0x800, 0x10000};
        low = low < kLeast[length] ? kLeast[length] : low;
        high = high > kCodePointMax ? kCodePointMax : high;
        return any(low, high);
      }
      case kEscape:
        for (char32_t c : {U'"', U'\\', U'\b', U'\f', U'\n', U'\r', U'\t'}) {
          if (any(c, c)) {
            return true;
          }
        }
        return needless ? any(0, kCodePointMax) : any(0, 0x1F);
      case kUnit: {
        std::uint32_t left = 4 - ((pending >> 16) & 3);
        char32_t low = (pending & 0xFFFF) << (4 * left);
        char32_t high = low | ((1U << (4 * left)) - 1);
        if (!needless) {
          return any(low, high < 0x1F ? high : 0x1F);
        }
        if (any(low, high < 0xD7FF ? high : 0xD7FF) || any(low > 0xE000 ? low : 0xE000, high)) {
          return true;
        }
        char32_t first = low > 0xD800 ? low : 0xD800;
        char32_t last = high < 0xDBFF ? high : 0xDBFF;
        return first <= last &&
               any(0x10000 + ((first - 0xD800) << 10), 0x10000 + ((last - 0xD800) << 10) + 0x3FF);
      }
      case kHalf:
      case kHalfEscape: {
        char32_t base = 0x10000 + ((pending & 0x3FF) << 10);
        return any(base, base + 0x3FF);
      }
      case kLowUnit: {
        std::uint32_t left = 4 - ((pending >> 26) & 3);
        char32_t base = 0x10000 + (((pending >> 16) & 0x3FF) << 10);
        char32_t low = (pending & 0xFFFF) << (4 * left);
        char32_t high = low | ((1U << (4 * left)) - 1);
        low = low > 0xDC00 ? low : 0xDC00;
        high = high < 0xDFFF ? high : 0xDFFF;
        return low <= high && any(base + (low - 0xDC00), base + (high - 0xDC00));
      }
      default:
        return true;
    }
  }

  /// An escape is being read.
  static bool InEscape(std::uint32_t pending) { return (pending >> 28) >= kEscape; }

 private:
  enum Mode : std::uint32_t { kNothing, kSequence, kEscape, kUnit, kHalf, kHalfEscape, kLowUnit };

  static StringEvent First(std::uint32_t& pending, std::uint8_t byte, bool escapes, char32_t& out) {
    if (byte < 0x80) {
      if (escapes) {
        if (byte == '"') {
          return StringEvent::kQuote;
        }
        if (byte == '\\') {
          pending = kEscape << 28;
          return StringEvent::kPending;
        }
        if (byte < 0x20) {
          return StringEvent::kDead;
        }
      }
      out = byte;
      return StringEvent::kCharacter;
    }
    std::uint32_t more = byte >= 0xF5 || byte < 0xC2 ? 0 : byte >= 0xF0 ? 3 : byte >= 0xE0 ? 2 : 1;
    if (more == 0) {
      return StringEvent::kDead;
    }
    pending = (kSequence << 28) | (more << 26) | (more << 24) | (byte & (0x3FU >> more));
    return StringEvent::kPending;
  }

  static StringEvent Continue(std::uint32_t& pending, std::uint8_t byte, char32_t& out) {
    if ((byte & 0xC0) != 0x80) {
      return StringEvent::kDead;
    }
    std::uint32_t left = ((pending >> 24) & 3) - 1;
    std::uint32_t length = (pending >> 26) & 3;
    char32_t value = ((pending & 0x1FFFFF) << 6) | (byte & 0x3F);
    if (left == length - 1 &&
        ((length == 2 && (value < 0x20 || (value >= 0x360 && value < 0x380))) ||
         (length == 3 && (value < 0x10 || value > 0x10F)))) {
      return StringEvent::kDead;  // overlong, a surrogate, or past U+10FFFF
    }
    if (left > 0) {
      pending = (kSequence << 28) | (length << 26) | (left << 24) | value;
      return StringEvent::kPending;
    }
    pending = 0;
    out = value;
    return StringEvent::kCharacter;
  }

  static StringEvent Escaped(std::uint32_t& pending, std::uint8_t byte, char32_t& out) {
    pending = 0;
    switch (byte) {
      case '"':
      case '\\':
      case '/':
        out = byte;
        return StringEvent::kCharacter;
      case 'b':
        out = '\b';
        return StringEvent::kCharacter;
      case 'f':
        out = '\f';
        return StringEvent::kCharacter;
      case 'n':
        out = '\n';
        return StringEvent::kCharacter;
      case 'r':
        out = '\r';
        return StringEvent::kCharacter;
      case 't':
        out = '\t';
        return StringEvent::kCharacter;
      case 'u':
        pending = kUnit << 28;
        return StringEvent::kPending;
      default:
        return StringEvent::kDead;
    }
  }

  static std::optional<std::uint32_t> Digit(std::uint8_t byte) {
    if (byte >= '0' && byte <= '9') {
      return byte - '0';
    }
    if ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'f') {
      return (byte | 0x20) - 'a' + 10;
    }
    return std::nullopt;
  }

  static StringEvent Unit(std::uint32_t& pending, std::uint8_t byte, char32_t& out) {
    std::optional<std::uint32_t> digit = Digit(byte);
    if (!digit) {
      return StringEvent::kDead;
    }
    std::uint32_t count = ((pending >> 16) & 3) + 1;
    std::uint32_t value = ((pending & 0xFFFF) << 4 | *digit) & 0xFFFF;
    if (count < 4) {
      pending = (kUnit << 28) | (count << 16) | value;
      return StringEvent::kPending;
    }
    if (value >= 0xDC00 && value <= 0xDFFF) {
      return StringEvent::kDead;
    }
    if (value >= 0xD800 && value <= 0xDBFF) {
      pending = (kHalf << 28) | (value - 0xD800);
      return StringEvent::kPending;
    }
    pending = 0;
    out = value;
    return StringEvent::kCharacter;
  }

  static StringEvent LowUnit(std::uint32_t& pending, std::uint8_t byte, char32_t& out) {
    std::optional<std::uint32_t> digit = Digit(byte);
    if (!digit) {
      return StringEvent::kDead;
    }
    std::uint32_t count = ((pending >> 26) & 3) + 1;
    std::uint32_t high = (pending >> 16) & 0x3FF;
    std::uint32_t value = ((pending & 0xFFFF) << 4 | *digit) & 0xFFFF;
    if (count < 4) {
      pending = (kLowUnit << 28) | (count << 26) | (high << 16) | value;
      return StringEvent::kPending;
    }
    if (value < 0xDC00 || value > 0xDFFF) {
      return StringEvent::kDead;
    }
    pending = 0;
    out = 0x10000 + (high << 10) + (value - 0xDC00);
    return StringEvent::kCharacter;
  }
};

}  // namespace pixii::text::grammar
