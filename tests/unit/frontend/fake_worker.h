// A worker for tests: it remembers what it was asked and answers as it is told.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "control/worker_link.h"
#include "rt/loop.h"

namespace pixii::frontend::testing {

class FakeWorker final : public control::WorkerLink {
 public:
  explicit FakeWorker(rt::Loop& loop) : loop_(loop) {
    card_.name = "tiny";
    card_.fingerprint = "f";
    card_.numerics_id = "n";
    card_.vocab_size = 260;
    card_.context_tokens_max = 200;
    card_.block_tokens = 16;
    card_.block_count = 64;
    card_.batch_sequences_max = 8;
    card_.batch_tokens_max = 256;
    card_.eos_token_ids = {257};
    card_.bos_token_id = 256;
  }

  // How it answers.
  bool automatic = true;  // else tests call Emit and End
  std::string reply =
      "Hello!";  // one token a byte, then the end of sequence; again and again with ignore_eos
  std::optional<Error> refusal;   // of Generate
  std::optional<Error> fault;     // every choice ends with it ...
  std::uint32_t fault_after = 0;  // ... behind so many tokens
  std::uint32_t tokens_per_turn = 1;
  std::uint32_t cached_tokens = 3;
  std::function<void()> on_generate;  // posted after each request but a readiness test
  bool stalled = false;               // takes requests and makes no step
  control::WorkerState state = control::WorkerState::kAwake;
  std::optional<Error> memory_refusal;  // of ReleaseMemory and ResumeMemory

  struct MemoryCall {
    control::MemoryTags tags;
    rt::Duration patience{};
    bool release = false;
    MemoryHandler on_done;  // to be called by the test, with `hold_memory`
  };

  bool hold_memory = false;
  std::vector<MemoryCall> memory_calls;

  std::optional<Error> adapter_refusal;  // of LoadAdapter and UnloadAdapter

  std::optional<control::RouteExplanation> explanation;  // nothing: it has no router

  // What happened.
  std::vector<wire::GenerateRequest> explained;
  std::vector<wire::LoadAdapterRequest> loads;
  std::vector<wire::GenerateRequest> seen;
  std::vector<wire::CancelRequest> cancels;
  std::uint64_t steps = 0;

  struct Open {
    wire::GenerateRequest request;
    FrameHandler on_frame;
    std::vector<std::uint32_t> position;  // [n]
    std::vector<bool> ended;              // [n]
  };

  std::map<RequestId, Open> open;

  const wire::ModelCard& card() const override { return card_; }

  bool routes() const override { return explanation.has_value(); }

  Result<control::RouteExplanation> ExplainRoute(const wire::GenerateRequest& request) override {
    if (!explanation) {
      return WorkerLink::ExplainRoute(request);
    }
    explained.push_back(request);
    return *explanation;
  }

  wire::ModelCard& mutable_card() { return card_; }

  Result<void> Generate(wire::GenerateRequest request, FrameHandler on_frame) override {
    if (refusal) {
      return pixii::Fail(*refusal);
    }
    bool canary = request.prompt == std::vector<TokenId>{card_.bos_token_id} &&
                  (request.pool || (request.stop.max_tokens == 1 && request.stop.ignore_eos));
    RequestId id = request.id;
    std::uint32_t n = request.choice_count;
    if (!canary) {
      seen.push_back(request);
    }
    open.emplace(id, Open{std::move(request), std::move(on_frame), std::vector<std::uint32_t>(n),
                          std::vector<bool>(n, false)});
    if ((automatic || canary) && !stalled) {
      Tick();
    }
    if (on_generate && !canary) {
      loop_.Post([this] { on_generate(); });
    }
    return {};
  }

  void Cancel(const wire::CancelRequest& cancel) override {
    cancels.push_back(cancel);
    loop_.Post([this, cancel] {
      auto found = open.find(cancel.id);
      if (found == open.end()) {
        return;
      }
      for (std::uint32_t k = 0; k < found->second.ended.size(); ++k) {
        if (!found->second.ended[k] && (!cancel.choice || *cancel.choice == k)) {
          End(cancel.id, k, wire::FinishReason::kCancelled);
          found = open.find(cancel.id);
          if (found == open.end()) {
            return;
          }
        }
      }
    });
  }

  void LoadAdapter(wire::LoadAdapterRequest request, AdapterHandler on_done) override {
    loads.push_back(request);
    loop_.Post([this, request, on_done = std::move(on_done)] {
      if (adapter_refusal) {
        on_done(pixii::Fail(*adapter_refusal));
        return;
      }
      card_.adapters.push_back({.name = request.name,
                                .source = request.source,
                                .version = "v",
                                .id = loads.size(),
                                .pinned = request.pinned});
      on_done(card_.adapters.back());
    });
  }

  void UnloadAdapter(std::string name, AdapterHandler on_done) override {
    loop_.Post([this, name, on_done = std::move(on_done)] {
      auto found = std::ranges::find(card_.adapters, name, &wire::AdapterCard::name);
      if (found == card_.adapters.end()) {
        on_done(pixii::Fail(Code::kNotFound, "no such adapter", "lora_name"));
        return;
      }
      wire::AdapterCard had = *found;
      card_.adapters.erase(found);
      on_done(had);
    });
  }

  void ReleaseMemory(const control::MemoryTags& tags, rt::Duration patience,
                     MemoryHandler on_done) override {
    TakeMemory({.tags = tags, .patience = patience, .release = true, .on_done = on_done});
  }

