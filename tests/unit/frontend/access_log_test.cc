#include "frontend/access_log.h"

#include <string>
#include <vector>

#include "unit/frontend/frontend_fixture.h"

namespace pixii::frontend {
namespace {

using testing::FrontendTest;
using namespace std::chrono_literals;

TEST(AccessLine, SaysWhatWasAskedAndAnswered) {
  wire::HttpRequest request;
  request.method = "POST";
  request.path = "/v1/\"x\"" + std::string(2000, 'y');
  request.fields = {{"X-Request-Id", "r1"}, {"X-Trace-Id", "t\n1"}};
  std::string out;
  AppendAccessLine(out,
                   {.request = request,
                    .status = 200,
                    .body_bytes = 12,
                    .took = rt::Duration(1'234'567),
                    .whole = true},
                   "x-trace-id", {.unix_seconds = 86'400, .nanoseconds = 7'000'000});
  EXPECT_TRUE(
      out.starts_with(R"({"time":"1970-01-02T00:00:00.007Z","method":"POST","path":"/v1/\"x\"yyy)"))
      << out;
  EXPECT_TRUE(out.ends_with(
      R"(,"status":200,"bytes":12,"ms":1.235,"whole":true,"request_id":"r1","trace_id":"t\n1"})"
      "\n"))
      << out;
  EXPECT_LT(out.size(), 800U) << "what clients send is cut";
}

class AccessLogTest : public FrontendTest {
 protected:
  struct Line {
    std::string path;
    int status;
    std::uint64_t bytes;
    bool whole;
    rt::Duration took;
  };

  AccessLogTest() {
    options.http.on_answered = [this](const Answered& answered) {
      lines.push_back({answered.request.path, answered.status, answered.body_bytes, answered.whole,
                       answered.took});
    };
  }

  std::vector<Line> lines;
};

TEST_F(AccessLogTest, EachAnswerIsToldOnce) {
  Start();
  const testing::Reply live = Get("/live");
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0].path, "/live");
  EXPECT_EQ(lines[0].status, 200);
  EXPECT_EQ(lines[0].bytes, live.body.size());
  EXPECT_TRUE(lines[0].whole);
  EXPECT_EQ(Get("/nothing").status, 404);
  EXPECT_EQ(lines.at(1).status, 404);
  EXPECT_EQ(Chat(R"("stream":true)").status, 200);
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_EQ(lines[2].status, 200);
  EXPECT_GT(lines[2].bytes, 100U);
  EXPECT_GT(lines[2].took, rt::Duration::zero());
  // What is no request has no path, and is answered, too.
  EXPECT_EQ(One("NONSENSE\r\n\r\n").status, 400);
  EXPECT_EQ(lines.at(3).status, 400);
  EXPECT_EQ(lines[3].path, "");
}

TEST_F(AccessLogTest, AClientThatHangsUpHasNoWholeAnswer) {
  worker.automatic = false;
  Start();
  Session session;
  tasks.Start(Talk(session, Raw("POST", "/v1/chat/completions", ChatBody()), 1, false, false));
  ASSERT_TRUE(Until([&] { return worker.seen.size() == 1; }));
  session.stream->Close();
  ASSERT_TRUE(Until([&] { return lines.size() == 1; }));
  EXPECT_EQ(lines[0].status, 499);
  EXPECT_FALSE(lines[0].whole);
}

}  // namespace
}  // namespace pixii::frontend
