#include "wire/s3_signature.h"

#include <algorithm>
#include <array>
#include <chrono>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "base/digest.h"

namespace pixii::wire {

namespace {

constexpr std::size_t kBlockBytes = 64;  // of SHA-256
constexpr std::string_view kAlgorithm = "AWS4-HMAC-SHA256";

std::string Bytes(std::string_view hex) {
  std::string bytes;
  auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(digit(hex[i]) * 16 + digit(hex[i + 1])));
  }
  return bytes;
}

// RFC 2104.
std::string HmacHex(std::string_view key, std::string_view text) {
  std::string block(key.size() > kBlockBytes ? Bytes(Sha256Hex(key)) : std::string(key));
  block.resize(kBlockBytes, '\0');
  std::string inner;
  std::string outer;
  for (const char c : block) {
    inner.push_back(static_cast<char>(c ^ 0x36));
    outer.push_back(static_cast<char>(c ^ 0x5c));
  }
  inner += text;
  return Sha256Hex(outer + Bytes(Sha256Hex(inner)));
}

std::string Hmac(std::string_view key, std::string_view text) { return Bytes(HmacHex(key, text)); }

}  // namespace

std::string S3Encode(std::string_view text, bool keep_slash) {
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '.' || c == '_' || c == '~' || (keep_slash && c == '/');
    out += plain ? std::string(1, c)
                 : fmt::format("%{:02X}", static_cast<unsigned>(static_cast<unsigned char>(c)));
  }
  return out;
}

std::string S3Query(std::vector<std::pair<std::string, std::string>> query) {
  for (auto& [name, value] : query) {
    name = S3Encode(name, false);
    value = S3Encode(value, false);
  }
  std::ranges::sort(query);
  std::string out;
  for (const auto& [name, value] : query) {
    out += fmt::format("{}{}={}", out.empty() ? "" : "&", name, value);
  }
  return out;
}

std::vector<std::pair<std::string, std::string>> SignS3(const S3Request& request,
                                                        const S3Credentials& credentials,
                                                        std::int64_t unix_seconds) {
  const std::string stamp =
      fmt::format("{:%Y%m%dT%H%M%SZ}", fmt::gmtime(static_cast<std::time_t>(unix_seconds)));
  const std::string day = stamp.substr(0, 8);
  const std::string body_hash = Sha256Hex(request.body);
  std::vector<std::pair<std::string, std::string>> headers = request.headers;
  headers.emplace_back("x-amz-content-sha256", body_hash);
  headers.emplace_back("x-amz-date", stamp);
  std::vector<std::pair<std::string, std::string>> signed_headers = headers;
  signed_headers.emplace_back("host", request.host);
  std::ranges::sort(signed_headers);
  std::string lines;
  std::string names;
  for (const auto& [name, value] : signed_headers) {
    lines += fmt::format("{}:{}\n", name, value);
    names += fmt::format("{}{}", names.empty() ? "" : ";", name);
  }
  const std::string canonical = fmt::format("{}\n{}\n{}\n{}\n{}\n{}", request.method, request.path,
                                            S3Query(request.query), lines, names, body_hash);
  const std::string scope = fmt::format("{}/{}/s3/aws4_request", day, credentials.region);
  const std::string to_sign =
      fmt::format("{}\n{}\n{}\n{}", kAlgorithm, stamp, scope, Sha256Hex(canonical));
  std::string key = Hmac("AWS4" + credentials.secret_key, day);
  key = Hmac(key, credentials.region);
  key = Hmac(key, "s3");
  key = Hmac(key, "aws4_request");
  headers.emplace_back("authorization",
                       fmt::format("{} Credential={}/{},SignedHeaders={},Signature={}", kAlgorithm,
                                   credentials.access_key, scope, names, HmacHex(key, to_sign)));
  return headers;
}

}  // namespace pixii::wire
