// Prefill workers and decode workers as one: prompts are computed at the former, answers go on at
// the latter.
//
// Thread: one loop. docs/kv_transfer.md
// Each of the two is a fleet of its own: a worker that dies is replaced there, within its leg.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "base/result.h"
#include "control/forwarding_link.h"
#include "frontend/fleet/fleet_link.h"
#include "frontend/fleet/handover_flight.h"
#include "frontend/fleet/prefill_path.h"
#include "obs/log.h"
#include "rt/loop.h"

namespace pixii::frontend {

class PrefillLink final : public control::ForwardingLink {
 public:
  /// `log` may be null. All outlive it.
  PrefillLink(rt::Loop& loop, FleetLink& prefill, FleetLink& decode, PrefillOptions options,
              obs::Log* log);

  PrefillLink(const PrefillLink&) = delete;
  PrefillLink& operator=(const PrefillLink&) = delete;
  /// No handler is called any more; what runs in two legs ends with the fleets.
  ~PrefillLink() override;

  Result<void> Generate(wire::GenerateRequest request, FrameHandler on_frame) override;
  void Cancel(const wire::CancelRequest& cancel) override;

  bool routes() const override { return decode_.routes(); }

  Result<control::RouteExplanation> ExplainRoute(const wire::GenerateRequest& request) override {
    return decode_.ExplainRoute(request);
  }

  Result<void> SetBusyThresholds(const control::BusyThresholds& thresholds) override {
    return decode_.SetBusyThresholds(thresholds);
  }

  control::BusyThresholds busy_thresholds() const override { return decode_.busy_thresholds(); }

  /// Requests by how they went; those that fell back stand under kPrefill, too.
  const std::array<std::uint64_t, kPrefillPathCount>& paths() const { return paths_; }

  /// In two legs.
  std::size_t outstanding_count() const { return entries_.size(); }

 private:
  struct Entry {
    Entry(wire::GenerateRequest request, bool fallback, FrameHandler on_frame_in)
        : flight(std::move(request), fallback), on_frame(std::move(on_frame_in)) {}

    HandoverFlight flight;
    FrameHandler on_frame;
    RequestId prefill{};  // as the fleet of prefill workers knows it
    RequestId fetch{};    // of what brings blocks to who decodes, while `fetches`
    bool fetches = false;
    bool asks = false;  // and nothing else runs: what it says decides how to go on
    std::optional<router::Target> first;  // who has the blocks that were brought
    rt::Time begun{};
    std::vector<wire::RequestLeg> legs;  // of either kind of worker, not told
  };

  using EntryPtr = std::shared_ptr<Entry>;

  PrefillPath PathOf(const wire::GenerateRequest& request, std::optional<std::uint32_t> cached);
  void SendPrefill(const EntryPtr& entry);
  void SendFetch(const EntryPtr& entry, wire::GenerateRequest request);
  void OnFetchFrame(const EntryPtr& entry, const wire::TokenFrame& frame);
  void GoOn(const EntryPtr& entry, std::uint32_t cached);
  void EndFetch(const EntryPtr& entry);
  static void KeepLegs(Entry& entry, wire::TokenFrame& frame);
  void ShortenDeadline(const Entry& entry, wire::GenerateRequest& request) const;
  void Apply(const EntryPtr& entry, HandoverFlight::Outcome outcome);
  void SendDecode(const EntryPtr& entry, wire::GenerateRequest request);

  void Count(PrefillPath path) { ++paths_[static_cast<std::size_t>(path)]; }

  rt::Loop& loop_;
  FleetLink& prefill_;
  FleetLink& decode_;
  PrefillOptions options_;
  obs::Log* log_;
  std::array<std::uint64_t, kPrefillPathCount> paths_ = {};
  std::unordered_map<RequestId, EntryPtr> entries_;  // by the caller's id
  std::uint64_t last_prefill_ = 0;
  std::uint64_t last_fetch_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // on the loop alone
};

}  // namespace pixii::frontend
