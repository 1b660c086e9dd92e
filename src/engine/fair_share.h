// Whose turn it is: start-time fair queueing over tenants, in tokens of forecast work.
//
// Thread: the engine thread. Pure; no allocation but for a tenant's first sequence.
// A sequence gets a start tag = max(virtual time, end of its tenant's last one); virtual time is
// the largest tag admitted so far. Its rank is the tag less a head start per priority level, and
// never changes, so whoever waits becomes the first in the end: with T tenants that have work,
// everything ranked before a waiting sequence of tag s that came later costs at most T * (s -
// virtual time at its arrival + 2 * kPriorityMax * head start + largest cost) tokens. Source:
// Goyal, Vin, Cheng, "Start-time fair queueing", SIGCOMM 1996 (tags); the head start and the refund
// of what was forecast but not computed are ours.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>

namespace pixii::engine {

/// Levels beyond it count as it: a bound on how long priority can hold somebody back.
inline constexpr std::int32_t kPriorityMax = 8;

struct ShareTicket;

class FairShare final {
 public:
  /// `priority_head_start_tokens`: virtual time that one level of priority is worth, >= 0.
  explicit FairShare(std::int64_t priority_head_start_tokens)
      : head_start_(priority_head_start_tokens) {}

  /// A place for a sequence that is expected to cost `cost_tokens` (>= 1). It must come back by
  /// Leave.
  ShareTicket Enter(std::string_view tenant, std::int64_t cost_tokens, std::int32_t priority);

  /// The sequence runs for the first time, or again.
  void Admitted(const ShareTicket& ticket);

  /// It ended after `computed_tokens`: its tenant is charged for those instead of the forecast.
  void Leave(ShareTicket& ticket, std::int64_t computed_tokens);

  std::int64_t virtual_time() const { return virtual_time_; }

  std::size_t tenant_count() const { return accounts_.size(); }

 private:
  friend struct ShareTicket;

  struct Account {
    std::string tenant;
    std::int64_t finish = 0;      // end of the last sequence's forecast
    std::int64_t last_start = 0;  // tags of a tenant never go back: first come, first served
    std::uint32_t live_count = 0;
  };

  std::int64_t head_start_;
  std::int64_t virtual_time_ = 0;
  std::unordered_map<std::string, Account>
      accounts_;  // those with sequences here, or ahead of time
};

struct ShareTicket {
  FairShare::Account* account = nullptr;
  std::int64_t start = 0;  // tag
  std::int64_t cost = 0;   // forecast, tokens
  std::int64_t rank = 0;   // start less the head start of its priority
};

}  // namespace pixii::engine
