#include "config/option.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string_view>

#include "base/checked.h"
#include "config/parse.h"

namespace pixii::config {

namespace {

template <class... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};

struct Suffix {
  std::string_view text;
  std::int64_t factor;
};

// Longest first: "MiB" before "B".
constexpr std::array kSizeSuffixes = {
    Suffix{"KiB", std::int64_t{1} << 10},
    Suffix{"MiB", std::int64_t{1} << 20},
    Suffix{"GiB", std::int64_t{1} << 30},
    Suffix{"TiB", std::int64_t{1} << 40},
    Suffix{"KB", 1'000},
    Suffix{"MB", 1'000'000},
    Suffix{"GB", 1'000'000'000},
    Suffix{"TB", 1'000'000'000'000},
    Suffix{"B", 1},
};
constexpr std::array kDurationSuffixes = {
    Suffix{"ns", 1},
    Suffix{"us", 1'000},
    Suffix{"ms", 1'000'000},
    Suffix{"s", 1'000'000'000},
    Suffix{"m", 60'000'000'000},
    Suffix{"h", 3'600'000'000'000},
};

std::optional<std::int64_t> ParseInteger(std::string_view text) {
  std::int64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || text.empty()) {
    return std::nullopt;
  }
  return value;
}

// An integer with one of the suffixes; `plain_factor` counts a number without.
template <std::size_t N>
std::optional<std::int64_t> ParseScaled(std::string_view text,
                                        const std::array<Suffix, N>& suffixes,
                                        std::int64_t plain_factor) {
  std::int64_t factor = plain_factor;
  for (const Suffix& suffix : suffixes) {
    if (text.ends_with(suffix.text)) {
      factor = suffix.factor;
      text.remove_suffix(suffix.text.size());
      break;
    }
  }
  std::optional<std::int64_t> number = ParseInteger(text);
  return number ? CheckedMul(*number, factor) : std::nullopt;
}

template <std::size_t N>
std::string ScaledText(std::int64_t value, const std::array<Suffix, N>& suffixes) {
  const Suffix* best = nullptr;
  for (const Suffix& suffix : suffixes) {
    if (value != 0 && value % suffix.factor == 0 &&
        (best == nullptr || suffix.factor > best->factor)) {
      best = &suffix;
    }
  }
  return best == nullptr ? fmt::format("{}", value)
                         : fmt::format("{}{}", value / best->factor, best->text);
}

// Binary suffixes alone read better than a mix: 24MiB, not 25165824B.
std::string SizeText(std::int64_t value) {
  constexpr std::array kBinary = {kSizeSuffixes[0], kSizeSuffixes[1], kSizeSuffixes[2],
                                  kSizeSuffixes[3]};
  return ScaledText(value, kBinary);
}

Error NotAllowed(const Option& option, const std::string& text) {
  const auto* words = std::get_if<WordField>(&option.field);
  const std::optional<std::string> nearest =
      words == nullptr ? std::nullopt : Nearest(text.substr(0, 200), words->rule.allowed);
  return Error(
      Code::kInvalidArgument,
      fmt::format("{}: \"{}\" is not allowed; allowed: {}{}", option.name, text.substr(0, 200),
                  AllowedText(option),
                  nearest && !nearest->empty() ? fmt::format("; did you mean {}?", *nearest) : ""),
      option.name);
}

Result<void> Store(const Option& option, const std::string& text, std::optional<std::int64_t> value,
                   std::int64_t* target, IntegerRange range) {
  if (!value || *value < range.min || *value > range.max) {
    return Fail(NotAllowed(option, text));
  }
  *target = *value;
  return {};
}

Result<void> AssignBool(const Option& option, const std::string& text, bool* target) {
  static constexpr std::array<std::string_view, 4> kTrue = {"true", "1", "yes", "on"};
  static constexpr std::array<std::string_view, 4> kFalse = {"false", "0", "no", "off"};
  if (std::ranges::find(kTrue, text) != kTrue.end()) {
    *target = true;
    return {};
  }
  if (std::ranges::find(kFalse, text) != kFalse.end()) {
    *target = false;
    return {};
  }
  return Fail(NotAllowed(option, text));
}

// One a line.
Result<void> AssignList(const Option& option, const std::string& text, const ListField& field) {
  std::vector<std::string> items;
  for (std::size_t begin = 0; begin <= text.size();) {
    std::size_t end = std::min(text.find('\n', begin), text.size());
    std::string item = text.substr(begin, end - begin);
    if (item.size() > field.rule.size_max || item.find('\0') != std::string::npos) {
      return Fail(NotAllowed(option, item));
    }
    if (!item.empty()) {
      items.push_back(std::move(item));
    }
    begin = end + 1;
  }
  *field.target = std::move(items);
  return {};
}

Result<void> AssignReal(const Option& option, const std::string& text, const RealField& field) {
  double value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  bool read = error == std::errc{} && end == text.data() + text.size() && !text.empty();
  if (!read || !(value >= field.range.min && value <= field.range.max)) {
    return Fail(NotAllowed(option, text));
  }
  *field.target = value;
  return {};
}

}  // namespace

Result<void> Assign(const Option& option, const std::string& text) {
  return std::visit(
      Overloaded{
          [&](const BoolField& field) { return AssignBool(option, text, field.target); },
          [&](const IntegerField& field) {
            return Store(option, text, ParseInteger(text), field.target, field.range);
          },
          [&](const SizeField& field) {
            return Store(option, text, ParseScaled(text, kSizeSuffixes, 1), field.target,
                         field.range);
          },
          [&](const DurationField& field) {
            return Store(option, text, ParseScaled(text, kDurationSuffixes, 1'000'000'000),
                         field.target, field.range);
          },
          [&](const RealField& field) { return AssignReal(option, text, field); },
          [&](const TextField& field) -> Result<void> {
            if (text.size() > field.rule.size_max || text.find('\0') != std::string::npos) {
              return Fail(NotAllowed(option, text));
            }
            *field.target = text;
            return {};
          },
          [&](const WordField& field) -> Result<void> {
            if (std::ranges::find(field.rule.allowed, text) == field.rule.allowed.end()) {
              return Fail(NotAllowed(option, text));
            }
            *field.target = text;
            return {};
          },
          [&](const ListField& field) { return AssignList(option, text, field); },
      },
      option.field);
}

std::string ValueText(const Option& option) {
  return std::visit(
      Overloaded{
          [](const BoolField& field) { return std::string(*field.target ? "true" : "false"); },
          [](const IntegerField& field) { return fmt::format("{}", *field.target); },
          [](const SizeField& field) { return SizeText(*field.target); },
          [](const DurationField& field) { return ScaledText(*field.target, kDurationSuffixes); },
          [](const RealField& field) { return fmt::format("{}", *field.target); },
          [](const TextField& field) { return *field.target; },
          [](const WordField& field) { return *field.target; },
          [](const ListField& field) { return fmt::format("{}", fmt::join(*field.target, " ")); },
      },
      option.field);
}

std::string AllowedText(const Option& option) {
  std::string unit = option.unit.empty() ? "" : " " + option.unit;
  return std::visit(Overloaded{
                        [](const BoolField&) { return std::string("true or false"); },
                        [&](const IntegerField& field) {
                          return fmt::format("{} .. {}{}", field.range.min, field.range.max, unit);
                        },
                        [](const SizeField& field) {
                          return fmt::format("{} .. {}, as 512MiB or a number of bytes",
                                             SizeText(field.range.min), SizeText(field.range.max));
                        },
                        [](const DurationField& field) {
                          return fmt::format("{} .. {}, as 30s or 500ms",
                                             ScaledText(field.range.min, kDurationSuffixes),
                                             ScaledText(field.range.max, kDurationSuffixes));
                        },
                        [&](const RealField& field) {
                          return fmt::format("{} .. {}{}", field.range.min, field.range.max, unit);
                        },
                        [](const TextField& field) {
                          return fmt::format("text of at most {} bytes", field.rule.size_max);
                        },
                        [](const WordField& field) {
                          return fmt::format("{}", fmt::join(field.rule.allowed, ", "));
                        },
                        [](const ListField& field) {
                          return fmt::format("texts of at most {} bytes; may be given again",
                                             field.rule.size_max);
                        },
                    },
                    option.field);
}

}  // namespace pixii::config
