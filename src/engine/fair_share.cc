#include "engine/fair_share.h"

#include <algorithm>

#include "base/assert.h"

namespace pixii::engine {

ShareTicket FairShare::Enter(std::string_view tenant, std::int64_t cost_tokens,
                             std::int32_t priority) {
  PX_ASSERT(cost_tokens >= 1);
  std::string name(tenant);
  Account& account = accounts_.try_emplace(name).first->second;
  account.tenant = std::move(name);
  ++account.live_count;
  ShareTicket ticket;
  ticket.account = &account;
  ticket.start = std::max({virtual_time_, account.finish, account.last_start});
  ticket.cost = cost_tokens;
  ticket.rank = ticket.start - head_start_ * std::clamp(priority, -kPriorityMax, kPriorityMax);
  account.last_start = ticket.start;
  account.finish = ticket.start + cost_tokens;
  return ticket;
}

void FairShare::Admitted(const ShareTicket& ticket) {
  virtual_time_ = std::max(virtual_time_, ticket.start);
}

void FairShare::Leave(ShareTicket& ticket, std::int64_t computed_tokens) {
  Account& account = *ticket.account;
  ticket.account = nullptr;
  account.finish += computed_tokens - ticket.cost;
  PX_ASSERT(account.live_count > 0);
  if (--account.live_count == 0 && account.finish <= virtual_time_ &&
      account.last_start <= virtual_time_) {
    accounts_.erase(std::string(account.tenant));
  }
}

}  // namespace pixii::engine
