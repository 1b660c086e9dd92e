#include "kv/tiers/redis_service.h"

#include <array>
#include <charconv>
#include <optional>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace pixii::kv {

namespace {

using wire::RespValue;

constexpr std::uint64_t kListBytesMax = 4U << 20U;  // of one part of a list
constexpr std::uint64_t kSmallReply = 4096;         // bytes
constexpr std::string_view kListCount = "1000";     // keys that one part looks at
constexpr std::size_t kReadBytes = 256U << 10U;     // at a time
constexpr std::uint16_t kPort = 6379;
constexpr std::size_t kSocketPathBytesMax = 107;  // what the system has room for
constexpr std::uint32_t kDatabaseMax = 1U << 20U;

Error ErrorOf(const std::string& text) {
  const std::string_view kind = std::string_view(text).substr(0, text.find(' '));
  if (kind == "OOM") {
    return {Code::kResourceExhausted, fmt::format("the store says: {}", text)};
  }
  const bool is_refusal = kind == "NOAUTH" || kind == "WRONGPASS" || kind == "NOPERM";
  return {is_refusal ? Code::kUnauthenticated : Code::kUnavailable,
          fmt::format("the store says: {}", text)};
}

/// For messages: without what stands before a host or in a query, a password perhaps.
std::string Masked(std::string_view url) {
  std::string_view rest = url;
  std::string_view scheme;
  if (const std::size_t end = url.find("://"); end != std::string_view::npos) {
    scheme = url.substr(0, end + 3);
    rest.remove_prefix(end + 3);
  }
  const std::size_t at = rest.rfind('@');
  const bool has_user = at != std::string_view::npos;
  rest = has_user ? rest.substr(at) : rest;
  const std::size_t query = rest.find('?');
  const bool has_query = query != std::string_view::npos;
  return fmt::format("{}{}{}{}", scheme, has_user ? "***" : "", rest.substr(0, query),
                     has_query ? "?***" : "");
}

Result<RespValue> Checked(RespValue value, RespValue::Kind kind) {
  if (value.kind != kind) {
    return Fail(Code::kUnavailable, "the store answers something else than it was asked for");
  }
  return value;
}

}  // namespace

Result<RedisService::Place> RedisService::ParseUrl(std::string_view url) {
  auto wrong = [&] {
    return Fail(Code::kInvalidArgument,
                fmt::format("'{}' is no place like redis://HOST:PORT/DATABASE, "
                            "rediss://HOST:PORT or unix:/PATH",
                            Masked(url)));
  };
  Place place;
  constexpr std::string_view kUnix = "unix:";
  if (url.starts_with("unix:/")) {
    if (const std::size_t size = url.size() - kUnix.size(); size > kSocketPathBytesMax) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("'{}': the path of a socket has at most {} bytes, this one {}", url,
                              kSocketPathBytesMax, size));
    }
    PX_TRY(place.address, rt::ParseAddress(url));
    return place;
  }
  const std::size_t scheme = url.find("://");
  if (scheme == std::string_view::npos) {
    return wrong();
  }
  place.tls = url.substr(0, scheme) == "rediss";
  if (!place.tls && url.substr(0, scheme) != "redis") {
    return wrong();
  }
  std::string_view rest = url.substr(scheme + 3);
  if (rest.find('@') != std::string_view::npos) {  // URLs are logged
    return Fail(Code::kInvalidArgument,
                fmt::format("'{}': the user and the password are no part of it", Masked(url)));
  }
  if (const std::size_t slash = rest.find('/'); slash != std::string_view::npos) {
    const std::string_view number = rest.substr(slash + 1);
    const auto [end, error] =
        std::from_chars(number.data(), number.data() + number.size(), place.database);
    if (!number.empty() && (error != std::errc() || end != number.data() + number.size() ||
                            place.database > kDatabaseMax)) {
      return wrong();
    }
    rest = rest.substr(0, slash);
  }
  if (rest.empty()) {
    return wrong();
  }
  const bool has_port = rest.back() != ']' && rest.find(':') != std::string_view::npos;
  const auto address =
      rt::ParseAddress(has_port ? std::string(rest) : fmt::format("{}:{}", rest, kPort));
  if (!address) {
    return wrong();
  }
  place.address = *address;
  return place;
}

Result<void> RedisService::CheckUrl(std::string_view url) {
  PX_CHECK_OK(ParseUrl(url));
  return {};
}

Result<std::unique_ptr<RedisService>> RedisService::Create(const RedisOptions& options) {
  PX_TRY(Place place, ParseUrl(options.url));
  if (place.tls && options.authorities.empty()) {
    return Fail(Code::kInvalidArgument,
                fmt::format("'{}': TLS needs the certificates of the authorities that are believed",
                            options.url));
  }
  std::shared_ptr<const rt::TlsContext> tls;
  if (place.tls) {
    auto made = rt::TlsContext::ForClient({.authorities = options.authorities}, place.address.host);
    if (!made) {
      return Fail(made.error().code(), made.error().detail(), "authorities");
    }
    tls = std::move(*made);
  }
  return std::unique_ptr<RedisService>(
      new RedisService(options, std::move(place),  // tidy: new the constructor is private
                       std::move(tls)));
}

