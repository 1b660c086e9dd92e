// The bytes of media that a request names: data: URLs, files of the allowed folder, https: by
// policy.
//
// Thread: any; Get blocks its caller, never call it on a loop.
// Source: media/url_policy.h decides.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "media/url_policy.h"
#include "rt/http_client.h"

namespace pixii::media {

struct SourceParts {
  SourcePolicy policy;
  /// Of a host that is no address; rt::ResolveAll.
  std::function<Result<std::vector<std::string>>(const std::string& host)> resolve;
  /// One for each fetch; rt::MakeCurlClient.
  std::function<std::unique_ptr<rt::HttpClient>(const rt::HttpClientOptions&)> make_client;
};

class Source final {
 public:
  explicit Source(SourceParts parts) : parts_(std::move(parts)) {}

  /// Errors, param "url": kInvalidArgument naming the rule that refuses it, or what the other
  /// server answered; kTooLarge, kDeadlineExceeded; kUnavailable if that cannot be reached. They
  /// say nothing of addresses or of what was fetched.
  Result<std::string> Get(std::string_view url) const;

 private:
  Result<std::string> Fetch(HttpUrl url) const;
  Result<std::string> ReadFile(std::string_view url) const;

  SourceParts parts_;
};

}  // namespace pixii::media
