#include "media/source.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "rt/allowed_folder.h"
#include "rt/clock.h"

namespace pixii::media {

namespace {

constexpr const char* kParam = "url";
constexpr std::uint32_t kStallSeconds = 10;  // below a byte a second

bool StartsWithScheme(std::string_view url, std::string_view scheme) {
  return url.size() >= scheme.size() &&
         std::ranges::equal(url.substr(0, scheme.size()), scheme, [](char a, char b) {
           return (a >= 'A' && a <= 'Z' ? a - 'A' + 'a' : a) == b;
         });
}

bool IsRedirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

// What a client may know of a failed transfer: curl's own words name addresses.
Error FetchError(const Error& error, const std::string& host, const SourcePolicy& policy) {
  switch (error.code()) {
    case Code::kTooLarge:
      return {Code::kTooLarge,
              fmt::format("media of \"{}\" is larger than {} bytes", host, policy.bytes_max),
              kParam};
    case Code::kDeadlineExceeded:
      return {Code::kDeadlineExceeded,
              fmt::format("media of \"{}\" did not arrive within {} ms", host, policy.time_max_ms),
              kParam};
    case Code::kForbidden:
      return {
          Code::kInvalidArgument,
          fmt::format("media URL is refused: \"{}\" led to an address that was not checked", host),
          kParam};
    default:
      return {Code::kUnavailable, fmt::format("media of \"{}\" cannot be fetched", host), kParam};
  }
}

}  // namespace

Result<std::string> Source::Get(std::string_view url) const {
  if (StartsWithScheme(url, "data:")) {
    return DecodeDataUrl(parts_.policy, url);
  }
  if (StartsWithScheme(url, "file:")) {
    return ReadFile(url);
  }
  PX_TRY(HttpUrl checked, CheckUrl(parts_.policy, url));
  return Fetch(std::move(checked));
}

Result<std::string> Source::ReadFile(std::string_view url) const {
  if (parts_.policy.folder.empty()) {
    return Fail(Code::kInvalidArgument,
                "media URL is refused: this server has no folder that files may come from", kParam);
  }
  PX_TRY(const std::string path, PathOfFileUrl(url));
  Result<std::string> bytes =
      rt::ReadFileBelow(parts_.policy.folder, path, parts_.policy.bytes_max);
  if (bytes) {
    return bytes;
  }
  const Error& error = bytes.error();
  return Fail(error.code() == Code::kForbidden ? Code::kInvalidArgument : error.code(),
              fmt::format("media URL is refused: {}", error.detail()), kParam);
}

Result<std::string> Source::Fetch(HttpUrl url) const {
  const SourcePolicy& policy = parts_.policy;
  const rt::Time end = rt::SteadyNow() + std::chrono::milliseconds(policy.time_max_ms);
  for (std::uint32_t redirects = 0;; ++redirects) {
    std::vector<std::string> addresses{url.host};
    if (!rt::ParseIpAddress(url.host)) {
      Result<std::vector<std::string>> found = parts_.resolve(url.host);
      if (!found) {
        return Fail(Code::kInvalidArgument,
                    fmt::format("media URL is refused: its host \"{}\" is not known", url.host),
                    kParam);
      }
      addresses = std::move(*found);
    }
    PX_CHECK_OK(CheckAddresses(policy, url.host, addresses));
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - rt::SteadyNow()).count();
    if (left <= 0) {
      return Fail(FetchError({Code::kDeadlineExceeded, ""}, url.host, policy));
    }
    const rt::HttpClientOptions options{.stall_timeout_s = kStallSeconds};
    const std::unique_ptr<rt::HttpClient> client = parts_.make_client(options);
    rt::HttpFetchRequest request;
    request.url = url.Text();
    request.follow_redirects = false;
    request.addresses = std::move(addresses);
    request.timeout_ms = static_cast<std::uint32_t>(left);
    request.body_size_max = policy.bytes_max;
    Result<rt::HttpFetchResponse> response = client->Fetch(request);
    if (!response) {
      return Fail(FetchError(response.error(), url.host, policy));
    }
    if (response->status >= 200 && response->status < 300) {
      return std::move(response->body);
    }
    if (!IsRedirect(response->status)) {
      return Fail(
          Code::kInvalidArgument,
          fmt::format("media of \"{}\" is answered with status {}", url.host, response->status),
          kParam);
    }
    if (redirects == policy.redirects_max) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("media URL is refused: more than {} redirects", policy.redirects_max),
                  kParam);
    }
    PX_TRY(url, CheckRedirect(policy, url, response->Header("location")));
  }
}

}  // namespace pixii::media
