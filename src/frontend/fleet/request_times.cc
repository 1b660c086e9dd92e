#include "frontend/fleet/request_times.h"

namespace pixii::frontend {

void RequestTimes::Set(RequestId id, rt::Time at) {
  Remove(id);
  order_.emplace(at, id);
  times_.emplace(id, at);
}

void RequestTimes::Remove(RequestId id) {
  if (const auto known = times_.extract(id)) {
    order_.erase({known.mapped(), id});
  }
}

std::optional<RequestId> RequestTimes::TakeDue(rt::Time now) {
  if (order_.empty() || order_.begin()->first > now) {
    return std::nullopt;
  }
  const RequestId id = order_.begin()->second;
  Remove(id);
  return id;
}

std::vector<RequestId> RequestTimes::TakeAll() {
  std::vector<RequestId> out;
  for (const auto& [at, id] : order_) {
    out.push_back(id);
  }
  order_.clear();
  times_.clear();
  return out;
}

}  // namespace pixii::frontend
