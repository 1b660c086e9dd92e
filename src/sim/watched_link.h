// A worker's link as it is, and a record of what passed: which requests have not ended, and when it
// refused.
//
// Thread: the worker's loop; the record may be read between two steps of the world.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "control/worker_link.h"
#include "rt/time.h"

namespace pixii::sim {

class WatchedLink : public control::WorkerLink {
 public:
  /// With this begin the salts of such requests.
  static constexpr std::string_view kPoison = "poison";

  /// `now`: of the world.
  WatchedLink(control::WorkerLink& link, std::function<rt::Time()> now)
      : link_(link), now_(std::move(now)) {}

  /// Whether a request that it took has not ended.
  bool runs(RequestId id) const { return running_.contains(id); }

  /// Whether it said to anybody that it is full, from `begin` on.
  bool refused_since(rt::Time begin) const {
    return !refusals_.empty() && refusals_.back() >= begin;
  }

  /// The salt of a request that kills whoever runs it; empty: it got none.
  const std::string& poison() const { return poison_; }

  const wire::ModelCard& card() const override { return link_.card(); }

  Result<void> Generate(wire::GenerateRequest request, FrameHandler on_frame) override {
    const RequestId id = request.id;
    running_[id] = request.choice_count;
    if (request.cache_salt.starts_with(kPoison)) {
      poison_ = request.cache_salt;
    }
    Result<void> taken = link_.Generate(
        std::move(request), [this, id, on_frame = std::move(on_frame)](wire::TokenFrame frame) {
          if (frame.finish && --running_.at(id) == 0) {
            running_.erase(id);
          }
          if (frame.error) {
            NoteRefusal(*frame.error);
          }
          on_frame(std::move(frame));
        });
    if (!taken) {
      running_.erase(id);
      NoteRefusal(taken.error());
    }
    return taken;
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

  Result<void> WatchKvEvents(KvEventHandler on_events) override {
    return link_.WatchKvEvents(std::move(on_events));
  }

  void LoadAdapter(wire::LoadAdapterRequest request, AdapterHandler on_done) override {
    link_.LoadAdapter(std::move(request), std::move(on_done));
  }

  void UnloadAdapter(std::string name, AdapterHandler on_done) override {
    link_.UnloadAdapter(std::move(name), std::move(on_done));
  }

 private:
  static constexpr std::size_t kRefusalsMax = 64;

  void NoteRefusal(const Error& error) {
    if (error.code() == Code::kResourceExhausted) {
      refusals_.push_back(now_());
      if (refusals_.size() > kRefusalsMax) {
        refusals_.pop_front();
      }
    }
  }

  control::WorkerLink& link_;
  std::function<rt::Time()> now_;
  std::map<RequestId, std::uint32_t> running_;  // choices that have not ended
  std::deque<rt::Time> refusals_;
  std::string poison_;
};

}  // namespace pixii::sim
