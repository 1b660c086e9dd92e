#include "worker/local_link.h"

#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "engine/mock_executor.h"
#include "rt/loop.h"
#include "rt/thread.h"
#include "support/worker_process.h"

namespace pixii::worker {
namespace {

using pixii::testing::MakeMockRequest;

constexpr std::uint32_t kVocab = pixii::testing::kMockVocab;
constexpr std::uint32_t kContext = 128;

std::unique_ptr<engine::Engine> MakeEngine(std::uint32_t queue_length_max = 256,
                                           const engine::AdapterOptions& adapters = {}) {
  auto executor = std::make_unique<engine::MockExecutor>(
      engine::MockOptions{.limits = {.vocab_size = kVocab,
                                     .context_tokens_max = kContext,
                                     .block_tokens = 4,
                                     .block_count = 128,
                                     .step_tokens_max = 64,
                                     .step_logit_rows_max = 64,
                                     .adapter_slots = adapters.slot_count},
                          .timing = {},
                          .faults = {}});
  auto engine = engine::Engine::Create({.batch_sequences_max = 8,
                                        .batch_tokens_max = 32,
                                        .queue_length_max = queue_length_max,
                                        .adapters = adapters},
                                       std::move(executor));
  EXPECT_TRUE(engine) << engine.error().ToString();
  return std::move(*engine);
}

struct Received {
  std::map<std::uint32_t, std::vector<TokenId>> tokens;  // by choice
  std::map<std::uint32_t, wire::TokenFrame> ends;
};

/// Frontend and engine on one real loop that the test runs itself; it stops when all requests have
/// ended.
class LocalLinkTest : public ::testing::Test {
 protected:
  void Start(std::unique_ptr<engine::Engine> engine) {
    engine_loop_ = std::make_unique<engine::EngineLoop>(*loop_, std::move(engine));
    link_ = std::make_unique<LocalLink>(*loop_, *engine_loop_,
                                        LocalLinkOptions{.name = "mock", .eos_token_ids = {0}});
  }

  /// With a catalogue of "a", "b" and "broken", of which at most `loaded_max` are loaded at a time.
  void StartWithAdapters(std::uint32_t loaded_max) {
    engine_loop_ = std::make_unique<engine::EngineLoop>(
        *loop_, MakeEngine(256, {.slot_count = 2, .adapters_max = loaded_max}));
    link_ = MakeAdapterLink({{"a", "a"}, {"b", "b"}, {"broken", "broken"}});
  }

  std::unique_ptr<LocalLink> MakeAdapterLink(std::vector<CatalogueEntry> catalogue) {
    LocalLinkOptions options{.name = "mock", .eos_token_ids = {}};
    options.adapters.catalogue = std::move(catalogue);
    options.adapters.read =
        [this](const std::string& source) -> Result<std::shared_ptr<const engine::AdapterWeights>> {
      ++reads_;
      if (source == "broken") {
        return Fail(Code::kDataCorrupt, "the file is cut");
      }
      return std::make_shared<const engine::MockAdapter>(source);
    };
    return std::make_unique<LocalLink>(*loop_, *engine_loop_, std::move(options));
  }

  static wire::GenerateRequest With(const std::string& adapter, wire::GenerateRequest request) {
    request.adapter = adapter;
    return request;
  }

  void ExpectOracle(const wire::GenerateRequest& request) {
    Received& received = received_[Raw(request.id)];
    for (std::uint32_t choice = 0; choice < request.choice_count; ++choice) {
      EXPECT_EQ(received.tokens[choice],
                engine::MockStream(request, choice, kVocab, kContext).tokens);
      EXPECT_EQ(received.ends[choice].finish, wire::FinishReason::kLength);
    }
  }

  /// Runs the loop until `link` has answered.
  Result<wire::AdapterCard> Load(LocalLink& link, const wire::LoadAdapterRequest& request) {
    Result<wire::AdapterCard> out = Fail(Code::kInternal, "no answer");
    link.LoadAdapter(request, [&](const Result<wire::AdapterCard>& card) {
      out = card;
      loop_->Post([this] { loop_->Stop(); });
    });
    loop_->Run();
    return out;
  }

