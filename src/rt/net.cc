#include "rt/net.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "rt/epoll_loop.h"
#include "rt/fd.h"
#include "rt/socket_address.h"
#include "rt/socket_parts.h"
#include "rt/sync.h"

namespace pixii::rt {
namespace {

// After descriptors ran out: how long a listener leaves the queue alone.
constexpr Duration kAcceptPause = 10ms;

std::string ErrnoText(int error) {
  return fmt::format("{} (errno {})", std::strerror(error), error);
}

bool WouldBlock(int error) { return error == EAGAIN || error == EWOULDBLOCK; }

bool OutOfDescriptors(int error) {
  return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

Error Broken(int error) {
  return Error(Code::kUnavailable, fmt::format("the connection broke: {}", ErrnoText(error)));
}

Error Closed() { return Error(Code::kCancelled, "the connection was closed on our side"); }

void SetOption(int fd, int level, int name, int value) {
  ::setsockopt(fd, level, name, &value, sizeof(value));
}

class SocketStream final : public Stream, public SocketParts, FdWatcher {
 public:
  SocketStream(EpollLoop& loop, Fd fd, std::string peer)
      : loop_(loop), fd_(std::move(fd)), peer_(std::move(peer)), readers_(loop), writers_(loop) {}

  Result<void> Register() { return loop_.Watch(fd_.get(), *this); }

  Task<Result<std::size_t>> Read(std::span<char> out, Time deadline) override;
  Task<Result<void>> Write(std::string_view bytes, Time deadline) override;
  Result<std::size_t> TryWrite(std::string_view bytes) override;

  /// Waits until a connection under way is made or refused.
  Task<Result<void>> FinishConnect(Time deadline);

  void ShutdownWrite() override {
    if (fd_) {
      ::shutdown(fd_.get(), SHUT_WR);
    }
  }

  void Close() override {
    fd_.Close();
    readers_.WakeAll();
    writers_.WakeAll();
  }

  std::string peer() const override { return peer_; }

  Result<std::optional<std::size_t>> TryReadParts(
      std::span<const std::span<std::byte>> parts) override;
  Result<std::size_t> TryWriteParts(std::span<const std::span<const std::byte>> parts) override;
  Task<bool> WaitReadable(Time deadline) override;
  Task<bool> WaitWritable(Time deadline) override;
  Result<PeerCredentials> credentials() const override;

  void KeepDescriptors(std::size_t count_max) override { kept_max_ = count_max; }

  std::vector<Fd> TakeDescriptors() override { return std::exchange(kept_, {}); }

  Result<std::size_t> TryWriteWithDescriptors(std::span<const std::byte> bytes,
                                              std::span<const int> fds) override;

 private:
  /// Keeps or closes what came with a message.
  void Receive(msghdr& message);

  void OnReady(std::uint32_t events) override {
    const bool ended = (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    if ((events & EPOLLIN) != 0 || ended) {
      readable_ = true;
      hung_up_ = hung_up_ || ended;
      readers_.WakeAll();
    }
    if ((events & EPOLLOUT) != 0 || ended) {
      writable_ = true;
      writers_.WakeAll();
    }
  }

  EpollLoop& loop_;
  Fd fd_;
  std::string peer_;
  WaitList readers_;
  WaitList writers_;
  // What the last edge or call told; a call is made only if it may succeed.
  bool readable_ = true;
  bool writable_ = true;
  bool hung_up_ = false;
  std::size_t kept_max_ = 0;
  std::vector<Fd> kept_;  // descriptors that came
};

Task<Result<std::size_t>> SocketStream::Read(std::span<char> out, Time deadline) {
  PX_ASSERT(!out.empty() && !readers_.has_waiters());
  while (true) {
    if (!fd_) {
      co_return Fail(Closed());
    }
    if (readable_) {
      if (!loop_.SpendBudget()) {
        co_await loop_.Yield();
        continue;
      }
      const ssize_t count = ::recv(fd_.get(), out.data(), out.size(), 0);
      if (count >= 0) {
        // A short read emptied the buffer; but the end of the stream comes without a further edge.
        readable_ = static_cast<std::size_t>(count) == out.size() || hung_up_;
        co_return static_cast<std::size_t>(count);
      }
      if (errno == EINTR) {
        continue;
      }
      if (!WouldBlock(errno)) {
        co_return Fail(Broken(errno));
      }
      readable_ = false;
    }
    const bool woken = co_await readers_.Wait(deadline);
    if (!woken && !readable_ && fd_) {
      co_return Fail(Code::kDeadlineExceeded, "no bytes came before the deadline");
    }
  }
}

Result<std::size_t> SocketStream::TryWrite(std::string_view bytes) {
  if (!fd_) {
    return Fail(Closed());
  }
  std::size_t done = 0;
  while (done < bytes.size() && writable_) {
    const ssize_t count = ::send(fd_.get(), bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL);
    if (count >= 0) {
      done += static_cast<std::size_t>(count);
    } else if (WouldBlock(errno)) {
      writable_ = false;
    } else if (errno != EINTR) {
      return Fail(Broken(errno));
    }
  }
  return done;
}

Task<Result<void>> SocketStream::Write(std::string_view bytes, Time deadline) {
  PX_ASSERT(!writers_.has_waiters());
  if (!loop_.SpendBudget()) {
    co_await loop_.Yield();
  }
  while (true) {
    Result<std::size_t> done = TryWrite(bytes);
    if (!done) {
      co_return Fail(done.error());
    }
    bytes.remove_prefix(*done);
    if (bytes.empty()) {
      co_return Result<void>();
    }
    const bool woken = co_await writers_.Wait(deadline);
    if (!woken && !writable_ && fd_) {
      co_return Fail(Code::kDeadlineExceeded, "the peer took no bytes before the deadline");
    }
  }
}

Result<std::optional<std::size_t>> SocketStream::TryReadParts(
    std::span<const std::span<std::byte>> parts) {
  std::array<iovec, kSocketPartsMax> vectors;  // NOLINT: filled below
  std::size_t count = 0;
  std::size_t wanted = 0;
  for (const std::span<std::byte> part : parts.first(std::min(parts.size(), kSocketPartsMax))) {
    if (!part.empty()) {
      vectors[count++] = {.iov_base = part.data(), .iov_len = part.size()};
      wanted += part.size();
    }
  }
  PX_ASSERT(count > 0);
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kDescriptorsPerMessageMax * sizeof(int))>
      control{};
  while (fd_ && readable_) {
    msghdr message{};
    message.msg_iov = vectors.data();
    message.msg_iovlen = count;
    if (kept_max_ > 0) {
      message.msg_control = control.data();
      message.msg_controllen = control.size();
    }
    const ssize_t got = ::recvmsg(fd_.get(), &message, MSG_CMSG_CLOEXEC);
    if (got >= 0) {
      Receive(message);
      // A message that carried descriptors ends a call early: there may be more.
      readable_ = static_cast<std::size_t>(got) == wanted || hung_up_ || kept_max_ > 0;
      return static_cast<std::size_t>(got);
    }
    if (WouldBlock(errno)) {
      readable_ = false;
    } else if (errno != EINTR) {
      return Fail(Broken(errno));
    }
  }
  if (!fd_) {
    return Fail(Closed());
  }
  return std::optional<std::size_t>();
}

void SocketStream::Receive(msghdr& message) {
  for (cmsghdr* control = message.msg_controllen > 0 ? CMSG_FIRSTHDR(&message) : nullptr;
       control != nullptr; control = CMSG_NXTHDR(&message, control)) {
    if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS) {
      continue;
    }
    const std::size_t count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int number = -1;
      std::memcpy(&number, CMSG_DATA(control) + i * sizeof(int), sizeof(int));
      Fd fd(number);
      if (kept_.size() < kept_max_) {
        kept_.push_back(std::move(fd));
      }
    }
  }
}

Result<std::size_t> SocketStream::TryWriteParts(std::span<const std::span<const std::byte>> parts) {
  if (!fd_) {
    return Fail(Closed());
  }
  std::array<iovec, kSocketPartsMax> vectors;  // NOLINT: filled below
  std::size_t count = 0;
  std::size_t size = 0;
  for (const std::span<const std::byte> part :
       parts.first(std::min(parts.size(), kSocketPartsMax))) {
    if (!part.empty()) {
      // The kernel only reads it.
      vectors[count++] = {.iov_base = const_cast<std::byte*>(part.data()), .iov_len = part.size()};
      size += part.size();
    }
  }
  while (writable_ && count > 0) {
    msghdr message{};
    message.msg_iov = vectors.data();
    message.msg_iovlen = count;
    const ssize_t taken = ::sendmsg(fd_.get(), &message, MSG_NOSIGNAL);
    if (taken >= 0) {
      writable_ = static_cast<std::size_t>(taken) == size;
      return static_cast<std::size_t>(taken);
    }
    if (WouldBlock(errno)) {
      writable_ = false;
    } else if (errno != EINTR) {
      return Fail(Broken(errno));
    }
  }
  return std::size_t{0};
}

Result<std::size_t> SocketStream::TryWriteWithDescriptors(std::span<const std::byte> bytes,
                                                          std::span<const int> fds) {
  PX_ASSERT(!bytes.empty() && !fds.empty() && fds.size() <= kDescriptorsPerMessageMax);
  if (!fd_) {
    return Fail(Closed());
  }
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kDescriptorsPerMessageMax * sizeof(int))>
      space{};
  iovec vector{.iov_base = const_cast<std::byte*>(bytes.data()), .iov_len = bytes.size()};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = space.data();
  message.msg_controllen = CMSG_SPACE(fds.size_bytes());
  cmsghdr* control = CMSG_FIRSTHDR(&message);
  control->cmsg_level = SOL_SOCKET;
  control->cmsg_type = SCM_RIGHTS;
  control->cmsg_len = CMSG_LEN(fds.size_bytes());
  std::memcpy(CMSG_DATA(control), fds.data(), fds.size_bytes());
  while (true) {
    const ssize_t taken = ::sendmsg(fd_.get(), &message, MSG_NOSIGNAL);
    if (taken >= 0) {
      return static_cast<std::size_t>(taken);
    }
    if (WouldBlock(errno)) {
      writable_ = false;
      return std::size_t{0};
    }
    if (errno != EINTR) {
      return Fail(Broken(errno));
    }
  }
}

