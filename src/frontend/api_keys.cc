#include "frontend/api_keys.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/digest.h"
#include "wire/http.h"

namespace pixii::frontend {

namespace {

constexpr std::size_t kKeyBytesMin = 8;
constexpr std::size_t kKeyBytesMax = 256;

// Looks at every byte, wherever they differ.
bool EqualInConstantTime(std::string_view a, std::string_view b) {
  unsigned difference = a.size() == b.size() ? 0U : 1U;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    difference |= static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b[i]);
  }
  return difference == 0;
}

std::string_view Trim(std::string_view text) {
  while (!text.empty() && (text.back() == '\r' || text.back() == ' ' || text.back() == '\t')) {
    text.remove_suffix(1);
  }
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) {
    text.remove_prefix(1);
  }
  return text;
}

}  // namespace

Result<ApiKeys> ApiKeys::Parse(std::string_view file) {
  ApiKeys out;
  for (std::size_t number = 1; !file.empty(); ++number) {
    std::size_t end = std::min(file.find('\n'), file.size());
    std::string_view line = Trim(file.substr(0, end));
    file.remove_prefix(std::min(end + 1, file.size()));
    if (line.empty() || line.front() == '#') {
      continue;
    }
    bool visible =
        std::all_of(line.begin(), line.end(), [](char c) { return c > ' ' && c < 0x7F; });
    if (!visible || line.size() < kKeyBytesMin || line.size() > kKeyBytesMax) {
      return Fail(
          Code::kInvalidArgument,
          fmt::format(
              "line {} of the API key file is no key: {} to {} visible ASCII characters are needed",
              number, kKeyBytesMin, kKeyBytesMax));
    }
    out.digests_.push_back(Sha256Hex(line));
  }
  if (out.digests_.empty()) {
    return Fail(Code::kInvalidArgument, "the API key file has no key: put one on each line");
  }
  return out;
}

std::optional<std::string> ApiKeys::Authenticate(
    std::optional<std::string_view> authorization) const {
  if (open()) {
    return std::string();
  }
  constexpr std::string_view kScheme = "bearer ";
  if (!authorization || authorization->size() <= kScheme.size() ||
      !wire::EqualsIgnoreCase(authorization->substr(0, kScheme.size()), kScheme)) {
    return std::nullopt;
  }
  std::string digest = Sha256Hex(Trim(authorization->substr(kScheme.size())));
  const std::string* found = nullptr;
  for (const std::string& known : digests_) {
    if (EqualInConstantTime(known, digest)) {
      found = &known;
    }
  }
  if (found == nullptr) {
    return std::nullopt;
  }
  return Sha256Hex("pixii-tenant " + *found).substr(0, 32);  // says nothing about the key
}

}  // namespace pixii::frontend
