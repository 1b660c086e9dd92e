#include "rt/message_socket.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "rt/clock.h"

namespace pixii::rt {

namespace {

tl::unexpected<Error> FailWithErrno(const char* what) {
  const int error = errno;
  const bool gone = error == EPIPE || error == ECONNRESET || error == ENOTCONN;
  return Fail(gone ? Code::kDisconnected : Code::kUnavailable,
              fmt::format("{}: {} (errno {})", what, std::strerror(error), error));
}

// True once there is something to receive, or the end.
Result<void> WaitForMessage(int fd, Duration patience) {
  const Time end = SteadyNow() + patience;
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - SteadyNow()).count();
    pollfd one{.fd = fd, .events = POLLIN, .revents = 0};
    const int ready = ::poll(&one, 1, static_cast<int>(std::clamp<std::int64_t>(left, 0, 1 << 30)));
    if (ready > 0) {
      return {};
    }
    if (ready < 0 && errno != EINTR) {
      return FailWithErrno("poll");
    }
    if (ready == 0) {
      return Fail(Code::kDeadlineExceeded, "no message came in time");
    }
  }
}

}  // namespace

Result<std::pair<MessageSocket, MessageSocket>> MessageSocket::Pair() {
  int fds[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) {
    return Fail(Code::kResourceExhausted,
                fmt::format("socketpair: {} (errno {})", std::strerror(errno), errno));
  }
  return std::pair(MessageSocket(Fd(fds[0])), MessageSocket(Fd(fds[1])));
}

Result<void> MessageSocket::Send(std::span<const std::byte> message, const Fd* passed) {
  iovec part{.iov_base = const_cast<std::byte*>(message.data()), .iov_len = message.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (passed != nullptr) {
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    const int fd = passed->get();
    std::memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  }
  while (::sendmsg(fd_.get(), &header, MSG_NOSIGNAL) < 0) {
    if (errno != EINTR) {
      return FailWithErrno("sendmsg");
    }
  }
  return {};
}

Result<MessageSocket::Received> MessageSocket::Receive(std::span<std::byte> into,
                                                       std::optional<Duration> patience) {
  if (patience) {
    PX_CHECK_OK(WaitForMessage(fd_.get(), *patience));
  }
  iovec part{.iov_base = into.data(), .iov_len = into.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  ssize_t size = 0;
  do {
    size = ::recvmsg(fd_.get(), &header, MSG_CMSG_CLOEXEC | MSG_TRUNC);
  } while (size < 0 && errno == EINTR);
  if (size < 0) {
    return FailWithErrno("recvmsg");
  }
  Received received{.size_bytes = static_cast<std::size_t>(size), .passed = {}};
  const cmsghdr* rights = CMSG_FIRSTHDR(&header);
  if (rights != nullptr && rights->cmsg_level == SOL_SOCKET && rights->cmsg_type == SCM_RIGHTS) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(rights), sizeof fd);
    received.passed = Fd(fd);
  }
  if (size == 0) {
    return Fail(Code::kDisconnected, "the other end is closed");
  }
  return received;
}

}  // namespace pixii::rt
