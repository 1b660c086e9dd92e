#include "control/kube_compare.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <string>
#include <utility>

#include "base/digest.h"

namespace pixii::control {

namespace {

using wire::Json;

constexpr std::size_t kDigestDigits = 16;  // of SHA-256: 64 bits, of one component's templates

struct Suffix {
  std::string_view text;
  double factor;
};

constexpr std::array<Suffix, 15> kSuffixes = {{{"n", 1e-9},
                                               {"u", 1e-6},
                                               {"m", 1e-3},
                                               {"", 1},
                                               {"k", 1e3},
                                               {"M", 1e6},
                                               {"G", 1e9},
                                               {"T", 1e12},
                                               {"P", 1e15},
                                               {"Ki", 1024.0},
                                               {"Mi", 1048576.0},
                                               {"Gi", 1073741824.0},
                                               {"Ti", 1099511627776.0},
                                               {"Pi", 1125899906842624.0},
                                               {"Ei", 1152921504606846976.0}}};

bool IsNothing(const Json& value) {
  switch (value.kind()) {
    case Json::Kind::kNull:
      return true;
    case Json::Kind::kBool:
      return !value.boolean();
    case Json::Kind::kNumber:
      return value.AsDouble() == 0.0;
    case Json::Kind::kString:
      return value.string().empty();
    case Json::Kind::kArray:
      return value.array().empty();
    case Json::Kind::kObject:
      return std::ranges::all_of(value.object(),
                                 [](const auto& member) { return IsNothing(member.second); });
  }
  return false;
}

std::optional<double> AmountOf(const Json& value) {
  return value.is_number()   ? value.AsDouble()
         : value.is_string() ? KubeQuantity(value.string())
                             : std::nullopt;
}

void AppendSorted(std::string& out, const Json& value) {
  if (value.is_object()) {
    Json::Object members = value.object();
    std::ranges::sort(members, {}, &wire::JsonMember::first);
    out += '{';
    for (const auto& [name, member] : members) {
      wire::AppendJsonString(out, name);
      AppendSorted(out, member);
    }
    out += '}';
  } else if (value.is_array()) {
    out += '[';
    for (const Json& item : value.array()) {
      AppendSorted(out, item);
      out += ',';
    }
    out += ']';
  } else {
    out += value.Dump();
  }
}

}  // namespace

std::optional<double> KubeQuantity(std::string_view text) {
  double number = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || !std::isfinite(number)) {
    return std::nullopt;
  }
  const std::string_view rest(stop, static_cast<std::size_t>(end - stop));
  const auto suffix = std::ranges::find(kSuffixes, rest, &Suffix::text);
  return suffix == kSuffixes.end() ? std::nullopt : std::optional(number * suffix->factor);
}

bool Covers(const Json& there, const Json& wanted) {
  if (wanted.is_object() && there.is_object()) {
    return std::ranges::all_of(wanted.object(), [&](const auto& member) {
      const Json* found = there.Find(member.first);
      return found == nullptr ? IsNothing(member.second) : Covers(*found, member.second);
    });
  }
  if (wanted.is_array() && there.is_array()) {
    return std::ranges::equal(there.array(), wanted.array(), Covers);
  }
  if (there == wanted || (IsNothing(there) && IsNothing(wanted))) {
    return true;
  }
  const std::optional<double> amount = AmountOf(wanted);
  return amount.has_value() && amount == AmountOf(there);
}

Json Overlay(const Json& there, const Json& wanted) {
  if (!wanted.is_object() || !there.is_object()) {
    return wanted;
  }
  Json out = there;
  for (const auto& [name, value] : wanted.object()) {
    const Json* before = there.Find(name);
    out.Set(name, before == nullptr ? value : Overlay(*before, value));
  }
  return out;
}

std::string KubeDigest(const Json& value) {
  std::string text;
  AppendSorted(text, value);
  return Sha256Hex(text).substr(0, kDigestDigits);
}

}  // namespace pixii::control
