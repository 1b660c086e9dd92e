#include "worker/handover_link.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "rt/sim_world.h"
#include "worker/handover_keeper.h"

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
  void WatchEarly(RequestId /*request*/, EarlyNews news_in) override { early = std::move(news_in); }

  void Watch(RequestId /*request*/, News news_in) override { news = std::move(news_in); }

  void Forget(RequestId /*request*/) override { ++forgotten; }

  EarlyNews early;
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
    request.early_handover = early_;
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
  bool early_ = false;
};

TEST_F(HandoverLinkTest, ARequestThatStaysEndsAsItDoes) {
  Generate(1, false);
  worker_.Say(0, {4}, wire::FinishReason::kLength);
  ASSERT_EQ(frames_.size(), 1U);
  EXPECT_EQ(frames_[0].finish, wire::FinishReason::kLength);
  EXPECT_FALSE(keeper_.news);
}

TEST_F(HandoverLinkTest, BlocksThatComeEarlyAreToldToWhoAskedAndOnlyBeforeItsTokens) {
  Generate(1);
  EXPECT_FALSE(keeper_.early) << "nobody asked";
  worker_.Say(0, {4}, wire::FinishReason::kLength);
  keeper_.news(std::nullopt);
  frames_.clear();
  early_ = true;
  Generate(2);
  ASSERT_TRUE(keeper_.early);
  worker_.Say(0, {4}, wire::FinishReason::kLength);
  keeper_.early("first blocks");
  ASSERT_EQ(frames_.size(), 2U);
  EXPECT_EQ(frames_[1].early_handover, "first blocks");
  EXPECT_EQ(frames_[1].choice, 1U) << "the one that runs";
  EXPECT_FALSE(frames_[1].finish);
  worker_.Say(1, {5}, wire::FinishReason::kLength);
  const std::size_t said = frames_.size();
  keeper_.early("late");
  EXPECT_EQ(frames_.size(), said);
}

TEST(RanksKeeper, IsToldByTheRankThatKeepsItAndEndsWithTheLast) {
  std::vector<std::unique_ptr<HandoverKeeper>> made;
  std::vector<ScriptedKeeper*> ranks;
  for (int i = 0; i < 3; ++i) {
    auto one = std::make_unique<ScriptedKeeper>();
    ranks.push_back(one.get());
    made.push_back(std::move(one));
  }
  RanksKeeper keeper(std::move(made));
  std::vector<std::optional<std::string>> heard;
  keeper.Watch(RequestId{1},
               [&](std::optional<std::string> record) { heard.push_back(std::move(record)); });
  ranks[0]->news(std::nullopt);
  ranks[1]->news("kept");
  ranks[2]->news(std::nullopt);
  ASSERT_EQ(heard.size(), 1U);
  EXPECT_EQ(heard[0], "kept");
  ranks[1]->news(std::nullopt);
  ASSERT_EQ(heard.size(), 2U);
  EXPECT_FALSE(heard[1]);
  keeper.Forget(RequestId{1});
  EXPECT_EQ(ranks[0]->forgotten + ranks[1]->forgotten + ranks[2]->forgotten, 3);
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
