#include "control/kube_client.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "rt/file.h"

namespace pixii::control {

namespace {

using wire::Json;

constexpr std::uint64_t kTokenBytesMax = 64 * 1024;
constexpr rt::Duration kTokenAgeMax = std::chrono::seconds(60);  // it is renewed at 80% of an hour
constexpr std::uint64_t kRetryAfterSecondsMax = 60;
constexpr std::size_t kDetailBytesMax = 300;

// Of query parameters: all but unreserved characters (RFC 3986, 2.3).
std::string QueryEncode(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                       c == '-' || c == '_' || c == '.' || c == '~';
    if (plain) {
      out += c;
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

std::unique_ptr<rt::Net> TlsNetOf(rt::Loop& loop, rt::Net& net, const KubeAccess& access) {
  if (access.tls == nullptr) {
    return nullptr;
  }
  return rt::MakeTlsNet(loop, net, std::shared_ptr<const rt::TlsContext>(), access.tls);
}

Error EventError(const Json& status) {
  const Json* code = status.Find("code");
  const std::int64_t number = code == nullptr ? 0 : code->AsInt().value_or(0);
  return Error(number == 410 ? Code::kNotFound : Code::kUnavailable,
               fmt::format("kubernetes: the watch ended: {} {}", number,
                           TextAt(status, {"message"}).substr(0, kDetailBytesMax)));
}

}  // namespace

KubeClient::KubeClient(rt::Loop& loop, rt::Net& net, KubeAccess access)
    : loop_(loop),
      access_(std::move(access)),
      tls_net_(TlsNetOf(loop, net, access_)),
      net_(tls_net_ == nullptr ? net : *tls_net_) {}

std::string KubeClient::PathOf(KubeKind kind, std::string_view name) const {
  const KubePlace place = PlaceOf(kind);
  const bool has_group = place.api_version.find('/') != std::string_view::npos;
  return fmt::format("/{}/{}/namespaces/{}/{}{}{}", has_group ? "apis" : "api", place.api_version,
                     access_.space, place.plural, name.empty() ? "" : "/", name);
}

HttpCall KubeClient::CallOf(std::string method, std::string target, std::string body) const {
  HttpCall call{.address = access_.server,
                .method = std::move(method),
                .target = std::move(target),
                .fields = {{.name = "Accept", .value = "application/json"},
                           {.name = "User-Agent", .value = "pixii"}},
                .body = std::move(body)};
  if (!call.body.empty()) {
    call.fields.push_back({.name = "Content-Type", .value = "application/json"});
  }
  return call;
}

// ---- who we are

/// A small file in memory (tmpfs), once a minute: short enough for a loop.
Result<void> KubeClient::RefreshToken() {
  if (access_.token_file.empty() ||
      (!token_.empty() && loop_.Now() - token_read_at_ < kTokenAgeMax)) {
    return {};
  }
  Result<std::string> text = rt::ReadFile(access_.token_file, kTokenBytesMax);
  if (!text) {
    return Fail(Code::kUnauthenticated, text.error().detail());
  }
  while (!text->empty() && static_cast<unsigned char>(text->back()) <= ' ') {
    text->pop_back();
  }
  if (text->empty() || !std::ranges::all_of(*text, [](char c) { return c > ' ' && c < 0x7f; })) {
    return Fail(Code::kUnauthenticated, fmt::format("{} is no bearer token", access_.token_file));
  }
  token_ = std::move(*text);
  token_read_at_ = loop_.Now();
  return {};
}

/// After a refusal: whether there is another token by now.
bool KubeClient::TokenChanged() {
  const std::string refused = std::exchange(token_, {});
  return !access_.token_file.empty() && RefreshToken() && token_ != refused;
}

Result<void> KubeClient::AddToken(HttpCall& call) {
  PX_CHECK_OK(RefreshToken());
  if (!token_.empty()) {
    call.fields.push_back({.name = "Authorization", .value = "Bearer " + token_});
  }
  return {};
}

rt::Task<Result<HttpAnswer>> KubeClient::CallWithToken(HttpCall call, rt::Time deadline) {
  PX_CO_CHECK_OK(AddToken(call));
  auto calling = CallHttp(net_, std::move(call), deadline);
  co_return co_await std::move(calling);
}

// ---- calls

void KubeClient::HeedRetryAfter(int status, std::string_view retry_after) {
  const std::uint64_t seconds = ResourceNumber(retry_after);
  if ((status == 429 || status >= 500) && seconds > 0) {
    not_before_ =
        loop_.Now() + std::chrono::seconds(std::min<std::uint64_t>(seconds, kRetryAfterSecondsMax));
  }
}

/// Errors stand in a Status object.
Error KubeClient::ErrorOf(int status, std::string_view body) const {
  const Result<Json> json = wire::ParseJson(body);
  const std::string message = json ? TextAt(*json, {"message"}) : std::string();
  const Code code = status == 401                    ? Code::kUnauthenticated
                    : status == 403                  ? Code::kForbidden
                    : status == 429 || status >= 500 ? Code::kUnavailable
                                                     : Code::kInvalidArgument;
  return Error(code, fmt::format("kubernetes at {} answered {}: {}", access_.server.ToString(),
                                 status, message.substr(0, kDetailBytesMax)));
}

rt::Task<Result<KubeAnswer>> KubeClient::Call(HttpCall call, rt::Time deadline) {
  HttpCall again = call;
  auto calling = CallWithToken(std::move(call), deadline);
  Result<HttpAnswer> answer = co_await std::move(calling);
  if (answer && answer->status == 401 && TokenChanged()) {
    auto calling_again = CallWithToken(std::move(again), deadline);
    answer = co_await std::move(calling_again);
  }
  if (!answer) {
    co_return Fail(
        answer.error().code(),
        fmt::format("kubernetes at {}: {}", access_.server.ToString(), answer.error().detail()));
  }
  HeedRetryAfter(answer->status, answer->retry_after);
  const int status = answer->status;
  const bool told = status == 404 || status == 409 || status == 410;
  if (!told && (status < 200 || status >= 300)) {
    co_return Fail(ErrorOf(status, answer->body));
  }
  Result<Json> json = wire::ParseJson(answer->body);
  if (!json && !told) {
    co_return Fail(
        Code::kDataCorrupt,
        fmt::format("kubernetes at {}: {}", access_.server.ToString(), json.error().detail()));
  }
  co_return KubeAnswer{.status = status, .body = json ? std::move(*json) : Json()};
}

rt::Task<Result<KubeAnswer>> KubeClient::Create(KubeKind kind, Json object, rt::Time deadline) {
  return Call(CallOf("POST", PathOf(kind, ""), object.Dump()), deadline);
}

rt::Task<Result<KubeAnswer>> KubeClient::Get(KubeKind kind, std::string name, rt::Time deadline) {
  return Call(CallOf("GET", PathOf(kind, name), ""), deadline);
}

rt::Task<Result<KubeAnswer>> KubeClient::Replace(KubeKind kind, std::string name, Json object,
                                                 rt::Time deadline) {
  return Call(CallOf("PUT", PathOf(kind, name), object.Dump()), deadline);
}

rt::Task<Result<KubeAnswer>> KubeClient::ReplaceStatus(KubeKind kind, std::string name, Json object,
                                                       rt::Time deadline) {
  return Call(CallOf("PUT", PathOf(kind, name) + "/status", object.Dump()), deadline);
}

rt::Task<Result<KubeAnswer>> KubeClient::MergePatch(KubeKind kind, std::string name, Json patch,
                                                    rt::Time deadline) {
  HttpCall call = CallOf("PATCH", PathOf(kind, name), patch.Dump());
  call.fields.back().value = "application/merge-patch+json";
  return Call(std::move(call), deadline);
}

rt::Task<Result<KubeAnswer>> KubeClient::Delete(KubeKind kind, std::string name,
                                                KubeVersion version, rt::Time deadline) {
  Json preconditions{Json::Object{}};
  preconditions.Set("uid", std::move(version.uid));
  if (!version.resource_version.empty()) {
    preconditions.Set("resourceVersion", std::move(version.resource_version));
  }
  Json body{Json::Object{}};
  body.Set("apiVersion", "v1");
  body.Set("kind", "DeleteOptions");
  body.Set("preconditions", std::move(preconditions));
  body.Set("propagationPolicy", "Background");
  return Call(CallOf("DELETE", PathOf(kind, name), body.Dump()), deadline);
}

rt::Task<Result<KubeAnswer>> KubeClient::List(KubeKind kind, KubeListOptions options,
                                              rt::Time deadline) {
  std::string target = PathOf(kind, "");
  if (!options.selector.empty()) {
    target += fmt::format("?labelSelector={}", QueryEncode(options.selector));
  }
  if (options.limit > 0) {
    target += fmt::format("{}limit={}", options.selector.empty() ? '?' : '&', options.limit);
  }
  HttpCall call = CallOf("GET", std::move(target), "");
  if (options.metadata_only) {
    call.fields.front().value =
        "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
  }
  return Call(std::move(call), deadline);
}

// ---- watches

rt::Task<Result<std::unique_ptr<HttpStream>>> KubeClient::OpenWithToken(HttpCall call,
                                                                        rt::Time deadline) {
  PX_CO_CHECK_OK(AddToken(call));
  auto opening = OpenHttpStream(net_, std::move(call), deadline);
  co_return co_await std::move(opening);
}

rt::Task<Result<std::unique_ptr<HttpStream>>> KubeClient::Watch(KubeKind kind,
                                                                std::string resource_version,
                                                                rt::Duration length,
                                                                rt::Time deadline,
                                                                std::string selector) {
  const std::string chosen =
      selector.empty() ? std::string() : "labelSelector=" + QueryEncode(selector) + "&";
  const HttpCall call =
      CallOf("GET",
             fmt::format("{}?watch=true&allowWatchBookmarks=true&{}resourceVersion={}"
                         "&timeoutSeconds={}",
                         PathOf(kind, ""), chosen, QueryEncode(resource_version),
                         std::chrono::ceil<std::chrono::seconds>(length).count()),
             "");
  auto opening = OpenWithToken(call, deadline);
  PX_CO_TRY(std::unique_ptr<HttpStream> stream, co_await std::move(opening));
  if (stream->status() == 401 && TokenChanged()) {
    auto opening_again = OpenWithToken(call, deadline);
    PX_CO_TRY(stream, co_await std::move(opening_again));
  }
  if (stream->status() == 200) {
    co_return stream;
  }
  HeedRetryAfter(stream->status(), stream->Field("Retry-After"));
  if (stream->status() == 410) {
    co_return Fail(Code::kNotFound, "kubernetes: the resource version is too old for a watch");
  }
  auto reading = stream->Read(deadline);
  const Result<std::string> body = co_await std::move(reading);
  co_return Fail(ErrorOf(stream->status(), body ? std::string_view(*body) : std::string_view()));
}

Result<KubeEvent> KubeClient::ReadWatchLine(std::string_view line) {
  Result<Json> json = wire::ParseJson(line);
  if (!json) {
    return Fail(Code::kDataCorrupt,
                fmt::format("kubernetes: a line of a watch: {}", json.error().detail()));
  }
  const std::string type = TextAt(*json, {"type"});
  const Json* object = json->Find("object");
  if (object == nullptr || !object->is_object()) {
    return Fail(Code::kDataCorrupt, "kubernetes: an event without an object");
  }
  if (type == "ERROR") {
    return Fail(EventError(*object));
  }
  KubeEvent event{.type = KubeEvent::Type::kPut, .object = *object};
  if (type == "DELETED") {
    event.type = KubeEvent::Type::kDeleted;
  } else if (type == "BOOKMARK") {
    event.type = KubeEvent::Type::kBookmark;
  } else if (type != "ADDED" && type != "MODIFIED") {
    return Fail(Code::kDataCorrupt, fmt::format("kubernetes: an event '{}'", type));
  }
  return event;
}

}  // namespace pixii::control
