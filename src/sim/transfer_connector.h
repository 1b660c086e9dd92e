// KV blocks that come from another worker in the time that a link takes, in virtual time: what a
// hand-over costs, without its bytes.
//
// Thread: one; no clock but Poll's.
// Left out: what goes over the link while the prompt is still computed, failures, and that the
// other worker keeps the blocks meanwhile.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kv/connector.h"
#include "rt/time.h"

namespace pixii::sim {

struct TransferModel {
  double bytes_per_second = 12.5e9;         // into one worker, of all its transfers together; > 0
  std::uint64_t token_bytes = 128U << 10U;  // KV of a token: 32 layers, 8 heads of 128, bf16
  rt::Duration latency = std::chrono::milliseconds(1);  // before the first byte
};

class TransferConnector final : public kv::Connector {
 public:
  TransferConnector(const TransferModel& model, std::uint32_t block_tokens)
      : model_(model), block_bytes_(model.token_bytes * block_tokens) {}

  void Start(rt::Function<void()> /*wake*/) override {}

  /// Whoever says where its blocks are gets all of them.
  std::uint32_t Match(const kv::ConnectorRequestRef& request, std::uint32_t first) override;
  void Load(kv::LoadId id, const kv::ConnectorRequestRef& request, std::uint32_t first,
            std::span<const kv::BlockMemory> targets) override;
  void Cancel(kv::LoadId id) override;

  void Published(std::vector<kv::PublishedBlock> /*blocks*/) override {}

  void Distrust(std::span<const Hash128> /*hashes*/) override {}

  void Finished(const kv::ConnectorRequestRef& /*request*/,
                std::vector<kv::BlockPin> /*pins*/) override {}

  rt::Time Poll(rt::Time now, std::vector<kv::LoadEnd>& ended) override;

  bool idle() const override { return loads_.empty(); }

 private:
  struct Transfer {
    kv::LoadId id{};
    std::uint32_t blocks = 0;
    rt::Time end{};
  };

  TransferModel model_;
  std::uint64_t block_bytes_;
  rt::Time now_{};
  rt::Time free_at_{};  // the link
  std::vector<Transfer> loads_;
};

}  // namespace pixii::sim
