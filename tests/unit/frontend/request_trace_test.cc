#include "frontend/request_trace.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "wire/json.h"

namespace pixii::frontend {
namespace {

using obs::Span;
using obs::SpanName;
using Phase = wire::RequestLeg::Phase;

constexpr std::int64_t kBegin = 5'000'000'000;

rt::Time At(std::int64_t ns) { return rt::Time(rt::Duration(kBegin + ns)); }

RequestTrace Answered(std::int64_t took_ns) {
  RequestTrace trace;
  trace.context.trace = {.high = 1, .low = 2};
  trace.root = obs::SpanId{77};
  trace.label = "client-7";
  trace.id = "chatcmpl-1";
  trace.wall = {.unix_seconds = 1'700'000'000, .nanoseconds = 5};
  trace.begun = At(0);
  trace.prepared = At(1000);
  trace.last_frame = At(took_ns - 10);
  trace.answered = At(took_ns);
  return trace;
}

wire::RequestLeg Leg(Phase phase, std::uint64_t span, std::int64_t sent, std::int64_t ended,
                     std::int64_t worker_took) {
  return {.phase = phase,
          .worker = 9,
          .attempt = 1,
          .span = span,
          .routed_ns = kBegin + sent - 100,
          .sent_ns = kBegin + sent,
          .first_frame_ns = kBegin + ended - 50,
          .ended_ns = kBegin + ended,
          .times = {.queued_ns = worker_took / 8,
                    .scheduled_ns = worker_took / 4,
                    .first_token_ns = worker_took / 2,
                    .last_token_ns = worker_took,
                    .ended_ns = worker_took}};
}

void ExpectWhole(const obs::SpanTree& tree) {
  std::map<std::uint64_t, const Span*> known;
  for (std::size_t i = 0; i < tree.spans.size(); ++i) {
    const Span& span = tree.spans[i];
    EXPECT_LE(span.begin_ns, span.end_ns);
    EXPECT_TRUE(known.emplace(static_cast<std::uint64_t>(span.id), &span).second) << "one id twice";
    if (i > 0) {
      const auto parent = known.find(static_cast<std::uint64_t>(span.parent));
      ASSERT_NE(parent, known.end()) << obs::NameOf(span.name) << " is an orphan";
      EXPECT_GE(span.begin_ns, parent->second->begin_ns) << obs::NameOf(span.name);
      EXPECT_LE(span.end_ns, parent->second->end_ns) << obs::NameOf(span.name);
    }
  }
}

const Span* Find(const obs::SpanTree& tree, SpanName name, std::size_t index = 0) {
  for (const Span& span : tree.spans) {
    if (span.name == name && index-- == 0) {
      return &span;
    }
  }
  return nullptr;
}

TEST(RequestTrace, HasPrefillBelowItsRoutingAndDecodeBesideIt) {
  RequestTrace trace = Answered(100'000);
  trace.legs = {Leg(Phase::kPrefill, 11, 2000, 30'000, 20'000),
                Leg(Phase::kDecode, 12, 31'000, 99'000, 60'000)};
  trace.legs[1].times.awaited_blocks = true;
  const obs::SpanTree tree = SpansOf(trace);
  ExpectWhole(tree);
  const Span* routing = Find(tree, SpanName::kPrefillRouting);
  const Span* prefill = Find(tree, SpanName::kHandlePayload);
  const Span* decode = Find(tree, SpanName::kHandlePayload, 1);
  ASSERT_NE(decode, nullptr);
  EXPECT_EQ(prefill->parent, routing->id);
  EXPECT_EQ(decode->parent, tree.spans[0].id);
  EXPECT_EQ(decode->id, obs::SpanId{12});
  EXPECT_NE(Find(tree, SpanName::kKvTransfer), nullptr);
  EXPECT_NE(Find(tree, SpanName::kPostprocess), nullptr);
  EXPECT_EQ(tree.begin_unix_ns, 1'700'000'000'000'000'005);
}

// Whatever a worker says of its own clock, nothing leaves its parent.
TEST(RequestTrace, IsInOrderWhateverAWorkerSays) {
  std::mt19937_64 draw(4);
  for (int round = 0; round < 2000; ++round) {
    RequestTrace trace = Answered(static_cast<std::int64_t>(draw() % 200'000));
    for (std::uint64_t i = 0; i < 3; ++i) {
      const auto sent = static_cast<std::int64_t>(draw() % 150'000);
      wire::RequestLeg leg = Leg(static_cast<Phase>(draw() % 4), 100 + i, sent,
                                 sent + static_cast<std::int64_t>(draw() % 50'000), 10);
      const auto any = [&] { return static_cast<std::int64_t>(draw() % 400'000) - 100'000; };
      leg.times = {.queued_ns = any(),
                   .scheduled_ns = any(),
                   .first_token_ns = any(),
                   .last_token_ns = any(),
                   .ended_ns = any(),
                   .awaited_blocks = draw() % 2 == 0};
      leg.moved = draw() % 2 == 0;
      trace.legs.push_back(leg);
    }
    ExpectWhole(SpansOf(trace));
  }
}

TEST(RequestTrace, PlacesAWorkersTimeInTheMiddleOfItsAttempt) {
  RequestTrace trace = Answered(100'000);
  trace.legs = {Leg(Phase::kWhole, 12, 10'000, 90'000, 60'000)};
  const obs::SpanTree tree = SpansOf(trace);
  const Span* worker = Find(tree, SpanName::kWorker);
  ASSERT_NE(worker, nullptr);
  EXPECT_EQ(worker->begin_ns, 20'000);
  EXPECT_EQ(worker->end_ns, 80'000);
}

TEST(RequestTrace, OfAWorkerThatDiedHasItsAttemptAndTheNextPointsToIt) {
  RequestTrace trace = Answered(100'000);
  wire::RequestLeg dead = Leg(Phase::kWhole, 11, 2000, 30'000, 10);
  dead.times = {};
  dead.error = "disconnected";
  dead.moved = true;
  wire::RequestLeg next = Leg(Phase::kWhole, 12, 31'000, 99'000, 60'000);
  next.attempt = 2;
  trace.legs = {dead, next};
  const obs::SpanTree tree = SpansOf(trace);
  ExpectWhole(tree);
  const Span* first = Find(tree, SpanName::kHandlePayload);
  const Span* second = Find(tree, SpanName::kHandlePayload, 1);
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(first->error, "disconnected");
  ASSERT_EQ(second->links.size(), 1U);
  EXPECT_EQ(second->links[0].span, first->id);
  EXPECT_EQ(first->parent, second->parent);
  EXPECT_EQ(Find(tree, SpanName::kWorker, 1), nullptr);
}

TEST(RequestTrace, IsJson) {
  RequestTrace trace = Answered(100'000);
  trace.error = Error(Code::kCancelled, "the \"client\" hung up");
  trace.legs = {Leg(Phase::kWhole, 12, 10'000, 90'000, 60'000)};
  const Result<wire::Json> json = wire::ParseJson(TraceJson(trace));
  ASSERT_TRUE(json);
  EXPECT_EQ(json->Find("id")->string(), "chatcmpl-1");
  EXPECT_EQ(json->Find("spans")->array().size(), SpansOf(trace).spans.size());
}

TEST(TraceStore, FindsTheLastOfAnIdAndForgetsTheOldest) {
  std::size_t heard = 0;
  TraceStore store(
      {.count_max = 3,
       .on_ended = [&](const EndedTrace&, std::shared_ptr<const TracePayload> payload) {
         heard += payload->prompt == std::vector<TokenId>{7} ? 1 : 0;
       }});
  for (int i = 0; i < 5; ++i) {
    auto trace = std::make_unique<RequestTrace>(Answered(100));
    trace->payload =
        std::make_unique<TracePayload>(TracePayload{.body = {}, .prompt = {7}, .answers = {}});
    trace->id = "chatcmpl-" + std::to_string(i);
    trace->label = "same";
    trace->context.trace.low = static_cast<std::uint64_t>(i) + 1;
    store.Add(std::move(trace));
  }
  EXPECT_EQ(heard, 5U);
  EXPECT_EQ(store.Find("chatcmpl-1"), nullptr);
  ASSERT_NE(store.Find("chatcmpl-2"), nullptr);
  EXPECT_EQ(store.Find("same")->id, "chatcmpl-4");
  EXPECT_EQ(store.Find("same")->payload, nullptr) << "prompts are kept";
  EXPECT_EQ(store.Find("00000000000000010000000000000004")->id, "chatcmpl-3");
  EXPECT_EQ(store.Find(""), nullptr);
}

TEST(TraceStore, WhatEndedSinceALookIsThereAsFarAsItIsRemembered) {
  TraceStore store({.count_max = 3});
  for (int i = 0; i < 5; ++i) {
    store.Begin();
    if (i < 4) {
      store.Add(std::make_unique<RequestTrace>(Answered(100 + i)));
    }
  }
  const TraceStore::Recent all = store.Since(0);
  EXPECT_EQ(all.begun, 5U);
  EXPECT_EQ(all.ended, 4U);
  ASSERT_EQ(all.traces.size(), 3U) << "the first one is forgotten";
  EXPECT_EQ(all.traces[0]->answered, At(101));
  ASSERT_EQ(store.Since(3).traces.size(), 1U);
  EXPECT_EQ(store.Since(3).traces[0]->answered, At(103));
  EXPECT_TRUE(store.Since(4).traces.empty());
  EXPECT_TRUE(store.Since(99).traces.empty()) << "who asks had another process before it";
}

TEST(RequestTrace, SaysToAPlannerHowItWasServed) {
  RequestTrace trace = Answered(100'000'000);
  trace.model = "m";
  trace.prompt_tokens = 20;
  trace.cached_tokens = 8;
  trace.output_tokens = 6;
  trace.first_token = At(40'000'000);
  trace.last_frame = At(90'000'000);
  const Result<wire::Json> json = wire::ParseJson(EndedRequestJson(trace, 7));
  ASSERT_TRUE(json);
  EXPECT_EQ(json->Find("sequence")->AsInt(), 7);
  EXPECT_EQ(json->Find("cached_tokens")->AsInt(), 8);
  EXPECT_EQ(json->Find("ttft_ms")->AsDouble(), 40);
  EXPECT_EQ(json->Find("itl_ms")->AsDouble(), 10);
  EXPECT_EQ(json->Find("duration_ms")->AsDouble(), 100);
  EXPECT_EQ(json->Find("error"), nullptr);
  trace.first_token = rt::kNever;
  trace.error = Error(Code::kUnavailable, "nobody is there");
  const Result<wire::Json> failed = wire::ParseJson(EndedRequestJson(trace, 8));
  EXPECT_EQ(failed->Find("ttft_ms"), nullptr);
  EXPECT_EQ(failed->Find("error")->string(), "Unavailable");
  EXPECT_EQ(failed->Find("status")->AsInt(), 503);
}

}  // namespace
}  // namespace pixii::frontend
