#include "wire/s3_signature.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <span>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "base/digest.h"
#include "base/mac.h"

namespace pixii::wire {

namespace {

constexpr std::string_view kAlgorithm = "AWS4-HMAC-SHA256";
constexpr std::string_view kService = "s3";
constexpr std::string_view kRequest = "aws4_request";

std::string Hex(const Mac& mac) {
  std::string out;
  for (const std::byte byte : mac) {
    out += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  }
  return out;
}

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
  const std::string scope = fmt::format("{}/{}/{}/{}", day, credentials.region, kService, kRequest);
  const std::string to_sign =
      fmt::format("{}\n{}\n{}\n{}", kAlgorithm, stamp, scope, Sha256Hex(canonical));
  const std::string secret = "AWS4" + credentials.secret_key;
  Mac key = HmacSha256(std::as_bytes(std::span(secret)), day);
  for (const std::string_view part : {std::string_view(credentials.region), kService, kRequest}) {
    key = HmacSha256(key, part);
  }
  headers.emplace_back(
      "authorization",
      fmt::format("{} Credential={}/{},SignedHeaders={},Signature={}", kAlgorithm,
                  credentials.access_key, scope, names, Hex(HmacSha256(key, to_sign))));
  return headers;
}

}  // namespace pixii::wire
