// A worker of two ranks whose loads, card and KV events a test says itself.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "control/worker_link.h"
#include "rt/loop.h"

namespace pixii::testing {

class RankedLink final : public control::WorkerLink {
 public:
  RankedLink(rt::Loop& loop, wire::ModelCard card_in)
      : card_said(std::move(card_in)), loop_(loop) {}

  const wire::ModelCard& card() const override { return card_said; }

  Result<void> Generate(wire::GenerateRequest request, FrameHandler on_frame) override {
    ranks.push_back(request.dp_rank);
    loop_.Post([id = request.id, on_frame = std::move(on_frame)] {
      wire::TokenFrame frame;
      frame.id = id;
      frame.tokens = {1};
      frame.finish = wire::FinishReason::kLength;
      on_frame(std::move(frame));
    });
    return {};
  }

  void Cancel(const wire::CancelRequest&) override {}

  control::WorkerLoad load() const override { return {.state = state, .blocks_total = 200}; }

  std::vector<control::WorkerLoad> rank_loads() const override { return loads; }

  Result<void> WatchKvEvents(KvEventHandler on_events) override {
    on_kv_events = std::move(on_events);
    return {};
  }

  wire::ModelCard card_said;
  control::WorkerState state = control::WorkerState::kAwake;
  std::vector<control::WorkerLoad> loads = {{.blocks_total = 100}, {.blocks_total = 100}};
  std::vector<std::optional<std::uint32_t>> ranks;  // of requests
  KvEventHandler on_kv_events;

 private:
  rt::Loop& loop_;
};

}  // namespace pixii::testing
