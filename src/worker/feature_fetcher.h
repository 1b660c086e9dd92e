// Fetches features that another worker's tower made, and proves them.
//
// Thread: one loop; its agent moves bytes on threads of its own. docs/formats/features.md
// The same features are fetched once, however many requests want them at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/hash.h"
#include "base/result.h"
#include "engine/media_encoder.h"
#include "rt/loop.h"
#include "transport/agent.h"
#include "transport/peer_book.h"
#include "worker/feature_record.h"

namespace pixii::worker {

/// Makes an agent; `wake` may be called on any thread.
using FeatureAgentMaker =
    std::function<Result<std::shared_ptr<transport::Agent>>(rt::Function<void()> wake)>;

struct FeatureFetcherOptions {
  FeatureTerms own;
  std::uint32_t row_levels = 0;  // of a row, as wire::VisionCard
  std::string key;               // the cluster's secret
  rt::Duration timeout = std::chrono::seconds(60);
};

/// Since the start.
struct FetcherCounters {
  std::uint64_t fetched = 0;
  std::uint64_t bytes = 0;    // of these
  std::uint64_t refused = 0;  // records that are of no use here
  std::uint64_t failed = 0;   // transfers
  std::uint64_t corrupt = 0;  // that brought other bytes than the record's
};

class FeatureFetcher final {
 public:
  /// Errors: those of the maker. `loop` outlives it.
  static Result<std::unique_ptr<FeatureFetcher>> Create(rt::Loop& loop,
                                                        FeatureFetcherOptions options,
                                                        const FeatureAgentMaker& make_agent);

  FeatureFetcher(const FeatureFetcher&) = delete;
  FeatureFetcher& operator=(const FeatureFetcher&) = delete;
  /// No handler is called any more.
  ~FeatureFetcher();

  using Features = std::shared_ptr<const model::VisionFeatures>;
  using Handler = std::function<void(const Result<Features>&)>;

  /// Those of `item`, where its `encoded` says; `on_end` is called once, on the loop and not inside
  /// this call, unless it is cancelled. Returns what Cancel takes.
  std::uint64_t Fetch(const wire::MediaItem& item, Handler on_end);
  void Cancel(std::uint64_t ticket);

  const FetcherCounters& counters() const { return counters_; }

  /// Fetches under way.
  std::size_t running() const { return running_.size(); }

  const transport::Agent& agent() const { return *agent_; }

 private:
  /// One transfer; equal items share it.
  struct Running {
    wire::FeatureRecord record;
    std::vector<float> floats;
    transport::PeerId peer{};
    transport::RegionKey region{};
    transport::TransferId transfer{};
    std::map<std::uint64_t, Handler> waiting;  // by ticket; empty: its end is waited for alone
  };

  FeatureFetcher(rt::Loop& loop, FeatureFetcherOptions options)
      : loop_(loop), options_(std::move(options)), key_(options_.key) {}

  Result<void> Begin(const wire::MediaItem& item, std::uint64_t ticket, Handler on_end);
  Result<void> Post(Running& running);
  void OnAgent();
  Result<Features> Take(Running& running, const transport::TransferStatus& status);
  void Drop(Running running);

  rt::Loop& loop_;
  FeatureFetcherOptions options_;
  HashKey key_;
  FetcherCounters counters_;
  std::uint64_t last_ticket_ = 0;
  std::map<std::string, Running> running_;  // by digest
  std::vector<Running> stopped_;            // cancelled, or whose memory the agent still has
  std::atomic<bool> woken_{false};
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // on the loop alone
  std::shared_ptr<transport::Agent> agent_;
  std::optional<transport::PeerBook> peers_;
};

}  // namespace pixii::worker
