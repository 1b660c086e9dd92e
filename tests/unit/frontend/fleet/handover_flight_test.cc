#include "frontend/fleet/handover_flight.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace pixii::frontend {
namespace {

wire::GenerateRequest Request(std::uint32_t choices) {
  wire::GenerateRequest request;
  request.id = RequestId{7};
  request.prompt = {1, 2, 3};
  request.choice_count = choices;
  request.stop.max_tokens = 10;
  request.stop.min_tokens = 4;
  return request;
}

wire::TokenFrame Frame(std::uint32_t choice, std::vector<TokenId> tokens) {
  wire::TokenFrame frame;
  frame.choice = choice;
  frame.tokens = std::move(tokens);
  return frame;
}

wire::TokenFrame End(std::uint32_t choice, wire::FinishReason finish) {
  wire::TokenFrame frame = Frame(choice, {});
  frame.finish = finish;
  return frame;
}

wire::TokenFrame Kept(std::uint32_t choice) {
  wire::TokenFrame frame = Frame(choice, {});
  frame.handover = "record";
  return frame;
}

wire::TokenFrame Fault(Code code) {
  wire::TokenFrame frame = End(0, wire::FinishReason::kError);
  frame.error = Error(code, "gone");
  return frame;
}

TEST(HandoverFlight, ThePrefillWorkerIsAskedForOneToken) {
  wire::GenerateRequest asked = Request(2);
  asked.dp_rank = 1;
  asked.routing.emplace().worker = 5;
  const wire::GenerateRequest leg = HandoverFlight(asked, true).Prefill();
  EXPECT_TRUE(leg.prefill_only);
  EXPECT_EQ(leg.stop.max_tokens, 1U);
  EXPECT_EQ(leg.stop.min_tokens, 1U);
  EXPECT_FALSE(leg.dp_rank) << "it is the decode worker's";
  EXPECT_FALSE(leg.routing->worker);
}

TEST(HandoverFlight, TheSecondWorkerGoesOnBehindTheFirstTokens) {
  HandoverFlight flight(Request(2), true);
  wire::TokenFrame first = Frame(0, {4});
  first.cached_tokens = 3;
  first.state = "after 4";
  HandoverFlight::Outcome outcome = flight.OnPrefillFrame(first);
  ASSERT_EQ(outcome.frames.size(), 1U) << "the client has it at once";
  EXPECT_EQ(outcome.frames[0].cached_tokens, 3U);
  EXPECT_FALSE(outcome.decode);
  (void)flight.OnPrefillFrame(Frame(1, {5}));
  outcome = flight.OnPrefillFrame(Kept(0));
  EXPECT_TRUE(outcome.frames.empty());
  ASSERT_TRUE(outcome.decode);
  EXPECT_FALSE(outcome.release);
  EXPECT_EQ(outcome.decode->generated, (std::vector<std::vector<TokenId>>{{4}, {5}}));
  EXPECT_EQ(outcome.decode->states[0], "after 4");
  EXPECT_EQ(outcome.decode->handover, "record");
  EXPECT_EQ(outcome.decode->stop.max_tokens, 10U);
  EXPECT_FALSE(outcome.decode->prefill_only);
  wire::TokenFrame next = Frame(0, {6});
  next.cached_tokens = 2;
  outcome = flight.OnDecodeFrame(next);
  EXPECT_EQ(outcome.frames[0].cached_tokens, 0U) << "the client was told by the first worker";
  EXPECT_TRUE(outcome.release) << "it has what it needs";
  EXPECT_FALSE(flight.OnDecodeFrame(Frame(1, {7})).release) << "once";
  (void)flight.OnDecodeFrame(End(0, wire::FinishReason::kLength));
  EXPECT_FALSE(flight.ended());
  (void)flight.OnDecodeFrame(End(1, wire::FinishReason::kStop));
  EXPECT_TRUE(flight.ended());
}

TEST(HandoverFlight, AChoiceThatEndsWithItsFirstTokenDoesNotGoOn) {
  HandoverFlight flight(Request(2), true);
  EXPECT_EQ(flight.OnPrefillFrame(End(0, wire::FinishReason::kStop)).frames.size(), 1U);
  (void)flight.OnPrefillFrame(Frame(1, {5}));
  const HandoverFlight::Outcome outcome = flight.OnPrefillFrame(Kept(1));
  ASSERT_TRUE(outcome.decode);
  EXPECT_EQ(flight.ended_choices(), std::vector<std::uint32_t>{0});
  EXPECT_TRUE(flight.OnDecodeFrame(End(0, wire::FinishReason::kCancelled)).frames.empty());
  (void)flight.OnDecodeFrame(End(1, wire::FinishReason::kLength));
  EXPECT_TRUE(flight.ended());
}

TEST(HandoverFlight, AllThatEndWithTheirFirstTokenNeedNoSecondWorker) {
  HandoverFlight flight(Request(1), true);
  const HandoverFlight::Outcome outcome = flight.OnPrefillFrame(End(0, wire::FinishReason::kStop));
  EXPECT_TRUE(outcome.release);
  EXPECT_FALSE(outcome.decode);
  EXPECT_TRUE(flight.ended());
}

TEST(HandoverFlight, AWorkerThatIsGoneLeavesThePromptToTheSecond) {
  HandoverFlight flight(Request(1), true);
  const HandoverFlight::Outcome outcome = flight.OnPrefillFrame(Fault(Code::kDisconnected));
  EXPECT_TRUE(outcome.frames.empty());
  EXPECT_EQ(outcome.fell_back, PrefillPath::kUnavailable);
  ASSERT_TRUE(outcome.decode);
  EXPECT_TRUE(outcome.decode->handover.empty());
  EXPECT_TRUE(outcome.release);
  EXPECT_TRUE(flight.OnPrefillFrame(Fault(Code::kDisconnected)).frames.empty());
  EXPECT_EQ(HandoverFlight(Request(1), true)
                .OnPrefillRefused(Error(Code::kResourceExhausted, "full"))
                .fell_back,
            PrefillPath::kOverloaded);
}

TEST(HandoverFlight, WithoutFallbackAFailureIsTheAnswer) {
  HandoverFlight flight(Request(1), false);
  const HandoverFlight::Outcome outcome = flight.OnPrefillFrame(Fault(Code::kDisconnected));
  ASSERT_EQ(outcome.frames.size(), 1U);
  EXPECT_EQ(outcome.frames[0].error->code(), Code::kDisconnected);
  EXPECT_TRUE(flight.ended());
}

TEST(HandoverFlight, ABadRequestIsTheAnswerAnyway) {
  HandoverFlight flight(Request(1), true);
  const HandoverFlight::Outcome outcome = flight.OnPrefillFrame(Fault(Code::kInvalidArgument));
  ASSERT_EQ(outcome.frames.size(), 1U);
  EXPECT_FALSE(outcome.decode);
}

TEST(HandoverFlight, AWorkerThatKeepsNothingLeavesAllToTheSecond) {
  HandoverFlight flight(Request(1), true);
  wire::TokenFrame only = Frame(0, {4});
  only.finish = wire::FinishReason::kLength;
  const HandoverFlight::Outcome outcome = flight.OnPrefillFrame(only);
  ASSERT_EQ(outcome.frames.size(), 1U);
  EXPECT_FALSE(outcome.frames[0].finish) << "of one token, not of the answer";
  EXPECT_EQ(outcome.fell_back, PrefillPath::kNoRecord);
  ASSERT_TRUE(outcome.decode);
  EXPECT_EQ(outcome.decode->generated[0], std::vector<TokenId>{4});
}

TEST(HandoverFlight, WhoIsCancelledMeanwhileIsCancelledAtTheSecond) {
  HandoverFlight flight(Request(1), true);
  (void)flight.OnPrefillFrame(Frame(0, {4}));
  flight.OnCancel(std::nullopt);
  const HandoverFlight::Outcome outcome = flight.OnPrefillFrame(Kept(0));
  EXPECT_EQ(flight.ended_choices(), std::vector<std::uint32_t>{0});
}

TEST(HandoverFlight, WhoAskedForThePromptAloneGetsTheRecord) {
  wire::GenerateRequest asked = Request(1);
  asked.prefill_only = true;
  HandoverFlight flight(asked, true);
  EXPECT_FALSE(flight.OnPrefillFrame(Frame(0, {4})).frames[0].finish);
  const HandoverFlight::Outcome outcome = flight.OnPrefillFrame(Kept(0));
  ASSERT_EQ(outcome.frames.size(), 1U);
  EXPECT_EQ(outcome.frames[0].handover, "record");
  EXPECT_EQ(outcome.frames[0].finish, wire::FinishReason::kLength);
  EXPECT_FALSE(outcome.decode);
  EXPECT_FALSE(outcome.release) << "it is kept for whoever has the record";
  EXPECT_TRUE(flight.ended());
}

TEST(HandoverFlight, ThePromptsLogprobsAreAskedForOnce) {
  wire::GenerateRequest asked = Request(1);
  asked.prompt_logprobs = true;
  HandoverFlight flight(asked, true);
  wire::TokenFrame first = Frame(0, {4});
  first.prompt_logprobs.resize(3);
  (void)flight.OnPrefillFrame(first);
  const HandoverFlight::Outcome outcome = flight.OnPrefillFrame(Kept(0));
  EXPECT_FALSE(outcome.decode->prompt_logprobs);
}

}  // namespace
}  // namespace pixii::frontend
