// The same worker for whoever stands beside its WorkerService: what is changed here, frontends hear
// of, too.
//
// Thread: one loop, that of the link.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "control/worker_link.h"

namespace pixii::worker {

class AnnouncingLink final : public control::WorkerLink {
 public:
  /// `on_card` hears that the card changed. All outlive it.
  AnnouncingLink(control::WorkerLink& link, std::function<void()> on_card)
      : link_(link), on_card_(std::move(on_card)) {}

  const wire::ModelCard& card() const override { return link_.card(); }

  Result<void> Generate(wire::GenerateRequest request, FrameHandler on_frame) override {
    return link_.Generate(std::move(request), std::move(on_frame));
  }

  void Cancel(const wire::CancelRequest& cancel) override { link_.Cancel(cancel); }

  void ReleaseMemory(const control::MemoryTags& tags, rt::Duration patience,
                     MemoryHandler on_done) override {
    link_.ReleaseMemory(tags, patience, std::move(on_done));
  }

  void ResumeMemory(const control::MemoryTags& tags, MemoryHandler on_done) override {
    link_.ResumeMemory(tags, std::move(on_done));
  }

  void ClearCache(MemoryHandler on_done) override { link_.ClearCache(std::move(on_done)); }

  control::WorkerLoad load() const override { return link_.load(); }

  std::vector<control::WorkerLoad> rank_loads() const override { return link_.rank_loads(); }

  void LoadAdapter(wire::LoadAdapterRequest request, AdapterHandler on_done) override {
    link_.LoadAdapter(std::move(request), Announced(std::move(on_done)));
  }

  void UnloadAdapter(std::string name, AdapterHandler on_done) override {
    link_.UnloadAdapter(std::move(name), Announced(std::move(on_done)));
  }

 private:
  AdapterHandler Announced(AdapterHandler on_done) const {
    return [on_card = on_card_, on_done = std::move(on_done)](Result<wire::AdapterCard> card) {
      on_card();
      on_done(std::move(card));
    };
  }

  control::WorkerLink& link_;
  std::function<void()> on_card_;
};

}  // namespace pixii::worker
