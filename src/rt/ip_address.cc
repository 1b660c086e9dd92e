#include "rt/ip_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>

namespace pixii::rt {

namespace {

constexpr std::size_t kV4Offset = 12;

}  // namespace

std::optional<IpAddress> ParseIpAddress(const std::string& text) {
  IpAddress address;
  in_addr v4{};
  if (::inet_pton(AF_INET, text.c_str(), &v4) == 1) {
    address.v4 = true;
    address.bytes[10] = address.bytes[11] = 0xff;
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(&v4.s_addr);
    std::copy_n(bytes, sizeof v4.s_addr, address.bytes.begin() + kV4Offset);
    return address;
  }
  return ::inet_pton(AF_INET6, text.c_str(), address.bytes.data()) == 1 ? std::optional(address)
                                                                        : std::nullopt;
}

std::string IpText(const IpAddress& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (address.v4) {
    ::inet_ntop(AF_INET, address.bytes.data() + kV4Offset, text.data(), text.size());
  } else {
    ::inet_ntop(AF_INET6, address.bytes.data(), text.data(), text.size());
  }
  return text.data();
}

}  // namespace pixii::rt
