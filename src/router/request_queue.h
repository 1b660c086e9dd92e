// Requests that wait for a worker with room, in classes.
//
// Thread: a value; time is told. Source: spec/dynamo-core.md B.6, 12.3.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "router/deficit_round_robin.h"
#include "router/options.h"
#include "router/rank.h"
#include "router/route_request.h"
#include "rt/time.h"

namespace pixii::router {

/// What waits in a class, and what was refused because a limit was reached.
struct ClassCounts {
  std::size_t requests = 0;
  std::uint64_t prompt_tokens = 0;
  std::uint64_t cached_tokens = 0;
  std::uint64_t refused_by_requests = 0;
  std::uint64_t refused_by_prompt_tokens = 0;
  std::uint64_t refused_by_cached_tokens = 0;
  std::uint64_t refused_by_queue = 0;  // the bound of all classes together
};

/// A request with what was computed when it came.
struct Waiting {
  RouteRequest request;
  std::vector<std::uint64_t> block_hashes;
  rt::Time arrived{};
  std::uint64_t prompt_tokens = 0;
  std::uint64_t cached_tokens = 0;  // at the best of the ranks that might take it

  std::uint64_t cost() const {
    return prompt_tokens > cached_tokens ? prompt_tokens - cached_tokens : 1;
  }
};

class RequestQueue final {
 public:
  struct Options {
    QueuePolicy policy = QueuePolicy::kFcfs;  // of the one class there is without a config
    PolicyConfig config;                      // checked
    std::uint32_t requests_max = 1;
  };

  explicit RequestQueue(Options options);

  /// Index of the class of a request whose best rank leaves so many tokens to compute.
  std::size_t ClassOf(std::string_view named, std::uint64_t uncached_tokens) const;

  const PolicyClass& policy_class(std::size_t index) const { return classes_[index].options; }

  std::size_t class_count() const { return classes_.size(); }

  ClassCounts counts(std::size_t index) const;

  /// Whether somebody of the class waits.
  bool HasBacklog(std::size_t index) const { return !classes_[index].order.empty(); }

  /// Errors: kResourceExhausted if the class (or the whole queue) was full before it came.
  Result<void> Push(std::unique_ptr<Waiting> waiting, std::size_t index, std::size_t worker_count);

  /// Takes out a request whose turn it is. `can_go(waiting, class)`: whether some worker would take
  /// it now; asked of the first of each class, and of the first of those pinned to one worker.
  template <class CanGo>
  std::unique_ptr<Waiting> Pop(CanGo can_go) {
    std::vector<DeficitRoundRobin::Head> heads(classes_.size());
    std::vector<Order::iterator> firsts(classes_.size());
    for (std::size_t i = 0; i < classes_.size(); ++i) {
      Class& one = classes_[i];
      std::set<InstanceId> asked;  // lanes of pinned requests that cannot go now
      bool shared_asked = false;
      for (auto at = one.order.begin(); at != one.order.end(); ++at) {
        const std::optional<InstanceId>& pin = at->second->request.pinned;
        if (pin ? !asked.insert(*pin).second : shared_asked) {
          continue;  // not before the first of its lane
        }
        shared_asked = shared_asked || !pin;
        const bool goes = can_go(*at->second, one.options);
        if (heads[i].cost == 0 || goes) {
          heads[i] = {at->second->cost(), goes};
          firsts[i] = at;
        }
        if (goes || (shared_asked && pinned_count_ == 0)) {
          break;
        }
      }
    }
    const std::optional<std::size_t> turn = turns_.Next(heads);
    return turn ? Take(*turn, firsts[*turn]) : nullptr;
  }

  /// It waits no more; nullptr if it did not.
  std::unique_ptr<Waiting> Remove(RequestId id);

  std::size_t size() const { return places_.size(); }

  std::uint64_t prompt_tokens() const { return prompt_tokens_; }

 private:
  // Before others: greater strict priority, then smaller key, then earlier.
  struct Place {
    std::int64_t strict_priority = 0;
    double key = 0;
    std::uint64_t number = 0;

    friend bool operator<(const Place& a, const Place& b) {
      if (a.strict_priority != b.strict_priority) {
        return a.strict_priority > b.strict_priority;
      }
      return a.key != b.key ? a.key < b.key : a.number < b.number;
    }
  };

  using Order = std::map<Place, std::unique_ptr<Waiting>>;

  struct Class {
    PolicyClass options;
    Order order;
    ClassCounts counts = {};  // but for `requests`
  };

  std::unique_ptr<Waiting> Take(std::size_t index, Order::iterator at);

  Options options_;
  std::vector<Class> classes_;
  DeficitRoundRobin turns_;
  std::unordered_map<RequestId, std::pair<std::size_t, Place>> places_;
  std::uint64_t last_number_ = 0;
  std::uint64_t prompt_tokens_ = 0;
  std::size_t pinned_count_ = 0;
};

}  // namespace pixii::router
