// An outside engine behind a link: it answers, hangs, refuses, breaks off and says nonsense, and
// every choice ends exactly once.
#include "worker/attached_link.h"

#include <gtest/gtest.h>

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "rt/sim_world.h"

namespace pixii::worker {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using wire::FinishReason;

// What the engine does with one request.
struct Script {
  std::string head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
  std::vector<std::string> events;  // each is sent as one, [DONE] too if it is there
  bool closes = true;               // behind the last one
  rt::Duration pause = milliseconds(5);
};

std::string Tokens(std::string_view ids, std::string_view finish = "null") {
  return fmt::format(R"({{"choices":[{{"token_ids":[{}],"finish_reason":{}}}]}})", ids, finish);
}

Script Answers(std::vector<std::string> events) { return {.events = std::move(events)}; }

Script Refuses(int status, std::string_view body) {
  return {.head = fmt::format("HTTP/1.1 {} No\r\nContent-Length: {}\r\n\r\n{}", status, body.size(),
                              body),
          .events = {}};
}

struct Heard {
  std::vector<TokenId> tokens;
  std::optional<FinishReason> finish;
  std::optional<Error> error;
  std::optional<TokenId> stop_token;
  std::string adapter_version;
  std::string handover;
  std::uint32_t cached_tokens = 0;
  int ends = 0;
};

class AttachedLinkTest : public testing::Test {
 protected:
  ~AttachedLinkTest() override { link_.reset(); }

  void SetUp() override {
    options_.address = {.host = "engine", .port = 80};
    options_.dialect = {.kind = EngineKind::kVllm,
                        .model = "base",
                        .token_prompts = true,
                        .token_answers = true,
                        .vocab_size = 100,
                        .bos_token_id = -1,
                        .text = {}};
    options_.card.name = "base";
    options_.card.block_count = 50;
    options_.card.block_tokens = 2;
    options_.silence_max = seconds(10);
    listener_ = engine_.net().Listen({.host = "0.0.0.0", .port = 80}, {}).value();
    engine_.loop().Spawn(AcceptTask());
  }

  void Open() { link_ = std::make_unique<AttachedLink>(worker_.loop(), worker_.net(), options_); }

  wire::GenerateRequest Request(std::uint64_t id) {
    wire::GenerateRequest request;
    request.id = RequestId{id};
    request.prompt = {1, 2};
    request.stop.max_tokens = 8;
    request.stop.eos_token_ids = {9};
    return request;
  }

  Result<void> Generate(wire::GenerateRequest request) {
    const std::uint64_t id = Raw(request.id);
    return link_->Generate(std::move(request), [this, id](wire::TokenFrame frame) {
      Heard& heard = heard_[{id, frame.choice}];
      EXPECT_EQ(Raw(frame.id), id);
      EXPECT_EQ(heard.ends, 0) << "a frame behind the end";
      heard.tokens.insert(heard.tokens.end(), frame.tokens.begin(), frame.tokens.end());
      heard.cached_tokens += frame.cached_tokens;
      heard.adapter_version += frame.adapter_version;
      heard.handover += frame.handover;
      if (frame.finish) {
        ++heard.ends;
        heard.finish = frame.finish;
        heard.error = frame.error;
        heard.stop_token = frame.stop_token;
      }
    });
  }

  // Generates with what the engine does as scripted, to the end.
  Heard Run(Script script, rt::Duration limit = seconds(60)) {
    if (!link_) {
      Open();
    }
    script_ = std::move(script);
    const std::uint64_t id = ++last_id_;
    EXPECT_TRUE(Generate(Request(id)));
    EXPECT_EQ(
        world_.RunUntil([&] { return link_->outstanding_count() == 0; }, world_.now() + limit),
        rt::SimEnd::kDone);
    world_.RunTo(world_.now() + seconds(2));
    EXPECT_EQ((heard_[{id, 0}].ends), 1);
    return heard_[{id, 0}];
  }

