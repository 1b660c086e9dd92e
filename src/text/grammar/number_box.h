// Which numbers a conjunction of numeric keywords allows, and whether a number begun can still
// become one of them.
//
// Thread: values. A number is spelt plainly (-12.50) or with an exponent. After a mantissa that is
// beyond reach of plain spelling an exponent is considered only if the mantissa has one digit, not
// zero, before the point, which is how every serializer writes exponents: otherwise each run of
// digits could still be scaled into any range, and masks would say nothing.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "text/grammar/decimal.h"

namespace pixii::text::grammar {

inline constexpr std::size_t kStepDigitsMax = 18;      // digits of multipleOf
inline constexpr std::size_t kExponentDigitsMax = 5;   // digits of a written exponent
inline constexpr std::size_t kExponentZerosMax = 2;    // of these, zeros in front
inline constexpr std::size_t kNumberBytesMax = 1'024;  // bytes of one number

struct NumberBox {
  std::optional<Decimal> low;
  std::optional<Decimal> high;
  bool low_open = false;  // low itself is not allowed
  bool high_open = false;
  bool integer = false;
  std::vector<Decimal> steps;     // whole multiples of each
  std::vector<Decimal> excluded;  // none of these

  bool Holds(const Decimal& value) const;
  /// Tightens.
  void AtLeast(const Decimal& bound, bool open);
  void AtMost(const Decimal& bound, bool open);

  /// Every number is in.
  bool IsEverything() const;
  /// Every integer is in, nothing else.
  bool IsIntegers() const;
  /// Some number is in.
  bool Possible() const;
  /// All numbers that are in; nothing if they are more than `count_max`, about, or not countable.
  std::optional<std::vector<Decimal>> Values(std::size_t count_max) const;
};

/// `text` is the beginning of a JSON number or a whole one.
bool IsNumberPrefix(std::string_view text);
/// Some continuation of `text` (or `text` itself) is in the box. Pre: IsNumberPrefix(text).
bool CanBecome(const NumberBox& box, std::string_view text);

}  // namespace pixii::text::grammar
