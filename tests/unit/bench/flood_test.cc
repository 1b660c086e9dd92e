#include "bench/flood.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "bench/floor_server.h"

namespace pixii::bench {
namespace {

constexpr std::string_view kAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
constexpr std::string_view kStream =
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\ndata: {}\n\n\r\n"
    "10\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";

TEST(AnswerReader, CountsAnswersHoweverTheyAreCut) {
  const std::string other = "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nother answer";
  const std::string all = std::string(kAnswer) + std::string(kAnswer) + other;
  for (std::size_t cut = 1; cut < all.size(); ++cut) {
    AnswerReader reader(false);
    std::uint32_t ended = reader.Feed(all.substr(0, cut)).value();
    EXPECT_EQ(reader.has_begun(), cut % kAnswer.size() != 0 || cut > 2 * kAnswer.size());
    ended += reader.Feed(all.substr(cut)).value();
    EXPECT_EQ(ended, 3U) << cut;
    EXPECT_FALSE(reader.has_begun());
    EXPECT_EQ(reader.last_answer(), other);
  }
}

TEST(AnswerReader, SeesTheFirstEventOfAStreamAndItsEnd) {
  for (std::size_t cut = 1; cut < kStream.size(); ++cut) {
    AnswerReader reader(true);
    EXPECT_EQ(reader.Feed(kStream.substr(0, cut)).value(), 0U);
    EXPECT_EQ(reader.has_begun(), kStream.substr(0, cut).find("data: ") != std::string::npos);
    EXPECT_EQ(reader.Feed(kStream.substr(cut)).value(), 1U);
    EXPECT_EQ(reader.events(), 2U);
  }
}

TEST(AnswerReader, AnotherStatusIsAnError) {
  AnswerReader reader(false);
  EXPECT_FALSE(reader.Feed("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"));
  AnswerReader stream(true);
  EXPECT_FALSE(stream.Feed("HTTP/1.1 400 Bad\r\nContent-Length: 2\r\n\r\n{}"));
  AnswerReader lost(false);
  EXPECT_FALSE(lost.Feed("HTTP/1.1 200 OK\r\n\r\n"));
}

class FloodTest : public ::testing::Test {
 protected:
  Result<FloodResult> Run(FloodOptions options) {
    Result<FloodResult> out = Fail(Code::kInternal, "it did not run");
    loop_->Spawn(Drive(std::move(options), out));
    loop_->Run();
    return out;
  }

  rt::Task<void> Drive(FloodOptions options, Result<FloodResult>& out) {
    auto run = RunFlood(*loop_, *net_, std::move(options));
    out = co_await std::move(run);
    loop_->Stop();
  }

  std::unique_ptr<rt::Loop> loop_ = rt::MakeLoop().value();
  std::unique_ptr<rt::Net> net_ = rt::MakeNet(*loop_);
};

TEST_F(FloodTest, TheFloorAnswersPipelinedRequestsOfEveryConnection) {
  const std::unique_ptr<FloorServer> floor = FloorServer::Start(std::string(kAnswer)).value();
  const rt::Address server = floor->address();
  const FloodResult once =
      Run({.server = server, .request = MakeFloodGet(server, "/"), .connections = 3, .pipeline = 4})
          .value();
  EXPECT_EQ(once.requests, 12U);
  EXPECT_EQ(once.first_ms.size(), 3U);
  EXPECT_EQ(once.last_answer, kAnswer);
  const FloodResult many = Run({.server = server,
                                .request = MakeFloodGet(server, "/"),
                                .connections = 2,
                                .time = std::chrono::milliseconds(20)})
                               .value();
  EXPECT_GT(many.requests, 2U);
  EXPECT_GE(many.elapsed_s, 0.02);
}

TEST_F(FloodTest, NobodyListeningIsAnError) {
  EXPECT_FALSE(Run({.server = {.host = "127.0.0.1", .port = 1},
                    .request = MakeFloodGet({.host = "127.0.0.1", .port = 1}, "/")}));
}

TEST(FloodRequest, NumbersStandWhereTheBodyHasZeros) {
  const FloodRequest request =
      MakeFloodPost({.host = "h", .port = 1}, "/p", R"({"prompt":"0000000000 x"})");
  EXPECT_EQ(request.bytes.substr(request.number_at, FloodRequest::kDigits), "0000000000");
  EXPECT_NE(request.bytes.find("Content-Length: 25\r\n\r\n{"), std::string::npos);
  EXPECT_EQ(MakeFloodGet({.host = "h", .port = 1}, "/p").number_at, FloodRequest::kSame);
}

}  // namespace
}  // namespace pixii::bench
