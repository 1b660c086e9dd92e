#include "frontend/fleet/flight.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace pixii::frontend {
namespace {

wire::GenerateRequest Request(std::uint32_t choices, std::uint32_t max_tokens) {
  wire::GenerateRequest request;
  request.id = RequestId{7};
  request.prompt = {1, 2, 3};
  request.choice_count = choices;
  request.stop.max_tokens = max_tokens;
  return request;
}

wire::TokenFrame Frame(std::uint32_t choice, std::vector<TokenId> tokens) {
  wire::TokenFrame frame;
  frame.choice = choice;
  frame.tokens = std::move(tokens);
  return frame;
}

wire::TokenFrame Death(std::uint32_t choice, Code code = Code::kDisconnected) {
  wire::TokenFrame frame = Frame(choice, {});
  frame.finish = wire::FinishReason::kError;
  frame.error = Error(code, "gone");
  return frame;
}

TEST(Flight, TheNextWorkerGetsAllThatTheClientHas) {
  Flight flight(Request(2, 10), {});
  EXPECT_EQ(flight.Attempt().attempt, 1U);
  wire::TokenFrame first = Frame(0, {4, 5});
  first.state = "after 5";
  first.adapter_version = "v1";
  EXPECT_EQ(flight.OnFrame(first).frames.size(), 1U);
  (void)flight.OnFrame(Frame(1, {6}));
  (void)flight.OnFrame(Frame(0, {8}));
  const Flight::Outcome lost = flight.OnFrame(Death(1));
  EXPECT_TRUE(lost.frames.empty());
  EXPECT_EQ(lost.move, Flight::MoveKind::kOngoing);
  const wire::GenerateRequest next = flight.Attempt();
  EXPECT_EQ(next.attempt, 2U);
  EXPECT_EQ(next.generated, (std::vector<std::vector<TokenId>>{{4, 5, 8}, {6}}));
  EXPECT_EQ(next.states, (std::vector<std::string>{"", ""})) << "of the last frame";
  EXPECT_EQ(next.adapter_version, "v1");
  EXPECT_EQ(next.stop.max_tokens, 10U);
}

TEST(Flight, WhatAFirstFrameSaysIsSaidOnce) {
  Flight flight(Request(1, 10), {});
  wire::TokenFrame first = Frame(0, {4});
  first.cached_tokens = 2;
  first.prompt_logprobs.resize(3);
  EXPECT_EQ(flight.OnFrame(first).frames[0].cached_tokens, 2U);
  (void)flight.OnFrame(Death(0));
  first.tokens = {5};
  const Flight::Outcome again = flight.OnFrame(first);
  EXPECT_EQ(again.frames[0].cached_tokens, 0U);
  EXPECT_TRUE(again.frames[0].prompt_logprobs.empty());
}

TEST(Flight, EachChoiceIsToldOnceByWhomItIsComputed) {
  Flight flight(Request(2, 10), {});
  (void)flight.Attempt("a");
  EXPECT_EQ(flight.numerics_id(), "") << "there is nothing yet";
  EXPECT_EQ(flight.OnFrame(Frame(0, {4})).frames[0].numerics_id, "a");
  EXPECT_EQ(flight.OnFrame(Frame(0, {5})).frames[0].numerics_id, "");
  EXPECT_EQ(flight.numerics_id(), "a");
  (void)flight.OnFrame(Death(0));
  (void)flight.Attempt("b");
  EXPECT_EQ(flight.numerics_id(), "a") << "what the client has";
  wire::TokenFrame forged = Frame(1, {6});
  forged.numerics_id = "c";
  EXPECT_EQ(flight.OnFrame(forged).frames[0].numerics_id, "b");
  EXPECT_EQ(flight.OnFrame(Frame(0, {7})).frames[0].numerics_id, "b");
  EXPECT_EQ(flight.numerics_id(), "b");
}

TEST(Flight, AChoiceWhoseBudgetIsSpentEndsHere) {
  Flight flight(Request(2, 2), {});
  (void)flight.OnFrame(Frame(0, {4, 5}));
  (void)flight.OnFrame(Frame(1, {6}));
  const Flight::Outcome lost = flight.OnFrame(Death(0));
  ASSERT_EQ(lost.frames.size(), 1U);
  EXPECT_EQ(lost.frames[0].choice, 0U);
  EXPECT_EQ(lost.frames[0].finish, wire::FinishReason::kLength);
  EXPECT_TRUE(lost.move);
  EXPECT_EQ(flight.ended_choices(), std::vector<std::uint32_t>{0});
}

TEST(Flight, AnErrorOfTheRequestIsTheAnswer) {
  for (const Code code : {Code::kInvalidArgument, Code::kModelFault, Code::kDeadlineExceeded}) {
    Flight flight(Request(1, 10), {});
    const Flight::Outcome out = flight.OnFrame(Death(0, code));
    EXPECT_FALSE(out.move);
    ASSERT_EQ(out.frames.size(), 1U);
    EXPECT_EQ(out.frames[0].error->code(), code);
    EXPECT_TRUE(flight.ended());
  }
}

TEST(Flight, RefusalsMoveButAreNoDeaths) {
  Flight flight(Request(1, 10), {.moves_max = 5, .deaths_max = 2});
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(flight.OnRefused(Error(Code::kResourceExhausted, "full")).move,
              Flight::MoveKind::kNewRequest);
  }
  const Flight::Outcome last = flight.OnRefused(Error(Code::kResourceExhausted, "full"));
  EXPECT_FALSE(last.move);
  EXPECT_EQ(last.frames.at(0).error->code(), Code::kResourceExhausted);
}