Task<bool> SocketStream::WaitReadable(Time deadline) {
  while (fd_ && !readable_) {
    const bool woken = co_await readers_.Wait(deadline);
    if (!woken && !readable_ && fd_) {
      co_return false;
    }
  }
  co_return true;
}

Task<bool> SocketStream::WaitWritable(Time deadline) {
  while (fd_ && !writable_) {
    const bool woken = co_await writers_.Wait(deadline);
    if (!woken && !writable_ && fd_) {
      co_return false;
    }
  }
  co_return true;
}

Result<PeerCredentials> SocketStream::credentials() const {
  ucred found{};
  socklen_t size = sizeof(found);
  if (!fd_ || ::getsockopt(fd_.get(), SOL_SOCKET, SO_PEERCRED, &found, &size) != 0 ||
      found.pid == 0) {
    return Fail(Code::kUnsupported, "only a Unix socket knows who the peer is");
  }
  return PeerCredentials{.user = found.uid, .process = found.pid};
}

Task<Result<void>> SocketStream::FinishConnect(Time deadline) {
  writable_ = false;
  while (!writable_) {
    const bool woken = co_await writers_.Wait(deadline);
    if (!woken && !writable_) {
      co_return Fail(Code::kDeadlineExceeded, fmt::format("no answer from {}", peer_));
    }
  }
  int error = 0;
  socklen_t size = sizeof(error);
  ::getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0) {
    co_return Fail(Code::kUnavailable,
                   fmt::format("cannot connect to {}: {}", peer_, ErrnoText(error)));
  }
  hung_up_ = false;  // a socket not yet connected reports a hang-up
  co_return Result<void>();
}

