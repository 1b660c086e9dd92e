#include "handler_link.h"

#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "rt/sim_world.h"

namespace pixii::python {
namespace {

using namespace std::chrono_literals;
using wire::FinishReason;

constexpr std::uint32_t kVocab = 100;
constexpr TokenId kEnd = 99;

// A handler's side that does what a test says, and everything that comes of it.
class HandlerLinkTest : public testing::Test {
 protected:
  void Make(HandlerLinkOptions options = {}) {
    options.card.vocab_size = kVocab;
    link_.emplace(node_.loop(), inbox_, std::move(options));
  }

  static wire::GenerateRequest Request(std::uint64_t id, std::uint32_t max_tokens = 8) {
    wire::GenerateRequest out;
    out.id = RequestId{id};
    out.prompt = {1, 2, 3};
    out.stop.max_tokens = max_tokens;
    out.stop.eos_token_ids = {kEnd};
    return out;
  }

  Result<void> Send(wire::GenerateRequest request) {
    return link_->Generate(std::move(request),
                           [this](wire::TokenFrame frame) { frames_.push_back(std::move(frame)); });
  }

  // Keys that are to be begun, and those that are to be cancelled.
  std::pair<std::vector<CallKey>, std::vector<CallKey>> Take() {
    std::pair<std::vector<CallKey>, std::vector<CallKey>> out;
    for (const Task& task : inbox_.Take()) {
      if (task.kind == Task::Kind::kBegin) {
        out.first.push_back(task.key);
      } else if (task.kind == Task::Kind::kCancel) {
        out.second.push_back(task.key);
      } else if (task.kind == Task::Kind::kProve) {
        proofs_.push_back(task.key);
      }
    }
    return out;
  }

  CallKey Begin(wire::GenerateRequest request) {
    EXPECT_TRUE(Send(std::move(request)));
    const std::vector<CallKey> keys = Take().first;
    EXPECT_EQ(keys.size(), 1U);
    return keys.front();
  }

  void Give(CallKey key, std::vector<TokenId> tokens, std::optional<FinishReason> finish = {},
            bool ended = false) {
    link_->OnOutputs(
        {Output{.key = key, .tokens = std::move(tokens), .finish = finish, .ended = ended}});
  }

  void Wait(rt::Duration time) {
    world_.RunUntil([] { return false; }, world_.now() + time);
  }

  std::vector<TokenId> Tokens(std::uint64_t id) const {
    std::vector<TokenId> out;
    for (const wire::TokenFrame& frame : frames_) {
      if (frame.id == RequestId{id}) {
        out.insert(out.end(), frame.tokens.begin(), frame.tokens.end());
      }
    }
    return out;
  }

  std::vector<wire::TokenFrame> Ends(std::uint64_t id) const {
    std::vector<wire::TokenFrame> out;
    for (const wire::TokenFrame& frame : frames_) {
      if (frame.id == RequestId{id} && frame.finish) {
        out.push_back(frame);
      }
    }
    return out;
  }

