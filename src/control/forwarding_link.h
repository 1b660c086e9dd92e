// A link that is another one: the base of links that add something to a few of its calls.
//
// Thread: one loop, that of the other link.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "control/worker_link.h"

namespace pixii::control {

/// KV events are not forwarded: the other link tells them to one listener alone.
class ForwardingLink : public WorkerLink {
 public:
  /// `link` outlives it.
  explicit ForwardingLink(WorkerLink& link) : link_(link) {}

  const wire::ModelCard& card() const override { return link_.card(); }

  Result<void> Generate(wire::GenerateRequest request, FrameHandler on_frame) override {
    return link_.Generate(std::move(request), std::move(on_frame));
  }

  void Cancel(const wire::CancelRequest& cancel) override { link_.Cancel(cancel); }

  void ReleaseMemory(const MemoryTags& tags, rt::Duration patience,
                     MemoryHandler on_done) override {
    link_.ReleaseMemory(tags, patience, std::move(on_done));
  }

  void ResumeMemory(const MemoryTags& tags, MemoryHandler on_done) override {
    link_.ResumeMemory(tags, std::move(on_done));
  }

  void ClearCache(CacheDepth depth, MemoryHandler on_done) override {
    link_.ClearCache(depth, std::move(on_done));
  }

  WorkerLoad load() const override { return link_.load(); }

  std::vector<WorkerLoad> rank_loads() const override { return link_.rank_loads(); }

  void LoadAdapter(wire::LoadAdapterRequest request, AdapterHandler on_done) override {
    link_.LoadAdapter(std::move(request), std::move(on_done));
  }

  void UnloadAdapter(std::string name, AdapterHandler on_done) override {
    link_.UnloadAdapter(std::move(name), std::move(on_done));
  }

 protected:
  WorkerLink& link() { return link_; }

 private:
  WorkerLink& link_;
};

}  // namespace pixii::control
