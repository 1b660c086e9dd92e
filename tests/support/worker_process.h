// What a process that is a worker has, on a simulated node: a mock engine, its link, its service.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <utility>

#include "engine/mock_executor.h"
#include "rt/sim_world.h"
#include "worker/local_link.h"
#include "worker/worker_service.h"

namespace pixii::testing {

inline constexpr std::uint32_t kMockVocab = 64;
inline constexpr std::uint32_t kMockContext = 4096;

inline engine::EngineOptions MockEngineOptions() {
  return {.batch_sequences_max = 8, .batch_tokens_max = 32, .queue_length_max = 64};
}

inline std::unique_ptr<engine::Engine> MakeMockEngine(
    const engine::EngineOptions& options = MockEngineOptions()) {
  auto executor = std::make_unique<engine::MockExecutor>(
      engine::MockOptions{.limits = {.vocab_size = kMockVocab,
                                     .context_tokens_max = kMockContext,
                                     .block_tokens = 4,
                                     .block_count = 4096,
                                     .step_tokens_max = 64,
                                     .step_logit_rows_max = 64},
                          .timing = {.step_ns = 1'000'000},
                          .faults = {}});
  return std::move(*engine::Engine::Create(options, std::move(executor)));
}

struct WorkerProcess {
  static constexpr std::uint16_t kPort = 7000;

  explicit WorkerProcess(rt::SimNode& node_in, worker::WorkerServiceOptions options = {},
                         const engine::EngineOptions& engine_options = MockEngineOptions())
      : node(node_in),
        engine(node.loop(), MakeMockEngine(engine_options)),
        link(node.loop(), engine, {.name = "mock", .eos_token_ids = {}}),
        service(node.loop(), node.net(), link, std::move(options)) {
    EXPECT_TRUE(service.Start({.host = "0.0.0.0", .port = kPort}));
  }

  rt::SimNode& node;
  engine::EngineLoop engine;
  worker::LocalLink link;
  worker::WorkerService service;
};

/// A prompt of its own for each id.
inline wire::GenerateRequest MakeMockRequest(std::uint64_t id, std::uint32_t max_tokens,
                                             std::uint32_t choices = 1) {
  wire::GenerateRequest request;
  request.id = RequestId{id};
  request.prompt = {static_cast<TokenId>(id % kMockVocab), 1, 2, 3, 4, 5};
  request.choice_count = choices;
  request.sampling.seed = id;
  request.stop.max_tokens = max_tokens;
  return request;
}

}  // namespace pixii::testing
