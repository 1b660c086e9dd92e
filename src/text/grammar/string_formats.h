// The formats of JSON schema as patterns of ECMA-262 that match the whole text.
//
// Source: RFC 3339 (date-time, date, time, duration of appendix A), 5321 (email), 1123 (hostname),
// 2673 (ipv4), 4291 (ipv6), 3986 (uri, uri-reference), 3987 (iri), 6570 (uri-template), 4122
// (uuid), 6901 (json-pointer).
#pragma once

#include <string>
#include <string_view>

namespace pixii::text::grammar {

enum class FormatSupport : std::uint8_t {
  kPattern,     // FormatPattern has it
  kAnnotation,  // no draft defines the name: it says nothing about the value
  kRefused,     // a draft defines it, and it cannot be enforced exactly here
};

FormatSupport SupportOfFormat(std::string_view name);
/// Pre: SupportOfFormat(name) is kPattern.
std::string FormatPattern(std::string_view name);

}  // namespace pixii::text::grammar
