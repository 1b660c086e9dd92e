#include "bench/bare_socket.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstring>

#include "rt/fd.h"
#include "rt/thread.h"

namespace pixii::bench {

namespace {

tl::unexpected<Error> FailWithErrno(const char* what) {
  return Fail(Code::kUnavailable, fmt::format("a bare socket: {}: {}", what, std::strerror(errno)));
}

double Now() {
  const auto now = std::chrono::steady_clock::now();  // tidy: clock this is the measurement
  return std::chrono::duration<double>(now.time_since_epoch()).count();
}

}  // namespace

struct BareSocket::Ends {
  rt::Fd sending;
  rt::Fd receiving;
};

BareSocket::BareSocket(std::unique_ptr<Ends> ends) : ends_(std::move(ends)) {}

BareSocket::BareSocket(BareSocket&&) noexcept = default;
BareSocket& BareSocket::operator=(BareSocket&&) noexcept = default;
BareSocket::~BareSocket() = default;

Result<BareSocket> BareSocket::Connect() {
  const rt::Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (!listener || ::bind(listener.get(), generic, size) != 0 || ::listen(listener.get(), 1) != 0 ||
      ::getsockname(listener.get(), generic, &size) != 0) {
    return FailWithErrno("listen");
  }
  auto ends = std::make_unique<Ends>();
  ends->sending = rt::Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!ends->sending || ::connect(ends->sending.get(), generic, size) != 0) {
    return FailWithErrno("connect");
  }
  ends->receiving = rt::Fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!ends->receiving) {
    return FailWithErrno("accept");
  }
  return BareSocket(std::move(ends));
}

Result<double> BareSocket::Stream(std::span<const std::byte> from, std::span<std::byte> to,
                                  std::uint64_t count) {
  const double begin = Now();
  rt::Thread sender("bare-socket", [this, from, count] {
    for (std::uint64_t i = 0; i < count; ++i) {
      std::span<const std::byte> left = from;
      while (!left.empty()) {
        const ssize_t sent = ::send(ends_->sending.get(), left.data(), left.size(), MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR) {
          return;  // the receiver sees less than it waits for
        }
        left = left.subspan(static_cast<std::size_t>(std::max<ssize_t>(sent, 0)));
      }
    }
  });
  for (std::uint64_t i = 0; i < count; ++i) {
    std::span<std::byte> left = to;
    while (!left.empty()) {
      const ssize_t got = ::recv(ends_->receiving.get(), left.data(), left.size(), MSG_WAITALL);
      if (got == 0 || (got < 0 && errno != EINTR)) {
        return FailWithErrno("recv");
      }
      left = left.subspan(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    }
  }
  const double end = Now();
  sender.Join();
  return end - begin;
}

}  // namespace pixii::bench
