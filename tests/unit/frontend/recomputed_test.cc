// Answers that went on at a worker which computes with other bits say so, whatever their form.
#include <string>

#include "unit/frontend/frontend_fixture.h"

namespace pixii::frontend {
namespace {

using testing::FrontendTest;
using testing::Reply;
using wire::Json;

class RecomputedTest : public FrontendTest {
 protected:
  RecomputedTest() {
    options.anthropic_api = true;
    worker.automatic = false;
  }

  // "He" by `first`, "llo" by `second`.
  Reply Answer(std::string_view path, const std::string& body, const std::string& second = "b") {
    if (!frontend) {
      Start();
    }
    const std::size_t before = worker.seen.size();
    Session session;
    tasks.Start(Talk(session, Raw("POST", path, body), 1, false, false));
    EXPECT_TRUE(Until([&] { return worker.seen.size() == before + 1; }));
    const RequestId id = worker.seen.back().id;
    wire::TokenFrame frame;
    frame.tokens = {'H', 'e'};
    frame.numerics_id = "a";
    worker.Send(id, 0, frame);
    // What is out is out: a stream's head and first chunk have gone.
    world.RunTo(world.now() + std::chrono::milliseconds(50));
    frame.tokens = {'l', 'l', 'o'};
    frame.numerics_id = second;
    worker.Send(id, 0, frame);
    worker.End(id, 0, wire::FinishReason::kStop);
    EXPECT_TRUE(Until([&] { return session.done; }));
    return session.replies.empty() ? Reply{} : std::move(session.replies.front());
  }

  static constexpr std::string_view kParts =
      R"([{"index":0,"parts":[{"first_token":0,"numerics_id":"a"},{"first_token":2,"numerics_id":"b"}]}])";
};

TEST_F(RecomputedTest, AWholeAnswerSaysItInItsHeadAndBody) {
  const Reply reply = Answer("/v1/chat/completions", ChatBody());
  ASSERT_EQ(reply.status, 200) << reply.body;
  EXPECT_EQ(reply.Field("x-pixii-recomputed"), "a, b");
  EXPECT_EQ(reply.json().Find("nvext")->Find("recomputed")->Dump(), kParts);
  const std::string metrics = Get("/metrics").body;
  EXPECT_NE(metrics.find("pixii_answers_recomputed_total{model=\"tiny\"} 1"), std::string::npos);
}

TEST_F(RecomputedTest, AStreamSaysItWithItsLastFinish) {
  const Reply reply = Answer("/v1/chat/completions", ChatBody(R"("stream":true)"));
  ASSERT_EQ(reply.status, 200) << reply.body;
  EXPECT_EQ(reply.Field("x-pixii-recomputed"), "") << "its head went out before";
  const std::vector<Json> chunks = reply.chunks();
  for (std::size_t i = 0; i + 1 < chunks.size(); ++i) {
    EXPECT_EQ(chunks[i].Find("nvext"), nullptr);
  }
  EXPECT_EQ(chunks.back().Find("nvext")->Find("recomputed")->Dump(), kParts);
  EXPECT_EQ(testing::StreamedText(chunks), "Hello");
}

TEST_F(RecomputedTest, AFormWithoutAPlaceForItSaysItInACommentOrTheHead) {
  const std::string body =
      R"({"model":"tiny","max_tokens":20,"messages":[{"role":"user","content":"hi"}])";
  EXPECT_EQ(Answer("/v1/messages", body + "}").Field("x-pixii-recomputed"), "a, b");
  const Reply stream = Answer("/v1/messages", body + R"(,"stream":true})");
  ASSERT_EQ(stream.status, 200) << stream.body;
  EXPECT_NE(stream.body.find("\n: {\"recomputed\":" + std::string(kParts) + "}\n\n"),
            std::string::npos)
      << stream.body;
  EXPECT_FALSE(stream.events().empty()) << "a comment disturbs nobody";
}

TEST_F(RecomputedTest, TheSameBitsAreNothingToSay) {
  const Reply reply = Answer("/v1/chat/completions", ChatBody(), "a");
  ASSERT_EQ(reply.status, 200) << reply.body;
  EXPECT_EQ(reply.Field("x-pixii-recomputed"), "");
  EXPECT_EQ(reply.json().Find("nvext"), nullptr);
}

TEST_F(RecomputedTest, AReceiptNamesThePartsAndWhoComputedThem) {
  const Reply reply = Answer("/v1/chat/completions", ChatBody(R"("receipt":true)"));
  ASSERT_EQ(reply.status, 200) << reply.body;
  const Json body = reply.json();
  const Json& receipt = *body.Find("receipt");
  EXPECT_EQ(receipt.Find("numerics_id")->string(), "a");
  EXPECT_EQ(receipt.Find("choices")->array()[0].Find("computed")->array().size(), 2U);
  const Json same = Answer("/v1/chat/completions", ChatBody(R"("receipt":true)"), "a").json();
  EXPECT_EQ(same.Find("receipt")->Find("choices")->array()[0].Find("computed"), nullptr);
}

}  // namespace
}  // namespace pixii::frontend
