// Answers computed once more: the same in every state that a request can end in, and a block that
// was wrongly believed is found.
#include "engine/self_audit.h"

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <optional>
#include <random>
#include <vector>

#include "engine/engine_loop.h"
#include "rt/sim_world.h"
#include "unit/engine/engine_harness.h"

namespace pixii::engine::testing {
namespace {

/// Brings every first block that is asked for, with bytes of its own making.
class LyingConnector final : public kv::Connector {
 public:
  void Start(rt::Function<void()> wake) override { wake_ = std::move(wake); }

  std::uint32_t Match(const kv::ConnectorRequestRef& /*request*/, std::uint32_t first) override {
    return first == 0 ? 1 : 0;
  }

  void Load(kv::LoadId id, const kv::ConnectorRequestRef& /*request*/, std::uint32_t /*first*/,
            std::span<const kv::BlockMemory> targets) override {
    std::ranges::fill(targets[0].bytes, std::byte{7});
    ends_.push_back({.id = id, .blocks = 1, .error = std::nullopt});
    wake_();
  }

  void Cancel(kv::LoadId /*id*/) override {}

  void Published(std::vector<kv::PublishedBlock> /*blocks*/) override {}

  void Distrust(std::span<const Hash128> /*hashes*/) override {}

  void Finished(const kv::ConnectorRequestRef& /*request*/,
                std::vector<kv::BlockPin> /*pins*/) override {}

  rt::Time Poll(rt::Time /*now*/, std::vector<kv::LoadEnd>& ended) override {
    std::ranges::move(ends_, std::back_inserter(ended));
    ends_.clear();
    return rt::kNever;
  }

  bool idle() const override { return ends_.empty(); }

 private:
  rt::Function<void()> wake_;
  std::vector<kv::LoadEnd> ends_;
};

class SelfAuditTest : public ::testing::Test {
 protected:
  void Make(std::uint32_t rate, std::unique_ptr<kv::Connector> connector = nullptr) {
    MockOptions mock{.limits = HarnessOptions{}.limits};
    auto engine = Engine::Create(HarnessOptions{}.engine, std::make_unique<MockExecutor>(mock),
                                 nullptr, nullptr, std::move(connector));
    ASSERT_TRUE(engine);
    loop_.emplace(
        world_.AddNode("engine").loop(), std::move(*engine),
        EngineLoopOptions{.audit_rate = rate, .on_mismatch = [this](const AuditMismatch& m) {
                            mismatches_.push_back(m);
                          }});
    to_ = loop_->AddDestination([this](StepOutput output) {
      load_ = output.load;
      for (const wire::TokenFrame& frame : output.frames) {
        EXPECT_NE(frame.id, kAuditRequestId);
        ended_ += frame.finish ? 1 : 0;
      }
    });
  }

  void Run() { EXPECT_TRUE(world_.RunUntilQuiescent(world_.now() + std::chrono::minutes(1))); }

