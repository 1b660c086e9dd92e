// Addresses as the system wants them. Names other than "localhost" are not resolved here.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <string>
#include <vector>

#include "base/result.h"
#include "rt/net.h"

namespace pixii::rt {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;

  int family() const { return storage.ss_family; }

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

/// The path of "unix:/path", or empty.
std::string UnixPath(const Address& address);

/// What `address` may mean, best first. Errors: kInvalidArgument naming it; kUnsupported for a
/// name.
Result<std::vector<SocketAddress>> ToSocketAddresses(const Address& address);

Address FromSocketAddress(const SocketAddress& address);

}  // namespace pixii::rt
