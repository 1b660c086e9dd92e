// KV blocks that another worker computed: kept for it on one side, fetched on the other.
//
// Thread: a Connector's; Watch and Forget may be called on any thread. Bytes move on a thread of
// its own. docs/kv_transfer.md
// A prefill worker keeps the pins of a prompt's blocks until whoever has the record has read them,
// or the lease ends, and lets peers read them as long. A decode worker believes a record only if
// it was made under the cluster's key, for its own model and numerics, and names the chain that it
// has computed from the tokens itself; and a block only if its bytes have the sum that stands
// there.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "kv/connector.h"
#include "kv/handover.h"
#include "kv/handover_layout.h"
#include "kv/handover_record.h"
#include "obs/log.h"
#include "rt/loop.h"
#include "rt/thread.h"
#include "transport/agent.h"

namespace pixii::kv {

/// Makes an agent that lives on `loop`, before that runs; it is destroyed after that has ended.
/// `wake` may be called on any thread.
using AgentMaker = std::function<Result<std::shared_ptr<transport::Agent>>(
    rt::Loop& loop, rt::Function<void()> wake)>;

struct HandoverOptions {
  std::string key;  // the cluster's secret
  BlockGeometry geometry;
  rt::Duration timeout = std::chrono::seconds(60);  // of a lease, and of a load
  std::uint32_t chunk_tokens = 0;                   // of one transfer; 0: 64 blocks
  std::uint32_t offers_max = 65'536;
  /// Blocks are offered as they become whole, while the rest of their prompt is computed.
  bool pipelined = false;
  obs::Log* log = nullptr;
  rt::Loop* loop = nullptr;  // where bytes move, with the engine's loop; null: a thread of its own
};

/// What became of hand-overs so far. Any thread may read.
struct HandoverCounters {
  using Ends = std::array<std::atomic<std::uint64_t>, kHandoverStateCount>;

  std::atomic<std::uint64_t> offers{0};          // that are kept now
  std::atomic<std::uint64_t> offered_blocks{0};  // pinned for them now
  std::atomic<std::uint64_t> early_offers{0};    // before their prompt was computed
  Ends offer_ends = {};                          // [state]
  Ends load_ends = {};                           // likewise
  std::atomic<std::uint64_t> loads_running{0};
  std::atomic<std::uint64_t> chunks_running{0};  // credits that loads hold
  std::atomic<std::uint64_t> staging_bytes{0};   // of blocks on their way that are not as ours
  std::atomic<std::uint64_t> chunks{0};
  std::atomic<std::uint64_t> loaded_bytes{0};
  std::atomic<std::uint64_t> early_blocks{0};     // that came before their prompt was computed
  std::atomic<std::uint64_t> corrupt_blocks{0};   // whose bytes were not those handed over
  std::atomic<std::uint64_t> refused_records{0};  // of another key, model, layout, chain
};

/// One load that ended well.
struct HandoverSample {
  std::uint64_t bytes = 0;
  rt::Duration took{};
};

class HandoverConnector final : public Connector {
 public:
  /// Errors: those of the maker.
  static Result<std::unique_ptr<HandoverConnector>> Create(HandoverOptions options,
                                                           const AgentMaker& make_agent);

  HandoverConnector(const HandoverConnector&) = delete;
  HandoverConnector& operator=(const HandoverConnector&) = delete;
  ~HandoverConnector() override;

  /// What is kept of a request that has ended. With the record: it is kept until the other call,
  /// without one, which says that nothing is (any more).
  using News = std::function<void(std::optional<std::string> record)>;

  /// A record of a request's first blocks: more come while it is computed.
  using EarlyNews = std::function<void(std::string record)>;

  /// Calls `news` on its own thread, at most once: when blocks of the request are offered before
  /// it has ended.
  void WatchEarly(RequestId request, EarlyNews news);

  /// Calls `news` on its own thread, at once if nothing is kept. The request has ended.
  void Watch(RequestId request, News news);

  /// Nobody goes on with the request: what is kept of it need not be.
  void Forget(RequestId request);

  const HandoverCounters& counters() const { return *counters_; }

  /// Loads that ended since the last call, at most 1024. Any thread.
  std::vector<HandoverSample> TakeSamples();

  /// What moved bytes so far, and whom it reaches. Any thread.
  transport::AgentCounters transfers() const;
  std::vector<transport::PeerInfo> peers() const;

  /// What loads go over, for logs and metrics: "shm", "tcp"; empty: none went yet. Any thread.
  std::string transport() const;

  // Connector
  void Start(rt::Function<void()> wake) override;
  std::uint32_t Match(const ConnectorRequestRef& request, std::uint32_t first) override;
  void Load(LoadId id, const ConnectorRequestRef& request, std::uint32_t first,
            std::span<const BlockMemory> targets) override;
  void Cancel(LoadId id) override;
  void Published(std::vector<PublishedBlock> blocks) override;
  void Progress(const ConnectorRequestRef& request, std::uint32_t first,
                std::vector<BlockPin> pins) override;
  void Distrust(std::span<const Hash128> hashes) override;
  void Finished(const ConnectorRequestRef& request, std::vector<BlockPin> pins) override;
  rt::Time Poll(rt::Time now, std::vector<LoadEnd>& ended) override;
  bool idle() const override;

 private:
  class Mover;

  /// What a request brought of a record, read once.
  struct Brought {
    std::shared_ptr<const wire::HandoverRecord> record;  // null: it is of no use
    std::shared_ptr<const HandoverLayout> layout;        // null: their blocks are as ours
    std::uint32_t block_count = 0;
  };

  explicit HandoverConnector(HandoverOptions options);

  Brought ReadRecord(const ConnectorRequest& request) const;
  std::uint32_t UsableBlocks(const wire::HandoverRecord& record, const HandoverLayout* layout,
                             const BlockChain& chain) const;

  HandoverOptions options_;
  HashKey key_;
  std::shared_ptr<HandoverCounters> counters_;
  std::unordered_map<RequestId, Brought> brought_;                 // of requests not ended
  std::unordered_map<std::uint64_t, std::vector<BlockPin>> kept_;  // by offer
  std::unordered_map<RequestId, std::uint64_t> growing_;           // offers of what is computed
  std::uint64_t last_offer_ = 0;
  std::uint64_t loads_ = 0;      // that run
  std::byte* memory_ = nullptr;  // of the cache, as blocks said last
  std::unique_ptr<Mover> mover_;
};

}  // namespace pixii::kv