  rt::Task<void> AcceptTask() {
    while (true) {
      auto accepting = listener_->Accept();
      Result<std::unique_ptr<rt::Stream>> stream = co_await std::move(accepting);
      if (!stream) {
        co_return;
      }
      engine_.loop().Spawn(ServeTask(std::move(*stream)));
    }
  }

  rt::Task<void> ServeTask(std::unique_ptr<rt::Stream> stream) {
    std::string request;
    std::string buffer(4096, '\0');
    std::size_t size_wanted = std::string::npos;
    while (request.size() < size_wanted) {
      auto reading = stream->Read(buffer, rt::kNever);
      const Result<std::size_t> size = co_await std::move(reading);
      if (!size || *size == 0) {
        co_return;
      }
      request.append(buffer, 0, *size);
      const std::size_t head_end = request.find("\r\n\r\n");
      if (head_end != std::string::npos) {
        const std::size_t length = request.find("Content-Length: ");
        size_wanted = head_end + 4 + std::stoul(request.substr(length + 16));
      }
    }
    const bool is_poll = request.starts_with("GET ");
    const Script script = is_poll ? poll_ : script_;
    const std::string path = request.substr(0, request.find(" HTTP"));
    if (!is_poll) {
      requests_.push_back(request);
      ++open_;
    }
    if (extra_.contains(path)) {
      const std::string& body = extra_[path];
      const std::string answer =
          fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", body.size(), body);
      auto writing = stream->Write(answer, rt::kNever);
      (void)co_await std::move(writing);
      --open_;
      co_return;
    }
    auto writing = stream->Write(script.head, rt::kNever);
    (void)co_await std::move(writing);
    for (const std::string& event : script.events) {
      auto pause = engine_.loop().SleepFor(script.pause);
      co_await std::move(pause);
      const std::string line = fmt::format("data: {}\n\n", event);
      auto saying = stream->Write(line, rt::kNever);
      if (!co_await std::move(saying)) {
        break;
      }
    }
    if (!script.closes) {
      auto reading = stream->Read(buffer, rt::kNever);  // until the other side gives up
      (void)co_await std::move(reading);
    }
    open_ -= is_poll ? 0 : 1;
  }

