#include <curl/curl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cctype>
#include <optional>

#include "rt/http_client.h"
#include "rt/ip_address.h"

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

constexpr std::uint64_t kHeadersSizeMax = 1 << 20;  // bytes

struct EasyFree {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};

struct UrlFree {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};

struct CurlFree {
  void operator()(char* text) const { curl_free(text); }
};

struct ListFree {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

// One transfer's state, reached from curl's C callbacks.
struct Transfer {
  CURL* easy = nullptr;
  const HttpFetchRequest* request = nullptr;
  HttpFetchResponse response;
  std::uint64_t header_size = 0;  // of all answers on the way
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
  transfer.header_size += line.size();
  if (transfer.header_size > kHeadersSizeMax) {
    transfer.stopped =
        Error(Code::kTooLarge, fmt::format("the headers of {} are larger than {} bytes",
                                           transfer.request->url, kHeadersSizeMax));
    return 0;
  }
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
  Code ours = code == CURLE_OPERATION_TIMEDOUT  ? Code::kDeadlineExceeded
              : code == CURLE_FILESIZE_EXCEEDED ? Code::kTooLarge
                                                : Code::kUnavailable;
  return Error(ours,
               fmt::format("{}: {}", url, *message != '\0' ? message : curl_easy_strerror(code)));
}

// The last word about where a connection goes: whatever curl made of the URL, it is one of the
// addresses that were asked for.
curl_socket_t OpenSocket(void* user, curlsocktype /*purpose*/, curl_sockaddr* wanted) {
  auto& transfer = *static_cast<Transfer*>(user);
  IpAddress address;
  if (wanted->family == AF_INET) {
    const auto* v4 = reinterpret_cast<const std::uint8_t*>(
        &reinterpret_cast<const sockaddr_in&>(wanted->addr).sin_addr);
    address.v4 = true;
    address.bytes[10] = address.bytes[11] = 0xff;
    std::copy_n(v4, sizeof(in_addr), address.bytes.begin() + 12);
  } else if (wanted->family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(wanted->addr);
    std::copy_n(v6.sin6_addr.s6_addr, address.bytes.size(), address.bytes.begin());
  }
  const bool asked_for =
      std::ranges::any_of(transfer.request->addresses,
                          [&](const std::string& text) { return ParseIpAddress(text) == address; });
  if (!asked_for) {
    transfer.stopped = Error(Code::kForbidden, "the connection went to an address nobody checked");
    return CURL_SOCKET_BAD;
  }
  return ::socket(wanted->family, wanted->socktype | SOCK_CLOEXEC, wanted->protocol);
}

// "host:port:address,address", as CURLOPT_RESOLVE wants it.
Result<std::string> PinnedEntry(const HttpFetchRequest& request) {
  const std::unique_ptr<CURLU, UrlFree> url(curl_url());
  char* host = nullptr;
  char* port = nullptr;
  if (curl_url_set(url.get(), CURLUPART_URL, request.url.c_str(), 0) != CURLUE_OK ||
      curl_url_get(url.get(), CURLUPART_HOST, &host, 0) != CURLUE_OK) {
    return Fail(Code::kInvalidArgument, "curl reads no host in the URL");
  }
  const std::unique_ptr<char, CurlFree> own_host(host);
  if (curl_url_get(url.get(), CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) != CURLUE_OK) {
    return Fail(Code::kInvalidArgument, "curl reads no port in the URL");
  }
  const std::unique_ptr<char, CurlFree> own_port(port);
  std::string entry = fmt::format("{}:{}:", host, port);
  for (const std::string& address : request.addresses) {
    const bool v6 = address.find(':') != std::string::npos;
    entry += fmt::format("{}{}", entry.back() == ':' ? "" : ",",
                         v6 ? fmt::format("[{}]", address) : address);
  }
  return entry;
}

void PinConnection(Transfer& transfer, curl_slist* entries) {
  CURL* easy = transfer.easy;
  curl_easy_setopt(easy, CURLOPT_RESOLVE, entries);
  curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, OpenSocket);
  curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, &transfer);
  curl_easy_setopt(easy, CURLOPT_PROXY, "");  // not the environment's either
  curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
  curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
  curl_easy_setopt(easy, CURLOPT_MAXFILESIZE_LARGE,
                   static_cast<curl_off_t>(transfer.request->body_size_max));
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
    Transfer transfer{.easy = easy,
                      .request = &request,
                      .response = {},
                      .header_size = 0,
                      .body_size = 0,
                      .stopped = {}};
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
    curl_easy_setopt(
        easy, CURLOPT_TIMEOUT_MS,
        static_cast<long>(request.timeout_ms > 0 ? request.timeout_ms : options_.timeout_ms));
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
    std::unique_ptr<curl_slist, ListFree> pinned;
    if (!request.addresses.empty()) {
      PX_TRY(const std::string entry, PinnedEntry(request));
      pinned.reset(curl_slist_append(nullptr, entry.c_str()));
      PinConnection(transfer, pinned.get());
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
