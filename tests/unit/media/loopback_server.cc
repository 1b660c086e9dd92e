#include "unit/media/loopback_server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/assert.h"

namespace pixii::media {

namespace {

// False: the client has gone.
bool Send(const rt::Fd& client, const std::string& bytes) {
  std::size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t size =
        ::send(client.get(), bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (size <= 0) {
      return false;
    }
    sent += static_cast<std::size_t>(size);
  }
  return true;
}

}  // namespace

LoopbackServer::LoopbackServer(
    const std::function<std::map<std::string, CannedAnswer>(std::uint16_t port)>& answers)
    : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  PX_ASSERT(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
  PX_ASSERT(::listen(listener_.get(), 16) == 0);
  PX_ASSERT(::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
  port_ = ntohs(address.sin_port);
  answers_ = answers(port_);
  thread_ = rt::Thread("loopback", [this] { Serve(); });
}

LoopbackServer::~LoopbackServer() {
  ::shutdown(listener_.get(), SHUT_RDWR);
  thread_.Join();
}

int LoopbackServer::connections() const {
  rt::MutexLock lock(mutex_);
  return connections_;
}

std::vector<std::string> LoopbackServer::requests() const {
  rt::MutexLock lock(mutex_);
  return requests_;
}

void LoopbackServer::Serve() {
  while (true) {
    const rt::Fd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!client) {
      return;
    }
    {
      rt::MutexLock lock(mutex_);
      ++connections_;
    }
    Answer(client);
  }
}

void LoopbackServer::Answer(const rt::Fd& client) {
  std::string request;
  char piece[4096];
  while (request.find("\r\n\r\n") == std::string::npos) {
    const ssize_t size = ::recv(client.get(), piece, sizeof piece, 0);
    if (size <= 0) {
      return;
    }
    request.append(piece, static_cast<std::size_t>(size));
  }
  const std::size_t begin = request.find(' ') + 1;
  const std::string path = request.substr(begin, request.find(' ', begin) - begin);
  {
    rt::MutexLock lock(mutex_);
    requests_.push_back(request);
  }
  const auto found = answers_.find(path);
  const CannedAnswer answer =
      found != answers_.end()
          ? found->second
          : CannedAnswer{.bytes = "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"};
  bool there = Send(client, answer.bytes);
  const std::string last(1 << 16, answer.bytes.back());
  while (there && answer.repeats) {
    there = Send(client, last);
  }
  while (there && answer.holds) {
    there = ::recv(client.get(), piece, sizeof piece, 0) > 0;
  }
}

CannedAnswer Ok(const std::string& body) {
  return {.bytes =
              fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", body.size(), body)};
}

CannedAnswer RedirectTo(const std::string& location) {
  return {.bytes = fmt::format("HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n",
                               location)};
}

}  // namespace pixii::media