  Result<wire::AdapterCard> Unload(const std::string& name) {
    Result<wire::AdapterCard> out = Fail(Code::kInternal, "no answer");
    link_->UnloadAdapter(name, [&](const Result<wire::AdapterCard>& card) {
      out = card;
      loop_->Post([this] { loop_->Stop(); });
    });
    loop_->Run();
    return out;
  }

  std::string LoadedNames() const {
    std::string out;
    for (const wire::AdapterCard& card : link_->card().adapters) {
      out += card.is_loaded() ? card.name + " " : "";
    }
    return out;
  }

  Result<void> Generate(const wire::GenerateRequest& request) {
    std::uint64_t id = Raw(request.id);
    return link_->Generate(request, [this, id](wire::TokenFrame frame) {
      Received& received = received_[id];
      std::vector<TokenId>& tokens = received.tokens[frame.choice];
      EXPECT_FALSE(received.ends.contains(frame.choice)) << "a frame after the end";
      tokens.insert(tokens.end(), frame.tokens.begin(), frame.tokens.end());
      if (on_tokens_) {
        on_tokens_(id);
      }
      if (frame.finish) {
        received.ends.emplace(frame.choice, std::move(frame));
      }
      StopWhenDone();
    });
  }

  void StopWhenDone() {
    if (link_->outstanding_count() == 0) {
      loop_->Stop();
    }
  }

