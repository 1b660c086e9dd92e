// Numeric addresses of hosts, for whoever decides which of them may be spoken to.
//
// Thread: values.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

namespace pixii::rt {

struct IpAddress {
  /// In network order; IPv4 as ::ffff:a.b.c.d.
  std::array<std::uint8_t, 16> bytes{};
  bool v4 = false;  // it was written as IPv4

  friend bool operator==(const IpAddress&, const IpAddress&) = default;
};

/// Four decimal numbers without leading zeros, or IPv6 without a zone; nothing for all else.
std::optional<IpAddress> ParseIpAddress(const std::string& text);

std::string IpText(const IpAddress& address);

}  // namespace pixii::rt
