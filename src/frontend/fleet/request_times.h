// The point in time that each of some requests waits for.
//
// Thread: a value.
#pragma once

#include <optional>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "rt/time.h"

namespace pixii::frontend {

class RequestTimes final {
 public:
  /// In place of the request's time before, if it had one.
  void Set(RequestId id, rt::Time at);
  void Remove(RequestId id);

  /// rt::kNever: none is left.
  rt::Time next() const { return order_.empty() ? rt::kNever : order_.begin()->first; }

  /// Moves out the request with the earliest time, if that has come.
  std::optional<RequestId> TakeDue(rt::Time now);

  /// Moves out all, the earliest first.
  std::vector<RequestId> TakeAll();

 private:
  std::set<std::pair<rt::Time, RequestId>> order_;
  std::unordered_map<RequestId, rt::Time> times_;
};

}  // namespace pixii::frontend
