// Nobody waits for ever: one request of the lowest priority under a siege that never ends, of
// higher priorities, other tenants and cached prefixes, in pools where blocks are short.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>

#include "engine_harness.h"

namespace pixii::engine::testing {
namespace {

constexpr std::int64_t kPromptMax = 24;
constexpr std::int64_t kOutputMax = 12;
constexpr std::int64_t kCostMax = kPromptMax + kOutputMax;
constexpr std::uint64_t kVictim = 1'000'000;

class Siege {
 public:
  explicit Siege(std::uint64_t seed) : random_(seed), harness_(Draw()) {}

  /// Returns how many tokens of later requests went before the first token of the waiting one.
  std::int64_t Run() {
    for (int i = 0; i < 20; ++i) {
      Flood();
      harness_.Step();
    }
    const std::int64_t owed = UnfinishedTokens();
    const std::uint64_t first_later = submitted_ + 1;
    wire::GenerateRequest victim = MakeRequest(kVictim, 12, 4, 60);
    victim.tenant = "victim";
    victim.priority = -kPriorityMax;
    EXPECT_TRUE(harness_.Submit(victim));
    // Every tenant may use up the distance of ranks, each once more by a request that straddles it;
    // cached prefixes may pass it, and the batch may hold as many that came by in the last step.
    const std::int64_t bound = (tenant_count_ + 1) * (2 * kPriorityMax * head_start_ + kCostMax) +
                               (kOvertakesMax + batch_max_) * kCostMax;
    // What is preempted may be computed again, each time for one that ranks before it.
    const std::int64_t patience = 20 * (owed + bound) + 1000;
    std::int64_t overtook = 0;
    for (std::int64_t steps = 0; !harness_.streams().has(kVictim); ++steps) {
      Flood();
      harness_.Step();
      overtook = TokensOfLater(first_later);
      EXPECT_LE(overtook, bound);
      EXPECT_LT(steps, patience);
      if (::testing::Test::HasFailure()) {
        break;
      }
    }
    harness_.RunDry();
    return overtook;
  }

 private:
  std::int64_t Below(std::uint64_t bound) { return static_cast<std::int64_t>(random_() % bound); }

  HarnessOptions Draw() {
    HarnessOptions options;
    batch_max_ = 1 + Below(6);
    tenant_count_ = 1 + Below(4);
    head_start_ = Below(60);
    options.limits.context_tokens_max = 40;
    options.limits.block_count = static_cast<std::uint32_t>(12 + Below(40));
    options.limits.host_block_count = static_cast<std::uint32_t>(Below(20));
    options.engine.batch_sequences_max = static_cast<std::uint32_t>(batch_max_);
    options.engine.batch_tokens_max = static_cast<std::uint32_t>(4 + Below(40));
    options.engine.queue_length_max = 24;
    constexpr Admission kAdmissions[] = {Admission::kEager, Admission::kForecast,
                                         Admission::kGuaranteed};
    options.engine.admission = kAdmissions[Below(3)];
    options.engine.preemption = Below(2) == 0 ? Preemption::kRecompute : Preemption::kSwap;
    options.engine.prefix_wait_plans_max = static_cast<std::uint32_t>(Below(8));
    options.engine.priority_head_start_tokens = head_start_;
    options.overlaps = Below(2) == 0;
    return options;
  }

  // As many requests as the queue takes but for one place.
  void Flood() {
    while (harness_.engine().scheduler().queued_count() < 20) {
      const std::int64_t prompt = 1 + Below(kPromptMax);
      const std::int64_t output = 1 + Below(kOutputMax);
      wire::GenerateRequest request =
          MakeRequest(++submitted_, static_cast<std::uint32_t>(prompt),
                      static_cast<std::uint32_t>(output), static_cast<TokenId>(1 + Below(3)));
      request.stop.ignore_eos = true;
      request.tenant = std::to_string(Below(static_cast<std::uint64_t>(tenant_count_)));
      request.priority = kPriorityMax;
      ASSERT_TRUE(harness_.Submit(request));
      costs_[submitted_] = prompt + output;
    }
  }

  std::int64_t UnfinishedTokens() {
    std::int64_t tokens = 0;
    for (const auto& [id, cost] : costs_) {
      tokens += harness_.streams().has(id) && harness_.streams().at(id).finish ? 0 : cost;
    }
    return tokens;
  }

  std::int64_t TokensOfLater(std::uint64_t first) {
    std::int64_t tokens = 0;
    for (auto later = costs_.lower_bound(first); later != costs_.end(); ++later) {
      tokens += harness_.streams().has(later->first) ? later->second : 0;
    }
    return tokens;
  }

  std::mt19937_64 random_;
  std::int64_t batch_max_ = 0;
  std::int64_t tenant_count_ = 0;
  std::int64_t head_start_ = 0;
  Harness harness_;
  std::uint64_t submitted_ = 0;
  std::map<std::uint64_t, std::int64_t> costs_;  // prompt and output
};

TEST(EngineWaiting, IsBoundedUnderASiegeWithoutEnd) {
  std::int64_t overtook = 0;
  for (std::uint64_t seed = 1; seed <= 200 && !HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    overtook += Siege(seed).Run();
  }
  EXPECT_GT(overtook, 20'000) << "priority never went before";
}

}  // namespace
}  // namespace pixii::engine::testing
