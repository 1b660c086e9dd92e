// A tower alone as a worker: it looks at the pictures that other workers are asked about, and keeps
// what it saw until those have it.
//
// Thread: one loop; the tower computes on a thread of its own. docs/multimodal.md
// A request that is encode_only gets the record of its picture's features in a frame, and then
// stands for them: whoever cancels it, or dies, keeps nothing here. Equal pictures are looked at
// once, however many ask at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "control/worker_link.h"
#include "engine/media_encoder.h"
#include "rt/loop.h"
#include "rt/work_pool.h"
#include "worker/feature_store.h"

namespace pixii::worker {

struct EncoderLinkOptions {
  wire::ModelCard card;
  std::uint32_t requests_max = 1024;              // that wait or are kept for somebody
  rt::Duration lease = std::chrono::seconds(60);  // how long features are kept for who asked
};

/// Since the start.
struct EncoderCounters {
  std::uint64_t encoded = 0;     // pictures that the tower looked at
  std::uint64_t cache_hits = 0;  // that it need not have
  std::uint64_t failed = 0;      // requests that ended with an error
  std::uint64_t cancelled = 0;   // before their features were there
  std::uint64_t expired = 0;     // leases
};

class EncoderLink final : public control::WorkerLink {
 public:
  /// `loop` outlives it.
  EncoderLink(rt::Loop& loop, EncoderLinkOptions options,
              std::unique_ptr<engine::MediaEncoder> encoder, std::unique_ptr<FeatureStore> store);

  EncoderLink(const EncoderLink&) = delete;
  EncoderLink& operator=(const EncoderLink&) = delete;
  /// Waits for the picture at hand; no handler is called any more.
  ~EncoderLink() override;

  const wire::ModelCard& card() const override { return options_.card; }

  /// Of a request that is not encode_only none but one for a single token is taken: it asks
  /// whether the tower's thread lives.
  Result<void> Generate(wire::GenerateRequest request, FrameHandler on_frame) override;
  void Cancel(const wire::CancelRequest& cancel) override;
  void ClearCache(control::CacheDepth depth, MemoryHandler on_done) override;
  control::WorkerLoad load() const override;

  /// Ends all that runs with `error`, now; Generate answers it from now on.
  void Close(const Error& error);

  std::size_t outstanding_count() const { return requests_.size(); }

  const EncoderCounters& counters() const { return counters_; }

  const FeatureStore& store() const { return *store_; }

 private:
  /// What somebody waits for, or has.
  struct Request {
    FrameHandler on_frame;
    std::string digest;                                  // as it says
    std::shared_ptr<const wire::GenerateRequest> asked;  // null: it is kept
    bool kept = false;  // it has its record: the store's pin is its own
    rt::TimerId timer = rt::TimerId::kNone;
  };

  /// A picture that the tower looks at, or will.
  struct Job {
    std::vector<RequestId> waiting;  // the first one's pixels are looked at
    std::shared_ptr<std::atomic<bool>> abandoned;
  };

  struct Made;

  void Probe(RequestId id, FrameHandler on_frame);
  void Start(RequestId id);
  bool Keep(RequestId id);
  void Begin(const std::string& digest);
  void OnMade(const std::string& digest, const Made& made);
  void Leave(RequestId id);
  template <class Fn>
  void Later(Fn fn);
  void SetDeadline(RequestId id, rt::Duration in);
  void OnDeadline(RequestId id);
  void End(RequestId id, wire::FinishReason finish, std::optional<Error> error);

  rt::Loop& loop_;
  EncoderLinkOptions options_;
  std::unique_ptr<engine::MediaEncoder> encoder_;
  std::unique_ptr<FeatureStore> store_;
  std::unordered_map<RequestId, Request> requests_;
  std::map<std::string, Job> jobs_;  // by digest
  std::optional<Error> closed_;
  EncoderCounters counters_;
  std::uint64_t steps_ = 0;                                     // of the tower's thread
  std::uint32_t probes_ = 0;                                    // that wait for it
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // on the loop alone
  rt::WorkPool tower_;                                          // last: it uses the encoder
};

}  // namespace pixii::worker
