// Workers that compute prompts, and workers that look at pictures for them: each picture of a
// request is encoded at one of the latter before the former get the request.
//
// Thread: one loop. docs/multimodal.md
// The worker that encoded keeps what it made until the answer goes on behind its first tokens: the
// stream of what it was asked stands for that.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "control/forwarding_link.h"
#include "frontend/fleet/encode_flight.h"
#include "frontend/fleet/encode_placement.h"
#include "frontend/fleet/fleet_link.h"
#include "obs/log.h"
#include "rt/loop.h"

namespace pixii::frontend {

/// Pictures of requests, by what became of them.
struct EncodeCounters {
  std::uint64_t encoded = 0;    // by a worker that encodes
  std::uint64_t no_worker = 0;  // there was none
  std::uint64_t missed = 0;     // none did: who computes the prompt was to
};

class EncodeLink final : public control::ForwardingLink {
 public:
  /// `next` computes prompts. `log` may be null. All outlive it.
  EncodeLink(rt::Loop& loop, FleetLink& encode, control::WorkerLink& next, obs::Log* log)
      : ForwardingLink(next), loop_(loop), encode_(encode), log_(log) {}

  EncodeLink(const EncodeLink&) = delete;
  EncodeLink& operator=(const EncodeLink&) = delete;
  /// No handler is called any more; what runs ends with the fleets.
  ~EncodeLink() override;

  Result<void> Generate(wire::GenerateRequest request, FrameHandler on_frame) override;
  void Cancel(const wire::CancelRequest& cancel) override;

  bool routes() const override { return link_.routes(); }

  Result<control::RouteExplanation> ExplainRoute(const wire::GenerateRequest& request) override {
    return link_.ExplainRoute(request);
  }

  Result<void> SetBusyThresholds(const control::BusyThresholds& thresholds) override {
    return link_.SetBusyThresholds(thresholds);
  }

  control::BusyThresholds busy_thresholds() const override { return link_.busy_thresholds(); }

  const EncodeCounters& counters() const { return counters_; }

  /// Requests with pictures that wait to be encoded, or are kept until a first token.
  std::size_t outstanding_count() const { return entries_.size(); }

 private:
  /// A picture that a worker was asked about.
  struct Stream {
    RequestId id{};                         // as the fleet knows it
    std::optional<control::InstanceId> at;  // where it is waited for; nothing: no more
    bool open = false;
  };

  struct Entry {
    Entry(wire::GenerateRequest request, FrameHandler on_frame_in)
        : id(request.id), flight(std::move(request)), on_frame(std::move(on_frame_in)) {}

    RequestId id;
    EncodeFlight flight;
    FrameHandler on_frame;
    std::vector<Stream> streams;  // [picture]
    bool forwarded = false;
    std::uint32_t live_choices = 0;
    std::uint32_t first_frames = 0;  // with tokens, that may come before the prompt is done with
    std::uint32_t token_frames = 0;
    rt::Time begun{};
  };

  using EntryPtr = std::shared_ptr<Entry>;

  std::vector<EncodeCandidate> Candidates() const;
  void Ask(const EntryPtr& entry, std::size_t picture);
  void OnAnswer(const EntryPtr& entry, std::size_t picture, const wire::TokenFrame& frame);
  void Go(const EntryPtr& entry, EncodeFlight::Next next);
  void Forward(const EntryPtr& entry);
  void OnFrame(const EntryPtr& entry, wire::TokenFrame frame);
  void EndAll(const EntryPtr& entry, wire::FinishReason finish, const std::optional<Error>& error);
  bool Release(const EntryPtr& entry);
  void NoWait(Stream& stream);

  rt::Loop& loop_;
  FleetLink& encode_;
  control::WorkerLink& link_ = link();
  obs::Log* log_;
  EncodeCounters counters_;
  std::unordered_map<RequestId, EntryPtr> entries_;          // by the caller's id
  std::map<control::InstanceId, std::uint32_t> waiting_at_;  // pictures asked for and not there yet
  std::uint64_t last_stream_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // on the loop alone
};

}  // namespace pixii::frontend