  rt::SimWorld world_{rt::SimOptions{.seed = 8}};
  rt::SimNode& engine_ = world_.AddNode("engine");
  rt::SimNode& worker_ = world_.AddNode("worker");
  std::unique_ptr<rt::Listener> listener_;
  Script script_;
  Script poll_ = {.head =
                      "HTTP/1.1 200 OK\r\nContent-Length: 32\r\n\r\n"
                      "vllm:num_requests_running 7\nx 1\n",
                  .events = {}};
  std::map<std::string, std::string> extra_;  // other calls and what they answer
  std::vector<std::string> requests_;         // as the engine got them
  int open_ = 0;                              // of them at the engine
  AttachedOptions options_;
  std::unique_ptr<AttachedLink> link_;
  std::uint64_t last_id_ = 0;
  std::map<std::pair<std::uint64_t, std::uint32_t>, Heard> heard_;
};

TEST_F(AttachedLinkTest, TokensComeAsTheEngineSaysThem) {
  options_.api_key = "secret";
  options_.path_prefix = "/base";
  options_.host = "engine.example:80";
  const Heard heard =
      Run(Answers({Tokens("1,2"), Tokens("3"), Tokens("4,9", R"("stop")"), "[DONE]"}));
  EXPECT_EQ(heard.tokens, (std::vector<TokenId>{1, 2, 3, 4}));
  EXPECT_EQ(heard.finish, FinishReason::kStop);
  EXPECT_EQ(heard.stop_token, 9);
  ASSERT_EQ(requests_.size(), 1U);
  EXPECT_TRUE(requests_[0].starts_with("POST /base/v1/completions HTTP/1.1\r\n"));
  EXPECT_NE(requests_[0].find("Authorization: Bearer secret\r\n"), std::string::npos);
  EXPECT_NE(requests_[0].find("Host: engine.example:80\r\n"), std::string::npos);
}

TEST_F(AttachedLinkTest, TwoEndsAreOne) {
  const Heard heard = Run(Answers({Tokens("1", R"("stop")"), Tokens("2", R"("length")"),
                                   R"({"error":{"message":"late"}})", "[DONE]"}));
  EXPECT_EQ(heard.tokens, (std::vector<TokenId>{1}));
  EXPECT_EQ(heard.finish, FinishReason::kStop);
}

TEST_F(AttachedLinkTest, AnAnswerWithoutAnEndFailsElsewhereToo) {
  EXPECT_EQ(Run(Answers({Tokens("1")})).error->code(), Code::kDisconnected);
  EXPECT_EQ(Run(Answers({Tokens("1"), "[DONE]"})).error->code(), Code::kDisconnected);
  EXPECT_EQ(Run(Answers({})).error->code(), Code::kDisconnected);
  EXPECT_EQ(Run({.head = "", .events = {}}).error->code(), Code::kDisconnected);
  EXPECT_EQ(Run({.head = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", .events = {"{"}}).finish,
            FinishReason::kError);
}

TEST_F(AttachedLinkTest, NonsenseEndsTheChoice) {
  EXPECT_EQ(Run(Answers({Tokens("1"), "{nonsense"})).error->code(), Code::kDataCorrupt);
  EXPECT_EQ(Run(Answers({Tokens("12345")})).error->code(), Code::kDataCorrupt);
  EXPECT_EQ(Run({.head = "SSH-2.0-OpenSSH\r\n", .events = {}}).finish, FinishReason::kError);
}

TEST_F(AttachedLinkTest, RefusalsKeepTheirKind) {
  EXPECT_EQ(Run(Refuses(400, R"({"error":{"message":"too long"}})")).error->code(),
            Code::kInvalidArgument);
  EXPECT_EQ(Run(Refuses(429, "full")).error->code(), Code::kResourceExhausted);
  EXPECT_EQ(Run(Refuses(503, "loading")).error->code(), Code::kUnavailable);
  EXPECT_EQ(Run(Refuses(500, "{")).error->code(), Code::kUnavailable);
}

TEST_F(AttachedLinkTest, ASilentEngineFailsItsRequestsInTime) {
  const rt::Time began = world_.now();
  const Heard heard = Run({.events = {Tokens("1")}, .closes = false}, seconds(12));
  EXPECT_EQ(heard.error->code(), Code::kUnavailable);
  EXPECT_EQ(heard.tokens.size(), 1U);
  EXPECT_LT(world_.now() - began, seconds(15));
  // Before it said anything at all.
  EXPECT_EQ(Run({.head = "", .events = {}, .closes = false}, seconds(12)).error->code(),
            Code::kUnavailable);
  EXPECT_EQ(open_, 0);
}

TEST_F(AttachedLinkTest, ADeadlineEndsARequestWhateverTheEngineDoes) {
  Open();
  script_ = {.events = {Tokens("1")}, .closes = false};
  wire::GenerateRequest request = Request(77);
  request.deadline_left_ns = rt::Duration(seconds(2)).count();
  ASSERT_TRUE(Generate(std::move(request)));
  world_.RunTo(world_.now() + milliseconds(2100));
  EXPECT_EQ((heard_[{77, 0}].error->code()), Code::kDeadlineExceeded);
}

TEST_F(AttachedLinkTest, ACancelClosesTheConnection) {
  Open();
  for (const char* head : {"", "HTTP/1.1 200 OK\r\n\r\n"}) {  // before and behind its first byte
    const std::uint64_t id = ++last_id_;
    script_ = {.head = head, .events = {}, .closes = false};
    ASSERT_TRUE(Generate(Request(id)));
    world_.RunTo(world_.now() + seconds(1));
    EXPECT_EQ(open_, 1);
    link_->Cancel({RequestId{id}, std::nullopt});
    EXPECT_EQ((heard_[{id, 0}].ends), 0) << "not inside the call";
    world_.RunTo(world_.now() + milliseconds(10));
    EXPECT_EQ((heard_[{id, 0}].finish), FinishReason::kCancelled);
    EXPECT_EQ(open_, 0);
    EXPECT_EQ(link_->outstanding_count(), 0U);
  }
  link_->Cancel({RequestId{999}, std::nullopt});  // nobody's
}

TEST_F(AttachedLinkTest, EachChoiceIsARequestAndMayEndAlone) {
  Open();
  script_ = {.events = {Tokens("1")}, .closes = false};
  wire::GenerateRequest request = Request(5);
  request.choice_count = 3;
  request.generated = {{}, {}, {1, 2, 3, 4, 5, 6, 7, 8}};  // the last has all it may have
  ASSERT_TRUE(Generate(std::move(request)));
  world_.RunTo(world_.now() + seconds(1));
  EXPECT_EQ(requests_.size(), 2U);
  EXPECT_EQ((heard_[{5, 2}].finish), FinishReason::kLength);
  link_->Cancel({RequestId{5}, 0});
  world_.RunTo(world_.now() + seconds(1));
  EXPECT_EQ((heard_[{5, 0}].finish), FinishReason::kCancelled);
  EXPECT_EQ((heard_[{5, 1}].ends), 0);
  EXPECT_EQ(open_, 1);
  link_->Close(Error(Code::kShuttingDown, "the end"));
  world_.RunTo(world_.now() + seconds(1));
  EXPECT_EQ((heard_[{5, 1}].error->code()), Code::kShuttingDown);
  EXPECT_EQ(Generate(Request(6)).error().code(), Code::kShuttingDown);
  EXPECT_EQ(open_, 0);
}

TEST_F(AttachedLinkTest, APrefillGivesWhatItsEngineSaysOfEachChoiceAndEnds) {
  options_.role = {.prefills = true, .key = "secret"};
  Open();
  extra_["POST /v1/completions"] = R"({"choices":[],"kv_transfer_params":{"remote_port":7}})";
  wire::GenerateRequest request = Request(5);
  request.choice_count = 2;
  request.prefill_only = true;
  ASSERT_TRUE(Generate(std::move(request)));
  world_.RunTo(world_.now() + seconds(1));
  const Result<EngineHandover> said =
      DecodeEngineHandover(heard_[{5, 0}].handover + heard_[{5, 1}].handover, HashKey("secret"));
  ASSERT_TRUE(said);
  EXPECT_EQ(said->choices, std::vector<std::string>(2, R"({"remote_port":7})"));
  EXPECT_EQ((heard_[{5, 0}].finish), FinishReason::kLength);
  EXPECT_EQ((heard_[{5, 1}].finish), FinishReason::kLength);
  EXPECT_TRUE((heard_[{5, 0}].tokens.empty())) << "the other engine gives the first, too";
  EXPECT_EQ(link_->outstanding_count(), 0U);
  extra_["POST /v1/completions"] = R"({"choices":[]})";
  request = Request(6);
  request.prefill_only = true;
  ASSERT_TRUE(Generate(std::move(request)));
  world_.RunTo(world_.now() + seconds(1));
  EXPECT_EQ((heard_[{6, 0}].error->code()), Code::kUnavailable) << "who decodes computes it";
}

TEST_F(AttachedLinkTest, APrefillThatIsCancelledOrSilentEndsOnce) {
  for (const EngineKind kind : {EngineKind::kVllm, EngineKind::kSglang}) {
    options_.role = {.prefills = true, .key = "secret", .bootstrap = {.host = "h", .port = 8998}};
    options_.dialect.kind = kind;
    Open();
    script_ = {.head = "", .events = {}, .closes = false};
    const std::uint64_t id = ++last_id_;
    wire::GenerateRequest request = Request(id);
    request.prefill_only = true;
    ASSERT_TRUE(Generate(request));
    world_.RunTo(world_.now() + seconds(1));
    EXPECT_EQ(open_, 1);
    EXPECT_EQ((heard_[{id, 0}].handover.empty()), kind == EngineKind::kVllm)
        << "SGLang's engines must be asked at once";
    link_->Cancel({RequestId{id}, std::nullopt});
    world_.RunTo(world_.now() + milliseconds(10));
    EXPECT_EQ((heard_[{id, 0}].finish), FinishReason::kCancelled);
    EXPECT_EQ(open_, 0);
    request.id = RequestId{++last_id_};
    ASSERT_TRUE(Generate(request));
    world_.RunTo(world_.now() + seconds(12));
    EXPECT_EQ((heard_[{last_id_, 0}].error->code()), Code::kUnavailable);
    EXPECT_EQ(open_, 0);
    EXPECT_EQ(link_->outstanding_count(), 0U);
  }
}

TEST_F(AttachedLinkTest, ADecodeEngineIsToldOnlyWhatWasSaidToItOnceInItsOwnWords) {
  options_.role = {.key = "secret"};
  Open();
  script_ = Answers({Tokens("1", R"("length")"), "[DONE]"});
  const auto told = [&](wire::GenerateRequest request, std::string_view key, EngineKind kind) {
    request.handover =
        EncodeEngineHandover({.kind = kind, .choices = {R"({"remote_port":7})"}}, HashKey(key));
    requests_.clear();
    EXPECT_TRUE(Generate(std::move(request)));
    world_.RunTo(world_.now() + seconds(2));
    return requests_.size() == 1 &&
           requests_[0].find(R"("kv_transfer_params":{"remote_port":7})") != std::string::npos;
  };
  EXPECT_TRUE(told(Request(1), "secret", EngineKind::kVllm));
  EXPECT_FALSE(told(Request(2), "another", EngineKind::kVllm));
  EXPECT_FALSE(told(Request(3), "secret", EngineKind::kTrtllm));
  wire::GenerateRequest moved = Request(4);
  moved.attempt = 2;
  EXPECT_FALSE(told(moved, "secret", EngineKind::kVllm)) << "another engine had them";
  wire::GenerateRequest begun = Request(5);
  begun.generated = {{1}};
  EXPECT_FALSE(told(begun, "secret", EngineKind::kVllm)) << "they are of the prompt alone";
  options_.dialect.kind = EngineKind::kSglang;
  Open();
  EXPECT_EQ(Generate(Request(6)).error().code(), Code::kUnavailable) << "it computes no prompts";
}

TEST_F(AttachedLinkTest, WhatTheEngineCannotBeToldIsRefusedAtOnce) {
  Open();
  wire::GenerateRequest request = Request(1);
  request.prompt_logprobs = true;
  EXPECT_EQ(Generate(std::move(request)).error().code(), Code::kUnsupported);
  EXPECT_TRUE(heard_.empty());
  EXPECT_EQ(link_->outstanding_count(), 0U);
}

TEST_F(AttachedLinkTest, AnEngineThatIsGoneIsAsleepUntilItIsBack) {
  Open();
  world_.RunTo(world_.now() + seconds(1));
  EXPECT_EQ(link_->load().state, control::WorkerState::kAwake);
  EXPECT_EQ(link_->load().running, 7U);
  listener_->Close();
  world_.RunTo(world_.now() + seconds(5));
  EXPECT_EQ(link_->load().state, control::WorkerState::kAsleep);
  EXPECT_EQ(Generate(Request(1)).error().code(), Code::kUnavailable);
  listener_ = engine_.net().Listen({.host = "0.0.0.0", .port = 80}, {}).value();
  engine_.loop().Spawn(AcceptTask());
  world_.RunTo(world_.now() + seconds(2));
  EXPECT_EQ(link_->load().state, control::WorkerState::kAwake);
}

TEST_F(AttachedLinkTest, AdaptersAreLoadedAndNamed) {
  Open();
  extra_["POST /v1/load_lora_adapter"] = "Success";
  extra_["POST /v1/unload_lora_adapter"] = "Success";
  wire::GenerateRequest request = Request(1);
  request.adapter = "tuned";
  EXPECT_EQ(Generate(request).error().code(), Code::kNotFound);
  std::optional<Result<wire::AdapterCard>> loaded;
  link_->LoadAdapter({.name = "tuned", .source = "/adapters/tuned"},
                     [&](Result<wire::AdapterCard> card) { loaded = std::move(card); });
  world_.RunTo(world_.now() + seconds(1));
  ASSERT_TRUE(loaded && *loaded);
  EXPECT_TRUE((*loaded)->is_loaded());
  EXPECT_EQ(link_->card().adapters.size(), 1U);
  EXPECT_NE(requests_[0].find(R"({"lora_name":"tuned","lora_path":"/adapters/tuned"})"),
            std::string::npos);
  script_ = Answers({Tokens("1", R"("stop")")});
  ASSERT_TRUE(Generate(request));
  world_.RunTo(world_.now() + seconds(1));
  EXPECT_EQ((heard_[{1, 0}].adapter_version), (*loaded)->version);
  EXPECT_NE(requests_[1].find(R"("model":"tuned")"), std::string::npos);
  request.adapter_version = "another";
  EXPECT_EQ(Generate(request).error().code(), Code::kUnavailable);
  link_->UnloadAdapter("tuned", [&](Result<wire::AdapterCard> card) { loaded = std::move(card); });
  world_.RunTo(world_.now() + seconds(1));
  EXPECT_TRUE(*loaded);
  EXPECT_TRUE(link_->card().adapters.empty());
}

TEST_F(AttachedLinkTest, KvEventsAreDrained) {
  Open();
  EXPECT_EQ(link_->WatchKvEvents([](std::vector<wire::KvEvent>) {}).error().code(),
            Code::kUnsupported);
  options_.drains_kv_events = true;
  Open();
  extra_["POST /kv_cache_events"] =
      R"([{"event_id":0,"data":{"type":"stored","parent_hash":null,"blocks":[
           {"block_hash":5,"tokens":[1,2]}]}}])";
  std::vector<wire::KvEvent> heard;
  ASSERT_TRUE(link_->WatchKvEvents([&](std::vector<wire::KvEvent> events) {
    heard.insert(heard.end(), events.begin(), events.end());
    extra_["POST /kv_cache_events"] = "[]";
  }));
  world_.RunTo(world_.now() + seconds(1));
  ASSERT_EQ(heard.size(), 1U);
  EXPECT_EQ(heard[0].blocks[0].block_hash, 5U);
}

