// An answer that waits in a router's queue, and whose client may hang up.
//
// Thread: one loop.
#pragma once

#include <string>
#include <utility>

#include "frontend/router_api/router_api.h"

namespace pixii::frontend {

class RouterApi::Waiter final : public ExchangeWatcher {
 public:
  Waiter(RouterApi& api, Exchange& exchange, std::string selection)
      : api_(api), exchange_(&exchange), selection_(std::move(selection)) {
    exchange.Watch(this);
  }

  void OnClientGone() override {
    exchange_ = nullptr;
    (void)api_.parts_.reservations.Free(selection_);
    api_.Forget(*this);
  }

  void OnRoom() override {}

  void Answer(Response response) {
    Exchange& exchange = *std::exchange(exchange_, nullptr);
    exchange.Watch(nullptr);
    exchange.Respond(std::move(response));
    api_.Forget(*this);
  }

 private:
  RouterApi& api_;
  Exchange* exchange_;
  std::string selection_;
};

}  // namespace pixii::frontend