Result<std::unique_ptr<SocketStream>> MakeStream(EpollLoop& loop, Fd fd,
                                                 const SocketAddress& peer) {
  if (peer.family() != AF_UNIX) {
    SetOption(fd.get(), IPPROTO_TCP, TCP_NODELAY, 1);
  }
  auto stream =
      std::make_unique<SocketStream>(loop, std::move(fd), FromSocketAddress(peer).ToString());
  PX_CHECK_OK(stream->Register());
  return stream;
}

class SocketListener final : public Listener, FdWatcher {
 public:
  SocketListener(EpollLoop& loop, Fd fd, Address address)
      : loop_(loop), fd_(std::move(fd)), address_(std::move(address)), waiters_(loop) {
    ReopenSpare();
  }

  ~SocketListener() override { SocketListener::Close(); }

  Result<void> Register() { return loop_.Watch(fd_.get(), *this); }

  Task<Result<std::unique_ptr<Stream>>> Accept() override;

  Address address() const override { return address_; }

  void Close() override {
    if (!fd_) {
      return;
    }
    fd_.Close();
    const std::string path = UnixPath(address_);
    if (!path.empty()) {
      ::unlink(path.c_str());
    }
    waiters_.WakeAll();
  }

 private:
  void OnReady(std::uint32_t /*events*/) override {
    ready_ = true;
    waiters_.WakeAll();
  }

