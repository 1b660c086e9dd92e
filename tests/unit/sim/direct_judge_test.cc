#include "sim/direct_judge.h"

#include <gtest/gtest.h>

namespace pixii::sim {
namespace {

// What a lone engine says: three tokens with logprobs, then a stop.
DirectReport Expected() {
  DirectReport report;
  DirectChoice choice;
  choice.tokens = {5, 6, 7};
  choice.logprobs = {{-1.0F, {}}, {-2.0F, {}}, {-3.0F, {}}};
  choice.finish = wire::FinishReason::kStop;
  choice.stop_token = 2;
  report.choices = {choice};
  report.ended = true;
  return report;
}

bool IsRight(const DirectReport& got, const DirectPlan& plan = {}) {
  return JudgeDirectCall(plan, got, Expected()).wrong.empty();
}

TEST(DirectJudge, TheExpectedAnswerIsRightAndEveryOtherOneIsNot) {
  EXPECT_TRUE(IsRight(Expected()));
  for (int change = 0; change < 6; ++change) {
    DirectReport got = Expected();
    DirectChoice& choice = got.choices[0];
    switch (change) {
      case 0:
        choice.tokens[2] = 8;
        break;
      case 1:
        choice.tokens.push_back(9);
        break;
      case 2:
        choice.tokens.pop_back();
        break;
      case 3:
        choice.logprobs[1].logprob = -2.5F;
        break;
      case 4:
        choice.finish = wire::FinishReason::kLength;
        break;
      default:
        choice.stop_token = 3;
    }
    EXPECT_FALSE(IsRight(got)) << change;
  }
}

TEST(DirectJudge, ABeginningIsRightIfSomebodyGaveUpOrItFailed) {
  DirectReport got = Expected();
  got.choices[0].tokens.pop_back();
  got.choices[0].logprobs.pop_back();
  got.choices[0].finish = wire::FinishReason::kCancelled;
  EXPECT_FALSE(IsRight(got)) << "nobody gave up";
  DirectPlan plan;
  plan.cancel_after = rt::Duration(1);
  EXPECT_TRUE(IsRight(got, plan));
  got.choices[0].finish = wire::FinishReason::kError;
  got.choices[0].error = Error(Code::kDisconnected, "gone");
  const DirectVerdict verdict = JudgeDirectCall({}, got, Expected());
  EXPECT_TRUE(verdict.wrong.empty());
  ASSERT_TRUE(verdict.error);
  EXPECT_EQ(NameOf(verdict.error->code()), "disconnected");
  got.choices[0].finish.reset();
  EXPECT_TRUE(IsRight(got)) << "it was lost with its frontend";
}

TEST(DirectJudge, WhatTheCallItselfFoundWrongIsWrong) {
  DirectReport got = Expected();
  got.wrong = "a frame after the end";
  EXPECT_FALSE(IsRight(got));
}

}  // namespace
}  // namespace pixii::sim
