#include "kv/tiers/lmcache_service.h"

#include <array>
#include <span>
#include <utility>

#include <fmt/format.h>

namespace pixii::kv {

namespace {

constexpr std::string_view kScheme = "lm://";

/// "pixii-kv/v1/SCOPE/HASH" as a key of its own rules: '/' is nothing to it.
std::string KeyOf(const std::string& name) {
  const std::size_t cut = name.rfind('/');
  std::string scope = name.substr(0, cut);
  for (char& c : scope) {
    c = c == '/' ? '-' : c;
  }
  return wire::LmcacheKey(scope, std::string_view(name).substr(cut + 1));
}

}  // namespace

Result<rt::Address> LmcacheService::ParseUrl(std::string_view url) {
  if (!url.starts_with(kScheme)) {
    return Fail(Code::kInvalidArgument,
                fmt::format("'{}' is no store that is known; write lm://HOST:PORT", url));
  }
  std::string_view rest = url.substr(kScheme.size());
  if (rest.ends_with('/')) {
    rest.remove_suffix(1);
  }
  PX_TRY(rt::Address address, rt::ParseAddress(rest));
  if (address.port == 0 || address.host.empty() || address.host.starts_with("unix:")) {
    return Fail(Code::kInvalidArgument,
                fmt::format("'{}' names no host and port; write lm://HOST:PORT", url));
  }
  return address;
}

Result<void> LmcacheService::Connect() {
  if (stream_ && stream_->stale()) {
    stream_.reset();
  }
  if (!stream_) {
    PX_TRY(stream_, rt::BlockingStream::Connect(options_.address, options_.connect_time_max));
  }
  stream_->Begin(options_.call_time_max);
  return {};
}

Result<void> LmcacheService::Send(wire::LmcacheCommand command, const std::string& name,
                                  std::string_view bytes) {
  PX_CHECK_OK(Connect());
  const wire::LmcacheRequestBytes request =
      wire::EncodeLmcacheRequest(command, KeyOf(name), static_cast<std::uint32_t>(bytes.size()));
  PX_CHECK_OK(stream_->Send(request));
  return stream_->Send(std::as_bytes(std::span(bytes)));
}

Result<std::string> LmcacheService::Receive(std::uint64_t size_max) {
  std::array<std::byte, wire::kLmcacheReplyBytes> head;
  PX_CHECK_OK(stream_->Receive(head));
  PX_TRY(const wire::LmcacheReply reply, wire::DecodeLmcacheReply(head, size_max));
  std::string bytes(reply.length_bytes, '\0');  // size_max at most, whatever the server says
  PX_CHECK_OK(stream_->Receive(std::as_writable_bytes(std::span(bytes))));
  if (!reply.found) {
    return Fail(Code::kNotFound, "the server has it not");
  }
  return bytes;
}

Result<void> LmcacheService::Put(const std::string& name, std::string_view bytes) {
  if (bytes.size() > wire::kLmcacheValueBytesMax) {
    return Fail(Code::kTooLarge, fmt::format("{} bytes; the protocol has numbers for {}",
                                             bytes.size(), wire::kLmcacheValueBytesMax));
  }
  Result<void> sent = Send(wire::LmcacheCommand::kPut, name, bytes);
  if (!sent) {
    stream_.reset();
  }
  return sent;
}

Result<std::string> LmcacheService::Get(const std::string& name, std::uint64_t size_max) {
  Result<void> sent = Send(wire::LmcacheCommand::kGet, name, {});
  Result<std::string> got = sent ? Receive(size_max) : Result<std::string>(Fail(sent.error()));
  if (!got && got.error().code() != Code::kNotFound) {
    stream_.reset();  // an answer that comes later would be taken for another one's
  }
  return got;
}

Result<void> LmcacheService::Delete(const std::string& /*name*/) { return {}; }

Result<void> LmcacheService::List(const std::string& /*prefix*/, ListWatch& /*watch*/,
                                  const std::function<bool(std::string_view)>& /*on_name*/) {
  return {};
}

}  // namespace pixii::kv
