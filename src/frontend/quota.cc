#include "frontend/quota.h"

#include <algorithm>
#include <cmath>

namespace pixii::frontend {

namespace {

constexpr double kMinuteSeconds = 60;
// How soon to ask again when only the end of a running request helps.
constexpr rt::Duration kBusyRetry = std::chrono::seconds(1);

}  // namespace

QuotaTicket::~QuotaTicket() {
  if (ledger_ != nullptr) {
    --ledger_->accounts_[key_].running;
  }
}

void QuotaTicket::Charge(std::uint64_t tokens, rt::Time now) {
  if (ledger_ != nullptr) {
    ledger_->accounts_[key_].tokens.Take(static_cast<double>(tokens), now);
  }
}

double QuotaLedger::Bucket::LevelAt(rt::Time now) const {
  const double seconds = std::chrono::duration<double>(now - at).count();
  return std::min(limit, level + std::max(0.0, seconds) * limit / kMinuteSeconds);
}

void QuotaLedger::Bucket::Take(double amount, rt::Time now) {
  if (limit > 0) {
    level = LevelAt(now) - amount;
    at = now;
  }
}

rt::Duration QuotaLedger::Bucket::WaitFor(double wanted, rt::Time now) const {
  const double missing = limit > 0 ? wanted - LevelAt(now) : 0;
  return std::chrono::duration_cast<rt::Duration>(std::chrono::duration<double>(
      std::max(0.0, missing) * kMinuteSeconds / std::max(1.0, limit)));
}

QuotaState QuotaLedger::Bucket::StateAt(rt::Time now) const {
  return {.limit = static_cast<std::uint64_t>(limit),
          .left = static_cast<std::uint64_t>(std::max(0.0, std::floor(LevelAt(now)))),
          .full_in = WaitFor(limit, now)};
}

QuotaLedger::QuotaLedger(const ApiKeys& keys, rt::Time now) {
  for (const ApiKey& key : keys.all()) {
    const auto full = [now](double limit) { return Bucket{limit, limit, now}; };
    accounts_.push_back({.requests = full(key.requests_per_minute),
                         .tokens = full(static_cast<double>(key.tokens_per_minute)),
                         .running = 0,
                         .running_max = key.requests_max});
  }
}

QuotaLedger::Verdict QuotaLedger::Admit(std::size_t key, rt::Time now) {
  Account& account = accounts_[key];
  const auto refuse = [](std::string_view limit, double amount, rt::Duration retry_in) {
    Verdict out;
    out.limit = limit;
    out.limit_amount = static_cast<std::uint64_t>(amount);
    out.retry_in = retry_in;
    return out;
  };
  if (account.running_max > 0 && account.running >= account.running_max) {
    return refuse("max_requests", account.running_max, kBusyRetry);
  }
  if (const rt::Duration wait = account.requests.WaitFor(1, now); wait > rt::Duration::zero()) {
    return refuse("requests_per_minute", account.requests.limit, wait);
  }
  if (const rt::Duration wait = account.tokens.WaitFor(1, now); wait > rt::Duration::zero()) {
    return refuse("tokens_per_minute", account.tokens.limit, wait);
  }
  account.requests.Take(1, now);
  ++account.running;
  Verdict out;
  out.ticket = QuotaTicket(*this, key);
  return out;
}

QuotaState QuotaLedger::Requests(std::size_t key, rt::Time now) const {
  return accounts_[key].requests.StateAt(now);
}

QuotaState QuotaLedger::Tokens(std::size_t key, rt::Time now) const {
  return accounts_[key].tokens.StateAt(now);
}

}  // namespace pixii::frontend
