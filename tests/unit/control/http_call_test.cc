#include "control/http_call.h"

#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "rt/sim_world.h"

namespace pixii::control {
namespace {

using std::chrono::seconds;

// A server that answers every connection with the same bytes, in pieces, and keeps it open or not.
class HttpCallTest : public testing::Test {
 protected:
  void Serve(std::vector<std::string> pieces, bool closes) {
    server_.loop().Spawn(ServeTask(server_, std::move(pieces), closes, request_));
  }

  Result<HttpAnswer> Call() {
    std::optional<Result<HttpAnswer>> answer;
    client_.loop().Spawn(CallTask(client_, answer));
    EXPECT_EQ(world_.RunUntil([&] { return answer.has_value(); }, world_.now() + seconds(60)),
              rt::SimEnd::kDone);
    return std::move(*answer);
  }

  static rt::Task<void> ServeTask(rt::SimNode& node, std::vector<std::string> pieces, bool closes,
                                  std::string& request) {
    auto listener = node.net().Listen({.host = "0.0.0.0", .port = 80}, {}).value();
    auto accepting = listener->Accept();
    Result<std::unique_ptr<rt::Stream>> stream = co_await std::move(accepting);
    listener.reset();  // the next one may listen
    std::string buffer(4096, '\0');
    while (request.find("\r\n\r\nbody") == std::string::npos) {
      auto reading = (*stream)->Read(buffer, rt::kNever);
      const Result<std::size_t> size = co_await std::move(reading);
      request.append(buffer, 0, size ? *size : 0);
    }
    for (const std::string& piece : pieces) {
      auto writing = (*stream)->Write(piece, rt::kNever);
      (void)co_await std::move(writing);
      auto pause = node.loop().SleepFor(std::chrono::milliseconds(5));
      co_await std::move(pause);
    }
    if (!closes) {
      auto pause = node.loop().SleepUntil(rt::kNever);
      co_await std::move(pause);
    }
  }

  static rt::Task<void> CallTask(rt::SimNode& node, std::optional<Result<HttpAnswer>>& answer) {
    auto calling = CallHttp(node.net(),
                            HttpCall{.address = {.host = "server", .port = 80},
                                     .method = "POST",
                                     .target = "/v3/x",
                                     .fields = {{.name = "A", .value = "b"}},
                                     .body = "body"},
                            node.loop().Now() + seconds(10));
    answer = co_await std::move(calling);
  }

  rt::SimWorld world_{rt::SimOptions{.seed = 3}};
  rt::SimNode& server_ = world_.AddNode("server");
  rt::SimNode& client_ = world_.AddNode("client");
  std::string request_;
};

const std::string kChunked =
    "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";

TEST_F(HttpCallTest, TheRequestSaysWhatItMust) {
  Serve({kChunked}, true);
  const auto answer = Call();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 201);
  EXPECT_EQ(answer->body, "abcde");
  EXPECT_EQ(request_,
            "POST /v3/x HTTP/1.1\r\nHost: server:80\r\nA: b\r\nContent-Length: 4\r\n"
            "Connection: close\r\n\r\nbody");
}

TEST_F(HttpCallTest, AnAnswerMayComeInAnyPieces) {
  for (std::size_t cut = 1; cut < kChunked.size(); ++cut) {
    request_.clear();
    Serve({kChunked.substr(0, cut), kChunked.substr(cut)}, false);
    const auto answer = Call();
    ASSERT_TRUE(answer) << cut << ": " << answer.error().detail();
    EXPECT_EQ(answer->body, "abcde") << cut;
  }
}

TEST_F(HttpCallTest, AServerThatClosesEarlyOrSaysNothingIsAnError) {
  Serve({}, true);
  EXPECT_EQ(Call().error().code(), Code::kUnavailable);
  request_.clear();
  Serve({kChunked.substr(0, 60)}, true);
  EXPECT_EQ(Call().error().code(), Code::kUnavailable);
  request_.clear();
  Serve({"no HTTP\r\n\r\n"}, true);
  EXPECT_EQ(Call().error().code(), Code::kDataCorrupt);
  request_.clear();
  Serve({kChunked.substr(0, 60)}, false);
  EXPECT_EQ(Call().error().code(), Code::kDeadlineExceeded);
}

}  // namespace
}  // namespace pixii::control