  std::unique_ptr<rt::Loop> loop_ = *rt::MakeLoop();
  std::unique_ptr<engine::EngineLoop> engine_loop_;
  std::unique_ptr<LocalLink> link_;
  std::map<std::uint64_t, Received> received_;
  std::function<void(std::uint64_t)> on_tokens_;
  std::atomic<int> reads_ = 0;
};

TEST_F(LocalLinkTest, StreamsEveryChoiceToItsEnd) {
  Start(MakeEngine());
  std::vector<wire::GenerateRequest> requests;
  for (std::uint64_t id = 1; id <= 20; ++id) {
    requests.push_back(MakeMockRequest(id, 5 + static_cast<std::uint32_t>(id), 1 + id % 3));
    ASSERT_TRUE(Generate(requests.back()));
  }
  loop_->Run();
  for (const wire::GenerateRequest& request : requests) {
    Received& received = received_[Raw(request.id)];
    for (std::uint32_t choice = 0; choice < request.choice_count; ++choice) {
      EXPECT_EQ(received.tokens[choice],
                engine::MockStream(request, choice, kVocab, kContext).tokens);
      ASSERT_TRUE(received.ends.contains(choice));
      EXPECT_EQ(received.ends[choice].finish, wire::FinishReason::kLength);
    }
  }
  EXPECT_EQ(link_->load().running, 0U);
  EXPECT_EQ(link_->load().blocks_used, 0U);
  EXPECT_GT(link_->load().steps, 20U);
}

TEST_F(LocalLinkTest, SaysWhatTheWorkerIs) {
  Start(MakeEngine());
  EXPECT_EQ(link_->card().name, "mock");
  EXPECT_EQ(link_->card().vocab_size, kVocab);
  EXPECT_EQ(link_->card().context_tokens_max, kContext);
  EXPECT_EQ(link_->card().eos_token_ids, std::vector<TokenId>{0});
}

TEST_F(LocalLinkTest, ACancelledRequestEndsOnceAndEarly) {
  Start(MakeEngine());
  ASSERT_TRUE(Generate(MakeMockRequest(1, 100)));
  ASSERT_TRUE(Generate(MakeMockRequest(2, 10)));
  on_tokens_ = [this](std::uint64_t id) {
    if (id == 1 && received_[1].tokens[0].size() == 3) {
      link_->Cancel({.id = RequestId{1}, .choice = std::nullopt});
    }
  };
  loop_->Run();
  EXPECT_EQ(received_[1].ends[0].finish, wire::FinishReason::kCancelled);
  EXPECT_LT(received_[1].tokens[0].size(), 10U);
  EXPECT_EQ(received_[2].ends[0].finish, wire::FinishReason::kLength);
  EXPECT_EQ(link_->load().blocks_used, 0U);
}

TEST_F(LocalLinkTest, RefusesMoreThanBatchAndQueueHoldAndCallsNoHandler) {
  Start(MakeEngine(4));
  for (std::uint64_t id = 1; id <= 12; ++id) {
    ASSERT_TRUE(Generate(MakeMockRequest(id, 2)));
  }
  Result<void> refused = Generate(MakeMockRequest(13, 2));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::kResourceExhausted);
  loop_->Run();
  EXPECT_FALSE(received_.contains(13));
  EXPECT_EQ(received_.size(), 12U);
  EXPECT_TRUE(Generate(MakeMockRequest(13, 2)));  // there is room again
  loop_->Run();
  EXPECT_TRUE(received_.contains(13));
}

TEST_F(LocalLinkTest, ARefusalOfTheEngineIsTheEndOfEveryChoice) {
  Start(MakeEngine());
  wire::GenerateRequest request = MakeMockRequest(1, 5, 2);
  request.prompt.assign(kContext, 1);
  ASSERT_TRUE(Generate(request));
  loop_->Run();
  for (std::uint32_t choice : {0U, 1U}) {
    ASSERT_TRUE(received_[1].ends[choice].error);
    EXPECT_EQ(received_[1].ends[choice].error->code(), Code::kInvalidArgument);
    EXPECT_EQ(received_[1].ends[choice].error->param(), "prompt");
  }
}

TEST_F(LocalLinkTest, ADrainingLinkTakesNothingNewAndEndsWhatRuns) {
  Start(MakeEngine());
  ASSERT_TRUE(Generate(MakeMockRequest(1, 10)));
  link_->Drain();
  EXPECT_EQ(Generate(MakeMockRequest(2, 10)).error().code(), Code::kShuttingDown);
  loop_->Run();
  EXPECT_EQ(received_[1].tokens[0].size(), 10U);
}

TEST_F(LocalLinkTest, ClosingEndsEachChoiceOnceAndLateFramesAreDropped) {
  Start(MakeEngine());
  ASSERT_TRUE(Generate(MakeMockRequest(1, 100, 3)));
  ASSERT_TRUE(Generate(MakeMockRequest(2, 100)));
  on_tokens_ = [this](std::uint64_t id) {
    if (id == 2 && received_[2].tokens[0].size() == 5) {
      link_->Close(Error(Code::kUnavailable, "the worker is gone"));
    }
  };
  loop_->Run();
  for (std::uint32_t choice : {0U, 1U, 2U}) {
    ASSERT_TRUE(received_[1].ends[choice].error);
    EXPECT_EQ(received_[1].ends[choice].error->code(), Code::kUnavailable);
  }
  EXPECT_TRUE(received_[2].ends[0].error);
  EXPECT_EQ(Generate(MakeMockRequest(3, 1)).error().code(), Code::kUnavailable);
}

TEST_F(LocalLinkTest, AnEngineThatShutsDownEndsEveryRequestTyped) {
  Start(MakeEngine());
  ASSERT_TRUE(Generate(MakeMockRequest(1, 100, 2)));
  engine_loop_->Shutdown(Error(Code::kShuttingDown, "stop"));
  ASSERT_TRUE(Generate(MakeMockRequest(2, 100)));
  loop_->Run();
  EXPECT_EQ(received_[1].ends[0].error->code(), Code::kShuttingDown);
  EXPECT_EQ(received_[1].ends[1].error->code(), Code::kShuttingDown);
  EXPECT_EQ(received_[2].ends[0].error->code(), Code::kShuttingDown);
}

TEST_F(LocalLinkTest, AnAdapterOfTheCatalogueIsReadOnceWhenItIsNamed) {
  StartWithAdapters(4);
  EXPECT_EQ(link_->card().adapters.size(), 3U);
  std::vector<wire::GenerateRequest> requests;
  for (std::uint64_t id = 1; id <= 6; ++id) {
    requests.push_back(With(id % 3 == 0 ? "" : "a", MakeMockRequest(id, 8, 1 + id % 2)));
    ASSERT_TRUE(Generate(requests.back()));
  }
  loop_->Run();
  for (const wire::GenerateRequest& request : requests) {
    ExpectOracle(request);
  }
  EXPECT_EQ(reads_, 1);
  EXPECT_EQ(LoadedNames(), "a ");
  EXPECT_EQ(link_->card().adapters.size(), 3U);
}

TEST_F(LocalLinkTest, AnAdapterThatGaveWayUnheardIsReadAgain) {
  StartWithAdapters(1);
  ASSERT_TRUE(Generate(With("a", MakeMockRequest(1, 5))));
  loop_->Run();
  std::unique_ptr<LocalLink> other = MakeAdapterLink({});
  ASSERT_TRUE(Load(*other, {.name = "c", .source = "c"}));
  EXPECT_EQ(LoadedNames(), "a ") << "nobody told this link";
  ASSERT_TRUE(Generate(With("a", MakeMockRequest(2, 5, 3))));
  loop_->Run();
  ExpectOracle(With("a", MakeMockRequest(2, 5, 3)));
  EXPECT_EQ(reads_, 3);
}

TEST_F(LocalLinkTest, AnAdapterThatWasLoadedByNameAndGaveWayStaysRoutableUntilItIsUnloaded) {
  StartWithAdapters(1);
  ASSERT_TRUE(Load(*link_, {.name = "c", .source = "c"}));
  ASSERT_TRUE(Load(*link_, {.name = "d", .source = "d"}));
  EXPECT_EQ(LoadedNames(), "d ");
  ASSERT_TRUE(Generate(With("c", MakeMockRequest(1, 5))));
  loop_->Run();
  ExpectOracle(With("c", MakeMockRequest(1, 5)));
  ASSERT_TRUE(Unload("d"));
  ASSERT_TRUE(Generate(With("d", MakeMockRequest(2, 5))));
  loop_->Run();
  EXPECT_EQ(received_[2].ends[0].error->code(), Code::kNotFound);
}

TEST_F(LocalLinkTest, WhatCannotBeReadOrIsNotThereEndsItsRequests) {
  StartWithAdapters(2);
  ASSERT_TRUE(Generate(With("broken", MakeMockRequest(1, 5, 2))));
  ASSERT_TRUE(Generate(With("nobody", MakeMockRequest(2, 5, 2))));
  loop_->Run();
  for (std::uint32_t choice : {0U, 1U}) {
    ASSERT_TRUE(received_[1].ends[choice].error);
    EXPECT_EQ(received_[1].ends[choice].error->code(), Code::kDataCorrupt);
    EXPECT_EQ(received_[1].ends[choice].error->detail().find("the file"), std::string::npos)
        << "where it lies and what is in it is the log's";
    ASSERT_TRUE(received_[2].ends[choice].error);
    EXPECT_EQ(received_[2].ends[choice].error->code(), Code::kNotFound);
  }
}

TEST_F(LocalLinkTest, ARequestThatWaitsForItsAdapterCanBeCancelledAndClosed) {
  StartWithAdapters(2);
  ASSERT_TRUE(Generate(With("a", MakeMockRequest(1, 50, 2))));
  link_->Cancel({.id = RequestId{1}, .choice = std::nullopt});
  loop_->Run();
  EXPECT_EQ(received_[1].ends[0].finish, wire::FinishReason::kCancelled);
  EXPECT_EQ(received_[1].ends[1].finish, wire::FinishReason::kCancelled);
  ASSERT_TRUE(Generate(With("b", MakeMockRequest(2, 50))));
  link_->Close(Error(Code::kUnavailable, "gone"));
  EXPECT_EQ(received_[2].ends[0].error->code(), Code::kUnavailable);
}

TEST_F(LocalLinkTest, AdaptersAreLoadedAndUnloadedByName) {
  StartWithAdapters(4);
  Result<wire::AdapterCard> card = Load(*link_, {.name = "c", .source = "folder", .pinned = true});
  ASSERT_TRUE(card) << card.error().ToString();
  EXPECT_EQ(card->version, "folder");
  EXPECT_TRUE(card->pinned && card->is_loaded());
  EXPECT_EQ(LoadedNames(), "c ");
  EXPECT_EQ(Load(*link_, {.name = "c", .source = "x", .replace = false}).error().code(),
            Code::kInvalidArgument);
  EXPECT_EQ(Load(*link_, {.name = "mock", .source = "x"}).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(Load(*link_, {.name = "d", .source = "broken"}).error().code(), Code::kDataCorrupt);
  EXPECT_EQ(Unload("c")->name, "c");
  EXPECT_EQ(LoadedNames(), "");
  EXPECT_EQ(Unload("c").error().code(), Code::kNotFound);
  EXPECT_EQ(Unload("a")->name, "a") << "one of the catalogue that was never loaded";
  EXPECT_EQ(link_->card().adapters.size(), 2U);
  link_.reset();
  Start(MakeEngine());
  EXPECT_EQ(Load(*link_, {.name = "c", .source = "x"}).error().code(), Code::kUnsupported);
}

TEST_F(LocalLinkTest, WorksWithTheEngineOnAThreadOfItsOwn) {
  std::unique_ptr<rt::Loop> other = *rt::MakeLoop();
  engine_loop_ = std::make_unique<engine::EngineLoop>(*other, MakeEngine());
  rt::Thread thread("engine", [&other] { other->Run(); });
  link_ = std::make_unique<LocalLink>(*loop_, *engine_loop_,
                                      LocalLinkOptions{.name = "mock", .eos_token_ids = {}});
  std::vector<wire::GenerateRequest> requests;
  for (std::uint64_t id = 1; id <= 50; ++id) {
    requests.push_back(MakeMockRequest(id, 20, 1 + id % 2));
    ASSERT_TRUE(Generate(requests.back()));
    if (id % 5 == 0) {
      link_->Cancel({.id = RequestId{id}, .choice = std::nullopt});
    }
  }
  loop_->Run();
  for (const wire::GenerateRequest& request : requests) {
    Received& received = received_[Raw(request.id)];
    for (std::uint32_t choice = 0; choice < request.choice_count; ++choice) {
      std::vector<TokenId> expected = engine::MockStream(request, choice, kVocab, kContext).tokens;
      if (received.ends[choice].finish == wire::FinishReason::kCancelled) {
        expected.resize(received.tokens[choice].size());
      }
      EXPECT_EQ(received.tokens[choice], expected);
    }
  }
  other->Stop();
  thread.Join();
  link_.reset();
  engine_loop_.reset();
}

TEST_F(LocalLinkTest, SleepAndWakeAreHeardOfBeforeTheyAreAnswered) {
  engine_loop_ = std::make_unique<engine::EngineLoop>(*loop_, MakeEngine());
  std::vector<engine::EngineState> states;
  LocalLinkOptions options{.name = "mock", .eos_token_ids = {}};
  options.on_state = [&](engine::EngineState state) { states.push_back(state); };
  link_ = std::make_unique<LocalLink>(*loop_, *engine_loop_, std::move(options));
  std::vector<control::WorkerState> seen;
  auto wait = [&](auto begin) {
    begin([&](const Result<void>& result) {
      EXPECT_TRUE(result) << result.error().ToString();
      seen.push_back(link_->load().state);
      loop_->Post([this] { loop_->Stop(); });
    });
    loop_->Run();
  };
  wait([&](auto done) {
    link_->ReleaseMemory({.weights = true}, rt::Duration(1'000'000'000), done);
  });
  wait([&](auto done) { link_->ResumeMemory({.kv_cache = true, .weights = true}, done); });
  EXPECT_EQ(seen, (std::vector{control::WorkerState::kAsleep, control::WorkerState::kAwake}));
  EXPECT_EQ(states, (std::vector{engine::EngineState::kAsleep, engine::EngineState::kAwake}));
}

}  // namespace
}  // namespace pixii::worker
