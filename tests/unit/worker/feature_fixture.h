// A loop, and agents that reach each other, for tests of features that move between workers.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rt/loop.h"
#include "transport/agent_thread.h"
#include "transport/cluster_key.h"
#include "transport/shm_transport.h"
#include "transport/tcp_transport.h"
#include "wire/messages/generate.h"
#include "worker/feature_fetcher.h"
#include "worker/feature_store.h"

namespace pixii::worker::testing {

inline constexpr const char* kSecret = "a secret of at least sixteen bytes";

/// A picture of `count` pixels in a row, at the beginning of the request's prompt.
inline wire::GenerateRequest ShowPicture(std::uint64_t id, std::uint32_t count, char colour) {
  wire::GenerateRequest request;
  request.id = RequestId{id};
  request.stop.max_tokens = 1;
  wire::MediaItem& item = request.media.emplace_back();
  item.count = count;
  item.height = 1;
  item.width = count;
  item.pixels.assign(3 * std::size_t{count}, colour);
  item.digest = wire::MediaDigest(item);
  request.prompt.resize(count);
  wire::PutMediaTokens(request.media, request.prompt);
  return request;
}

/// Rows of two values, and as many of each level.
inline model::VisionFeatures MakeFeatures(std::int32_t rows, std::int32_t levels = 0) {
  model::VisionFeatures out{.rows = rows, .size = 2, .levels = levels};
  for (std::int32_t row = 0; row < rows; ++row) {
    out.rows_data.insert(out.rows_data.end(), {static_cast<float>(row), 0.5F});
    for (std::int32_t level = 0; level < levels; ++level) {
      out.layers_data.insert(out.layers_data.end(),
                             {static_cast<float>(-row), 7.0F + static_cast<float>(level)});
    }
  }
  return out;
}

class FeatureFixture : public ::testing::Test {
 protected:
  static FeatureTerms Terms(std::int32_t levels = 0) {
    return {.model_fingerprint = "weights",
            .numerics_id = "bits",
            .row_size = 2 * (1 + static_cast<std::uint32_t>(levels))};
  }

  static std::shared_ptr<transport::Agent> MakeAgent(std::string_view transport,
                                                     rt::Function<void()> wake) {
    const transport::ClusterKey key = *transport::ClusterKey::FromSecret(kSecret);
    transport::AgentOptions options;
    options.wake = std::move(wake);
    Result<std::unique_ptr<transport::AgentThread>> started =
        transport::AgentThread::Start(std::move(options), [&](rt::Loop& /*loop*/, rt::Net& net) {
          std::vector<transport::TransportFactory> out;
          out.push_back(transport == "shm" ? transport::MakeShmTransport(net, key, {})
                                           : transport::MakeTcpTransport(net, key, {}));
          return out;
        });
    EXPECT_TRUE(started) << started.error().ToString();
    const std::shared_ptr<transport::AgentThread> thread = std::move(*started);
    return {thread, &thread->agent()};
  }

  std::unique_ptr<FeatureStore> MakeStore(std::string_view transport = "tcp",
                                          std::uint64_t bytes_max = 1 << 20,
                                          std::int32_t levels = 0) {
    return std::make_unique<FeatureStore>(FeatureStoreOptions{.own = Terms(levels),
                                                              .key = kSecret,
                                                              .bytes_max = bytes_max,
                                                              .shares_memory = transport == "shm"},
                                          MakeAgent(transport, [] {}));
  }

  std::unique_ptr<FeatureFetcher> MakeFetcher(std::string_view transport = "tcp",
                                              std::int32_t levels = 0) {
    Result<std::unique_ptr<FeatureFetcher>> made = FeatureFetcher::Create(
        *loop_,
        {.own = Terms(levels),
         .row_levels = static_cast<std::uint32_t>(levels),
         .key = kSecret,
         .timeout = std::chrono::seconds(20)},
        [&](rt::Function<void()> wake) -> Result<std::shared_ptr<transport::Agent>> {
          return MakeAgent(transport, std::move(wake));
        });
    EXPECT_TRUE(made) << made.error().ToString();
    return std::move(*made);
  }

  /// Turns the loop until it holds.
  void RunUntil(const std::function<bool()>& holds) {
    const rt::Time end = loop_->Now() + std::chrono::seconds(30);
    std::function<void()> look = [&] {
      if (holds() || loop_->Now() >= end) {
        loop_->Stop();
      } else {
        loop_->RunAt(loop_->Now() + std::chrono::milliseconds(1), [&] { look(); });
      }
    };
    loop_->Post([&] { look(); });
    loop_->Run();
    EXPECT_TRUE(holds());
  }

  std::unique_ptr<rt::Loop> loop_ = *rt::MakeLoop();
};

}  // namespace pixii::worker::testing
