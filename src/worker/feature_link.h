// A worker whose pictures other workers have looked at: their features are fetched before its
// engine gets the request.
//
// Thread: one loop, that of the link below. docs/multimodal.md
// It needs none of them: what does not come the engine's own tower makes, if it has one.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "rt/loop.h"
#include "worker/feature_fetcher.h"
#include "worker/request_link.h"

namespace pixii::worker {

/// A request whose features are under way, or held for the engine.
struct FeatureEntry {
  std::unique_ptr<wire::GenerateRequest> request;  // null: the engine has it
  control::WorkerLink::FrameHandler on_frame;
  std::map<std::string, std::uint64_t> fetches;  // under way: by digest, the fetcher's ticket
  std::vector<FeatureFetcher::Features> held;
  std::vector<std::uint32_t> cancelled;  // choices, before the engine had it
  std::uint32_t live_choices = 0;
  rt::Time begun{};
  rt::TimerId timer = rt::TimerId::kNone;  // its deadline
};

class FeatureLink final : public RequestLink<FeatureEntry> {
 public:
  /// The engine below finds `features` by this digest as long as somebody has them.
  using Offer = std::function<void(std::string digest, FeatureFetcher::Features features)>;

  /// `fetches_all`: also what is wanted only if blocks of another worker do not come, because there
  /// is no tower here. All outlive it.
  FeatureLink(rt::Loop& loop, control::WorkerLink& link, FeatureFetcher& fetcher, Offer offer,
              bool fetches_all = false)
      : RequestLink(loop, link),
        fetcher_(fetcher),
        offer_(std::move(offer)),
        fetches_all_(fetches_all) {}

  ~FeatureLink() override;

  Result<void> Generate(wire::GenerateRequest request, FrameHandler on_frame) override;
  void Cancel(const wire::CancelRequest& cancel) override;

 private:
  void OnFetched(RequestId id, const std::string& digest,
                 const Result<FeatureFetcher::Features>& features);
  void Forward(RequestId id, const EntryPtr& entry);
  void OnFrame(RequestId id, wire::TokenFrame frame);
  void EndAll(RequestId id, wire::FinishReason finish, const std::optional<Error>& error);

  FeatureFetcher& fetcher_;
  Offer offer_;
  bool fetches_all_;
  /// What was fetched and somebody still has: this link, or the engine's cache.
  std::unordered_map<std::string, std::weak_ptr<const model::VisionFeatures>> known_;
};

}  // namespace pixii::worker