void RedisService::Close() {
  stream_.reset();
  reader_ = wire::RespReader(0);
}

Result<RespValue> RedisService::Exchange(std::string_view command) {
  PX_CHECK_OK(stream_->Send(std::as_bytes(std::span(command))));
  std::vector<char> piece(kReadBytes);
  while (true) {
    PX_TRY(std::optional<RespValue> value, reader_.Next());
    if (value) {
      return std::move(*value);
    }
    PX_TRY(const std::size_t size, stream_->ReceiveSome(std::as_writable_bytes(std::span(piece))));
    reader_.Feed({piece.data(), size});
  }
}

Result<void> RedisService::Open(rt::Duration limit) {
  PX_TRY(stream_, rt::BlockingStream::Connect(place_.address, limit, tls_));
  reader_ = wire::RespReader(kSmallReply);
  std::vector<std::vector<std::string_view>> commands;
  const std::string database = std::to_string(place_.database);
  if (!options_.password.empty()) {
    commands.push_back({"AUTH"});
    if (!options_.user.empty()) {
      commands.back().push_back(options_.user);
    }
    commands.back().push_back(options_.password);
  }
  if (place_.database > 0) {
    commands.push_back({"SELECT", database});
  }
  for (const std::vector<std::string_view>& words : commands) {
    std::string command;
    wire::AppendRespCommand(command, words);
    PX_TRY(const RespValue answer, Exchange(command));
    if (answer.kind == RespValue::Kind::kError) {
      return Fail(ErrorOf(answer.text));
    }
  }
  return {};
}

Result<RespValue> RedisService::TryCall(std::string_view command, std::uint64_t bytes_max,
                                        rt::Duration limit) {
  if (!stream_) {
    PX_CHECK_OK(Open(limit));
  } else {
    stream_->Begin(limit);
  }
  reader_.SetBytesMax(bytes_max);
  return Exchange(command);
}

// A connection that lay idle may have ended meanwhile: then once more, on a new one. Every command
// here may be given twice.
Result<RespValue> RedisService::Call(std::span<const std::string_view> words,
                                     std::uint64_t bytes_max) {
  std::string command;
  wire::AppendRespCommand(command, words);
  const bool was_open = stream_ != nullptr;
  Result<RespValue> answer = TryCall(command, bytes_max, options_.call_time_max);
  if (!answer && was_open && answer.error().code() == Code::kUnavailable) {
    const rt::Duration left = stream_->left();
    Close();
    answer = TryCall(command, bytes_max, left);
  }
  if (!answer || !reader_.empty()) {
    Close();
  }
  PX_TRY(RespValue value, std::move(answer));
  if (value.kind == RespValue::Kind::kError) {
    return Fail(ErrorOf(value.text));
  }
  return value;
}

Result<void> RedisService::Put(const std::string& name, std::string_view bytes) {
  const std::string expiry = std::to_string(options_.expiry / std::chrono::milliseconds(1));
  std::vector<std::string_view> words{"SET", name, bytes};
  if (options_.expiry > rt::Duration{}) {
    words.insert(words.end(), {"PX", expiry});
  }
  PX_CHECK_OK(Call(words, kSmallReply));
  return {};
}

Result<std::string> RedisService::Get(const std::string& name, std::uint64_t size_max) {
  PX_TRY(RespValue value, Call(std::array<std::string_view, 2>{"GET", name}, size_max));
  if (value.kind == RespValue::Kind::kNothing) {
    return Fail(Code::kNotFound, fmt::format("{} is not there", name));
  }
  PX_TRY(value, Checked(std::move(value), RespValue::Kind::kBytes));
  return std::move(value.text);
}

Result<void> RedisService::Delete(const std::string& name) {
  PX_CHECK_OK(Call(std::array<std::string_view, 2>{"UNLINK", name}, kSmallReply));
  return {};
}

// A key may be told of twice, and those that come meanwhile or not at all: as SCAN has it.
Result<void> RedisService::List(const std::string& prefix, ListWatch& watch,
                                const std::function<bool(std::string_view)>& on_name) {
  std::string cursor = "0";
  const std::string pattern = prefix + "*";
  do {
    PX_CHECK_OK(watch.NextPart());
    PX_TRY(RespValue part, Call(std::array<std::string_view, 6>{"SCAN", cursor, "MATCH", pattern,
                                                                "COUNT", kListCount},
                                kListBytesMax));
    if (part.kind != RespValue::Kind::kList || part.items.size() != 2 ||
        part.items[0].kind != RespValue::Kind::kBytes ||
        part.items[1].kind != RespValue::Kind::kList) {
      return Fail(Code::kUnavailable, "the store answers something else than a list of keys");
    }
    for (const RespValue& name : part.items[1].items) {
      if (!on_name(name.text)) {
        return {};
      }
    }
    cursor = std::move(part.items[0].text);
  } while (cursor != "0");
  return {};
}

}  // namespace pixii::kv