// As workers say first of all that they have a request.
wire::TokenFrame Acknowledgement() { return {}; }

TEST(Flight, ADeathCountsAgainstARequestThatTheWorkerHadOnly) {
  Flight flight(Request(1, 10), {.moves_max = 9, .deaths_max = 2});
  const auto die = [&](bool acknowledged) {
    (void)flight.Attempt();
    if (acknowledged) {
      const Flight::Outcome said = flight.OnFrame(Acknowledgement());
      EXPECT_TRUE(said.frames.empty()) << "it is for nobody";
      EXPECT_FALSE(said.move);
    }
    return flight.OnFrame(Death(0));
  };
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(die(false).move, Flight::MoveKind::kNewRequest);
  }
  const Flight::Outcome first = die(true);
  EXPECT_TRUE(first.move) << "it may be why, before any token";
  EXPECT_FALSE(first.missed);
  EXPECT_EQ(die(false).move, Flight::MoveKind::kNewRequest);
  const Flight::Outcome second = die(true);
  ASSERT_EQ(second.frames.size(), 1U);
  EXPECT_EQ(second.frames[0].error->code(), Code::kRequestPoisoned);
}

TEST(Flight, AWorkerHasARequestOfWhichAChoiceHasEnded) {
  Flight flight(Request(2, 1), {.moves_max = 9, .deaths_max = 2});
  (void)flight.Attempt();
  (void)flight.OnFrame(Frame(0, {4}));
  EXPECT_TRUE(flight.OnFrame(Death(1)).move) << "choice 0 has ended with this";
  (void)flight.Attempt();
  (void)flight.OnFrame(Acknowledgement());
  EXPECT_EQ(flight.OnFrame(Death(1)).frames.at(0).error->code(), Code::kRequestPoisoned);
}

TEST(Flight, WorkersThatWereGoneCostNoMovesButNotWithoutEnd) {
  Flight flight(Request(1, 10), {.moves_max = 1, .deaths_max = 2, .misses_max = 4});
  for (int i = 0; i < 4; ++i) {
    (void)flight.Attempt();
    EXPECT_TRUE(flight.OnFrame(Death(0)).move);
  }
  (void)flight.Attempt();
  const Flight::Outcome last = flight.OnFrame(Death(0));
  EXPECT_FALSE(last.move);
  EXPECT_EQ(last.frames.at(0).error->code(), Code::kDisconnected);
  Flight stays(Request(1, 10), {.moves_max = 0});
  (void)stays.Attempt();
  EXPECT_FALSE(stays.OnFrame(Death(0)).move) << "no request is to move";
}

TEST(Flight, AMoveIsOfANewRequestUntilSomethingOfItCame) {
  Flight flight(Request(1, 10), {});
  EXPECT_EQ(flight.OnFrame(Death(0)).move, Flight::MoveKind::kNewRequest);
  (void)flight.OnFrame(Frame(0, {4}));
  EXPECT_EQ(flight.OnFrame(Death(0, Code::kUnavailable)).move, Flight::MoveKind::kOngoing);
}

TEST(Flight, WithoutAMoveLeftTheLastFailureIsTheAnswerAndElseItIsPoisoned) {
  for (const std::uint32_t moves : {0U, 1U, 2U}) {
    Flight flight(Request(1, 10), {.moves_max = moves, .deaths_max = 2});
    Flight::Outcome out;
    do {
      (void)flight.Attempt();
      (void)flight.OnFrame(Acknowledgement());
      out = flight.OnFrame(Death(0));
    } while (out.move);
    EXPECT_EQ(out.frames.at(0).error->code(),
              moves < 2 ? Code::kDisconnected : Code::kRequestPoisoned);
  }
}

TEST(Flight, ACancelledRequestEndsWhereItIs) {
  Flight flight(Request(2, 10), {});
  (void)flight.OnFrame(Frame(0, {4}));
  flight.OnCancel(std::nullopt);
  const Flight::Outcome out = flight.OnFrame(Death(0));
  EXPECT_FALSE(out.move);
  ASSERT_EQ(out.frames.size(), 2U);
  EXPECT_EQ(out.frames[1].finish, wire::FinishReason::kCancelled);
}

TEST(Flight, ATextThatIsReadGoesOutAsItCame) {
  wire::GenerateRequest request = Request(1, 0);
  request.pool.emplace();
  Flight flight(std::move(request), {});
  for (int attempt = 0; attempt < 2; ++attempt) {
    const wire::GenerateRequest sent = flight.Attempt();
    EXPECT_TRUE(sent.generated.empty()) << "engines refuse texts that something was generated for";
    EXPECT_TRUE(sent.states.empty());
    EXPECT_TRUE(flight.OnFrame(Death(0, Code::kUnavailable)).move);
  }
}

}  // namespace
}  // namespace pixii::frontend
