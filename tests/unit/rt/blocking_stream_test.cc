#include "rt/blocking_stream.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <future>
#include <string>
#include <string_view>
#include <utility>

#include "rt/fd.h"
#include "rt/thread.h"
#include "unit/rt/echo.h"
#include "unit/rt/test_certificates.h"

namespace pixii::rt {
namespace {

/// Listens on loopback and takes one connection at a time.
class Peer final {
 public:
  Peer() : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    address_.sin_family = AF_INET;
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address_);
    auto* const generic = reinterpret_cast<sockaddr*>(&address_);
    EXPECT_EQ(::bind(listener_.get(), generic, size), 0);
    EXPECT_EQ(::listen(listener_.get(), 4), 0);
    ::getsockname(listener_.get(), generic, &size);
  }

  /// By a name: loopback to the system's lookup, nothing to Net.
  Address address() const { return {.host = "127.1", .port = ntohs(address_.sin_port)}; }

  void Accept() { fd_ = Fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)); }

  void Say(std::string_view text) {
    EXPECT_EQ(::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
  }

  std::string Hear(std::size_t size) {
    std::string text(size, '\0');
    const ssize_t got = ::recv(fd_.get(), text.data(), size, MSG_WAITALL);
    text.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    return text;
  }

  void Close() { fd_.Close(); }

  void StopListening() { listener_.Close(); }

 private:
  Fd listener_;
  Fd fd_;
  sockaddr_in address_{};
};

std::span<const std::byte> Bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

class BlockingStreamTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = BlockingStream::Connect(peer_.address(), 10s);
    ASSERT_TRUE(made) << made.error().ToString();
    stream_ = std::move(*made);
    peer_.Accept();
  }

  Result<std::string> Receive(std::size_t size) {
    std::string text(size, '\0');
    PX_CHECK_OK(stream_->Receive(std::as_writable_bytes(std::span(text))));
    return text;
  }

  Peer peer_;
  std::unique_ptr<BlockingStream> stream_;
};

TEST_F(BlockingStreamTest, CarriesBytesBothWays) {
  stream_->Begin(10s);
  ASSERT_TRUE(stream_->Send(Bytes("question")));
  EXPECT_EQ(peer_.Hear(8), "question");
  EXPECT_FALSE(stream_->stale());
  peer_.Say("ans");
  peer_.Say("wer");
  EXPECT_EQ(*Receive(6), "answer");
}

TEST_F(BlockingStreamTest, APeerThatSaysNothingOrTooLittleEndsAtTheLimit) {
  stream_->Begin(20ms);
  EXPECT_EQ(Receive(1).error().code(), Code::kDeadlineExceeded);
  stream_->Begin(20ms);
  peer_.Say("h");
  EXPECT_EQ(Receive(2).error().code(), Code::kDeadlineExceeded);
}

TEST_F(BlockingStreamTest, APeerThatDoesNotReadEndsASendAtTheLimit) {
  const std::string much(64 << 20, 'x');
  stream_->Begin(20ms);
  EXPECT_EQ(stream_->Send(Bytes(much)).error().code(), Code::kDeadlineExceeded);
}

TEST_F(BlockingStreamTest, APeerThatGoesIsUnavailable) {
  peer_.Say("hal");
  peer_.Close();
  stream_->Begin(10s);
  EXPECT_EQ(Receive(4).error().code(), Code::kUnavailable);
  EXPECT_TRUE(stream_->stale());
}

TEST_F(BlockingStreamTest, BytesThatNobodyAskedForMakeItStale) {
  peer_.Say("x");
  stream_->Begin(10s);
  while (!stream_->stale()) {
  }
}

TEST_F(BlockingStreamTest, NobodyListeningIsUnavailable) {
  const Address gone = peer_.address();
  peer_.Close();
  peer_.StopListening();
  const auto made = BlockingStream::Connect(gone, 10s);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code(), Code::kUnavailable);
}

TEST(BlockingStream, WithTlsItBelievesOnlyWhoseCertificateIsForTheName) {
  TestAuthority authority;
  const auto server = TlsContext::ForServer(authority.Sign("localhost")).value();
  std::promise<std::pair<Loop*, Address>> ready;
  Thread thread("echo", [&] {
    const auto loop = MakeLoop().value();
    const auto inner = MakeNet(*loop);
    const auto net = MakeTlsNet(*loop, *inner, server, nullptr);
    const auto listener = net->Listen({.host = "127.0.0.1"}, {}).value();
    loop->Spawn(EchoServer(*loop, *listener, Random(1)));
    ready.set_value({loop.get(), listener->address()});
    loop->Run();
  });
  const auto [loop, address] = ready.get_future().get();
  for (const char* name : {"localhost", "elsewhere"}) {
    const auto client = TlsContext::ForClient({.authorities = authority.file()}, name).value();
    const auto stream = BlockingStream::Connect(address, 10s, client);
    EXPECT_EQ(stream.has_value(), name == std::string_view("localhost"));
    if (!stream) {
      EXPECT_EQ(stream.error().code(), Code::kUnavailable);
      continue;
    }
    const std::string sent(50'000, 'x');  // several records
    std::string got(sent.size(), '\0');
    EXPECT_TRUE((*stream)->Send(Bytes(sent)));
    EXPECT_TRUE((*stream)->Receive(std::as_writable_bytes(std::span(got))));
    EXPECT_EQ(got, sent);
    EXPECT_FALSE((*stream)->stale());
  }
  loop->Stop();
  thread.Join();
}

}  // namespace
}  // namespace pixii::rt
