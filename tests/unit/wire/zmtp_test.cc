#include "wire/zmtp.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace pixii::wire {
namespace {

std::string GreetingOf(std::string_view mechanism = "NULL", char version = 3) {
  std::string out(64, '\0');
  out[0] = '\xFF';
  out[9] = '\x7F';
  out[10] = version;
  out.replace(12, mechanism.size(), mechanism);
  return out;
}

std::string Command(std::string_view body) {
  std::string out("\x04");
  out.push_back(static_cast<char>(body.size()));
  return out.append(body);
}

std::string Ready(std::string_view type) {
  std::string body("\x05READY\x0BSocket-Type", 18);
  body.append(3, '\0');
  body.push_back(static_cast<char>(type.size()));
  return Command(body.append(type));
}

std::string Frame(std::string_view body, bool more = false) {
  std::string out(1, more ? '\1' : '\0');
  out.push_back(static_cast<char>(body.size()));
  return out.append(body);
}

// Both ends, byte by byte, until nobody has anything to say.
void Carry(ZmtpConnection& a, ZmtpConnection& b) {
  while (a.output_size_bytes() + b.output_size_bytes() > 0) {
    for (const char byte : a.TakeOutput()) {
      ASSERT_TRUE(b.Feed(std::string_view(&byte, 1)));
    }
    for (const char byte : b.TakeOutput()) {
      ASSERT_TRUE(a.Feed(std::string_view(&byte, 1)));
    }
  }
}

TEST(Zmtp, AGreetingIsOfVersion3WithoutSecurity) {
  ZmtpConnection connection(ZmtpSocket::kSubscriber);
  const std::string output = connection.TakeOutput();
  ASSERT_GT(output.size(), 64U);
  EXPECT_EQ(output.substr(0, 12), std::string("\xFF\0\0\0\0\0\0\0\1\x7F\3\0", 12));
  EXPECT_EQ(output.substr(12, 20), "NULL" + std::string(16, '\0'));
  EXPECT_EQ(output.substr(32, 32), std::string(32, '\0'));
  EXPECT_EQ(output.substr(64), Ready("SUB"));
}

TEST(Zmtp, SubscribersGetWhatTheyAskedFor) {
  ZmtpConnection publisher(ZmtpSocket::kPublisher);
  ZmtpConnection subscriber(ZmtpSocket::kSubscriber);
  subscriber.Subscribe("kv");  // before the handshake
  EXPECT_FALSE(publisher.Wants("kv"));
  Carry(publisher, subscriber);
  ASSERT_TRUE(publisher.ready() && subscriber.ready());
  EXPECT_TRUE(publisher.Wants("kv-events"));
  EXPECT_FALSE(publisher.Wants("k"));
  publisher.Send({"kv-events", std::string(300, 'x'), ""});
  Carry(publisher, subscriber);
  EXPECT_EQ(subscriber.TakeMessages(),
            (std::vector<ZmtpMessage>{{"kv-events", std::string(300, 'x'), ""}}));
  EXPECT_TRUE(subscriber.TakeMessages().empty());
}

TEST(Zmtp, SubscriptionsMayBeMessagesOrCommandsAndEnd) {
  ZmtpConnection publisher(ZmtpSocket::kPublisher);
  ASSERT_TRUE(publisher.Feed(GreetingOf() + Ready("XSUB") + Frame("\1a") +
                             Command("\x09SUBSCRIBEb") + Frame("\1a")));
  EXPECT_TRUE(publisher.Wants("a") && publisher.Wants("b"));
  ASSERT_TRUE(publisher.Feed(Frame(std::string_view("\0a", 2)) + Command("\x06"
                                                                         "CANCELb")));
  EXPECT_TRUE(publisher.Wants("a"));  // asked for twice, given back once
  EXPECT_FALSE(publisher.Wants("b"));
}

TEST(Zmtp, RouterAndDealerExchangeMessages) {
  ZmtpConnection router(ZmtpSocket::kRouter);
  ZmtpConnection dealer(ZmtpSocket::kDealer);
  dealer.Send({"", "12345678"});
  Carry(router, dealer);
  EXPECT_EQ(router.TakeMessages(), (std::vector<ZmtpMessage>{{"", "12345678"}}));
  router.Send({"", "1", "payload"});
  Carry(router, dealer);
  EXPECT_EQ(dealer.TakeMessages(), (std::vector<ZmtpMessage>{{"", "1", "payload"}}));
}

TEST(Zmtp, AQuestionWhetherItLivesIsAnswered) {
  ZmtpConnection subscriber(ZmtpSocket::kSubscriber);
  ASSERT_TRUE(subscriber.Feed(GreetingOf() + Ready("PUB")));
  subscriber.TakeOutput();
  ASSERT_TRUE(
      subscriber.Feed(Command(std::string_view("\4PING\0\x0A"
                                               "here",
                                               11))));
  EXPECT_EQ(subscriber.TakeOutput(), Command("\4PONGhere"));
}

TEST(Zmtp, WhoDoesNotFitIsRefused) {
  const auto refused = [](ZmtpSocket own, const std::string& bytes) {
    ZmtpConnection connection(own);
    return !connection.Feed(bytes);
  };
  using enum ZmtpSocket;
  EXPECT_TRUE(refused(kSubscriber, "GET / HTTP/1.1\r\n\r\n"));
  EXPECT_TRUE(refused(kSubscriber, GreetingOf("CURVE")));
  EXPECT_TRUE(refused(kSubscriber, GreetingOf("NULL", 1)));
  EXPECT_TRUE(refused(kSubscriber, GreetingOf() + Ready("ROUTER")));
  EXPECT_TRUE(refused(kDealer, GreetingOf() + Ready("PUB")));
  EXPECT_TRUE(refused(kPull, GreetingOf() + Ready("DEALER")));
  EXPECT_FALSE(
      refused(kPull, GreetingOf() + Ready("PUSH") + Frame("topic", true) + Frame("event")));
  EXPECT_TRUE(refused(kSubscriber, GreetingOf() + Command("\x05READY")));
  EXPECT_TRUE(refused(kSubscriber, GreetingOf() + Frame("early")));
  EXPECT_TRUE(refused(kSubscriber, GreetingOf() + Command("\x05"
                                                          "ERROR\1x")));
  EXPECT_TRUE(refused(kSubscriber, GreetingOf() + Command("\x7Fx")));
  const std::string in = GreetingOf() + Ready("PUB");
  EXPECT_FALSE(refused(kSubscriber, in));
  EXPECT_TRUE(refused(kSubscriber, in + "\x08\1x"));  // flags nobody knows
  EXPECT_TRUE(refused(kSubscriber, in + "\x05\1x"));  // a command goes on
  EXPECT_TRUE(refused(kSubscriber, in + "\x02\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF"));  // endless
  std::string many = in;
  for (std::size_t i = 0; i <= ZmtpConnection::kFramesMax; ++i) {
    many += Frame("", true);
  }
  EXPECT_TRUE(refused(kSubscriber, many));
  std::string topics = GreetingOf() + Ready("SUB");
  for (std::size_t i = 0; i <= ZmtpConnection::kTopicsMax; ++i) {
    topics += Frame("\1t");
  }
  EXPECT_TRUE(refused(kPublisher, topics));
}

}  // namespace
}  // namespace pixii::wire
