#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <optional>

#include "rt/http_client.h"

namespace pixii::rt {

std::string_view HttpFetchResponse::Header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (key == name) {
      return value;
    }
  }
  return {};
}

namespace {

struct EasyFree {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};

struct ListFree {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

// One transfer's state, reached from curl's C callbacks.
struct Transfer {
  CURL* easy = nullptr;
  const HttpFetchRequest* request = nullptr;
  HttpFetchResponse response;
  std::uint64_t body_size = 0;
  std::optional<Error> stopped;
};

std::string_view Trim(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0) {
    text.remove_suffix(1);
  }
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front())) != 0) {
    text.remove_prefix(1);
  }
  return text;
}

std::size_t OnHeader(char* data, std::size_t size, std::size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  std::string_view line(data, size * count);
  if (line.starts_with("HTTP/")) {
    transfer.response.headers.clear();  // a redirect's headers are not the answer's
    return line.size();
  }
  std::size_t colon = line.find(':');
  if (colon != std::string_view::npos) {
    std::string name(line.substr(0, colon));
    std::ranges::transform(name, name.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    transfer.response.headers.emplace_back(std::move(name), Trim(line.substr(colon + 1)));
  }
  return line.size();
}

std::size_t OnBody(char* data, std::size_t size, std::size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  std::string_view piece(data, size * count);
  transfer.body_size += piece.size();
  if (transfer.body_size > transfer.request->body_size_max) {
    transfer.stopped =
        Error(Code::kTooLarge, fmt::format("the answer of {} is larger than {} bytes",
                                           transfer.request->url, transfer.request->body_size_max));
    return 0;
  }
  long status = 0;
  curl_easy_getinfo(transfer.easy, CURLINFO_RESPONSE_CODE, &status);
  if (transfer.request->on_body && status >= 200 && status < 300) {
    if (Result<void> taken = transfer.request->on_body(piece, static_cast<int>(status)); !taken) {
      transfer.stopped = taken.error();
      return 0;
    }
    return piece.size();
  }
  transfer.response.body += piece;
  return piece.size();
}

Error TransferError(CURLcode code, const char* message, const std::string& url) {
  Code ours = code == CURLE_OPERATION_TIMEDOUT ? Code::kDeadlineExceeded : Code::kUnavailable;
  return Error(ours,
               fmt::format("{}: {}", url, *message != '\0' ? message : curl_easy_strerror(code)));
}

class CurlClient final : public HttpClient {
 public:
  explicit CurlClient(HttpClientOptions options) : options_(std::move(options)) {
    curl_global_init(CURL_GLOBAL_DEFAULT);
    easy_.reset(curl_easy_init());
  }

  Result<HttpFetchResponse> Fetch(const HttpFetchRequest& request) override {
    CURL* easy = easy_.get();
    if (easy == nullptr) {
      return Fail(Code::kInternal, "libcurl gave no handle");
    }
    curl_easy_reset(easy);  // keeps connections
    Transfer transfer{
        .easy = easy, .request = &request, .response = {}, .body_size = 0, .stopped = {}};
    char message[CURL_ERROR_SIZE] = "";
    std::unique_ptr<curl_slist, ListFree> headers;
    for (const auto& [name, value] : request.headers) {
      headers.reset(
          curl_slist_append(headers.release(), fmt::format("{}: {}", name, value).c_str()));
    }
    curl_easy_setopt(easy, CURLOPT_URL, request.url.c_str());
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, request.follow_redirects ? 1L : 0L);
    curl_easy_setopt(easy, CURLOPT_MAXREDIRS, 10L);
    curl_easy_setopt(easy, CURLOPT_NOBODY, request.head ? 1L : 0L);
    if (!request.post_body.empty()) {
      headers.reset(curl_slist_append(headers.release(), "Content-Type: application/json"));
      curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
                       static_cast<curl_off_t>(request.post_body.size()));
      curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request.post_body.c_str());
    }
    if (!request.method.empty()) {
      // Nothing is asked for first: whoever would refuse the body may do so after it.
      for (const char* plain : {"Content-Type: application/octet-stream", "Expect:"}) {
        headers.reset(curl_slist_append(headers.release(), plain));
      }
      curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request.method.c_str());
      if (request.method == "PUT" || !request.body.empty()) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
                         static_cast<curl_off_t>(request.body.size()));
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request.body.empty() ? "" : request.body.data());
      }
    }
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers.get());
    curl_easy_setopt(easy, CURLOPT_USERAGENT, options_.user_agent.c_str());
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                     static_cast<long>(options_.connect_timeout_ms));
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, static_cast<long>(options_.timeout_ms));
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, static_cast<long>(options_.stall_timeout_s));
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, message);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, OnHeader);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, &transfer);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, OnBody);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, &transfer);
    if (request.range_begin > 0) {
      curl_easy_setopt(easy, CURLOPT_RANGE, fmt::format("{}-", request.range_begin).c_str());
    }
    CURLcode code = curl_easy_perform(easy);
    if (transfer.stopped) {
      return Fail(*transfer.stopped);
    }
    if (code != CURLE_OK) {
      return Fail(TransferError(code, message, request.url));
    }
    long status = 0;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    transfer.response.status = static_cast<int>(status);
    return std::move(transfer.response);
  }

 private:
  HttpClientOptions options_;
  std::unique_ptr<CURL, EasyFree> easy_;
};

}  // namespace

std::unique_ptr<HttpClient> MakeCurlClient(const HttpClientOptions& options) {
  return std::make_unique<CurlClient>(options);
}

}  // namespace pixii::rt
