// ZeroMQ's connections without I/O: ZMTP 3.0 with the NULL mechanism, as far as publishers,
// subscribers, their replay sockets and those who take what is pushed need it.
//
// Thread: a value; one connection. Source: rfc.zeromq.org/spec/23 (ZMTP 3.0), 28 (request and
// reply), 29 (publish and subscribe), 30 (pipeline); the PING of 37 (ZMTP 3.1) is answered.
// Nothing is encrypted and nobody is authenticated: for networks that are trusted.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pixii::wire {

enum class ZmtpSocket : std::uint8_t { kPublisher, kSubscriber, kRouter, kDealer, kPull };

using ZmtpMessage = std::vector<std::string>;  // its frames

class ZmtpConnection final {
 public:
  static constexpr std::uint64_t kMessageBytesMax = 64U << 20U;  // of a peer's, all its frames
  static constexpr std::size_t kFramesMax = 1024;                // of a peer's message
  static constexpr std::size_t kTopicsMax = 1024;                // that a peer subscribed to
  static constexpr std::size_t kTopicBytesMax = 4096;

  /// The greeting is in the output at once.
  explicit ZmtpConnection(ZmtpSocket own);

  /// Bytes of the peer, in any pieces. Errors: kDataCorrupt (this is no peer that fits, or it broke
  /// the protocol), kTooLarge; the connection is of no use then.
  Result<void> Feed(std::string_view bytes);

  /// The peer is known to be one that fits.
  bool ready() const { return phase_ == Phase::kReady; }

  /// kSubscriber: messages whose first frame begins so. What is sent before the peer is ready waits
  /// for it.
  void Subscribe(std::string_view topic);

  void Send(const ZmtpMessage& message);

  /// kPublisher: whether the peer wants messages whose first frame is `topic`.
  bool Wants(std::string_view topic) const;

  /// Whole messages, in order.
  std::vector<ZmtpMessage> TakeMessages();

  /// Bytes for the peer.
  std::string TakeOutput();

  std::size_t output_size_bytes() const { return output_.size(); }

 private:
  enum class Phase : std::uint8_t { kGreeting, kHandshake, kReady };

  /// One that is whole; its body lives as long as the input.
  struct Frame {
    bool more = false;
    bool command = false;
    std::string_view body;
    std::size_t size_bytes = 0;  // head and body
  };

  Result<bool> TakeGreeting();
  Result<bool> NextFrame(std::string_view input, Frame& frame) const;
  Result<void> OnFrame(const Frame& frame);
  Result<void> OnCommand(std::string_view body);
  Result<void> OnReady(std::string_view properties);
  Result<void> OnSubscription(bool wanted, std::string_view topic);
  void AppendFrame(std::string& out, std::string_view body, std::uint8_t flags);

  ZmtpSocket own_;
  Phase phase_ = Phase::kGreeting;
  std::string input_;
  std::string output_;
  std::string waiting_;  // output behind the handshake
  ZmtpMessage message_;  // whose last frame has not come
  std::uint64_t message_bytes_ = 0;
  std::vector<ZmtpMessage> messages_;
  std::vector<std::string> topics_;  // the peer's
};

}  // namespace pixii::wire
