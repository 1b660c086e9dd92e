#include "text/grammar/number_box.h"

#include <algorithm>
#include <cstdlib>
#include <string>

namespace pixii::text::grammar {

namespace {

// What lies between two bounds, low included, high not (or included).
struct Span {
  Decimal low;
  std::optional<Decimal> high;
  bool low_open = false;
  bool high_open = true;
};

// The lattice of integer and multipleOf in units of 10^unit; nothing if it does not fit.
struct Lattice {
  std::int64_t unit = 0;
  __int128 step = 1;
};

__int128 Gcd(__int128 a, __int128 b) {
  while (b != 0) {
    a %= b;
    std::swap(a, b);
  }
  return a;
}

constexpr std::int64_t kExponentsNear = 400;   // all of which are tried
constexpr std::int64_t kExponentMax = 99'999;  // of kExponentDigitsMax digits

constexpr __int128 kLatticeMax = static_cast<__int128>(1) << 100;

std::optional<Lattice> LatticeOf(const NumberBox& box) {
  Lattice out;
  std::vector<Decimal> steps = box.steps;
  if (box.integer) {
    steps.emplace_back(false, "1", 0);
  }
  out.unit = steps[0].exponent();
  for (const Decimal& step : steps) {
    out.unit = std::min(out.unit, step.exponent());
  }
  for (const Decimal& step : steps) {
    std::optional<__int128> units = step.InUnits(out.unit);
    if (!units) {
      return std::nullopt;
    }
    __int128 factor = *units / Gcd(out.step, *units);
    if (factor > kLatticeMax / out.step) {
      return std::nullopt;
    }
    out.step *= factor;
  }
  return out;
}

// floor(value / 10^unit), nothing if too large.
std::optional<__int128> FloorUnits(const Decimal& value, std::int64_t unit) {
  if (std::optional<__int128> exact = value.InUnits(unit)) {
    return exact;
  }
  if (value.magnitude() - unit >= 36) {
    return std::nullopt;
  }
  __int128 whole = 0;
  std::int64_t keep = value.magnitude() - unit + 1;  // digits at or above the unit
  for (std::int64_t i = 0; i < keep; ++i) {
    auto at = static_cast<std::size_t>(i);
    whole = whole * 10 + (at < value.digits().size() ? value.digits()[at] - '0' : 0);
  }
  return value.negative() ? -whole - 1 : whole;
}

// `units` times 10^unit.
Decimal PointOf(__int128 units, std::int64_t unit) {
  const bool negative = units < 0;
  std::string digits;
  for (__int128 rest = negative ? -units : units; rest != 0; rest /= 10) {
    digits += static_cast<char>('0' + static_cast<int>(rest % 10));
  }
  std::reverse(digits.begin(), digits.end());
  return {negative, std::move(digits), unit};
}

// Some number of the box lies in the span.
bool Meets(const NumberBox& box, Span span) {
  if (box.low && (*box.low > span.low || (*box.low == span.low && box.low_open))) {
    span.low = *box.low;
    span.low_open = box.low_open;
  }
  if (box.high &&
      (!span.high || *box.high < *span.high || (*box.high == *span.high && box.high_open))) {
    span.high = box.high;
    span.high_open = box.high_open;
  }
  if (!span.high) {
    return true;
  }
  if (span.low > *span.high) {
    return false;
  }
  if (span.low == *span.high) {
    return !span.low_open && !span.high_open && box.Holds(span.low);
  }
  if (!box.integer && box.steps.empty()) {
    return true;  // an interval has more points than can be excluded
  }
  std::optional<Lattice> lattice = LatticeOf(box);
  std::optional<__int128> low = lattice ? FloorUnits(span.low, lattice->unit) : std::nullopt;
  std::optional<__int128> high = lattice ? FloorUnits(*span.high, lattice->unit) : std::nullopt;
  if (!low || !high) {
    return true;  // past what is counted here: the end decides
  }
  __int128 step = lattice->step;
  __int128 point = *low / step;
  point -= point * step > *low ? 1 : 0;
  for (std::size_t tries = 0; tries < box.excluded.size() + 3; ++tries, ++point) {
    __int128 units = point * step;
    if (units > *high) {
      return false;
    }
    const Decimal value = PointOf(units, lattice->unit);
    bool inside = (value > span.low || (value == span.low && !span.low_open)) &&
                  (value < *span.high || (value == *span.high && !span.high_open));
    if (inside && box.Holds(value)) {
      return true;
    }
  }
  return false;
}

// The box seen in the mirror, so that only positive numbers are looked at.
NumberBox Mirror(const NumberBox& box) {
  NumberBox out = box;
  out.low = box.high ? std::optional(box.high->Negated()) : std::nullopt;
  out.high = box.low ? std::optional(box.low->Negated()) : std::nullopt;
  std::swap(out.low_open, out.high_open);
  for (Decimal& value : out.excluded) {
    value = value.Negated();
  }
  return out;
}

std::string Increment(std::string digits) {
  std::size_t i = digits.size();
  while (i > 0 && digits[i - 1] == '9') {
    digits[--i] = '0';
  }
  if (i == 0) {
    return "1" + digits;
  }
  ++digits[i - 1];
  return digits;
}

// Numbers whose digits begin with `digits`, the last of which counts 10^exponent.
Span SpanOf(const std::string& digits, std::int64_t exponent) {
  return {Decimal(false, digits, exponent), Decimal(false, Increment(digits), exponent), false,
          true};
}

struct Parts {
  bool negative = false;
  bool point = false;
  bool exponent = false;
  std::string whole;
  std::string fraction;
  std::string power;  // with its sign
};

Parts Split(std::string_view text) {
  Parts out;
  std::size_t at = 0;
  if (at < text.size() && text[at] == '-') {
    out.negative = true;
    ++at;
  }
  for (; at < text.size(); ++at) {
    char c = text[at];
    if (out.exponent) {
      out.power += c;
    } else if (c == '.') {
      out.point = true;
    } else if (c == 'e' || c == 'E') {
      out.exponent = true;
    } else {
      (out.point ? out.fraction : out.whole) += c;
    }
  }
  return out;
}

bool PlainCanBecome(const NumberBox& box, const Parts& parts) {
  Decimal zero;
  if (parts.whole.empty()) {
    return Meets(box, {zero, std::nullopt, false, true}) || box.Holds(zero);
  }
  if (parts.point || parts.whole == "0") {
    return Meets(box, SpanOf(parts.whole + parts.fraction,
                             -static_cast<std::int64_t>(parts.fraction.size())));
  }
  if (!box.high) {
    return true;
  }
  for (std::size_t more = 0; parts.whole.size() + more <= kNumberBytesMax; ++more) {
    Span span = SpanOf(parts.whole, static_cast<std::int64_t>(more));
    if (span.low > *box.high) {
      return false;
    }
    if (Meets(box, span)) {
      return true;
    }
  }
  return false;  // it cannot be written out
}

// d.ddd that an exponent will follow.
bool ScientificCanBecome(const NumberBox& box, const Parts& parts) {
  if (parts.whole.size() != 1 || parts.whole == "0") {
    return false;
  }
  if (!box.high) {
    return true;
  }
  if (box.high->negative() || box.high->is_zero()) {
    return false;
  }
  std::int64_t top = box.high->magnitude() + 1;
  std::int64_t bottom = top;
  if (box.low && !box.low->negative() && !box.low->is_zero()) {
    bottom = box.low->magnitude() - 1;
  } else if (box.integer || !box.steps.empty()) {
    std::optional<Lattice> lattice = LatticeOf(box);
    if (!lattice) {
      return true;
    }
    bottom = lattice->unit - 1;
  } else {
    return true;
  }
  bottom = std::max(bottom, top - 700);
  auto digits = static_cast<std::int64_t>(parts.fraction.size());
  for (std::int64_t power = bottom; power <= top; ++power) {
    if (Meets(box, SpanOf(parts.whole + parts.fraction, power - digits))) {
      return true;
    }
  }
  return false;
}

bool ExponentCanBecome(const NumberBox& box, const Parts& parts) {
  Decimal mantissa(false, parts.whole + parts.fraction,
                   -static_cast<std::int64_t>(parts.fraction.size()));
  if (mantissa.is_zero()) {
    return box.Holds(mantissa);
  }
  std::string_view power = parts.power;
  char sign = power.empty() ? ' ' : power[0];
  bool has_sign = sign == '-' || sign == '+';
  power.remove_prefix(has_sign ? 1 : 0);
  bool any_digit = !power.empty();
  power.remove_prefix(std::min(power.find_first_not_of('0'), power.size()));
  bool minus = has_sign ? sign == '-' : false;
  const bool plus = !minus;
  minus = minus || (!has_sign && !any_digit);
  const auto holds = [&](std::int64_t exponent) {
    const std::string digits = exponent == 0 ? "" : std::to_string(exponent);
    return digits.starts_with(power) && ((plus && box.Holds(mantissa.Shifted(exponent))) ||
                                         (minus && box.Holds(mantissa.Shifted(-exponent))));
  };
  for (std::int64_t exponent = 0; exponent <= kExponentsNear; ++exponent) {
    if (holds(exponent)) {
      return true;
    }
  }
  // Far from zero: what the bounds leave.
  std::int64_t first = kExponentMax;
  std::int64_t last = 0;
  for (const std::optional<Decimal>& bound : {box.low, box.high}) {
    if (bound && !bound->is_zero()) {
      const std::int64_t shift = std::abs(bound->magnitude() - mantissa.magnitude());
      first = std::min(first, shift - 1);
      last = std::max(last, shift + 1);
    }
  }
  for (std::int64_t exponent = std::max(first, kExponentsNear + 1);
       exponent <= std::min(last, kExponentMax); ++exponent) {
    if (holds(exponent)) {
      return true;
    }
  }
  return !box.high && sign != '-' && box.steps.empty();
}

}  // namespace

bool NumberBox::Holds(const Decimal& value) const {
  if (low && (value < *low || (low_open && value == *low))) {
    return false;
  }
  if (high && (value > *high || (high_open && value == *high))) {
    return false;
  }
  if (integer && !value.IsInteger()) {
    return false;
  }
  for (const Decimal& step : steps) {
    if (!value.IsMultipleOf(step)) {
      return false;
    }
  }
  return std::find(excluded.begin(), excluded.end(), value) == excluded.end();
}

void NumberBox::AtLeast(const Decimal& bound, bool open) {
  if (!low || bound > *low || (bound == *low && open)) {
    low = bound;
    low_open = open;
  }
}

void NumberBox::AtMost(const Decimal& bound, bool open) {
  if (!high || bound < *high || (bound == *high && open)) {
    high = bound;
    high_open = open;
  }
}

bool NumberBox::IsEverything() const {
  return !low && !high && !integer && steps.empty() && excluded.empty();
}

bool NumberBox::IsIntegers() const {
  return !low && !high && integer && steps.empty() && excluded.empty();
}

bool NumberBox::Possible() const {
  Decimal zero;
  return Holds(zero) || Meets(*this, {zero, std::nullopt, false, true}) ||
         Meets(Mirror(*this), {zero, std::nullopt, false, true});
}

std::optional<std::vector<Decimal>> NumberBox::Values(std::size_t count_max) const {
  std::vector<Decimal> out;
  if (low && high && *low == *high) {
    if (Holds(*low)) {
      out.push_back(*low);
    }
    return out;
  }
  if (!low || !high || (!integer && steps.empty())) {
    return std::nullopt;
  }
  const std::optional<Lattice> lattice = LatticeOf(*this);
  const auto from = lattice ? FloorUnits(*low, lattice->unit) : std::nullopt;
  const auto to = lattice ? FloorUnits(*high, lattice->unit) : std::nullopt;
  if (!from || !to ||
      (*to - *from) / lattice->step > static_cast<__int128>(count_max + excluded.size() + 2)) {
    return std::nullopt;
  }
  __int128 point = *from / lattice->step - 1;
  for (; point * lattice->step <= *to; ++point) {
    const Decimal value = PointOf(point * lattice->step, lattice->unit);
    if (Holds(value)) {
      out.push_back(value);
    }
  }
  return out;
}

bool IsNumberPrefix(std::string_view text) {
  std::size_t at = 0;
  auto digit = [&] { return at < text.size() && text[at] >= '0' && text[at] <= '9'; };
  auto digits = [&] {
    std::size_t begin = at;
    while (digit()) {
      ++at;
    }
    return at != begin;
  };
  if (text.starts_with('-')) {
    ++at;
  }
  if (at == text.size()) {
    return true;
  }
  if (text[at] == '0') {
    ++at;
  } else if (!digits()) {
    return false;
  }
  if (at < text.size() && text[at] == '.') {
    ++at;
    if (at < text.size() && !digits()) {
      return false;
    }
  }
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E') && text[at - 1] != '.') {
    ++at;
    at += at < text.size() && (text[at] == '-' || text[at] == '+') ? 1 : 0;
    std::size_t begin = at;
    if (at < text.size() && !digits()) {
      return false;
    }
    // Digits that count must still fit behind the zeros.
    const std::size_t nonzero = std::min(text.find_first_not_of('0', begin), text.size());
    if (at - begin > kExponentDigitsMax || nonzero - begin > kExponentZerosMax) {
      return false;
    }
  }
  return at == text.size() && text.size() <= kNumberBytesMax;
}

bool CanBecome(const NumberBox& box, std::string_view text) {
  if (std::optional<Decimal> value = Decimal::Parse(text); value && box.Holds(*value)) {
    return true;
  }
  Parts parts = Split(text);
  NumberBox mirrored = parts.negative ? Mirror(box) : NumberBox{};
  const NumberBox& side = parts.negative ? mirrored : box;
  if (parts.exponent) {
    return ExponentCanBecome(side, parts);
  }
  return PlainCanBecome(side, parts) || ScientificCanBecome(side, parts);
}

}  // namespace pixii::text::grammar
