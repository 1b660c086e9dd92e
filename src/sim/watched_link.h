// A worker's link as it is, and a record of what passed: which requests have not ended, when it
// refused and whom.
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
#include <vector>

#include "control/forwarding_link.h"
#include "rt/time.h"

namespace pixii::sim {

class WatchedLink : public control::ForwardingLink {
 public:
  /// With this begin the salts of such requests.
  static constexpr std::string_view kPoison = "poison";

  /// `now`: of the world. `on_poison` hears that a request that kills whoever runs it gave its
  /// first token here.
  WatchedLink(control::WorkerLink& link, std::function<rt::Time()> now,
              std::function<void()> on_poison)
      : ForwardingLink(link), now_(std::move(now)), on_poison_(std::move(on_poison)) {}

  /// Whether a request that it took has not ended.
  bool runs(RequestId id) const { return running_.contains(id); }

  /// Whether it said to anybody that it is full, from `begin` on.
  bool refused_since(rt::Time begin) const {
    return !refusals_.empty() && refusals_.back() >= begin;
  }

  /// How often it said that it is full to requests with this sampling seed.
  std::uint32_t refused_count(std::uint64_t seed) const {
    const auto found = refused_.find(seed);
    return found == refused_.end() ? 0 : found->second;
  }

  /// Salts of the requests that kill whoever runs them and that it runs: their first token came,
  /// their end did not.
  std::vector<std::string> poisons() const {
    std::vector<std::string> out;
    for (const auto& [id, one] : running_) {
      if (!one.poison.empty() && one.has_token) {
        out.push_back(one.poison);
      }
    }
    return out;
  }

  Result<void> Generate(wire::GenerateRequest request, FrameHandler on_frame) override {
    if (request.routing) {  // a canary: no frontend's
      return link().Generate(std::move(request), std::move(on_frame));
    }
    const RequestId id = request.id;
    const std::uint64_t seed = request.sampling.seed;
    Running& running = running_[id];
    running.live_choices = request.choice_count;
    if (request.cache_salt.starts_with(kPoison)) {
      running.poison = request.cache_salt;
    }
    Result<void> taken =
        link().Generate(std::move(request),
                        [this, id, seed, on_frame = std::move(on_frame)](wire::TokenFrame frame) {
                          Note(id, seed, frame);
                          on_frame(std::move(frame));
                        });
    if (!taken) {
      running_.erase(id);
      NoteRefusal(seed, taken.error());
    }
    return taken;
  }

  Result<void> WatchKvEvents(KvEventHandler on_events) override {
    return link().WatchKvEvents(std::move(on_events));
  }

 private:
  static constexpr std::size_t kRefusalsMax = 64;

  struct Running {
    std::uint32_t live_choices = 0;
    bool has_token = false;
    std::string poison = {};  // the salt of a request that kills whoever runs it
  };

  void Note(RequestId id, std::uint64_t seed, const wire::TokenFrame& frame) {
    Running& running = running_.at(id);
    if (!frame.tokens.empty() && !std::exchange(running.has_token, true) &&
        !running.poison.empty()) {
      on_poison_();
    }
    if (frame.finish && --running.live_choices == 0) {
      running_.erase(id);
    }
    if (frame.error) {
      NoteRefusal(seed, *frame.error);
    }
  }

  void NoteRefusal(std::uint64_t seed, const Error& error) {
    if (error.code() == Code::kResourceExhausted) {
      ++refused_[seed];
      refusals_.push_back(now_());
      if (refusals_.size() > kRefusalsMax) {
        refusals_.pop_front();
      }
    }
  }

  std::function<rt::Time()> now_;
  std::function<void()> on_poison_;
  std::map<RequestId, Running> running_;
  std::deque<rt::Time> refusals_;
  std::map<std::uint64_t, std::uint32_t> refused_;  // times, by the request's sampling seed
};

}  // namespace pixii::sim
