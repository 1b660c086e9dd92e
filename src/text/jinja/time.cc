// strftime over the civil time the caller gave: no clock, no locale.
#include <fmt/format.h>

#include <array>
#include <optional>

#include "text/jinja/format.h"

namespace pixii::text::jinja {

namespace {

constexpr std::array<std::string_view, 7> kDays = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                                   "Thursday", "Friday", "Saturday"};
constexpr std::array<std::string_view, 12> kMonths = {
    "January", "February", "March",     "April",   "May",      "June",
    "July",    "August",   "September", "October", "November", "December"};

bool IsLeap(std::int32_t year) { return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0; }

/// Day of the year, 1 .. 366.
std::int32_t DayOfYear(const CivilTime& t) {
  constexpr std::array<std::int32_t, 12> kBefore = {0,   31,  59,  90,  120, 151,
                                                    181, 212, 243, 273, 304, 334};
  return kBefore[static_cast<std::size_t>(t.month - 1)] + t.day +
         (t.month > 2 && IsLeap(t.year) ? 1 : 0);
}

/// 0 is Sunday. Source: the Gregorian calendar repeats every 400 years; 0001-01-01 was a Monday.
std::int32_t WeekDay(const CivilTime& t) {
  const std::int32_t years = t.year - 1;
  return (years * 365 + years / 4 - years / 100 + years / 400 + DayOfYear(t)) % 7;
}

/// ISO 8601 week and its year.
struct IsoWeek {
  std::int32_t year;
  std::int32_t week;
};

IsoWeek WeekOf(const CivilTime& t) {
  const auto weeks_in = [](std::int32_t year) {
    const std::int32_t first = WeekDay({.year = year, .month = 1, .day = 1});
    return first == 4 || (first == 3 && IsLeap(year)) ? 53 : 52;
  };
  const std::int32_t weekday = (WeekDay(t) + 6) % 7 + 1;  // Monday 1 .. Sunday 7
  const std::int32_t week = (DayOfYear(t) - weekday + 10) / 7;
  if (week < 1) {
    return {t.year - 1, weeks_in(t.year - 1)};
  }
  return week > weeks_in(t.year) ? IsoWeek{t.year + 1, 1} : IsoWeek{t.year, week};
}

struct Field {
  std::int32_t value;
  std::int32_t width;
  char pad;
};

std::string Padded(const Field& field, char flag) {
  const char pad = flag == '0' ? '0' : flag == '_' ? ' ' : field.pad;
  const std::string digits = fmt::format("{}", field.value);
  const auto width = static_cast<std::size_t>(field.width);
  return flag == '-' || digits.size() >= width ? digits
                                               : std::string(width - digits.size(), pad) + digits;
}

/// Fields that are made of others.
std::string_view Composite(char field) {
  switch (field) {
    case 'c':
      return "%a %b %e %H:%M:%S %Y";
    case 'D':
    case 'x':
      return "%m/%d/%y";
    case 'F':
      return "%Y-%m-%d";
    case 'r':
      return "%I:%M:%S %p";
    case 'R':
      return "%H:%M";
    case 'T':
    case 'X':
      return "%H:%M:%S";
    default:
      return {};
  }
}

std::optional<Field> NumberField(char field, const CivilTime& t) {
  const std::int32_t hour12 = (t.hour + 11) % 12 + 1;
  const std::int32_t day = DayOfYear(t);
  const std::int32_t weekday = WeekDay(t);
  const std::int32_t from_monday = (weekday + 6) % 7;
  switch (field) {
    case 'C':
      return Field{t.year / 100, 2, '0'};
    case 'd':
      return Field{t.day, 2, '0'};
    case 'e':
      return Field{t.day, 2, ' '};
    case 'f':
      return Field{0, 6, '0'};
    case 'G':
      return Field{WeekOf(t).year, 4, '0'};
    case 'g':
      return Field{WeekOf(t).year % 100, 2, '0'};
    case 'H':
      return Field{t.hour, 2, '0'};
    case 'I':
      return Field{hour12, 2, '0'};
    case 'j':
      return Field{day, 3, '0'};
    case 'k':
      return Field{t.hour, 2, ' '};
    case 'l':
      return Field{hour12, 2, ' '};
    case 'm':
      return Field{t.month, 2, '0'};
    case 'M':
      return Field{t.minute, 2, '0'};
    case 'S':
      return Field{t.second, 2, '0'};
    case 'u':
      return Field{from_monday + 1, 1, '0'};
    case 'U':
      return Field{(day + 6 - weekday) / 7, 2, '0'};
    case 'V':
      return Field{WeekOf(t).week, 2, '0'};
    case 'w':
      return Field{weekday, 1, '0'};
    case 'W':
      return Field{(day + 6 - from_monday) / 7, 2, '0'};
    case 'y':
      return Field{t.year % 100, 2, '0'};
    case 'Y':
      return Field{t.year, 1, '0'};
    default:
      return std::nullopt;
  }
}

/// Fields that are words or single characters.
std::optional<std::string_view> WordField(char field, const CivilTime& t) {
  const std::string_view day = kDays[static_cast<std::size_t>(WeekDay(t))];
  const std::string_view month = kMonths[static_cast<std::size_t>(t.month - 1)];
  switch (field) {
    case 'a':
      return day.substr(0, 3);
    case 'A':
      return day;
    case 'b':
    case 'h':
      return month.substr(0, 3);
    case 'B':
      return month;
    case 'n':
      return "\n";
    case 'p':
      return t.hour < 12 ? "AM" : "PM";
    case 'P':
      return t.hour < 12 ? "am" : "pm";
    case 't':
      return "\t";
    case 'z':
    case 'Z':
      return "";
    case '%':
      return "%";
    default:
      return std::nullopt;
  }
}

std::string Upper(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
  }
  return out;
}

}  // namespace

Result<std::string> FormatTime(const Runtime& rt, std::string_view format) {
  std::string out;
  for (std::size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%' || i + 1 >= format.size()) {
      out += format[i];
      continue;
    }
    char flag = 0;
    ++i;
    if (i + 1 < format.size() &&
        std::string_view("-_0^").find(format[i]) != std::string_view::npos) {
      flag = format[i++];
    }
    if (const std::string_view inner = Composite(format[i]); !inner.empty()) {
      PX_TRY(const std::string text, FormatTime(rt, inner));
      out += text;
    } else if (const auto number = NumberField(format[i], rt.now())) {
      out += Padded(*number, flag);
    } else if (const auto word = WordField(format[i], rt.now())) {
      out += flag == '^' ? Upper(*word) : std::string(*word);
    } else {
      return rt.Unsupported("a strftime field other than those of C");
    }
  }
  return out;
}

}  // namespace pixii::text::jinja
