// Decimal numbers of any size, exactly as JSON writes them.
//
// Thread: values. Source: RFC 8259 section 6.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace pixii::text::grammar {

/// (-1)^negative * digits * 10^exponent; digits without leading or trailing zeros, "" is zero.
class Decimal final {
 public:
  Decimal() = default;
  Decimal(bool negative, std::string digits, std::int64_t exponent);

  /// Nothing if `text` is no JSON number. Exponents saturate at +-10^9.
  static std::optional<Decimal> Parse(std::string_view text);

  bool is_zero() const { return digits_.empty(); }

  bool negative() const { return negative_; }

  std::int64_t exponent() const { return exponent_; }

  const std::string& digits() const { return digits_; }

  /// Position of the first digit: 0 for 1 .. 9, 1 for 10 .. 99. Pre: not zero.
  std::int64_t magnitude() const {
    return exponent_ + static_cast<std::int64_t>(digits_.size()) - 1;
  }

  bool IsInteger() const { return exponent_ >= 0 || is_zero(); }

  /// A whole multiple of `step`. Pre: step is positive with at most 18 digits.
  bool IsMultipleOf(const Decimal& step) const;

  Decimal Negated() const { return {!negative_, digits_, exponent_}; }

  /// Times 10^power.
  Decimal Shifted(std::int64_t power) const { return {negative_, digits_, exponent_ + power}; }

  /// The value in units of 10^unit, if it is whole and below 10^36.
  std::optional<__int128> InUnits(std::int64_t unit) const;

  std::string ToString() const;

  friend bool operator==(const Decimal&, const Decimal&) = default;
  friend std::strong_ordering operator<=>(const Decimal& a, const Decimal& b);

 private:
  bool negative_ = false;
  std::string digits_;
  std::int64_t exponent_ = 0;
};

}  // namespace pixii::text::grammar
