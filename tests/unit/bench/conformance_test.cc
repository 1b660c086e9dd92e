#include "bench/conformance.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "bench/conformance_judges.h"

namespace pixii::bench {
namespace {

ServerAnswer Answer(int status, std::string body) {
  ServerAnswer answer;
  answer.status = status;
  answer.fields = {{"content-type", "application/json"}};
  answer.body = std::move(body);
  return answer;
}

Outcome OutcomeOf(const Judge& judge, std::vector<ServerAnswer> answers) {
  return judge(answers).outcome;
}

TEST(ConformanceTest, EachCaseHasANameOfItsOwnASourceAndSomethingToAsk) {
  std::set<std::string> names;
  for (const ConformanceCase& asked : ConformanceCases()) {
    EXPECT_TRUE(names.insert(asked.group + "/" + asked.name).second) << asked.name;
    EXPECT_FALSE(asked.source.empty()) << asked.name;
    EXPECT_FALSE(asked.asks.empty()) << asked.name;
    EXPECT_FALSE(asked.steps.empty()) << asked.name;
  }
  EXPECT_GT(names.size(), 250U);
}

// A server that is not there, one that breaks down, and one that says 200 to all with nothing in
// it pass no case, and those that look for load find none.
TEST(ConformanceTest, NoCaseIsPassedByAServerThatDoesNothing) {
  for (const ConformanceCase& asked : ConformanceCases()) {
    std::size_t count = 0;
    for (const std::vector<Ask>& step : asked.steps) {
      count += step.size();
    }
    ServerAnswer gone;
    gone.failure = "nobody listens";
    for (const ServerAnswer& answer : {gone, Answer(500, "{}")}) {
      const Verdict verdict = asked.judge(std::vector(count, answer));
      const bool closed_is_right =
          answer.status == 0 && asked.group == "adversarial" &&
          (asked.name == "two_lengths" || asked.name == "chunk_sizes" || asked.name == "paths");
      EXPECT_TRUE(closed_is_right || verdict.outcome != Outcome::kPass)
          << asked.group << "/" << asked.name << " with status " << answer.status;
    }
  }
}

TEST(ConformanceTest, AnErrorIsJudgedByStatusShapeAndParam) {
  const Judge judge = Refused({400}, "temperature");
  const auto error = [](const std::string& param) {
    return R"({"error":{"message":"m","type":"invalid_request_error","param":)" + param +
           R"(,"code":null}})";
  };
  EXPECT_EQ(OutcomeOf(judge, {Answer(400, error("\"temperature\""))}), Outcome::kPass);
  EXPECT_EQ(OutcomeOf(judge, {Answer(400, error("\"temperature.x\""))}), Outcome::kPass);
  EXPECT_EQ(OutcomeOf(judge, {Answer(422, error("\"temperature\""))}), Outcome::kFail);
  EXPECT_EQ(OutcomeOf(judge, {Answer(200, error("\"temperature\""))}), Outcome::kFail);
  EXPECT_EQ(OutcomeOf(judge, {Answer(400, error("\"top_p\""))}), Outcome::kFail);
  EXPECT_EQ(OutcomeOf(judge, {Answer(400, error("\"temperatures\""))}), Outcome::kFail);
  EXPECT_EQ(OutcomeOf(judge, {Answer(400, error("null"))}), Outcome::kFail);
  EXPECT_EQ(OutcomeOf(judge, {Answer(400, R"({"detail":"m"})")}), Outcome::kFail);
  EXPECT_EQ(OutcomeOf(judge, {Answer(400, error("\"temperature\"")), Answer(200, "{}")}),
            Outcome::kFail);
}

TEST(ConformanceTest, WhatAnOptionalFeatureIsRefusedForIsNotSupported) {
  const auto pass = [](std::span<const WholeAnswer>) { return Passed(); };
  EXPECT_EQ(OutcomeOf(Whole(pass, true), {Answer(400, "{}")}), Outcome::kNotSupported);
  EXPECT_EQ(OutcomeOf(Whole(pass, true), {Answer(500, "{}")}), Outcome::kFail);
  EXPECT_EQ(OutcomeOf(Whole(pass, false), {Answer(400, "{}")}), Outcome::kFail);
}

TEST(ConformanceTest, CasesAreChosenByGroupAndName) {
  const auto chosen = SelectCases(ConformanceCases(), {"cancel", "ends/once"});
  ASSERT_TRUE(chosen);
  EXPECT_EQ(chosen->size(), 5U);
  EXPECT_FALSE(SelectCases(ConformanceCases(), {"cancle"}));
}

TEST(ConformanceTest, TheScoreCountsOpenAisAndOursApart) {
  ConformanceReport report;
  ConformanceCase asked;
  asked.group = "ends";
  asked.name = "once";
  asked.authority = Authority::kOpenAi;
  report.rows.push_back({asked, Passed()});
  asked.authority = Authority::kOurs;
  report.rows.push_back({asked, Failed("two\nlines")});
  report.rows.push_back({asked, NotSupported("no")});
  EXPECT_EQ(report.failed(), 1U);
  const wire::Json json = report.ToJson();
  const wire::Json* ends = json.Find("scores")->Find("ends");
  EXPECT_EQ(ends->Find("openai")->Find("passed")->AsInt(), 1);
  EXPECT_EQ(ends->Find("ours")->Find("failed")->AsInt(), 1);
  EXPECT_EQ(ends->Find("ours")->Find("not_supported")->AsInt(), 1);
  EXPECT_NE(report.ToText().find("two lines"), std::string::npos);
}

}  // namespace
}  // namespace pixii::bench
