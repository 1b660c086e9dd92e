#include "frontend/quota.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

namespace pixii::frontend {

namespace {

constexpr double kMinuteSeconds = 60;
// How soon to ask again when only the end of a running request helps.
constexpr rt::Duration kBusyRetry = std::chrono::seconds(1);

struct Bucket {
  double limit = 0;  // a minute, and what it holds at most; 0: none
  double level = 0;  // at `at`; below 0: debt
  rt::Time at{};

  double LevelAt(rt::Time now) const;
  void Take(double amount, rt::Time now);
  /// Until `level` is reached.
  rt::Duration WaitFor(double wanted, rt::Time now) const;
  QuotaState StateAt(rt::Time now) const;
  /// What was used stays used.
  void SetLimit(double new_limit, rt::Time now);
};

double Bucket::LevelAt(rt::Time now) const {
  const double seconds = std::chrono::duration<double>(now - at).count();
  return std::min(limit, level + std::max(0.0, seconds) * limit / kMinuteSeconds);
}

void Bucket::Take(double amount, rt::Time now) {
  if (limit > 0) {
    level = LevelAt(now) - amount;
    at = now;
  }
}

rt::Duration Bucket::WaitFor(double wanted, rt::Time now) const {
  const double missing = limit > 0 ? wanted - LevelAt(now) : 0;
  return std::chrono::duration_cast<rt::Duration>(std::chrono::duration<double>(
      std::max(0.0, missing) * kMinuteSeconds / std::max(1.0, limit)));
}

QuotaState Bucket::StateAt(rt::Time now) const {
  return {.limit = static_cast<std::uint64_t>(limit),
          .left = static_cast<std::uint64_t>(std::max(0.0, std::floor(LevelAt(now)))),
          .full_in = WaitFor(limit, now)};
}

void Bucket::SetLimit(double new_limit, rt::Time now) {
  const double used = limit > 0 ? limit - LevelAt(now) : 0;
  limit = new_limit;
  level = new_limit - used;
  at = now;
}

}  // namespace

struct QuotaAccount {
  std::string digest;  // of the key
  Bucket requests;
  Bucket tokens;
  std::uint32_t running = 0;
  std::uint32_t running_max = 0;  // 0: no limit
};

QuotaTicket::~QuotaTicket() {
  if (account_) {
    --account_->running;
  }
}

void QuotaTicket::Charge(std::uint64_t tokens, rt::Time now) {
  if (account_) {
    account_->tokens.Take(static_cast<double>(tokens), now);
  }
}

void QuotaLedger::Update(const ApiKeys& keys, rt::Time now) {
  std::unordered_map<std::string, std::shared_ptr<QuotaAccount>> known;
  for (std::shared_ptr<QuotaAccount>& account : accounts_) {
    known.emplace(account->digest, account);
  }
  accounts_.clear();
  for (const ApiKey& key : keys.all()) {
    std::shared_ptr<QuotaAccount>& account = known[key.digest];
    if (!account) {
      account = std::make_shared<QuotaAccount>();
      account->digest = key.digest;
    }
    account->requests.SetLimit(key.requests_per_minute, now);
    account->tokens.SetLimit(static_cast<double>(key.tokens_per_minute), now);
    account->running_max = key.requests_max;
    accounts_.push_back(account);
  }
}

QuotaLedger::Verdict QuotaLedger::Admit(std::size_t key, rt::Time now) {
  QuotaAccount& account = *accounts_[key];
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
  out.ticket = QuotaTicket(accounts_[key]);
  return out;
}

QuotaState QuotaLedger::Requests(std::size_t key, rt::Time now) const {
  return accounts_[key]->requests.StateAt(now);
}

QuotaState QuotaLedger::Tokens(std::size_t key, rt::Time now) const {
  return accounts_[key]->tokens.StateAt(now);
}

}  // namespace pixii::frontend
