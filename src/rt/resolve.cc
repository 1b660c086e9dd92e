#include "rt/resolve.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <memory>

namespace pixii::rt {

Result<std::vector<std::string>> ResolveAll(const std::string& host) {
  struct Free {
    void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
  };

  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int fault = ::getaddrinfo(host.c_str(), nullptr, &hints, &found);
  if (fault != 0) {
    return Fail(Code::kUnavailable,
                fmt::format("the host {} is not known: {}", host, ::gai_strerror(fault)));
  }
  const std::unique_ptr<addrinfo, Free> list(found);
  std::array<char, INET6_ADDRSTRLEN> text{};
  std::vector<std::string> addresses;
  for (const int family : {AF_INET, AF_INET6}) {
    for (const addrinfo* at = list.get(); at != nullptr; at = at->ai_next) {
      if (at->ai_family != family) {
        continue;
      }
      const void* address =
          family == AF_INET
              ? static_cast<const void*>(&reinterpret_cast<sockaddr_in*>(at->ai_addr)->sin_addr)
              : static_cast<const void*>(&reinterpret_cast<sockaddr_in6*>(at->ai_addr)->sin6_addr);
      if (::inet_ntop(family, address, text.data(), text.size()) != nullptr) {
        addresses.emplace_back(text.data());
      }
    }
  }
  if (addresses.empty()) {
    return Fail(Code::kUnavailable, fmt::format("the host {} has no address", host));
  }
  return addresses;
}

Result<std::string> ResolveHost(const std::string& host) {
  PX_TRY(std::vector<std::string> addresses, ResolveAll(host));
  return std::move(addresses.front());
}

}  // namespace pixii::rt
