#include "control/zmq_kv_publisher.h"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "rt/sim_world.h"

namespace pixii::control {
namespace {

using std::chrono::seconds;

class ZmqKvPublisherTest : public testing::Test {
 protected:
  void Start(ZmqKvPublisherOptions options) {
    publisher_ = std::make_unique<ZmqKvPublisher>(engine_.loop(), engine_.net(), options);
    ASSERT_TRUE(publisher_->Start({.host = "0.0.0.0", .port = 5557}));
    ASSERT_TRUE(publisher_->StartReplay({.host = "0.0.0.0", .port = 5558}));
  }

  // Connects as `own`, says `first`, and reads until `count` messages came or the peer closed.
  std::vector<wire::ZmtpMessage> Ask(std::uint16_t port, wire::ZmtpSocket own,
                                     wire::ZmtpMessage first, std::size_t count) {
    std::vector<wire::ZmtpMessage> out;
    bool done = false;
    client_.loop().Spawn(AskTask(client_, port, own, std::move(first), count, out, done));
    EXPECT_EQ(world_.RunUntil([&] { return done; }, world_.now() + seconds(60)), rt::SimEnd::kDone);
    return out;
  }

  static rt::Task<void> AskTask(rt::SimNode& node, std::uint16_t port, wire::ZmtpSocket own,
                                wire::ZmtpMessage first, std::size_t count,
                                std::vector<wire::ZmtpMessage>& out, bool& done) {
    auto connecting = node.net().Connect({.host = "engine", .port = port}, rt::kNever);
    const std::unique_ptr<rt::Stream> stream = (co_await std::move(connecting)).value();
    wire::ZmtpConnection zmtp(own);
    zmtp.Send(first);
    std::array<char, 4096> buffer;
    while (out.size() < count) {
      const std::string output = zmtp.TakeOutput();
      auto writing = stream->Write(output, rt::kNever);
      (void)co_await std::move(writing);
      auto reading = stream->Read(buffer, rt::kNever);
      const Result<std::size_t> size = co_await std::move(reading);
      if (!size || *size == 0 || !zmtp.Feed(std::string_view(buffer.data(), *size))) {
        break;
      }
      for (wire::ZmtpMessage& message : zmtp.TakeMessages()) {
        out.push_back(std::move(message));
      }
    }
    done = true;
  }

  void PublishMany(int count) {
    for (int i = 0; i < count; ++i) {
      publisher_->Publish({.seconds = static_cast<double>(i), .events = {}, .rank = {}});
    }
  }

  rt::SimWorld world_{rt::SimOptions{.seed = 6}};
  rt::SimNode& engine_ = world_.AddNode("engine");
  rt::SimNode& client_ = world_.AddNode("client");
  std::unique_ptr<ZmqKvPublisher> publisher_;
};

TEST_F(ZmqKvPublisherTest, AnswersWhatItRemembersAndThatThisIsAll) {
  Start({.batches_max = 3});
  PublishMany(5);
  EXPECT_EQ(publisher_->next_sequence(), 5U);
  const auto got = Ask(5558, wire::ZmtpSocket::kDealer, {"", wire::EncodeEngineKvSequence(0)}, 4);
  ASSERT_EQ(got.size(), 4U);
  for (std::size_t i = 0; i < 3; ++i) {
    ASSERT_EQ(got[i].size(), 3U);
    EXPECT_EQ(got[i][0], "");
    EXPECT_EQ(got[i][1], wire::EncodeEngineKvSequence(i + 2));
    EXPECT_EQ(wire::DecodeEngineKvBatch(got[i][2])->seconds, static_cast<double>(i + 2));
  }
  EXPECT_EQ(got[3], (wire::ZmtpMessage{"", std::string(8, '\xFF'), ""}));
}

TEST_F(ZmqKvPublisherTest, EnvelopesComeBackAsTheyWere) {
  Start({});
  PublishMany(1);
  const auto got =
      Ask(5558, wire::ZmtpSocket::kDealer, {"a", "", wire::EncodeEngineKvSequence(0)}, 2);
  ASSERT_EQ(got.size(), 2U);
  EXPECT_EQ(got[0].size(), 4U);
  EXPECT_EQ(got[0][0], "a");
  EXPECT_EQ(got[1][2], std::string(8, '\xFF'));
}

TEST_F(ZmqKvPublisherTest, LargeBuffersAreSentInPieces) {
  Start({});
  wire::EngineKvBatch large;
  large.events.resize(1);
  large.events[0].hashes.assign(100'000, ~std::uint64_t{0});
  large.events[0].kind = wire::EngineKvEvent::Kind::kRemoved;
  for (int i = 0; i < 10; ++i) {
    publisher_->Publish(large);
  }
  const auto got = Ask(5558, wire::ZmtpSocket::kDealer, {"", wire::EncodeEngineKvSequence(0)}, 11);
  EXPECT_EQ(got.size(), 11U);
}

TEST_F(ZmqKvPublisherTest, WhoSpeaksSomethingElseIsLeft) {
  Start({});
  // A subscriber at the replay socket.
  EXPECT_TRUE(Ask(5558, wire::ZmtpSocket::kSubscriber, {"\1"}, 1).empty());
  world_.RunTo(world_.now() + seconds(1));
  EXPECT_EQ(publisher_->peer_count(), 0U);
  EXPECT_EQ(publisher_->malformed_count(), 1U);
}

TEST_F(ZmqKvPublisherTest, AQuestionThatIsNoneIsCountedAndNotAnswered) {
  Start({});
  PublishMany(1);
  bool done = false;
  std::vector<wire::ZmtpMessage> out;
  client_.loop().Spawn(
      AskTask(client_, 5558, wire::ZmtpSocket::kDealer, {"", "seven b"}, 1, out, done));
  EXPECT_EQ(world_.RunUntil([&] { return publisher_->malformed_count() == 1; },
                            world_.now() + seconds(60)),
            rt::SimEnd::kDone);
  EXPECT_FALSE(done);
  EXPECT_EQ(publisher_->peer_count(), 1U) << "it may ask again";
  publisher_.reset();
  world_.RunTo(world_.now() + seconds(1));
  EXPECT_TRUE(out.empty());
}

TEST_F(ZmqKvPublisherTest, BytesThatCanBeAskedForAreBounded) {
  const std::size_t size = wire::EncodeEngineKvBatch({.seconds = 1, .events = {}, .rank = {}},
                                                     wire::EngineKvForm::kArrays)
                               .size();
  Start({.bytes_max = 4 * size});
  PublishMany(100);
  EXPECT_EQ(Ask(5558, wire::ZmtpSocket::kDealer, {"", wire::EncodeEngineKvSequence(0)}, 5).size(),
            5U);
  const auto got = Ask(5558, wire::ZmtpSocket::kDealer, {"", wire::EncodeEngineKvSequence(0)}, 1);
  EXPECT_EQ(got[0][1], wire::EncodeEngineKvSequence(96));
}

}  // namespace
}  // namespace pixii::control