  void ResumeMemory(const control::MemoryTags& tags, MemoryHandler on_done) override {
    TakeMemory({.tags = tags, .patience = {}, .release = false, .on_done = on_done});
  }

  void ClearCache(control::CacheDepth depth, MemoryHandler on_done) override {
    ++clear_count;
    cleared_depth = depth;
    loop_.Post([on_done] { on_done({}); });
  }

  std::uint32_t clear_count = 0;
  control::CacheDepth cleared_depth = control::CacheDepth::kMemory;
  std::uint32_t blocks_used = 0;

  void TakeMemory(MemoryCall call) {
    memory_calls.push_back(call);
    if (hold_memory) {
      return;
    }
    loop_.Post([this, call] {
      if (!memory_refusal) {
        state = call.release ? control::WorkerState::kAsleep : control::WorkerState::kAwake;
      }
      call.on_done(memory_refusal ? Result<void>(pixii::Fail(*memory_refusal)) : Result<void>());
    });
  }

  control::WorkerLoad load() const override {
    return {.state = state,
            .running = static_cast<std::uint32_t>(open.size()),
            .blocks_used = blocks_used,
            .blocks_total = 64,
            .steps = steps};
  }

  void Emit(RequestId id, std::uint32_t choice, std::string_view bytes) {
    wire::TokenFrame frame;
    for (char c : bytes) {
      frame.tokens.push_back(static_cast<unsigned char>(c));
    }
    Send(id, choice, std::move(frame));
  }

  /// Gives a text's result: its size, its last token, its size, …
  void Pool(RequestId id) {
    const wire::GenerateRequest& request = open.at(id).request;
    std::size_t count = request.pool->logit_tokens.empty() ? card_.feature_count
                                                           : request.pool->logit_tokens.size();
    wire::TokenFrame frame;
    for (std::size_t i = 0; i < count; ++i) {
      frame.pooled.push_back(i % 2 == 0 ? static_cast<float>(request.prompt.size())
                                        : static_cast<float>(request.prompt.back()));
    }
    frame.finish = wire::FinishReason::kStop;
    Send(id, 0, std::move(frame));
  }

  void End(RequestId id, std::uint32_t choice, wire::FinishReason reason,
           std::optional<Error> error = {}) {
    wire::TokenFrame frame;
    frame.finish = reason;
    frame.error = std::move(error);
    if (reason == wire::FinishReason::kStop) {
      frame.stop_token = 257;
    }
    Send(id, choice, std::move(frame));
  }

  void Send(RequestId id, std::uint32_t choice, wire::TokenFrame frame) {
    auto found = open.find(id);
    if (found == open.end() || found->second.ended[choice]) {
      return;
    }
    frame.id = id;
    frame.choice = choice;
    if (found->second.position[choice] == 0) {
      frame.cached_tokens = cached_tokens;
    }
    const wire::GenerateRequest& request = found->second.request;
    for (std::size_t i = 0; request.top_logprobs >= 0 && i < frame.tokens.size(); ++i) {
      wire::TokenLogprob logprob{-0.25F, {}};
      for (std::int32_t k = 0; k < request.top_logprobs; ++k) {
        logprob.top.emplace_back(frame.tokens[i], -0.25F - static_cast<float>(k));
      }
      frame.logprobs.push_back(std::move(logprob));
    }
    if (request.prompt_logprobs && choice == 0 && found->second.position[0] == 0) {
      frame.prompt_logprobs.assign(request.prompt.size(), {-1.0F, {}});
    }
    found->second.position[choice] += static_cast<std::uint32_t>(frame.tokens.size());
    FrameHandler handler = found->second.on_frame;
    if (frame.finish) {
      found->second.ended[choice] = true;
      if (std::find(found->second.ended.begin(), found->second.ended.end(), false) ==
          found->second.ended.end()) {
        open.erase(found);
      }
    }
    handler(std::move(frame));
  }

 private:
  void Tick() {
    if (ticking_) {
      return;
    }
    ticking_ = true;
    loop_.Post([this] { Step(); });
  }

  void Step() {
    ticking_ = false;
    ++steps;
    std::vector<std::pair<RequestId, std::uint32_t>> work;
    for (const auto& [id, entry] : open) {
      for (std::uint32_t k = 0; k < entry.ended.size(); ++k) {
        if (!entry.ended[k]) {
          work.emplace_back(id, k);
        }
      }
    }
    for (const auto& [id, choice] : work) {
      Advance(id, choice);
    }
    if (!open.empty() && !stalled) {
      Tick();
    }
  }

  void Advance(RequestId id, std::uint32_t choice) {
    auto found = open.find(id);
    if (found == open.end() || found->second.ended[choice]) {
      return;
    }
    const wire::StopConditions& stop = found->second.request.stop;
    std::uint32_t at = found->second.position[choice];
    if (fault && at >= fault_after) {
      End(id, choice, wire::FinishReason::kError, fault);
      return;
    }
    if (found->second.request.pool) {
      Pool(id);
      return;
    }
    std::string bytes;
    while (bytes.size() < tokens_per_turn && at + bytes.size() < stop.max_tokens) {
      std::size_t next = at + bytes.size();
      if (next >= reply.size() && !stop.ignore_eos) {
        break;
      }
      bytes += reply[next % reply.size()];
    }
    if (!bytes.empty()) {
      Emit(id, choice, bytes);
      return;
    }
    End(id, choice,
        at >= stop.max_tokens ? wire::FinishReason::kLength : wire::FinishReason::kStop);
  }

  rt::Loop& loop_;
  wire::ModelCard card_;
  bool ticking_ = false;
};

}  // namespace pixii::frontend::testing
