// Outgoing HTTP, one request at a time: for downloads at start, before any loop runs, and for
// threads that wait for nothing else.
//
// Thread: blocks its caller; never called on a loop.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace pixii::rt {

struct HttpFetchRequest {
  std::string url;
  bool head = false;
  std::string post_body;         // not empty: it is a POST of JSON
  std::string method;            // not empty: this one, with `body`
  std::string_view body;         // lives until Fetch returns
  bool follow_redirects = true;  // credentials never follow to another host
  std::vector<std::pair<std::string, std::string>> headers;
  /// Not empty: numeric addresses of the URL's host. A connection is made to one of these alone,
  /// by a new one that is not kept, and by no proxy; names are not looked up.
  std::vector<std::string> addresses;
  std::uint32_t timeout_ms = 0;           // of this transfer; 0: the client's
  std::uint64_t range_begin = 0;          // first byte wanted; > 0 sends a Range header
  std::uint64_t body_size_max = 1 << 24;  // bytes; a larger body is kTooLarge
  /// Gets the body of a 2xx answer piece by piece; an error stops the transfer and is returned.
  /// `status` is 200, or 206 if the server honours range_begin.
  std::function<Result<void>(std::string_view piece, int status)> on_body;
};

struct HttpFetchResponse {
  int status = 0;
  std::vector<std::pair<std::string, std::string>>
      headers;       // names in lower case, of the last answer
  std::string body;  // if there was no on_body

  /// Value of header `name` (lower case) or empty.
  std::string_view Header(std::string_view name) const;
};

struct HttpClientOptions {
  std::uint32_t connect_timeout_ms = 10'000;
  std::uint32_t stall_timeout_s = 30;  // a transfer below 1 byte/s for so long fails
  std::uint32_t timeout_ms = 0;        // of a whole transfer; 0: none
  std::string user_agent = "pixii";
};

class HttpClient {
 public:
  virtual ~HttpClient() = default;
  /// Errors: kUnavailable (connect, TLS, reset, truncated body), kDeadlineExceeded (stalled),
  /// kTooLarge, or on_body's.
  virtual Result<HttpFetchResponse> Fetch(const HttpFetchRequest& request) = 0;
};

/// By libcurl: HTTP and HTTPS only, proxies from the environment as curl reads them.
std::unique_ptr<HttpClient> MakeCurlClient(const HttpClientOptions& options);

}  // namespace pixii::rt