// Whatever breaks when: each choice ends exactly once, and nothing is left.
TEST_F(AttachedLinkTest, EveryChoiceEndsOnceUnderFaults) {
  world_.options().reset_probability = 0.05;
  world_.options().refuse_probability = 0.05;
  world_.options().delay_probability = 0.05;
  options_.load_period = milliseconds(50);
  Open();
  std::map<std::uint64_t, bool> taken;
  for (std::uint64_t id = 1; id <= 400; ++id) {
    script_ = Answers({Tokens("1"), Tokens("2"), Tokens("3", R"("stop")"), "[DONE]"});
    script_.closes = world_.random().Below(4) != 0;
    if (world_.random().Below(5) == 0) {
      script_.events.resize(world_.random().Below(3));
    }
    taken[id] = Generate(Request(id)).has_value();
    world_.RunTo(world_.now() + milliseconds(world_.random().Below(40)));
    if (world_.random().Below(4) == 0) {
      link_->Cancel(
          {RequestId{id - world_.random().Below(std::min<std::uint64_t>(id, 3))}, std::nullopt});
    }
  }
  world_.RunTo(world_.now() + seconds(30));
  EXPECT_EQ(link_->outstanding_count(), 0U);
  std::map<FinishReason, int> ends;
  for (const auto& [id, was_taken] : taken) {
    EXPECT_EQ((heard_[{id, 0}].ends), was_taken ? 1 : 0) << id;
    if (was_taken) {
      ++ends[*heard_[{id, 0}].finish];
    }
  }
  EXPECT_GT(ends[FinishReason::kStop], 50);
  EXPECT_GT(ends[FinishReason::kError], 20);
  EXPECT_GT(ends[FinishReason::kCancelled], 10);
}

}  // namespace
}  // namespace pixii::worker
