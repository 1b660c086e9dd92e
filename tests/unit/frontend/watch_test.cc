// Streams that bring nothing: signs of life, and an end; the status of an overload.
#include "unit/frontend/frontend_fixture.h"

namespace pixii::frontend {
namespace {

using testing::FrontendTest;
using testing::Reply;
using namespace std::chrono_literals;

TEST_F(FrontendTest, SendsCommentsIntoAStreamThatStalls) {
  options.keep_alive_interval = rt::Duration(100ms);
  options.stream_timeout = rt::Duration(1s);
  worker.automatic = false;
  Start();
  Reply reply = Chat(R"("stream":true)");
  EXPECT_EQ(reply.status, 200);
  std::size_t comments = 0;
  for (std::size_t at = reply.body.find(wire::kSseComment); at != std::string::npos;
       at = reply.body.find(wire::kSseComment, at + wire::kSseComment.size())) {
    ++comments;
  }
  EXPECT_GE(comments, 7U);
  EXPECT_LE(comments, 10U);
  EXPECT_NE(reply.body.find("deadline_exceeded"), std::string::npos);
  ExpectQuiet();
}

TEST_F(FrontendTest, EndsARequestThatTheEngineForgets) {
  options.stream_timeout = rt::Duration(1s);
  worker.automatic = false;
  Start();
  EXPECT_EQ(Chat().status, 504);
  EXPECT_FALSE(worker.cancels.empty());
  ExpectQuiet();
}

TEST_F(FrontendTest, SaysOverloadWithTheOperatorsStatus) {
  options.overload_status = 429;
  Start();
  worker.refusal = Error(Code::kResourceExhausted, "full");
  Reply reply = Chat();
  EXPECT_EQ(reply.status, 429);
  EXPECT_EQ(reply.json().Find("code")->AsInt(), 429);
  EXPECT_EQ(reply.json().Find("type")->string(), "Overloaded");
}

}  // namespace
}  // namespace pixii::frontend
