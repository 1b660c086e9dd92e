#include "rt/socket_address.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <netinet/in.h>
#include <algorithm>
#include <charconv>

#include <array>
#include <cstring>

namespace pixii::rt {
namespace {

constexpr std::string_view kUnixPrefix = "unix:";

template <class Sockaddr>
SocketAddress Pack(const Sockaddr& address, std::size_t size) {
  SocketAddress out;
  std::memcpy(&out.storage, &address, size);
  out.size = static_cast<socklen_t>(size);
  return out;
}

SocketAddress Pack4(const in_addr& host, std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr = host;
  return Pack(address, sizeof(address));
}

SocketAddress Pack6(const in6_addr& host, std::uint16_t port) {
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(port);
  address.sin6_addr = host;
  return Pack(address, sizeof(address));
}

Result<SocketAddress> PackUnix(std::string_view path) {
  sockaddr_un address{};
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return Fail(Code::kInvalidArgument, fmt::format("the socket path '{}' must have 1 to {} bytes",
                                                    path, sizeof(address.sun_path) - 1));
  }
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  return Pack(address, offsetof(sockaddr_un, sun_path) + path.size() + 1);
}

}  // namespace

std::string Address::ToString() const {
  if (host.starts_with(kUnixPrefix)) {
    return host;
  }
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port)
                                             : fmt::format("[{}]:{}", host, port);
}

Result<Address> ParseAddress(std::string_view text) {
  if (text.starts_with(kUnixPrefix) && text.size() > kUnixPrefix.size()) {
    return Address{.host = std::string(text), .port = 0};
  }
  const std::size_t colon = text.rfind(':');
  std::string_view host = text.substr(0, std::min(colon, text.size()));
  std::string_view digits = colon == std::string_view::npos ? "" : text.substr(colon + 1);
  std::uint16_t port = 0;
  const auto [end, fault] = std::from_chars(digits.begin(), digits.end(), port);
  const bool bracketed = host.size() > 2 && host.starts_with('[') && host.ends_with(']');
  if (bracketed) {
    host = host.substr(1, host.size() - 2);
  }
  if (host.empty() || fault != std::errc() || end != digits.end() ||
      (!bracketed && host.find(':') != std::string_view::npos)) {
    return Fail(Code::kInvalidArgument,
                fmt::format("\"{}\" is none of HOST:PORT, [IPV6]:PORT and unix:/PATH", text));
  }
  return Address{.host = std::string(host), .port = port};
}

std::string UnixPath(const Address& address) {
  return address.host.starts_with(kUnixPrefix) ? address.host.substr(kUnixPrefix.size())
                                               : std::string();
}

Result<std::vector<SocketAddress>> ToSocketAddresses(const Address& address) {
  std::vector<SocketAddress> out;
  if (address.host.starts_with(kUnixPrefix)) {
    PX_TRY(SocketAddress packed, PackUnix(UnixPath(address)));
    out.push_back(packed);
    return out;
  }
  if (address.host == "localhost") {
    out.push_back(Pack4(in_addr{.s_addr = htonl(INADDR_LOOPBACK)}, address.port));
    out.push_back(Pack6(in6addr_loopback, address.port));
    return out;
  }
  in_addr host4{};
  in6_addr host6{};
  if (::inet_pton(AF_INET, address.host.c_str(), &host4) == 1) {
    out.push_back(Pack4(host4, address.port));
  } else if (::inet_pton(AF_INET6, address.host.c_str(), &host6) == 1) {
    out.push_back(Pack6(host6, address.port));
  } else if (address.host.empty()) {
    return Fail(Code::kInvalidArgument, "the host is empty; 0.0.0.0 means every IPv4 interface");
  } else {
    return Fail(Code::kUnsupported,
                fmt::format("the host '{}' is a name; give a numeric address, localhost or "
                            "unix:/path",
                            address.host));
  }
  return out;
}

Address FromSocketAddress(const SocketAddress& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (address.family() == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, &address.storage, sizeof(v4));
    ::inet_ntop(AF_INET, &v4.sin_addr, text.data(), text.size());
    return Address{.host = text.data(), .port = ntohs(v4.sin_port)};
  }
  if (address.family() == AF_INET6) {
    sockaddr_in6 v6{};
    std::memcpy(&v6, &address.storage, sizeof(v6));
    ::inet_ntop(AF_INET6, &v6.sin6_addr, text.data(), text.size());
    return Address{.host = text.data(), .port = ntohs(v6.sin6_port)};
  }
  sockaddr_un local{};
  std::memcpy(&local, &address.storage, sizeof(local));
  const bool named = address.size > offsetof(sockaddr_un, sun_path);
  return Address{.host = fmt::format("unix:{}", named ? local.sun_path : ""), .port = 0};
}

}  // namespace pixii::rt
