#include "engine/fair_share.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace pixii::engine {
namespace {

TEST(FairShare, OneTenantIsFirstComeFirstServed) {
  FairShare shares(100);
  ShareTicket a = shares.Enter("t", 50, 0);
  ShareTicket b = shares.Enter("t", 10, 0);
  ShareTicket c = shares.Enter("t", 70, 0);
  EXPECT_LT(a.rank, b.rank);
  EXPECT_LT(b.rank, c.rank);
  // Nor does a refund bring the next one before those that wait.
  shares.Admitted(a);
  shares.Leave(a, 1);
  ShareTicket d = shares.Enter("t", 1, 0);
  EXPECT_GE(d.rank, c.rank);
}

TEST(FairShare, ATenantThatComesLateIsNotBehindTheBacklogOfAnother) {
  FairShare shares(0);
  std::vector<ShareTicket> flood;
  for (int i = 0; i < 100; ++i) {
    flood.push_back(shares.Enter("loud", 100, 0));
  }
  shares.Admitted(flood[0]);
  shares.Admitted(flood[1]);
  ShareTicket quiet = shares.Enter("quiet", 100, 0);
  EXPECT_EQ(std::ranges::count_if(flood, [&](const ShareTicket& t) { return t.rank < quiet.rank; }),
            1);  // the one that stands before it was admitted already
}

TEST(FairShare, PriorityIsAHeadStartAndBounded) {
  FairShare shares(100);
  ShareTicket low = shares.Enter("a", 10, -2);
  ShareTicket high = shares.Enter("b", 10, 1);
  EXPECT_EQ(low.rank - high.rank, 300);
  ShareTicket most = shares.Enter("c", 10, 1'000'000'000);
  EXPECT_EQ(most.rank, most.start - kPriorityMax * 100);
  ShareTicket least = shares.Enter("d", 10, -1'000'000'000);
  EXPECT_EQ(least.rank, least.start + kPriorityMax * 100);
}

TEST(FairShare, TenantsThatLeftAreForgottenOnceTheyOweNothing) {
  FairShare shares(0);
  ShareTicket a = shares.Enter("a", 10, 0);
  shares.Admitted(a);
  shares.Leave(a, 10);
  EXPECT_EQ(shares.tenant_count(), 1U);  // it is ahead of the others by what it computed
  ShareTicket b = shares.Enter("b", 100, 0);
  ShareTicket c = shares.Enter("b", 100, 0);
  shares.Admitted(b);
  shares.Admitted(c);
  ShareTicket again = shares.Enter("a", 1, 0);
  shares.Leave(again, 0);
  EXPECT_EQ(shares.tenant_count(), 1U);
}

// One that waits, and all that was put before it although it came later.
struct Waiting {
  ShareTicket ticket;
  std::uint64_t order = 0;
  std::int64_t virtual_time = 0;  // when it came
  std::int64_t owed = 0;          // forecasts of the sequences that were here when it came
  std::vector<std::uint64_t> overtakers;
};

// Admits in order of rank, under arrivals that never cease, and compares what overtook each
// sequence with the bound in fair_share.h.
class Crowd {
 public:
  explicit Crowd(std::uint64_t seed) : random_(seed) {}

  void Run() {
    for (int event = 0; event < 600; ++event) {
      for (std::uint64_t i = random_() % 4; i > 0; --i) {
        Arrive();
      }
      if (!waiting_.empty()) {
        Admit();
      }
      if (running_.size() > 4) {
        Leave(random_() % running_.size());
      }
    }
  }

  std::uint64_t overtakings() const { return overtakings_; }

 private:
  static constexpr std::uint64_t kTenants = 4;
  static constexpr std::int64_t kHeadStart = 200;
  static constexpr std::int64_t kCostMax = 300;

  void Arrive() {
    // The last tenant floods; the others come now and then.
    std::uint64_t tenant = random_() % 3 == 0 ? random_() % kTenants : kTenants - 1;
    Waiting w;
    w.virtual_time = shares_.virtual_time();
    for (const auto& [order, cost] : costs_) {
      w.owed += settled_.contains(order) ? 0 : cost;
    }
    w.ticket =
        shares_.Enter(std::to_string(tenant), 1 + static_cast<std::int64_t>(random_() % kCostMax),
                      static_cast<std::int32_t>(random_() % 21) - 10);
    w.order = costs_.size() + 1;
    costs_[w.order] = w.ticket.cost;
    waiting_.push_back(std::move(w));
  }

  void Admit() {
    auto best = std::ranges::min_element(
        waiting_, {}, [](const Waiting& w) { return std::pair(w.ticket.rank, w.order); });
    Waiting admitted = std::move(*best);
    waiting_.erase(best);
    shares_.Admitted(admitted.ticket);
    for (Waiting& other : waiting_) {
      if (other.order < admitted.order) {
        other.overtakers.push_back(admitted.order);
        ++overtakings_;
      }
    }
    // A tenant whose forecast was too high gets the rest back: what has ended counts as it was.
    std::int64_t overtook = 0;
    for (std::uint64_t order : admitted.overtakers) {
      overtook += settled_.contains(order) ? settled_[order] : costs_[order];
    }
    std::int64_t bound =
        static_cast<std::int64_t>(kTenants) * (admitted.ticket.start - admitted.virtual_time +
                                               2 * kPriorityMax * kHeadStart + kCostMax) +
        admitted.owed;
    EXPECT_LE(overtook, bound);
    running_.push_back(std::move(admitted));
  }

  void Leave(std::size_t index) {
    Waiting& w = running_[index];
    std::int64_t computed =
        static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(w.ticket.cost + 1));
    settled_[w.order] = computed;
    shares_.Leave(w.ticket, computed);
    running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(index));
  }

  std::mt19937_64 random_;
  FairShare shares_{kHeadStart};
  std::vector<Waiting> waiting_;
  std::vector<Waiting> running_;
  std::map<std::uint64_t, std::int64_t> costs_;    // forecasts, of all
  std::map<std::uint64_t, std::int64_t> settled_;  // what those that ended cost
  std::uint64_t overtakings_ = 0;
};

TEST(FairShare, NobodyWaitsLongerThanTheBound) {
  std::uint64_t overtakings = 0;
  for (std::uint64_t seed = 1; seed <= 50 && !HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Crowd crowd(seed);
    crowd.Run();
    overtakings += crowd.overtakings();
  }
  EXPECT_GT(overtakings, 10'000U);
}

}  // namespace
}  // namespace pixii::engine
