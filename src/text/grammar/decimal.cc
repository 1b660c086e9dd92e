#include "text/grammar/decimal.h"

#include <fmt/format.h>

#include <algorithm>

namespace pixii::text::grammar {

namespace {

constexpr std::int64_t kExponentMax = 1'000'000'000;

std::strong_ordering CompareMagnitudes(const Decimal& a, const Decimal& b) {
  if (a.is_zero() || b.is_zero()) {
    return b.is_zero() <=> a.is_zero();
  }
  if (a.magnitude() != b.magnitude()) {
    return a.magnitude() <=> b.magnitude();
  }
  // Without trailing zeros a longer run of equal digits is the larger number.
  return a.digits().compare(b.digits()) <=> 0;
}

}  // namespace

Decimal::Decimal(bool negative, std::string digits, std::int64_t exponent)
    : negative_(negative), digits_(std::move(digits)), exponent_(exponent) {
  digits_.erase(0, std::min(digits_.find_first_not_of('0'), digits_.size()));
  while (!digits_.empty() && digits_.back() == '0') {
    digits_.pop_back();
    ++exponent_;
  }
  if (digits_.empty()) {
    negative_ = false;
    exponent_ = 0;
  }
}

std::optional<Decimal> Decimal::Parse(std::string_view text) {
  std::size_t at = 0;
  auto digit = [&] { return at < text.size() && text[at] >= '0' && text[at] <= '9'; };
  bool negative = at < text.size() && text[at] == '-';
  at += negative ? 1 : 0;
  std::string digits;
  if (!digit()) {
    return std::nullopt;
  }
  if (text[at] == '0') {
    digits += text[at++];
  } else {
    while (digit()) {
      digits += text[at++];
    }
  }
  std::int64_t exponent = 0;
  if (at < text.size() && text[at] == '.') {
    ++at;
    if (!digit()) {
      return std::nullopt;
    }
    while (digit()) {
      digits += text[at++];
      --exponent;
    }
  }
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    bool minus = at < text.size() && text[at] == '-';
    at += at < text.size() && (text[at] == '-' || text[at] == '+') ? 1 : 0;
    if (!digit()) {
      return std::nullopt;
    }
    std::int64_t power = 0;
    while (digit()) {
      power = std::min(power * 10 + (text[at++] - '0'), kExponentMax);
    }
    exponent += minus ? -power : power;
  }
  if (at != text.size()) {
    return std::nullopt;
  }
  return Decimal(negative, std::move(digits), exponent);
}

std::strong_ordering operator<=>(const Decimal& a, const Decimal& b) {
  if (a.negative_ != b.negative_) {
    return b.negative_ <=> a.negative_;
  }
  return a.negative_ ? CompareMagnitudes(b, a) : CompareMagnitudes(a, b);
}

bool Decimal::IsMultipleOf(const Decimal& step) const {
  if (is_zero()) {
    return true;
  }
  if (exponent_ < step.exponent_) {
    return false;  // no trailing zeros are left that could make up for it
  }
  std::uint64_t modulus = 0;
  for (char c : step.digits_) {
    modulus = modulus * 10 + static_cast<std::uint64_t>(c - '0');
  }
  unsigned __int128 rest = 0;
  for (char c : digits_) {
    rest = (rest * 10 + static_cast<unsigned>(c - '0')) % modulus;
  }
  // Times 10^shift by squaring.
  unsigned __int128 power = 10 % modulus;
  for (std::int64_t shift = exponent_ - step.exponent_; shift > 0; shift >>= 1) {
    if ((shift & 1) != 0) {
      rest = rest * power % modulus;
    }
    power = power * power % modulus;
  }
  return rest == 0;
}

std::optional<__int128> Decimal::InUnits(std::int64_t unit) const {
  if (is_zero()) {
    return 0;
  }
  if (exponent_ < unit || magnitude() - unit >= 36) {
    return std::nullopt;
  }
  __int128 value = 0;
  for (char c : digits_) {
    value = value * 10 + (c - '0');
  }
  for (std::int64_t i = unit; i < exponent_; ++i) {
    value *= 10;
  }
  return negative_ ? -value : value;
}

std::string Decimal::ToString() const {
  if (is_zero()) {
    return "0";
  }
  return fmt::format("{}{}e{}", negative_ ? "-" : "", digits_, exponent_);
}

}  // namespace pixii::text::grammar
