// Requests with adapters in an engine over the mock, whose tokens depend on the adapter that each
// cached token was computed with.
#include <gtest/gtest.h>

#include "unit/engine/engine_harness.h"

namespace pixii::engine::testing {
namespace {

HarnessOptions WithSlots(std::uint32_t slots) {
  HarnessOptions options;
  options.limits.adapter_slots = slots;
  options.engine.adapters = {.slot_count = slots, .adapters_max = 16};
  return options;
}

void Load(Harness& harness, const std::string& name, bool pinned = false) {
  Result<void> loaded =
      harness.engine().LoadAdapter(name, std::make_shared<MockAdapter>(name), pinned);
  ASSERT_TRUE(loaded) << loaded.error().ToString();
}

wire::GenerateRequest With(const std::string& adapter, wire::GenerateRequest request) {
  request.adapter = adapter;
  return request;
}

std::string NameOf(std::uint64_t i) { return "lora-" + std::to_string(i); }

TEST(EngineAdapter, AnUnknownOneIsRefused) {
  Harness harness(WithSlots(2));
  Result<void> submitted = harness.Submit(With("nobody", MakeRequest(1, 5, 5)));
  ASSERT_FALSE(submitted);
  EXPECT_EQ(submitted.error().code(), Code::kNotFound);
  EXPECT_EQ(submitted.error().param(), "model");
  Harness none;
  EXPECT_EQ(
      none.engine().LoadAdapter("a", std::make_shared<MockAdapter>("a"), false).error().code(),
      Code::kUnsupported);
}

TEST(EngineAdapter, MoreSlotsThanTheExecutorHasAreRefused) {
  HarnessOptions options = WithSlots(2);
  options.engine.adapters.slot_count = 3;
  auto made =
      Engine::Create(options.engine, std::make_unique<MockExecutor>(MockOptions{
                                         .limits = options.limits, .timing = {}, .faults = {}}));
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().param(), "adapters.slot_count");
}

TEST(EngineAdapter, EachRequestGetsWhatItsAdapterSaysAndCachedBlocksAreNeverShared) {
  for (bool overlaps : {false, true}) {
    HarnessOptions options = WithSlots(8);
    options.overlaps = overlaps;
    Harness harness(options);
    std::vector<wire::GenerateRequest> requests;
    for (std::uint64_t i = 0; i < 6; ++i) {
      Load(harness, NameOf(i));
    }
    // The same prompt for all, twice: the second time each finds its own adapter's blocks.
    for (std::uint64_t round = 0; round < 2; ++round) {
      for (std::uint64_t i = 0; i < 7; ++i) {
        requests.push_back(With(i == 6 ? "" : NameOf(i), MakeRequest(round * 10 + i, 33, 12)));
        ASSERT_TRUE(harness.Submit(requests.back()));
      }
      harness.RunDry();
    }
    for (const wire::GenerateRequest& request : requests) {
      harness.ExpectOracle(request);
      EXPECT_EQ(harness.streams().at(Raw(request.id)).cached_tokens,
                Raw(request.id) >= 10 ? 32U : 0U);
    }
    EXPECT_NE(harness.streams().at(0).tokens, harness.streams().at(1).tokens);
  }
}

TEST(EngineAdapter, OtherBytesUnderTheSameNameFindNoOldBlocks) {
  Harness harness(WithSlots(2));
  Load(harness, "a");
  ASSERT_TRUE(harness.Submit(With("a", MakeRequest(1, 33, 4))));
  harness.RunDry();
  ASSERT_TRUE(harness.engine().LoadAdapter("a", std::make_shared<MockAdapter>("other"), false));
  ASSERT_TRUE(harness.Submit(With("a", MakeRequest(2, 33, 4))));
  harness.RunDry();
  EXPECT_EQ(harness.streams().at(2).cached_tokens, 0U);
  harness.ExpectOracle(With("a", MakeRequest(1, 33, 4)));
  harness.ExpectOracle(With("other", MakeRequest(2, 33, 4)));
}

TEST(EngineAdapter, ManyAdaptersShareFewSlotsWithPreemptionAndGuessesAndEndTheSame) {
  for (int round = 0; round < 4; ++round) {
    SCOPED_TRACE(round);
    const bool overlaps = round % 2 == 1;
    HarnessOptions options = WithSlots(2);
    options.limits.block_count = 40;  // much is preempted
    options.engine.admission = Admission::kEager;
    options.overlaps = overlaps;
    if (round >= 2) {
      options.draft_right_percent = 70;
    }
    Harness harness(options);
    for (std::uint64_t i = 0; i < 7; ++i) {
      Load(harness, NameOf(i));
    }
    std::mt19937_64 random(9);
    std::vector<wire::GenerateRequest> requests;
    for (std::uint64_t id = 1; id <= 120; ++id) {
      std::uint64_t adapter = random() % 8;
      requests.push_back(With(adapter == 7 ? "" : NameOf(adapter),
                              MakeRequest(id, 1 + static_cast<std::uint32_t>(random() % 40),
                                          1 + static_cast<std::uint32_t>(random() % 40),
                                          static_cast<TokenId>(random() % 3))));
      ASSERT_TRUE(harness.Submit(requests.back()));
      harness.Step();
      harness.engine().CheckInvariants();
    }
    harness.RunDry(20'000);
    for (const wire::GenerateRequest& request : requests) {
      harness.ExpectOracle(request);
    }
    EXPECT_GT(harness.engine().scheduler().counters().preemptions, 0U);
    EXPECT_EQ(harness.engine().counters().accepted_tokens > 0, round >= 2);
  }
}

// One adapter's requests keep coming; the one slot goes to the other after a bounded wait.
TEST(EngineAdapter, NobodyStarvesForASlot) {
  HarnessOptions options = WithSlots(1);
  options.engine.batch_sequences_max = 4;
  Harness harness(options);
  Load(harness, "busy");
  Load(harness, "patient");
  std::uint64_t id = 100;
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(harness.Submit(With("busy", MakeRequest(id++, 3, 20))));
    harness.Step();
  }
  ASSERT_TRUE(harness.Submit(With("patient", MakeRequest(1, 3, 5))));
  int steps = 0;
  while (!harness.streams().has(1) && steps < 1000) {
    ASSERT_TRUE(harness.Submit(With("busy", MakeRequest(id++, 3, 20))));
    harness.Step();
    ++steps;
  }
  EXPECT_LT(steps, 200);
  harness.RunDry();
  harness.ExpectOracle(With("patient", MakeRequest(1, 3, 5)));
}

TEST(EngineAdapter, ThoseWithoutAnAdapterDoNotWaitForASlot) {
  Harness harness(WithSlots(1));
  Load(harness, "a");
  Load(harness, "b");
  ASSERT_TRUE(harness.Submit(With("a", MakeRequest(1, 3, 50))));
  harness.Step();
  ASSERT_TRUE(harness.Submit(With("b", MakeRequest(2, 3, 5))));
  ASSERT_TRUE(harness.Submit(MakeRequest(3, 3, 5)));
  while (!harness.streams().has(3)) {
    ASSERT_FALSE(harness.streams().has(2));
    harness.Step();
  }
  harness.RunDry();
  harness.ExpectOracle(With("b", MakeRequest(2, 3, 5)));
}

TEST(EngineAdapter, AnUnloadedOneEndsItsRequestsProperlyAndTakesNoNewOnes) {
  for (bool overlaps : {false, true}) {
    HarnessOptions options = WithSlots(1);
    options.overlaps = overlaps;
    Harness harness(options);
    Load(harness, "a");
    Load(harness, "b");
    wire::GenerateRequest running = With("a", MakeRequest(1, 9, 30));
    wire::GenerateRequest waiting = With("b", MakeRequest(2, 9, 10));
    ASSERT_TRUE(harness.Submit(running));
    ASSERT_TRUE(harness.Submit(waiting));
    harness.Step();
    harness.Step();
    ASSERT_TRUE(harness.engine().UnloadAdapter("a"));
    ASSERT_TRUE(harness.engine().UnloadAdapter("b"));
    EXPECT_EQ(harness.engine().UnloadAdapter("a").error().code(), Code::kNotFound);
    EXPECT_EQ(harness.Submit(With("a", MakeRequest(3, 9, 5))).error().code(), Code::kNotFound);
    EXPECT_TRUE(harness.engine().adapters().List().empty());
    harness.RunDry();
    harness.ExpectOracle(running);
    harness.ExpectOracle(waiting);
    EXPECT_FALSE(harness.engine().adapters().has_changes());
  }
}

TEST(EngineAdapter, ACancelledRequestsSlotIsSafeForTheStepInFlight) {
  HarnessOptions options = WithSlots(1);
  options.threaded = true;
  Harness harness(options);
  Load(harness, "a");
  Load(harness, "b");
  for (std::uint64_t id = 1; id <= 40; ++id) {
    ASSERT_TRUE(harness.Submit(With(id % 2 == 0 ? "a" : "b", MakeRequest(id, 9, 20))));
    harness.Step();
    harness.Step();
    if (id % 3 == 0) {
      harness.engine().Cancel({.id = RequestId{id - 1}, .choice = std::nullopt});
    }
  }
  harness.RunDry();
  for (std::uint64_t id = 1; id <= 40; ++id) {
    if (harness.streams().at(id).finish == wire::FinishReason::kLength) {
      harness.ExpectOracle(With(id % 2 == 0 ? "a" : "b", MakeRequest(id, 9, 20)));
    }
  }
}

TEST(EngineAdapter, OneThatDoesNotGetInFailsItsOwnRequestsAlone) {
  HarnessOptions options = WithSlots(2);
  options.faults.refused_adapter = "big";
  Harness harness(options);
  Load(harness, "big");
  Load(harness, "small");
  ASSERT_TRUE(harness.Submit(With("big", MakeRequest(1, 5, 5))));
  ASSERT_TRUE(harness.Submit(With("small", MakeRequest(2, 5, 5))));
  ASSERT_TRUE(harness.Submit(MakeRequest(3, 5, 5)));
  harness.RunDry();
  ASSERT_TRUE(harness.streams().at(1).error);
  EXPECT_EQ(harness.streams().at(1).error->code(), Code::kResourceExhausted);
  harness.ExpectOracle(With("small", MakeRequest(2, 5, 5)));
  harness.ExpectOracle(MakeRequest(3, 5, 5));
}

}  // namespace
}  // namespace pixii::engine::testing