  rt::SimWorld world_{rt::SimOptions{.seed = 1}};
  std::optional<EngineLoop> loop_;
  DestinationId to_{};
  EngineLoad load_;
  std::uint32_t ended_ = 0;
  std::vector<AuditMismatch> mismatches_;
};

TEST_F(SelfAuditTest, OneInSoManyAnswersIsComputedAgainAndIsTheSame) {
  Make(3);
  for (std::uint64_t id = 1; id <= 9; ++id) {
    wire::GenerateRequest request = MakeRequest(id, 10 + static_cast<std::uint32_t>(id), 8);
    request.choice_count = id == 6 ? 3 : 1;
    request.sampling.temperature = 1;
    request.sampling.seed = id;
    loop_->Submit(to_, std::move(request));
    Run();
  }
  EXPECT_EQ(load_.audits.equal, 3U);
  EXPECT_EQ(load_.audits.mismatches, 0U);
  EXPECT_EQ(load_.audits.given_up, 0U);
  EXPECT_TRUE(mismatches_.empty());
}

TEST_F(SelfAuditTest, ABlockThatWasWronglyBelievedIsFound) {
  Make(1, std::make_unique<LyingConnector>());
  loop_->Submit(to_, MakeRequest(5, 20, 8));
  Run();
  ASSERT_EQ(mismatches_.size(), 1U);
  EXPECT_EQ(mismatches_[0].request, RequestId{5});
  EXPECT_EQ(mismatches_[0].recomputed,
            MockStream(MakeRequest(5, 20, 8), 0, 64, 256).tokens[mismatches_[0].position]);
  EXPECT_EQ(load_.audits.mismatches, 1U);
}

TEST_F(SelfAuditTest, OtherWorkComesFirstAndTheAuditComesAgain) {
  Make(1);
  for (std::uint64_t id = 1; id <= 200; ++id) {
    loop_->Submit(to_, MakeRequest(id, 10, 30, static_cast<TokenId>(id % 50)));
    if (id % 7 == 0) {
      loop_->Cancel({.id = RequestId{id}, .choice = std::nullopt});
    }
    for (std::uint64_t i = 0; i < id * 13 % 90; ++i) {
      world_.Step();
    }
  }
  Run();
  EXPECT_EQ(ended_, 200U);
  EXPECT_TRUE(mismatches_.empty());
  EXPECT_GT(load_.audits.equal, 10U);
  EXPECT_EQ(load_.running, 0U);
}

wire::TokenFrame Frame(RequestId id, std::vector<TokenId> tokens,
                       std::optional<wire::FinishReason> finish = std::nullopt) {
  wire::TokenFrame frame;
  frame.id = id;
  frame.tokens = std::move(tokens);
  frame.finish = finish;
  return frame;
}

// What a client stopped is compared as far as it came.
TEST(SelfAudit, ACancelledAnswerIsComparedAsFarAsItCame) {
  SelfAudit audit(1);
  wire::GenerateRequest request = MakeRequest(1, 10, 30);
  request.generated = {{4, 4}};
  audit.Begin(request);
  audit.Take(Frame(request.id, {7, 8}));
  audit.Take(Frame(request.id, {}, wire::FinishReason::kCancelled));
  std::optional<wire::GenerateRequest> again = audit.Next();
  ASSERT_TRUE(again);
  EXPECT_EQ(again->stop.max_tokens, 4U);
  EXPECT_EQ(again->generated, request.generated);
  EXPECT_FALSE(audit.TakeRecomputed(Frame(again->id, {7, 8}, wire::FinishReason::kLength)));
  EXPECT_EQ(audit.counters().equal, 1U);
}

TEST(SelfAudit, AnAnswerThatEndedElsewhereIsAMismatch) {
  for (const std::vector<TokenId>& tokens : {std::vector<TokenId>{7}, {7, 8, 9}, {7, 9}}) {
    SelfAudit audit(1);
    audit.Begin(MakeRequest(1, 10, 30));
    audit.Take(Frame(RequestId{1}, {7, 8}, wire::FinishReason::kStop));
    const std::optional<wire::GenerateRequest> again = audit.Next();
    ASSERT_TRUE(again);
    const auto mismatch = audit.TakeRecomputed(Frame(again->id, tokens, wire::FinishReason::kStop));
    ASSERT_TRUE(mismatch);
    EXPECT_EQ(mismatch->position, tokens.size() == 3 ? 2U : 1U);
  }
}

TEST(SelfAudit, WhatIsOftenInterruptedOrHasNoRoomIsGivenUp) {
  SelfAudit audit(1);
  for (std::uint64_t id = 1; id <= 20; ++id) {
    audit.Begin(MakeRequest(id, 10, 30));
    audit.Take(Frame(RequestId{id}, {7}, wire::FinishReason::kLength));
  }
  const std::uint64_t no_room = audit.counters().given_up;
  EXPECT_EQ(no_room, 4U);
  for (int i = 0; i < 1000 && audit.counters().given_up == no_room; ++i) {
    ASSERT_TRUE(audit.Next());
    audit.Interrupted();
  }
  EXPECT_EQ(audit.counters().given_up, no_room + 1);
  SelfAudit off(0);
  off.Begin(MakeRequest(1, 10, 30));
  off.Take(Frame(RequestId{1}, {7}, wire::FinishReason::kLength));
  EXPECT_FALSE(off.Next());
}

}  // namespace
}  // namespace pixii::engine::testing
