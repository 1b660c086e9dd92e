#include "model/diffusion/prompt_text.h"

#include <array>
#include <charconv>
#include <cstdint>
#include <optional>
#include <utility>

#include "base/utf8.h"

namespace pixii::model {
namespace {

constexpr std::size_t kReferenceSizeMax = 12;  // bytes between '&' and ';'
constexpr char32_t kReplacement = 0xFFFD;

std::optional<char32_t> Referenced(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, char32_t>, 6> kNames = {
      {{"amp", U'&'}, {"lt", U'<'}, {"gt", U'>'}, {"quot", U'"'}, {"apos", U'\''}, {"nbsp", 0xA0}}};
  for (const auto& [known, character] : kNames) {
    if (name == known) {
      return character;
    }
  }
  if (name.size() < 2 || name[0] != '#') {
    return {};
  }
  const bool hex = name[1] == 'x' || name[1] == 'X';
  const std::string_view digits = name.substr(hex ? 2 : 1);
  std::uint32_t value = 0;
  const auto [end, problem] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, hex ? 16 : 10);
  if (problem != std::errc() || end != digits.data() + digits.size() || digits.empty()) {
    return {};
  }
  const bool character = value != 0 && value <= 0x10FFFF && (value < 0xD800 || value > 0xDFFF);
  return character ? static_cast<char32_t>(value) : kReplacement;
}

std::string Unescape(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const std::size_t end = text[at] == '&' ? text.find(';', at) : std::string_view::npos;
    if (end != std::string_view::npos && end - at - 1 <= kReferenceSizeMax) {
      if (const auto character = Referenced(text.substr(at + 1, end - at - 1))) {
        AppendUtf8(out, *character);
        at = end;
        continue;
      }
    }
    out += text[at];
  }
  return out;
}

/// As Python's \s: what Unicode calls white space and the separators 1C to 1F.
bool IsSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

}  // namespace

std::string CleanPrompt(std::string_view prompt) {
  const std::string text = Unescape(Unescape(prompt));
  std::string out;
  bool space = false;
  for (std::size_t at = 0; at < text.size();) {
    const std::string_view rest = std::string_view(text).substr(at);
    const std::size_t length = Utf8SequenceLength(rest);
    if (length > 0 && IsSpace(DecodeUtf8(rest))) {
      space = true;
    } else {
      out += space && !out.empty() ? " " : "";
      space = false;
      out += rest.substr(0, length == 0 ? 1 : length);
    }
    at += length == 0 ? 1 : length;
  }
  return out;
}

}  // namespace pixii::model
