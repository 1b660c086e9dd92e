#include "worker/handover_link.h"

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "rt/sim_world.h"

namespace pixii::worker {
namespace {

// A worker that says what the test wants.
class ScriptedLink final : public control::WorkerLink {
 public:
  const wire::ModelCard& card() const override { return card_; }

  Result<void> Generate(wire::GenerateRequest request, FrameHandler on_frame) override {
    handlers_[request.id] = std::move(on_frame);
    return {};
  }

  void Cancel(const wire::CancelRequest& cancel) override { cancels.push_back(cancel); }

  control::WorkerLoad load() const override { return {}; }

  void Say(std::uint32_t choice, std::vector<TokenId> tokens,
           std::optional<wire::FinishReason> finish = std::nullopt) {
    wire::TokenFrame frame;
    frame.id = RequestId{1};
    frame.choice = choice;
    frame.tokens = std::move(tokens);
    frame.finish = finish;
    handlers_.at(RequestId{1})(std::move(frame));
  }

  std::vector<wire::CancelRequest> cancels;

 private:
  wire::ModelCard card_;
  std::map<RequestId, FrameHandler> handlers_;
};

class ScriptedKeeper final : public HandoverKeeper {
 public:
  void Watch(RequestId /*request*/, News news_in) override { news = std::move(news_in); }

  void Forget(RequestId /*request*/) override { ++forgotten; }

  News news;
  int forgotten = 0;
};

class HandoverLinkTest : public ::testing::Test {
 protected:
  void Generate(std::uint32_t choices, bool prefill_only = true) {
    wire::GenerateRequest request;
    request.id = RequestId{1};
    request.choice_count = choices;
    request.prefill_only = prefill_only;
    ASSERT_TRUE(link_.Generate(
        request, [this](wire::TokenFrame frame) { frames_.push_back(std::move(frame)); }));
  }

  void Turn() {
    world_.RunUntil([] { return false; }, world_.now() + std::chrono::seconds(1));
  }

  rt::SimWorld world_{rt::SimOptions{.seed = 1}};
  rt::SimNode& node_ = world_.AddNode("worker");
  ScriptedLink worker_;
  ScriptedKeeper keeper_;
  HandoverLink link_{node_.loop(), worker_, keeper_};
  std::vector<wire::TokenFrame> frames_;
};

TEST_F(HandoverLinkTest, ARequestThatStaysEndsAsItDoes) {
  Generate(1, false);
  worker_.Say(0, {4}, wire::FinishReason::kLength);
  ASSERT_EQ(frames_.size(), 1U);
  EXPECT_EQ(frames_[0].finish, wire::FinishReason::kLength);
  EXPECT_FALSE(keeper_.news);
}

TEST_F(HandoverLinkTest, ItsEndIsHeldBackAsLongAsBlocksAreKept) {
  Generate(2);
  worker_.Say(0, {4}, wire::FinishReason::kLength);
  EXPECT_FALSE(keeper_.news) << "the other choice runs";
  worker_.Say(1, {5}, wire::FinishReason::kLength);
  ASSERT_EQ(frames_.size(), 2U);
  EXPECT_FALSE(frames_[0].finish);
  ASSERT_TRUE(keeper_.news);
  keeper_.news("record");
  ASSERT_EQ(frames_.size(), 3U);
  EXPECT_EQ(frames_[2].handover, "record");
  EXPECT_EQ(link_.outstanding_count(), 1U);
  keeper_.news(std::nullopt);
  ASSERT_EQ(frames_.size(), 5U);
  EXPECT_EQ(frames_[3].finish, wire::FinishReason::kLength);
  EXPECT_EQ(frames_[4].finish, wire::FinishReason::kLength);
  EXPECT_EQ(link_.outstanding_count(), 0U);
}

TEST_F(HandoverLinkTest, WhatEndsByItselfIsKeptForNobody) {
  Generate(1);
  worker_.Say(0, {}, wire::FinishReason::kStop);
  EXPECT_EQ(frames_[0].finish, wire::FinishReason::kStop);
  EXPECT_EQ(keeper_.forgotten, 1);
  EXPECT_EQ(link_.outstanding_count(), 0U);
}

// Whoever cancels may stand in the midst of his own list of requests.
TEST_F(HandoverLinkTest, ACancelEndsWhatIsHeldButNotInsideTheCall) {
  Generate(2);
  worker_.Say(0, {4}, wire::FinishReason::kLength);
  worker_.Say(1, {5}, wire::FinishReason::kLength);
  keeper_.news("record");
  link_.Cancel({RequestId{1}, std::nullopt});
  EXPECT_EQ(frames_.size(), 3U);
  Turn();
  ASSERT_EQ(frames_.size(), 5U);
  EXPECT_EQ(frames_[4].finish, wire::FinishReason::kCancelled);
  EXPECT_EQ(keeper_.forgotten, 1);
  EXPECT_EQ(link_.outstanding_count(), 0U);
}

TEST_F(HandoverLinkTest, ACancelOfOneChoiceLeavesTheOther) {
  Generate(2);
  worker_.Say(0, {4}, wire::FinishReason::kLength);
  link_.Cancel({RequestId{1}, 0});
  Turn();
  EXPECT_EQ(frames_.back().finish, wire::FinishReason::kCancelled);
  EXPECT_EQ(keeper_.forgotten, 0);
  worker_.Say(1, {5}, wire::FinishReason::kLength);
  ASSERT_TRUE(keeper_.news);
  keeper_.news("record");
  EXPECT_EQ(frames_.back().choice, 1U);
}

TEST_F(HandoverLinkTest, ACancelThatComesBeforeTheEndIsNotForgotten) {
  Generate(1);
  link_.Cancel({RequestId{1}, std::nullopt});
  Turn();
  worker_.Say(0, {4}, wire::FinishReason::kLength);
  EXPECT_TRUE(frames_.back().finish);
  EXPECT_EQ(keeper_.forgotten, 1);
}

}  // namespace
}  // namespace pixii::worker
