#include "frontend/quota.h"

#include <gtest/gtest.h>

#include <vector>

#include "rt/random.h"

namespace pixii::frontend {
namespace {

using namespace std::chrono_literals;

ApiKeys Keys(std::string_view limits) {
  return ApiKeys::Parse("{\"keys\": [{\"key\": \"some-key-0001\"" + std::string(limits) + "}]}")
      .value();
}

constexpr rt::Time kStart{};

TEST(Quota, ARequestLimitLetsAMinutesWorthThroughAndThenOneByOne) {
  QuotaLedger ledger(Keys(R"(, "requests_per_minute": 3)"), kStart);
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(ledger.Admit(0, kStart).limit.empty()) << i;
  }
  const auto refused = ledger.Admit(0, kStart);
  EXPECT_EQ(refused.limit, "requests_per_minute");
  EXPECT_EQ(refused.limit_amount, 3U);
  EXPECT_EQ(refused.retry_in, rt::Duration(20s));
  EXPECT_FALSE(ledger.Admit(0, kStart + 19s).limit.empty());
  EXPECT_TRUE(ledger.Admit(0, kStart + 20s).limit.empty());
  EXPECT_FALSE(ledger.Admit(0, kStart + 20s).limit.empty());
  EXPECT_EQ(ledger.Requests(0, kStart + 1h).left, 3U) << "it never holds more than a minute's";
}

TEST(Quota, TokensMayLeaveADebtThatLaterRequestsWaitFor) {
  QuotaLedger ledger(Keys(R"(, "tokens_per_minute": 600)"), kStart);
  auto first = ledger.Admit(0, kStart);
  ASSERT_TRUE(first.limit.empty());
  first.ticket.Charge(1200, kStart);
  EXPECT_EQ(ledger.Tokens(0, kStart).left, 0U);
  const auto refused = ledger.Admit(0, kStart);
  EXPECT_EQ(refused.limit, "tokens_per_minute");
  EXPECT_NEAR(std::chrono::duration<double>(refused.retry_in).count(), 60.1, 0.001);
  EXPECT_FALSE(ledger.Admit(0, kStart + 60s).limit.empty());
  EXPECT_TRUE(ledger.Admit(0, kStart + 61s).limit.empty());
}

TEST(Quota, APlaceIsGivenBackWhenTheTicketDies) {
  QuotaLedger ledger(Keys(R"(, "max_requests": 2)"), kStart);
  auto first = ledger.Admit(0, kStart);
  {
    auto second = ledger.Admit(0, kStart);
    QuotaTicket moved = std::move(second.ticket);
    EXPECT_EQ(ledger.Admit(0, kStart).limit, "max_requests");
  }
  EXPECT_TRUE(ledger.Admit(0, kStart).limit.empty());
}

TEST(Quota, OverAnyLongTimeAKeyGetsItsLimitAndNoMore) {
  QuotaLedger ledger(Keys(R"(, "requests_per_minute": 100, "tokens_per_minute": 5000)"), kStart);
  rt::Random random(7);
  rt::Time now = kStart;
  std::uint64_t requests = 0;
  std::uint64_t tokens = 0;
  constexpr int kMinutes = 200;
  while (now < kStart + kMinutes * 60s) {
    now += std::chrono::milliseconds(random.Below(400));
    auto verdict = ledger.Admit(0, now);
    if (verdict.limit.empty()) {
      const std::uint64_t used = random.Below(200);
      verdict.ticket.Charge(used, now);
      ++requests;
      tokens += used;
    } else {
      EXPECT_GT(verdict.retry_in, rt::Duration::zero());
    }
  }
  EXPECT_LE(requests, 100U * (kMinutes + 1));
  EXPECT_LE(tokens, 5000U * (kMinutes + 1) + 200);
  EXPECT_GE(tokens, 5000U * (kMinutes - 1)) << "what is allowed can be used";
}

TEST(Quota, AKeyThatStaysKeepsWhatItUsedUnderItsNewLimits) {
  QuotaLedger ledger(Keys(R"(, "requests_per_minute": 3, "max_requests": 2)"), kStart);
  auto running = ledger.Admit(0, kStart);
  ASSERT_TRUE(running.limit.empty());
  ledger.Update(Keys(R"(, "requests_per_minute": 10, "max_requests": 1)"), kStart);
  EXPECT_EQ(ledger.Requests(0, kStart).left, 9U);
  EXPECT_EQ(ledger.Admit(0, kStart).limit, "max_requests");
  ledger.Update(ApiKeys::Parse("another-key").value(), kStart);
  EXPECT_TRUE(ledger.Admit(0, kStart).limit.empty()) << "another key begins anew";
  running.ticket = QuotaTicket();
  ledger.Update(Keys(R"(, "requests_per_minute": 10, "max_requests": 1)"), kStart);
  EXPECT_EQ(ledger.Requests(0, kStart).left, 10U) << "who was gone is new";
}

}  // namespace
}  // namespace pixii::frontend
