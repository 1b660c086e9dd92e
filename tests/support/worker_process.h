// What a process that is a worker has, on a simulated node: a mock engine, its link, its service.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "engine/mock_executor.h"
#include "kv/handover_connector.h"
#include "rt/sim_world.h"
#include "transport/memory_transport.h"
#include "transport/transfer_agent.h"
#include "worker/handover_keeper.h"
#include "worker/handover_link.h"
#include "worker/local_link.h"
#include "worker/worker_service.h"

namespace pixii::testing {

inline constexpr std::uint32_t kMockVocab = 64;
inline constexpr std::uint32_t kMockContext = 4096;

inline engine::EngineOptions MockEngineOptions() {
  return {.batch_sequences_max = 8, .batch_tokens_max = 32, .queue_length_max = 64};
}

inline std::unique_ptr<engine::Engine> MakeMockEngine(
    const engine::EngineOptions& options = MockEngineOptions(),
    std::unique_ptr<kv::Connector> connector = nullptr) {
  auto executor = std::make_unique<engine::MockExecutor>(
      engine::MockOptions{.limits = {.vocab_size = kMockVocab,
                                     .context_tokens_max = kMockContext,
                                     .block_tokens = 4,
                                     .block_count = 4096,
                                     .step_tokens_max = 64,
                                     .step_logit_rows_max = 64},
                          .timing = {.step_ns = 1'000'000},
                          .faults = {}});
  return std::move(*engine::Engine::Create(options, std::move(executor), nullptr, nullptr,
                                           std::move(connector)));
}

/// How workers that hand over reach one another; null: they do not.
struct HandoverWorld {
  transport::MemoryExchange* exchange = nullptr;
  rt::Duration timeout = std::chrono::seconds(60);
  bool pipelined = false;
};

inline std::unique_ptr<kv::HandoverConnector> MakeHandover(rt::SimNode& node,
                                                           const HandoverWorld& world) {
  kv::HandoverOptions options;
  options.key = "the key of a test's cluster";
  options.geometry = {.block_count = 4096,
                      .block_tokens = 4,
                      .block_size_bytes = MakeMockEngine()->executor().block_bytes(0).size(),
                      .slices = {},
                      .model_fingerprint = {},
                      .numerics_id = {},
                      .kv_dtype = "mock"};
  options.timeout = world.timeout;
  options.chunk_tokens = 8;
  options.pipelined = world.pipelined;
  options.loop = &node.loop();
  return std::move(*kv::HandoverConnector::Create(
      std::move(options),
      [&](rt::Loop& loop, rt::Function<void()> wake) -> Result<std::shared_ptr<transport::Agent>> {
        transport::AgentOptions agent;
        agent.wake = std::move(wake);
        std::vector<transport::TransportFactory> factories;
        factories.push_back(world.exchange->factory());
        PX_TRY(auto made,
               transport::TransferAgent::Create(loop, std::move(agent), std::move(factories)));
        return std::shared_ptr<transport::Agent>(std::move(made));
      }));
}

struct WorkerProcess {
  static constexpr std::uint16_t kPort = 7000;

  explicit WorkerProcess(rt::SimNode& node_in, worker::WorkerServiceOptions options = {},
                         const engine::EngineOptions& engine_options = MockEngineOptions(),
                         const HandoverWorld& handover_world = {})
      : node(node_in),
        made(handover_world.exchange != nullptr ? MakeHandover(node, handover_world) : nullptr),
        handover(made.get()),
        engine(node.loop(), MakeMockEngine(engine_options, std::move(made))),
        link(node.loop(), engine, {.name = "mock", .eos_token_ids = {}}),
        service(node.loop(), node.net(), Served(), std::move(options)) {
    EXPECT_TRUE(service.Start({.host = "0.0.0.0", .port = kPort}));
  }

  control::WorkerLink& Served() {
    if (handover == nullptr) {
      return link;
    }
    keeper.emplace(node.loop(), *handover);
    handover_link.emplace(node.loop(), link, *keeper);
    return *handover_link;
  }

  rt::SimNode& node;
  std::unique_ptr<kv::HandoverConnector> made;  // until the engine has it
  kv::HandoverConnector* handover;              // null: it hands nothing over
  engine::EngineLoop engine;
  worker::LocalLink link;
  std::optional<worker::ConnectorKeeper> keeper;
  std::optional<worker::HandoverLink> handover_link;
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
