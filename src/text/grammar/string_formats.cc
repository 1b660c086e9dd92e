#include "text/grammar/string_formats.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/assert.h"

namespace pixii::text::grammar {

namespace {

constexpr std::string_view kDate =
    R"((?:\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8]))|(?:\d\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29))";
constexpr std::string_view kOffset = R"((?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d))";

// Leap seconds are 23:59:60 of UTC; told for offsets of whole and half hours.
std::string LeapSecond() {
  std::string out = R"((?:23:59:60(?:\.\d+)?(?:[Zz]|[+-]00:00))";
  for (int hour = 0; hour < 24; ++hour) {
    out += fmt::format(R"(|{:02}:59:60(?:\.\d+)?(?:\+{:02}|-{:02}):00)", hour, (hour + 1) % 24,
                       23 - hour);
    out += fmt::format(R"(|{:02}:29:60(?:\.\d+)?(?:\+{:02}|-{:02}):30)", hour, hour, 23 - hour);
  }
  return out + ")";
}

std::string Time() {
  return fmt::format(R"((?:(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d+)?{}|{}))", kOffset,
                     LeapSecond());
}

std::string Duration() {
  constexpr std::string_view kTime = R"(T(?:\d+H(?:\d+M(?:\d+S)?)?|\d+M(?:\d+S)?|\d+S))";
  return fmt::format(R"(P(?:\d+W|(?:\d+Y(?:\d+M(?:\d+D)?)?|\d+M(?:\d+D)?|\d+D)(?:{0})?|{0}))",
                     kTime);
}

constexpr std::string_view kByte = R"((?:25[0-5]|2[0-4]\d|1\d\d|[1-9]\d|\d))";

std::string Ipv4() { return fmt::format(R"((?:{0}\.){{3}}{0})", kByte); }

std::string Ipv6() {
  constexpr std::string_view kGroup = "[0-9A-Fa-f]{1,4}";
  std::string last = fmt::format("(?:{0}:{0}|{1})", kGroup, Ipv4());
  std::string out = fmt::format("(?:(?:{}:){{6}}{}", kGroup, last);
  out += fmt::format("|::(?:{}:){{5}}{}", kGroup, last);
  for (int before = 1; before <= 5; ++before) {
    // Up to `before` groups, ::, the rest.
    std::string head = fmt::format("(?:{0}(?::{0}){{0,{1}}})?", kGroup, before - 1);
    out += fmt::format("|{}::(?:{}:){{{}}}{}", head, kGroup, 5 - before, last);
  }
  out += fmt::format("|(?:{0}(?::{0}){{0,5}})?::{0}", kGroup);
  out += fmt::format("|(?:{0}(?::{0}){{0,6}})?::)", kGroup);
  return out;
}

constexpr std::string_view kLabel = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?";

std::string SimpleHostname() { return fmt::format(R"({0}(?:\.{0})*)", kLabel); }

std::string Email(bool international) {
  std::string_view more = international ? R"(\u0080-\u{10FFFF})" : "";
  return fmt::format(
      R"((?:[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~{0}-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~{0}-]+)*)"
      R"(|"(?:[ !#-\[\]-~{0}]|\\[ -~])*")@(?:{1}|\[(?:{2}|IPv6:{3})\]))",
      more,
      international
          ? R"([A-Za-z0-9\u0080-\u{10FFFF}](?:[A-Za-z0-9\u0080-\u{10FFFF}-]*[A-Za-z0-9\u0080-\u{10FFFF}])?(?:\.[A-Za-z0-9\u0080-\u{10FFFF}](?:[A-Za-z0-9\u0080-\u{10FFFF}-]*[A-Za-z0-9\u0080-\u{10FFFF}])?)*)"
          : SimpleHostname(),
      Ipv4(), Ipv6());
}

// RFC 3986, or 3987 with `more` characters in it.
std::string Uri(bool reference, bool international) {
  std::string more =
      international ? R"(\u00A0-\uD7FF\uF900-\uFDCF\uFDF0-\uFFEF\u{10000}-\u{EFFFD})" : "";
  std::string unreserved = R"(A-Za-z0-9\-._~)" + more;
  constexpr std::string_view kSub = R"(!$&'()*+,;=)";
  std::string escape = "%[0-9A-Fa-f]{2}";
  std::string pchar = fmt::format("(?:[{}{}:@]|{})", unreserved, kSub, escape);
  std::string tail =
      fmt::format(R"((?:\?(?:{0}|[/?{1}])*)?(?:#(?:{0}|[/?])*)?)", pchar,
                  international ? R"(\uE000-\uF8FF\u{F0000}-\u{FFFFD}\u{100000}-\u{10FFFD})" : "");
  std::string host = fmt::format(
      R"((?:\[(?:{}|[vV][0-9A-Fa-f]+\.[A-Za-z0-9\-._~!$&'()*+,;=:]+)\]|(?:[{}{}]|{})*))", Ipv6(),
      unreserved, kSub, escape);
  std::string authority =
      fmt::format(R"((?:(?:[{}{}:]|{})*@)?{}(?::\d*)?)", unreserved, kSub, escape, host);
  std::string segments = fmt::format("(?:/{}*)*", pchar);
  std::string absolute = fmt::format("/(?:{0}+(?:/{0}*)*)?", pchar);
  std::string hier =
      fmt::format("(?://{}{}|{}|{}+(?:/{}*)*|)", authority, segments, absolute, pchar, pchar);
  std::string full = fmt::format(R"([A-Za-z][A-Za-z0-9+\-.]*:{}{})", hier, tail);
  if (!reference) {
    return full;
  }
  std::string no_colon = fmt::format("(?:[{}{}@]|{})", unreserved, kSub, escape);
  return fmt::format("(?:{}|(?://{}{}|{}|{}+(?:/{}*)*|){})", full, authority, segments, absolute,
                     no_colon, pchar, tail);
}

std::string UriTemplate() {
  constexpr std::string_view kName =
      R"((?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2})(?:\.?(?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2}))*)";
  std::string variable = fmt::format(R"({}(?::[1-9]\d{{0,3}}|\*)?)", kName);
  return fmt::format(
      R"((?:[!#$&-;=?-\[\]_a-z~\u00A0-\uD7FF\uE000-\uFDCF\uFDF0-\uFFEF\u{{10000}}-\u{{10FFFD}}]|%[0-9A-Fa-f]{{2}}|)"
      R"(\{{[+#./;?&=,!@|]?{0}(?:,{0})*\}})*)",
      variable);
}

constexpr std::string_view kPointer = R"((?:/(?:[^~/]|~[01])*)*)";

struct Format {
  std::string_view name;
  std::string (*pattern)();  // nullptr: refused
};

constexpr std::array kFormats = std::to_array<Format>({
    {"date-time", [] { return fmt::format("{}[Tt]{}", kDate, Time()); }},
    {"date", [] { return std::string(kDate); }},
    {"time", [] { return Time(); }},
    {"duration", [] { return Duration(); }},
    {"email", [] { return Email(false); }},
    {"idn-email", [] { return Email(true); }},
    {"hostname", nullptr},  // which punycode is a label is no regular language
    {"idn-hostname", nullptr},
    {"ipv4", [] { return Ipv4(); }},
    {"ipv6", [] { return Ipv6(); }},
    {"uri", [] { return Uri(false, false); }},
    {"uri-reference", [] { return Uri(true, false); }},
    {"iri", [] { return Uri(false, true); }},
    {"iri-reference", [] { return Uri(true, true); }},
    {"uri-template", [] { return UriTemplate(); }},
    {"uuid",
     [] {
       return std::string(
           "[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}");
     }},
    {"json-pointer", [] { return std::string(kPointer); }},
    {"relative-json-pointer", [] { return fmt::format("(?:0|[1-9][0-9]*)(?:#|{})", kPointer); }},
    {"regex", nullptr},
});

const Format* Find(std::string_view name) {
  const auto* found = std::find_if(kFormats.begin(), kFormats.end(),
                                   [&](const Format& format) { return format.name == name; });
  return found == kFormats.end() ? nullptr : found;
}

}  // namespace

FormatSupport SupportOfFormat(std::string_view name) {
  const Format* format = Find(name);
  return format == nullptr            ? FormatSupport::kAnnotation
         : format->pattern == nullptr ? FormatSupport::kRefused
                                      : FormatSupport::kPattern;
}

std::string FormatPattern(std::string_view name) {
  const Format* format = Find(name);
  PX_ASSERT(format != nullptr && format->pattern != nullptr);
  return format->pattern();
}

}  // namespace pixii::text::grammar
