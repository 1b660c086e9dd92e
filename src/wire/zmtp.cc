#include "wire/zmtp.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

namespace pixii::wire {

namespace {

// Greeting: signature (10 bytes), version (2), mechanism (20), as-server (1), filler (31).
constexpr std::size_t kGreetingSize = 64;
constexpr std::size_t kVersionAt = 10;
constexpr std::size_t kMechanismAt = 12;
constexpr std::size_t kMechanismSize = 20;

constexpr std::uint8_t kMore = 1;
constexpr std::uint8_t kLong = 2;
constexpr std::uint8_t kCommand = 4;

// Of a command that is read before the peer is known.
constexpr std::uint64_t kHandshakeBytesMax = 4096;
constexpr std::size_t kPingContextMax = 16;

tl::unexpected<Error> Broken(std::string what) { return Fail(Code::kDataCorrupt, std::move(what)); }

std::uint64_t BigEndian(std::string_view bytes) {
  std::uint64_t value = 0;
  for (const char byte : bytes) {
    value = value << 8U | static_cast<unsigned char>(byte);
  }
  return value;
}

void AppendBigEndian(std::string& out, std::uint64_t value, unsigned size) {
  for (unsigned i = size; i-- > 0;) {
    out.push_back(static_cast<char>(value >> (8 * i) & 0xFFU));
  }
}

std::string Greeting() {
  std::string out(kGreetingSize, '\0');
  out[0] = '\xFF';
  out[8] = '\x01';
  out[9] = '\x7F';
  out[kVersionAt] = 3;
  out.replace(kMechanismAt, 4, "NULL");
  return out;
}

std::string_view NameOf(ZmtpSocket socket) {
  switch (socket) {
    case ZmtpSocket::kPublisher:
      return "PUB";
    case ZmtpSocket::kSubscriber:
      return "SUB";
    case ZmtpSocket::kRouter:
      return "ROUTER";
    case ZmtpSocket::kPull:
      return "PULL";
    case ZmtpSocket::kDealer:
      break;
  }
  return "DEALER";
}

bool Fits(ZmtpSocket own, std::string_view peer) {
  switch (own) {
    case ZmtpSocket::kPublisher:
      return peer == "SUB" || peer == "XSUB";
    case ZmtpSocket::kSubscriber:
      return peer == "PUB" || peer == "XPUB";
    case ZmtpSocket::kRouter:
      return peer == "REQ" || peer == "DEALER" || peer == "ROUTER";
    case ZmtpSocket::kPull:
      return peer == "PUSH";
    case ZmtpSocket::kDealer:
      break;
  }
  return peer == "REP" || peer == "DEALER" || peer == "ROUTER";
}

std::string ReadyCommand(ZmtpSocket own) {
  std::string out = "\x05READY";
  const auto add = [&out](std::string_view name, std::string_view value) {
    out.push_back(static_cast<char>(name.size()));
    out += name;
    AppendBigEndian(out, value.size(), 4);
    out += value;
  };
  add("Socket-Type", NameOf(own));
  if (own == ZmtpSocket::kDealer) {
    add("Identity", "");
  }
  return out;
}

}  // namespace

ZmtpConnection::ZmtpConnection(ZmtpSocket own) : own_(own), output_(Greeting()) {
  AppendFrame(output_, ReadyCommand(own_), kCommand);
}

void ZmtpConnection::AppendFrame(std::string& out, std::string_view body, std::uint8_t flags) {
  const bool is_long = body.size() > 255;
  out.push_back(static_cast<char>(flags | (is_long ? kLong : 0)));
  AppendBigEndian(out, body.size(), is_long ? 8 : 1);
  out += body;
}

void ZmtpConnection::Send(const ZmtpMessage& message) {
  std::string& out = ready() ? output_ : waiting_;
  for (std::size_t i = 0; i < message.size(); ++i) {
    AppendFrame(out, message[i], i + 1 < message.size() ? kMore : 0);
  }
}

void ZmtpConnection::Subscribe(std::string_view topic) { Send({fmt::format("\x01{}", topic)}); }

bool ZmtpConnection::Wants(std::string_view topic) const {
  return ready() && std::ranges::any_of(topics_, [topic](const std::string& prefix) {
           return topic.starts_with(prefix);
         });
}

std::vector<ZmtpMessage> ZmtpConnection::TakeMessages() { return std::exchange(messages_, {}); }

std::string ZmtpConnection::TakeOutput() { return std::exchange(output_, {}); }

Result<void> ZmtpConnection::Feed(std::string_view bytes) {
  input_ += bytes;
  if (phase_ == Phase::kGreeting) {
    PX_TRY(const bool whole, TakeGreeting());
    if (!whole) {
      return {};
    }
  }
  std::size_t used = 0;
  while (used < input_.size()) {
    Frame frame;
    PX_TRY(const bool whole, NextFrame(std::string_view(input_).substr(used), frame));
    if (!whole) {
      break;
    }
    PX_CHECK_OK(OnFrame(frame));
    used += frame.size_bytes;
  }
  input_.erase(0, used);
  return {};
}

Result<bool> ZmtpConnection::TakeGreeting() {
  if ((!input_.empty() && input_[0] != '\xFF') ||
      (input_.size() > 9 && (static_cast<unsigned char>(input_[9]) & 1U) == 0)) {
    return Broken("the peer speaks no ZMTP");
  }
  if (input_.size() > kVersionAt && static_cast<unsigned char>(input_[kVersionAt]) < 3) {
    return Broken("the peer speaks a ZMTP older than 3.0");
  }
  if (input_.size() < kGreetingSize) {
    return false;
  }
  std::string mechanism = input_.substr(kMechanismAt, kMechanismSize);
  mechanism.resize(std::min(mechanism.find('\0'), mechanism.size()));
  if (mechanism != "NULL") {
    return Broken(fmt::format(
        "the peer wants the mechanism {:.20}, only NULL is known here",
        mechanism.find_first_of("\r\n\"\\") == std::string::npos ? mechanism : "of another kind"));
  }
  input_.erase(0, kGreetingSize);
  phase_ = Phase::kHandshake;
  return true;
}

Result<bool> ZmtpConnection::NextFrame(std::string_view input, Frame& frame) const {
  const auto flags = static_cast<std::uint8_t>(input[0]);
  const std::size_t head = (flags & kLong) != 0 ? 9 : 2;
  if ((flags & ~(kMore | kLong | kCommand)) != 0 || ((flags & kCommand) != 0 && (flags & kMore))) {
    return Broken(fmt::format("a frame with the flags {:#04x}", flags));
  }
  if (input.size() < head) {
    return false;
  }
  const std::uint64_t size = BigEndian(input.substr(1, head - 1));
  const std::uint64_t size_max =
      ready() ? kMessageBytesMax - std::min(message_bytes_, kMessageBytesMax) : kHandshakeBytesMax;
  if (size > size_max) {
    return Fail(Code::kTooLarge,
                fmt::format("a frame of {} bytes, {} are allowed here", size, size_max));
  }
  if (input.size() - head < size) {
    return false;
  }
  frame.more = (flags & kMore) != 0;
  frame.command = (flags & kCommand) != 0;
  frame.body = input.substr(head, size);
  frame.size_bytes = head + size;
  return true;
}

Result<void> ZmtpConnection::OnFrame(const Frame& frame) {
  if (frame.command) {
    return OnCommand(frame.body);
  }
  if (!ready()) {
    return Broken("a message before the handshake");
  }
  if (message_.size() == kFramesMax) {
    return Fail(Code::kTooLarge, fmt::format("a message of more than {} frames", kFramesMax));
  }
  message_.emplace_back(frame.body);
  message_bytes_ += frame.body.size();
  if (frame.more) {
    return {};
  }
  message_bytes_ = 0;
  ZmtpMessage message = std::exchange(message_, {});
  if (own_ != ZmtpSocket::kPublisher) {
    messages_.push_back(std::move(message));
    return {};
  }
  // To a publisher a message says what its peer wants.
  const std::string_view said = message.front();
  const bool known = !said.empty() && (said.front() == '\0' || said.front() == '\1');
  return known ? OnSubscription(said.front() == '\1', said.substr(1)) : Result<void>();
}

Result<void> ZmtpConnection::OnCommand(std::string_view body) {
  const std::size_t name_size = body.empty() ? 0 : static_cast<unsigned char>(body[0]);
  if (name_size == 0 || body.size() - 1 < name_size) {
    return Broken("a command without a name");
  }
  const std::string_view name = body.substr(1, name_size);
  const std::string_view data = body.substr(1 + name_size);
  if (name == "ERROR") {
    return Broken("the peer refuses this connection");
  }
  if (!ready()) {
    return name == "READY" ? OnReady(data) : Broken("a command before the handshake");
  }
  if (name == "PING" && data.size() >= 2) {  // time to live, context
    AppendFrame(output_, fmt::format("\x04PONG{}", data.substr(2, kPingContextMax)), kCommand);
  } else if (own_ == ZmtpSocket::kPublisher && (name == "SUBSCRIBE" || name == "CANCEL")) {
    return OnSubscription(name == "SUBSCRIBE", data);
  }
  return {};
}

Result<void> ZmtpConnection::OnReady(std::string_view properties) {
  std::optional<std::string> type;
  while (!properties.empty()) {
    const std::size_t name_size = static_cast<unsigned char>(properties[0]);
    if (properties.size() < 1 + name_size + 4) {
      return Broken("a property that ends too soon");
    }
    const std::string_view name = properties.substr(1, name_size);
    const std::uint64_t size = BigEndian(properties.substr(1 + name_size, 4));
    properties.remove_prefix(1 + name_size + 4);
    if (properties.size() < size) {
      return Broken("a property that ends too soon");
    }
    if (std::ranges::equal(name, std::string_view("socket-type"), [](char given, char known) {
          return (given >= 'A' && given <= 'Z' ? static_cast<char>(given + 32) : given) == known;
        })) {
      type = properties.substr(0, size);
    }
    properties.remove_prefix(size);
  }
  if (!type || !Fits(own_, *type)) {
    return Broken(fmt::format("the peer's socket is none that a {} talks to", NameOf(own_)));
  }
  phase_ = Phase::kReady;
  output_ += std::exchange(waiting_, {});
  return {};
}

Result<void> ZmtpConnection::OnSubscription(bool wanted, std::string_view topic) {
  if (!wanted) {
    const auto found = std::ranges::find(topics_, topic);
    if (found != topics_.end()) {
      topics_.erase(found);  // one of as many subscriptions
    }
    return {};
  }
  if (topics_.size() == kTopicsMax || topic.size() > kTopicBytesMax) {
    return Fail(Code::kTooLarge, "too many or too long subscriptions");
  }
  topics_.emplace_back(topic);
  return {};
}

}  // namespace pixii::wire
