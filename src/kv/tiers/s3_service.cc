#include "kv/tiers/s3_service.h"

#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace pixii::kv {

namespace {

constexpr std::size_t kAnswerMax = 300;  // bytes of an error's body that are said
constexpr std::uint64_t kListBytesMax = 4 << 20;

/// What stands between <tag> and </tag> from `at` on; `at` moves behind it.
std::optional<std::string_view> Between(std::string_view xml, std::string_view tag,
                                        std::size_t& at) {
  const std::string open = fmt::format("<{}>", tag);
  const std::size_t begin = xml.find(open, at);
  if (begin == std::string_view::npos) {
    return std::nullopt;
  }
  const std::size_t end = xml.find("</", begin);
  if (end == std::string_view::npos) {
    return std::nullopt;
  }
  at = end;
  return xml.substr(begin + open.size(), end - begin - open.size());
}

}  // namespace

Result<std::unique_ptr<S3Service>> S3Service::Create(const S3Options& options,
                                                     std::unique_ptr<rt::HttpClient> client,
                                                     std::function<std::int64_t()> unix_now) {
  S3Options own = options;
  while (own.endpoint.ends_with('/')) {
    own.endpoint.pop_back();
  }
  const std::size_t scheme = own.endpoint.find("://");
  if (scheme == std::string::npos ||
      (!own.endpoint.starts_with("http://") && !own.endpoint.starts_with("https://")) ||
      own.endpoint.find('/', scheme + 3) != std::string::npos) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("'{}' is no endpoint like http://host:9000 or https://host", options.endpoint));
  }
  std::string host = own.endpoint.substr(scheme + 3);
  return std::unique_ptr<S3Service>(  // tidy: new the constructor is private
      new S3Service(std::move(own), std::move(host), std::move(client), std::move(unix_now)));
}

Result<rt::HttpFetchResponse> S3Service::Send(const Call& call) {
  wire::S3Request request;
  request.method = call.method;
  request.host = host_;
  request.path = fmt::format("/{}{}{}", wire::S3Encode(options_.bucket, true),
                             call.name.empty() ? "" : "/", wire::S3Encode(call.name, true));
  request.query = call.query;
  request.body = call.body;
  rt::HttpFetchRequest fetch;
  const std::string query = wire::S3Query(call.query);
  fetch.url =
      fmt::format("{}{}{}{}", options_.endpoint, request.path, query.empty() ? "" : "?", query);
  fetch.method = call.method;
  fetch.body = call.body;
  fetch.follow_redirects = false;
  fetch.body_size_max = call.size_max;
  fetch.headers = wire::SignS3(request, options_.credentials, unix_now_());
  PX_TRY(rt::HttpFetchResponse response, client_->Fetch(fetch));
  if (response.status == 404) {
    return Fail(Code::kNotFound, fmt::format("{} is not there", fetch.url));
  }
  if (response.status < 200 || response.status > 299) {
    return Fail(response.status == 507 ? Code::kResourceExhausted : Code::kUnavailable,
                fmt::format("{} {}: status {}: {}", call.method, fetch.url, response.status,
                            response.body.substr(0, kAnswerMax)));
  }
  return response;
}

Result<void> S3Service::Put(const std::string& name, std::string_view bytes) {
  PX_CHECK_OK(Send({.method = "PUT", .name = name, .query = {}, .body = bytes}));
  return {};
}

Result<std::string> S3Service::Get(const std::string& name, std::uint64_t size_max) {
  PX_TRY(rt::HttpFetchResponse response,
         Send({.method = "GET", .name = name, .query = {}, .body = {}, .size_max = size_max}));
  return std::move(response.body);
}

Result<void> S3Service::Delete(const std::string& name) {
  PX_CHECK_OK(Send({.method = "DELETE", .name = name, .query = {}, .body = {}}));
  return {};
}

Result<void> S3Service::List(const std::string& prefix, ListWatch& watch,
                             const std::function<bool(std::string_view)>& on_name) {
  std::string next;
  do {
    PX_CHECK_OK(watch.NextPart());
    std::vector<std::pair<std::string, std::string>> query{{"list-type", "2"}, {"prefix", prefix}};
    if (!next.empty()) {
      query.emplace_back("continuation-token", next);
    }
    PX_TRY(const rt::HttpFetchResponse response, Send({.method = "GET",
                                                       .name = {},
                                                       .query = std::move(query),
                                                       .body = {},
                                                       .size_max = kListBytesMax}));
    std::size_t at = 0;
    while (const std::optional<std::string_view> name = Between(response.body, "Key", at)) {
      if (!on_name(*name)) {
        return {};
      }
    }
    at = 0;
    const std::optional<std::string_view> token =
        Between(response.body, "NextContinuationToken", at);
    next = token ? std::string(*token) : std::string();
  } while (!next.empty());
  return {};
}

}  // namespace pixii::kv
