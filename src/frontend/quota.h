// How much of its limits each API key has used: requests and tokens a minute, requests at a time.
//
// Thread: the frontend's loop. Pure: decides from what it is told and the time.
// Requests and tokens are buckets that hold a minute's amount and refill evenly. A request is let
// in while both have something left; its tokens are taken as they come and may leave a debt, which
// later requests wait for, so what a key gets in the long run is its limit.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "frontend/api_keys.h"
#include "rt/time.h"

namespace pixii::frontend {

class QuotaLedger;
struct QuotaAccount;

/// A request's place among its key's; gives it back when it dies.
class [[nodiscard]] QuotaTicket final {
 public:
  QuotaTicket() = default;  // of nobody

  QuotaTicket(QuotaTicket&& other) noexcept : account_(std::move(other.account_)) {}

  QuotaTicket& operator=(QuotaTicket&& other) noexcept {
    std::swap(account_, other.account_);
    return *this;
  }

  ~QuotaTicket();

  /// Takes `tokens` of the key's.
  void Charge(std::uint64_t tokens, rt::Time now);

 private:
  friend class QuotaLedger;

  explicit QuotaTicket(std::shared_ptr<QuotaAccount> account) : account_(std::move(account)) {}

  std::shared_ptr<QuotaAccount> account_;  // null: of nobody
};

/// What is left of one limit.
struct QuotaState {
  std::uint64_t limit = 0;  // a minute; 0: none
  std::uint64_t left = 0;
  rt::Duration full_in{};  // until nothing is missing
};

class QuotaLedger final {
 public:
  QuotaLedger(const ApiKeys& keys, rt::Time now) { Update(keys, now); }

  /// Takes a new list of keys. Those that it had before keep what they used and what runs.
  void Update(const ApiKeys& keys, rt::Time now);

  struct Verdict {
    QuotaTicket ticket;      // if it is let in
    std::string_view limit;  // that is used up, a field of the key file; empty: let in
    std::uint64_t limit_amount = 0;
    rt::Duration retry_in{};  // until something is left
  };

  /// A request of the key at `key` of the file asks to be let in.
  Verdict Admit(std::size_t key, rt::Time now);

  QuotaState Requests(std::size_t key, rt::Time now) const;
  QuotaState Tokens(std::size_t key, rt::Time now) const;

 private:
  std::vector<std::shared_ptr<QuotaAccount>> accounts_;  // in the order of the keys
};

}  // namespace pixii::frontend
