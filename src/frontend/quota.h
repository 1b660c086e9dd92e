// How much of its limits each API key has used: requests and tokens a minute, requests at a time.
//
// Thread: the frontend's loop. Pure: decides from what it is told and the time.
// Requests and tokens are buckets that hold a minute's amount and refill evenly. A request is let
// in while both have something left; its tokens are taken as they come and may leave a debt, which
// later requests wait for, so what a key gets in the long run is its limit.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "frontend/api_keys.h"
#include "rt/time.h"

namespace pixii::frontend {

class QuotaLedger;

/// A request's place among its key's; gives it back when it dies. The ledger outlives it.
class [[nodiscard]] QuotaTicket final {
 public:
  QuotaTicket() = default;  // of nobody

  QuotaTicket(QuotaTicket&& other) noexcept
      : ledger_(std::exchange(other.ledger_, nullptr)), key_(other.key_) {}

  QuotaTicket& operator=(QuotaTicket&& other) noexcept {
    std::swap(ledger_, other.ledger_);
    std::swap(key_, other.key_);
    return *this;
  }

  ~QuotaTicket();

  /// Takes `tokens` of the key's.
  void Charge(std::uint64_t tokens, rt::Time now);

 private:
  friend class QuotaLedger;

  QuotaTicket(QuotaLedger& ledger, std::size_t key) : ledger_(&ledger), key_(key) {}

  QuotaLedger* ledger_ = nullptr;
  std::size_t key_ = 0;
};

/// What is left of one limit.
struct QuotaState {
  std::uint64_t limit = 0;  // a minute; 0: none
  std::uint64_t left = 0;
  rt::Duration full_in{};  // until nothing is missing
};

class QuotaLedger final {
 public:
  explicit QuotaLedger(const ApiKeys& keys, rt::Time now);

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
  friend class QuotaTicket;

  struct Bucket {
    double limit = 0;  // a minute, and what it holds at most; 0: none
    double level = 0;  // at `at`; below 0: debt
    rt::Time at{};

    double LevelAt(rt::Time now) const;
    void Take(double amount, rt::Time now);
    /// Until `level` is reached.
    rt::Duration WaitFor(double wanted, rt::Time now) const;
    QuotaState StateAt(rt::Time now) const;
  };

  struct Account {
    Bucket requests;
    Bucket tokens;
    std::uint32_t running = 0;
    std::uint32_t running_max = 0;  // 0: no limit
  };

  std::vector<Account> accounts_;
};

}  // namespace pixii::frontend
