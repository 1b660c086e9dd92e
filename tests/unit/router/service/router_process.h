// What a router's process has, on a simulated node, and workers without sockets.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "router/service/pool.h"
#include "router/service/replica_mesh.h"
#include "router/service/route_service.h"
#include "rt/sim_world.h"

namespace pixii::router {

inline const wire::PoolName kPool{.model = "m", .group = "default", .block_tokens = 4};
inline constexpr std::uint16_t kRouterPort = 7100;

inline control::Instance MakeWorker(std::uint64_t id) {
  control::Instance out;
  out.id = InstanceId{id};
  out.card.name = "m";
  out.card.block_tokens = 4;
  out.card.block_count = 1000;
  out.card.batch_tokens_max = 100;
  return out;
}

inline RouteRequest MakeRequest(std::uint64_t id) {
  RouteRequest out;
  out.id = RequestId{id};
  out.tokens = {static_cast<TokenId>(id), 2, 3, 4, 5, 6, 7, 8, 9};
  return out;
}

inline RouterOptions KvOptions() {
  RouterOptions out;
  out.mode = RouterMode::kKv;
  return out;
}

struct RouterProcess {
  explicit RouterProcess(rt::SimNode& node_in, RouterOptions options = KvOptions(),
                         std::uint64_t id = 1)
      : node(node_in),
        mesh(node.loop(), node.net(),
             {.self = InstanceId{id},
              .sync = {.peer_expiry = options.active_request_expiry},
              .client = {}}),
        pools(node.loop(), std::move(options), &mesh),
        service(node.loop(), node.net(), &pools, &mesh, {}) {
    EXPECT_TRUE(service.Start({.host = "0.0.0.0", .port = kRouterPort}));
    pool = *pools.Get(kPool);
  }

  void AddWorkers(std::uint64_t count) {
    for (std::uint64_t id = 1; id <= count; ++id) {
      pool->router().SetWorker(MakeWorker(id));
    }
    pool->Pump();
  }

  std::vector<RankLoad> Loads() {
    std::vector<RankLoad> out;
    for (const RankLoadRow& row : pool->router().Loads()) {
      out.push_back(row.load);
    }
    return out;
  }

  std::uint32_t RequestCount() {
    std::uint32_t out = 0;
    for (const RankLoad& load : Loads()) {
      out += load.requests;
    }
    return out;
  }

  rt::SimNode& node;
  ReplicaMesh mesh;
  PoolBook pools;
  RouteService service;
  Pool* pool = nullptr;
};

}  // namespace pixii::router