  void ReopenSpare() { spare_ = Fd(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }

  void ShedOne();

  EpollLoop& loop_;
  Fd fd_;
  Fd spare_;  // given up to accept and close a client that would else wait in the queue unseen
  Address address_;
  WaitList waiters_;
  bool ready_ = true;
  Time paused_until_ = Time::min();
};

void SocketListener::ShedOne() {
  spare_.Close();
  Fd shed(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  shed.Close();
  ReopenSpare();
}

Task<Result<std::unique_ptr<Stream>>> SocketListener::Accept() {
  while (true) {
    if (fd_ && loop_.Now() < paused_until_) {
      co_await waiters_.Wait(paused_until_);
      continue;
    }
    if (!fd_) {
      co_return Fail(Code::kCancelled, "the listener was closed");
    }
    if (!ready_) {
      co_await waiters_.Wait(kNever);
      continue;
    }
    if (!loop_.SpendBudget()) {
      co_await loop_.Yield();
      continue;
    }
    SocketAddress peer;
    peer.size = sizeof(peer.storage);
    Fd fd(::accept4(fd_.get(), reinterpret_cast<sockaddr*>(&peer.storage), &peer.size,
                    SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (fd) {
      Result<std::unique_ptr<SocketStream>> stream = MakeStream(loop_, std::move(fd), peer);
      if (!stream) {
        co_return Fail(stream.error());
      }
      co_return std::unique_ptr<Stream>(std::move(*stream));
    }
    const int error = errno;
    if (WouldBlock(error)) {
      ready_ = false;
    } else if (OutOfDescriptors(error)) {
      ShedOne();
      paused_until_ = loop_.Now() + kAcceptPause;
      co_return Fail(Code::kResourceExhausted,
                     fmt::format("cannot accept on {}: {}; raise ulimit -n", address_.ToString(),
                                 ErrnoText(error)));
    }
    // Anything else (ECONNABORTED, EPROTO, ...) is the failed connection's own error: take the next
    // one.
  }
}

class SocketNet final : public Net {
 public:
  explicit SocketNet(EpollLoop& loop) : loop_(loop) {}

  Result<std::unique_ptr<Listener>> Listen(const Address& address,
                                           const ListenOptions& options) override;
  Task<Result<std::unique_ptr<Stream>>> Connect(Address address, Time deadline) override;

 private:
  Result<std::unique_ptr<SocketStream>> StartConnect(const SocketAddress& target, bool* connected);

  EpollLoop& loop_;
};

/// Removes a socket file that no process listens on any more: left behind by one that was killed.
bool RemoveStale(const SocketAddress& target, const std::string& path) {
  struct stat found{};
  if (::lstat(path.c_str(), &found) != 0 || !S_ISSOCK(found.st_mode)) {
    return false;  // somebody's file of another kind
  }
  const Fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (::connect(probe.get(), target.get(), target.size) == 0 || errno != ECONNREFUSED) {
    return false;
  }
  return ::unlink(path.c_str()) == 0;
}

Result<Fd> Bind(const Address& address, const SocketAddress& target, const ListenOptions& options) {
  Fd fd(::socket(target.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) {
    return Fail(OutOfDescriptors(errno) ? Code::kResourceExhausted : Code::kUnavailable,
                fmt::format("no socket for {}: {}", address.ToString(), ErrnoText(errno)));
  }
  if (target.family() != AF_UNIX) {
    SetOption(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
    if (options.reuse_port) {
      SetOption(fd.get(), SOL_SOCKET, SO_REUSEPORT, 1);
    }
  }
  const auto bind = [&] { return ::bind(fd.get(), target.get(), target.size) == 0; };
  const bool bound = bind() || (errno == EADDRINUSE && target.family() == AF_UNIX &&
                                RemoveStale(target, UnixPath(address)) && bind());
  if (!bound || ::listen(fd.get(), static_cast<int>(options.backlog_max)) != 0) {
    return Fail(Code::kUnavailable,
                fmt::format("cannot listen on {}: {}", address.ToString(), ErrnoText(errno)));
  }
  return fd;
}

Result<std::unique_ptr<Listener>> SocketNet::Listen(const Address& address,
                                                    const ListenOptions& options) {
  PX_TRY(const std::vector<SocketAddress> targets, ToSocketAddresses(address));
  PX_TRY(Fd fd, Bind(address, targets.front(), options));
  SocketAddress bound;
  bound.size = sizeof(bound.storage);
  ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&bound.storage), &bound.size);
  auto listener = std::make_unique<SocketListener>(loop_, std::move(fd), FromSocketAddress(bound));
  PX_CHECK_OK(listener->Register());
  return std::unique_ptr<Listener>(std::move(listener));
}

Result<std::unique_ptr<SocketStream>> SocketNet::StartConnect(const SocketAddress& target,
                                                              bool* connected) {
  Fd fd(::socket(target.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) {
    return Fail(OutOfDescriptors(errno) ? Code::kResourceExhausted : Code::kUnavailable,
                fmt::format("no socket: {}", ErrnoText(errno)));
  }
  *connected = ::connect(fd.get(), target.get(), target.size) == 0;
  if (!*connected && errno != EINPROGRESS) {
    return Fail(Code::kUnavailable,
                fmt::format("cannot connect to {}: {}", FromSocketAddress(target).ToString(),
                            ErrnoText(errno)));
  }
  return MakeStream(loop_, std::move(fd), target);
}

Task<Result<std::unique_ptr<Stream>>> SocketNet::Connect(Address address, Time deadline) {
  PX_CO_TRY(const std::vector<SocketAddress> targets, ToSocketAddresses(address));
  Error last(Code::kUnavailable, fmt::format("no address of {} answers", address.ToString()));
  for (const SocketAddress& target : targets) {
    bool connected = false;
    Result<std::unique_ptr<SocketStream>> stream = StartConnect(target, &connected);
    if (!stream) {
      last = stream.error();
      continue;
    }
    if (!connected) {
      Result<void> finished = co_await (*stream)->FinishConnect(deadline);
      if (!finished) {
        last = finished.error();
        continue;
      }
    }
    co_return std::unique_ptr<Stream>(std::move(*stream));
  }
  co_return Fail(std::move(last));
}

}  // namespace

SocketParts* PartsOf(Stream& stream) { return dynamic_cast<SocketParts*>(&stream); }

std::uint32_t OwnUser() { return ::geteuid(); }

std::unique_ptr<Net> MakeNet(Loop& loop) {
  auto* epoll_loop = dynamic_cast<EpollLoop*>(&loop);
  PX_ASSERT(epoll_loop != nullptr);  // a simulated loop has its world's net
  return std::make_unique<SocketNet>(*epoll_loop);
}

}  // namespace pixii::rt
