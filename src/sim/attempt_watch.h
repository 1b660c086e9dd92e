// Where each request was sent, attempt by attempt, as workers saw it come.
//
// Thread: one; outside every node.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "rt/time.h"
#include "wire/messages/generate.h"

namespace pixii::sim {

class AttemptWatch final {
 public:
  struct Attempt {
    std::uint32_t number = 0;  // from 1; 0: none was seen
    std::size_t worker = 0;
    rt::Time at{};
  };

  /// A worker is asked. When the attempt before this one came to it, if that was the same worker.
  std::optional<rt::Time> OnRequest(std::size_t worker, const wire::GenerateRequest& request,
                                    rt::Time now) {
    const Key key = KeyOf(request);
    Known& known = known_[key];
    came_.emplace_back(now, key);
    known.first_count += request.attempt == 1 ? 1 : 0;
    const Attempt before = std::exchange(known.last, {request.attempt, worker, now});
    const bool came_back = known.first_count == 1 && before.worker == worker && before.number > 0 &&
                           before.number + 1 == request.attempt;
    return came_back ? std::optional(before.at) : std::nullopt;
  }

  /// The last attempt of a request. Of two that are alike, none.
  Attempt last(const wire::GenerateRequest& request) const {
    const auto found = known_.find(KeyOf(request));
    return found == known_.end() || found->second.first_count > 1 ? Attempt() : found->second.last;
  }

  /// Nobody will ask about requests that no attempt came of since `before`.
  void Forget(rt::Time before) {
    for (; !came_.empty() && came_.front().first < before; came_.pop_front()) {
      const auto found = known_.find(came_.front().second);
      if (found != known_.end() && found->second.last.at < before) {
        known_.erase(found);
      }
    }
  }

  /// Whether nothing is left to generate.
  static bool IsWhole(const wire::GenerateRequest& request) {
    return !request.pool && request.stop.max_tokens > 0 && !request.generated.empty() &&
           std::ranges::all_of(request.generated, [&](const auto& tokens) {
             return tokens.size() >= request.stop.max_tokens;
           });
  }

 private:
  // Workers give ids of their own; seeds are drawn for each request.
  using Key = std::pair<std::uint64_t, std::vector<TokenId>>;

  struct Known {
    std::uint32_t first_count = 0;  // first attempts; more than one: several requests are alike
    Attempt last;
  };

  static Key KeyOf(const wire::GenerateRequest& request) {
    return {request.sampling.seed, request.prompt};
  }

  std::map<Key, Known> known_;
  std::deque<std::pair<rt::Time, Key>> came_;  // attempts not forgotten, in order
};

}  // namespace pixii::sim
