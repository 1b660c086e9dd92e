// The same worker for whoever stands beside its WorkerService: what is changed here, frontends hear
// of, too.
//
// Thread: one loop, that of the link.
#pragma once

#include <functional>
#include <string>
#include <utility>

#include "control/forwarding_link.h"

namespace pixii::worker {

class AnnouncingLink final : public control::ForwardingLink {
 public:
  /// `on_card` hears that the card changed. All outlive it.
  AnnouncingLink(control::WorkerLink& link, std::function<void()> on_card)
      : ForwardingLink(link), on_card_(std::move(on_card)) {}

  void LoadAdapter(wire::LoadAdapterRequest request, AdapterHandler on_done) override {
    link().LoadAdapter(std::move(request), Announced(std::move(on_done)));
  }

  void UnloadAdapter(std::string name, AdapterHandler on_done) override {
    link().UnloadAdapter(std::move(name), Announced(std::move(on_done)));
  }

 private:
  AdapterHandler Announced(AdapterHandler on_done) const {
    return [on_card = on_card_, on_done = std::move(on_done)](Result<wire::AdapterCard> card) {
      on_card();
      on_done(std::move(card));
    };
  }

  std::function<void()> on_card_;
};

}  // namespace pixii::worker
