#include "frontend/api_keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/digest.h"
#include "wire/http.h"
#include "wire/json.h"

namespace pixii::frontend {

namespace {

using wire::Json;

constexpr std::size_t kKeyBytesMin = 8;
constexpr std::size_t kKeyBytesMax = 256;
constexpr std::size_t kDigestChars = 64;
constexpr std::string_view kDigestPrefix = "sha256:";
constexpr wire::JsonLimits kFileLimits{.depth_max = 8, .values_max = 1'000'000};

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

tl::unexpected<Error> Bad(std::string_view where, std::string_view why) {
  return Fail(Code::kInvalidArgument, fmt::format("API key file, {}: {}", where, why));
}

Result<std::string> DigestOfKey(std::string_view key, std::string_view where) {
  const bool visible =
      std::all_of(key.begin(), key.end(), [](char c) { return c > ' ' && c < 0x7F; });
  if (!visible || key.size() < kKeyBytesMin || key.size() > kKeyBytesMax) {
    return Bad(where, fmt::format("no key: {} to {} visible ASCII characters are needed",
                                  kKeyBytesMin, kKeyBytesMax));
  }
  return Sha256Hex(key);
}

Result<std::string> ReadDigest(std::string_view digits, std::string_view where) {
  std::string out(digits);
  for (char& c : out) {
    c = c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  const bool hexadecimal = std::all_of(out.begin(), out.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
  });
  if (!hexadecimal || out.size() != kDigestChars) {
    return Bad(where, fmt::format("sha256 needs {} hexadecimal digits", kDigestChars));
  }
  return out;
}

std::string TenantOf(std::string_view kind, std::string_view name) {
  return Sha256Hex(fmt::format("pixii-{} {}", kind, name)).substr(0, 32);
}

Result<std::string> ReadText(const Json& value, std::string_view where, std::string_view field) {
  if (!value.is_string() || value.string().empty()) {
    return Bad(where, fmt::format("{} must be a string that is not empty", field));
  }
  return value.string();
}

Result<std::uint64_t> ReadCount(const Json& value, std::string_view where, std::string_view field) {
  constexpr std::int64_t kMax = std::numeric_limits<std::uint32_t>::max();
  const std::optional<std::int64_t> count = value.AsInt();
  if (!count || *count < 1 || *count > kMax) {
    return Bad(where, fmt::format("{} must be an integer from 1 to {}", field, kMax));
  }
  return static_cast<std::uint64_t>(*count);
}

Result<std::vector<std::string>> ReadModels(const Json& value, std::string_view where) {
  std::vector<std::string> out;
  if (!value.is_array() || value.array().empty()) {
    return Bad(where, "models must be a list of names that is not empty");
  }
  for (const Json& name : value.array()) {
    PX_TRY(out.emplace_back(), ReadText(name, where, "models"));
  }
  return out;
}

Result<void> ReadField(const std::string& name, const Json& value, std::string_view where,
                       ApiKey& out) {
  if (name == "key") {
    PX_TRY(const std::string key, ReadText(value, where, name));
    PX_TRY(out.digest, DigestOfKey(key, where));
  } else if (name == "sha256") {
    PX_TRY(const std::string digits, ReadText(value, where, name));
    PX_TRY(out.digest, ReadDigest(digits, where));
  } else if (name == "tenant") {
    PX_TRY(const std::string tenant, ReadText(value, where, name));
    out.tenant = TenantOf("named-tenant", tenant);
  } else if (name == "models") {
    PX_TRY(out.models, ReadModels(value, where));
  } else if (name == "requests_per_minute") {
    PX_TRY(const std::uint64_t count, ReadCount(value, where, name));
    out.requests_per_minute = static_cast<std::uint32_t>(count);
  } else if (name == "tokens_per_minute") {
    PX_TRY(out.tokens_per_minute, ReadCount(value, where, name));
  } else if (name == "max_requests") {
    PX_TRY(const std::uint64_t count, ReadCount(value, where, name));
    out.requests_max = static_cast<std::uint32_t>(count);
  } else if (name == "admin") {
    if (!value.is_bool()) {
      return Bad(where, "admin must be true or false");
    }
    out.admin = value.boolean();
  } else {
    return Bad(where, fmt::format("there is no field {}", Json(name.substr(0, 100)).Dump()));
  }
  return {};
}

}  // namespace

bool ApiKey::MayUse(std::string_view model) const {
  return models.empty() || std::ranges::find(models, model) != models.end();
}

std::string ApiKey::Owner() const { return Sha256Hex("pixii-owner " + digest); }

ApiKeys::ApiKeys() : keys_(1), open_(true) { keys_.front().admin = true; }

Result<void> ApiKeys::Add(ApiKey key, std::string_view where) {
  if (key.digest.empty()) {
    return Bad(where, "sha256 or key is missing");
  }
  if (std::ranges::find(keys_, key.digest, &ApiKey::digest) != keys_.end()) {
    return Bad(where, "the same key stands above");
  }
  if (key.tenant.empty()) {
    key.tenant = TenantOf("tenant", key.digest);
  }
  keys_.push_back(std::move(key));
  return {};
}

Result<ApiKeys> ApiKeys::ParseLines(std::string_view file) {
  ApiKeys out;
  out.keys_.clear();
  out.open_ = false;
  for (std::size_t number = 1; !file.empty(); ++number) {
    const std::size_t end = std::min(file.find('\n'), file.size());
    const std::string_view line = Trim(file.substr(0, end));
    file.remove_prefix(std::min(end + 1, file.size()));
    if (line.empty() || line.front() == '#') {
      continue;
    }
    const std::string where = fmt::format("line {}", number);
    ApiKey key;
    key.admin = true;
    if (line.starts_with(kDigestPrefix)) {
      PX_TRY(key.digest, ReadDigest(line.substr(kDigestPrefix.size()), where));
    } else {
      PX_TRY(key.digest, DigestOfKey(line, where));
    }
    PX_CHECK_OK(out.Add(std::move(key), where));
  }
  return out;
}

Result<ApiKeys> ApiKeys::ParseObject(std::string_view file) {
  ApiKeys out;
  out.keys_.clear();
  out.open_ = false;
  PX_TRY(const Json root, wire::ParseJson(file, kFileLimits));
  const Json* keys = root.Find("keys");
  if (keys == nullptr || !keys->is_array() || root.object().size() != 1) {
    return Bad("top", "it must be {\"keys\": [...]}");
  }
  for (std::size_t i = 0; i < keys->array().size(); ++i) {
    const std::string where = fmt::format("keys[{}]", i);
    const Json& entry = keys->array()[i];
    if (!entry.is_object()) {
      return Bad(where, "it must be an object");
    }
    ApiKey key;
    for (const auto& [name, value] : entry.object()) {
      PX_CHECK_OK(ReadField(name, value, where, key));
    }
    PX_CHECK_OK(out.Add(std::move(key), where));
  }
  return out;
}

Result<ApiKeys> ApiKeys::Parse(std::string_view file) {
  const std::size_t first = file.find_first_not_of(" \t\r\n");
  const bool object = first != std::string_view::npos && file[first] == '{';
  PX_TRY(ApiKeys out, object ? ParseObject(file) : ParseLines(file));
  if (out.keys_.empty()) {
    return Fail(Code::kInvalidArgument, "the API key file has no key: put one on each line");
  }
  return out;
}

const ApiKey* ApiKeys::Authenticate(const wire::HttpRequest& request) const {
  if (open_) {
    return &keys_.front();
  }
  constexpr std::string_view kScheme = "bearer ";
  const std::optional<std::string_view> authorization = request.Field("authorization");
  std::optional<std::string_view> given = request.Field("x-api-key");
  if (authorization) {
    if (authorization->size() <= kScheme.size() ||
        !wire::EqualsIgnoreCase(authorization->substr(0, kScheme.size()), kScheme)) {
      return nullptr;
    }
    given = authorization->substr(kScheme.size());
  }
  if (!given) {
    return nullptr;
  }
  const std::string digest = Sha256Hex(Trim(*given));
  const ApiKey* found = nullptr;
  for (const ApiKey& key : keys_) {
    if (EqualInConstantTime(key.digest, digest)) {
      found = &key;
    }
  }
  return found;
}

}  // namespace pixii::frontend