  rt::SimWorld world_{rt::SimOptions{.seed = 4}};
  rt::SimNode& node_ = world_.AddNode("worker");
  Inbox inbox_{[] {}};
  std::optional<HandlerLink> link_;
  std::vector<wire::TokenFrame> frames_;
  std::vector<CallKey> proofs_;
};

TEST_F(HandlerLinkTest, TheLimitCutsWhatAHandlerGivesAndEndsIt) {
  Make();
  const CallKey key = Begin(Request(1, 3));
  Give(key, {4, 5});
  Give(key, {6, 7, 8});
  EXPECT_EQ(Tokens(1), (std::vector<TokenId>{4, 5, 6}));
  ASSERT_EQ(Ends(1).size(), 1U);
  EXPECT_EQ(Ends(1)[0].finish, FinishReason::kLength);
  EXPECT_EQ(Take().second, std::vector<CallKey>{key}) << "the handler need not go on";
  Give(key, {9});
  Give(key, {}, {}, true);
  EXPECT_EQ(Ends(1).size(), 1U);
  EXPECT_EQ(link_->counts().late, 1U);
  EXPECT_EQ(link_->running_count(), 0U);
}

TEST_F(HandlerLinkTest, AnEndTokenEndsItButNotBeforeMinTokens) {
  Make();
  wire::GenerateRequest request = Request(1);
  request.stop.min_tokens = 2;
  const CallKey key = Begin(std::move(request));
  Give(key, {kEnd, 5, kEnd, 6});
  EXPECT_EQ(Tokens(1), (std::vector<TokenId>{kEnd, 5}));
  ASSERT_EQ(Ends(1).size(), 1U);
  EXPECT_EQ(Ends(1)[0].finish, FinishReason::kStop);
  EXPECT_EQ(Ends(1)[0].stop_token, kEnd);
}

TEST_F(HandlerLinkTest, TokensOfAWorkerBeforeCountTowardsTheLimit) {
  Make();
  wire::GenerateRequest request = Request(1, 4);
  request.generated = {{7, 7, 7}};
  const CallKey key = Begin(std::move(request));
  Give(key, {8, 9});
  EXPECT_EQ(Tokens(1), std::vector<TokenId>{8});
  EXPECT_EQ(Ends(1)[0].finish, FinishReason::kLength);
}

TEST_F(HandlerLinkTest, GarbageFailsItsOwnChoiceAndNoOther) {
  Make();
  wire::GenerateRequest two = Request(1);
  two.choice_count = 2;
  ASSERT_TRUE(Send(std::move(two)));
  const std::vector<CallKey> keys = Take().first;
  ASSERT_EQ(keys.size(), 2U);
  Give(keys[0], {static_cast<TokenId>(kVocab)});
  ASSERT_EQ(Ends(1).size(), 1U);
  EXPECT_EQ(Ends(1)[0].choice, 0U);
  EXPECT_EQ(Ends(1)[0].error->code(), Code::kModelFault);
  EXPECT_NE(Ends(1)[0].error->detail().find("token 100"), std::string::npos);
  Give(keys[1], {5}, FinishReason::kStop, true);
  ASSERT_EQ(Ends(1).size(), 2U);
  EXPECT_EQ(Ends(1)[1].choice, 1U);
  EXPECT_EQ(Ends(1)[1].finish, FinishReason::kStop);
  const CallKey silent = Begin(Request(2));
  Give(silent, {}, {}, true);
  EXPECT_NE(Ends(2)[0].error->detail().find("without a finish_reason"), std::string::npos);
  wire::GenerateRequest wants = Request(3);
  wants.top_logprobs = 0;
  Give(Begin(std::move(wants)), {5});
  EXPECT_NE(Ends(3)[0].error->detail().find("without log_probs"), std::string::npos);
  EXPECT_EQ(link_->counts().faults, 3U);
}

TEST_F(HandlerLinkTest, SilenceAndDeadlinesEndAChoiceWhateverItsHandlerDoes) {
  Make({.card = {}, .silence_max = 5s});
  Begin(Request(1));
  wire::GenerateRequest hasty = Request(2);
  hasty.deadline_left_ns = std::chrono::nanoseconds(2s).count();
  const CallKey fast = Begin(std::move(hasty));
  const CallKey lively = Begin(Request(3, 1000));
  for (int second = 0; second < 4; ++second) {
    Wait(1s);
    Give(lively, {1});
    Give(fast, {1});
  }
  ASSERT_EQ(Ends(2).size(), 1U);
  EXPECT_EQ(Ends(2)[0].error->code(), Code::kDeadlineExceeded);
  EXPECT_TRUE(Ends(1).empty());
  Wait(2s);
  ASSERT_EQ(Ends(1).size(), 1U);
  EXPECT_EQ(Ends(1)[0].error->code(), Code::kDeadlineExceeded);
  EXPECT_NE(Ends(1)[0].error->detail().find("nothing for 5 s"), std::string::npos);
  EXPECT_TRUE(Ends(3).empty());
}

TEST_F(HandlerLinkTest, ACancelledRequestEndsOnceAndItsHandlerIsTold) {
  Make();
  const CallKey key = Begin(Request(1));
  Give(key, {4});
  link_->Cancel({.id = RequestId{1}, .choice = std::nullopt});
  link_->Cancel({.id = RequestId{1}, .choice = std::nullopt});
  Wait(10ms);
  ASSERT_EQ(Ends(1).size(), 1U);
  EXPECT_EQ(Ends(1)[0].finish, FinishReason::kCancelled);
  EXPECT_EQ(Take().second, std::vector<CallKey>{key});
  Give(key, {5}, FinishReason::kStop, true);
  EXPECT_EQ(Ends(1).size(), 1U);
}

TEST_F(HandlerLinkTest, WhatNoHandlerIsToldOfIsRefusedByName) {
  Make({.card = {}, .choices_max = 2});
  const auto refused = [&](const std::function<void(wire::GenerateRequest&)>& change) {
    wire::GenerateRequest request = Request(1);
    change(request);
    const Result<void> sent = Send(std::move(request));
    EXPECT_FALSE(sent);
    return sent ? Error(Code::kInternal, "") : sent.error();
  };
  EXPECT_EQ(refused([](auto& r) { r.processors = {{.name = "bans", .arguments = ""}}; }).param(),
            "logits_processors");
  EXPECT_EQ(refused([](auto& r) { r.prompt_logprobs = true; }).param(), "prompt_logprobs");
  EXPECT_EQ(refused([](auto& r) { r.sampling.dry.multiplier = 1; }).code(), Code::kUnsupported);
  EXPECT_EQ(refused([](auto& r) { r.choice_count = 3; }).code(), Code::kResourceExhausted);
  EXPECT_TRUE(Take().first.empty());
  link_->Drain();
  EXPECT_EQ(refused([](auto&) {}).code(), Code::kShuttingDown);
}

TEST_F(HandlerLinkTest, ClosingEndsAllThatRunsAndAFrameMayDestroyTheLink) {
  Make();
  Begin(Request(1));
  Begin(Request(2));
  link_->Close(Error(Code::kShuttingDown, "over"));
  EXPECT_EQ(Ends(1)[0].error->code(), Code::kShuttingDown);
  EXPECT_EQ(Ends(2).size(), 1U);
  EXPECT_FALSE(Send(Request(3)));
  Make();
  ASSERT_TRUE(link_->Generate(Request(4), [this](const wire::TokenFrame&) { link_.reset(); }));
  const CallKey key = Take().first.front();
  link_->OnOutputs({Output{.key = key, .tokens = {1}}, Output{.key = key, .tokens = {2}}});
  EXPECT_FALSE(link_);
}

TEST_F(HandlerLinkTest, ItIsHealthyOnceItsProofGaveATokenAndNotWhenOneIsLate) {
  Make({.card = {}, .proves = true, .prove_interval = 10s, .prove_timeout = 3s});
  EXPECT_EQ(link_->load().state, control::WorkerState::kUnhealthy);
  Wait(200ms);
  Take();
  ASSERT_EQ(proofs_.size(), 1U);
  Give(proofs_[0], {1});
  EXPECT_EQ(link_->load().state, control::WorkerState::kAwake);
  Wait(9s);
  Take();
  EXPECT_EQ(proofs_.size(), 1U);
  Wait(2s);
  Take();
  ASSERT_EQ(proofs_.size(), 2U);
  Wait(4s);
  EXPECT_EQ(link_->load().state, control::WorkerState::kUnhealthy);
  EXPECT_TRUE(frames_.empty()) << "a proof is nobody's request";
}

TEST_F(HandlerLinkTest, KvEventsBeforeAnybodyWatchesAreTold) {
  Make();
  link_->TellKvEvents(std::vector<wire::KvEvent>(2));
  std::size_t heard = 0;
  ASSERT_TRUE(link_->WatchKvEvents(
      [&](const std::vector<wire::KvEvent>& events) { heard += events.size(); }));
  EXPECT_EQ(heard, 2U);
  link_->TellKvEvents(std::vector<wire::KvEvent>(3));
  EXPECT_EQ(heard, 5U);
}

TEST_F(HandlerLinkTest, AnInboxThatIsNotEmptiedMakesNoSteps) {
  Make();
  Begin(Request(1));
  const std::uint64_t before = link_->load().steps;
  Wait(2s);
  EXPECT_EQ(link_->load().steps, before) << "whoever watches over steps sees that nobody looks";
  Take();
  EXPECT_GT(link_->load().steps, before);
}

}  // namespace
}  // namespace pixii::python
