#include "control/kube_election.h"

#include <gtest/gtest.h>

namespace pixii::control {
namespace {

using std::chrono::seconds;
using wire::Json;

// A Lease as it lies in a server that takes every write in turn.
class KubeElectionTest : public testing::Test {
 protected:
  KubeElection one_{{.identity = "one"}};
  KubeElection two_{{.identity = "two"}};
  std::optional<Json> lease_;
  rt::Time now_{seconds(100)};
  std::int64_t wall_ = 1'000'000;

  /// Whether it wrote.
  bool Try(KubeElection& election) {
    ++wall_;
    const auto write = election.OnRead(lease_ ? &*lease_ : nullptr, now_,
                                       {.unix_seconds = wall_, .nanoseconds = 0});
    if (write) {
      EXPECT_EQ(write->creates, !lease_.has_value());
      lease_ = write->object;
      election.OnWritten(now_);
    }
    return write.has_value();
  }
};

TEST_F(KubeElectionTest, OneLeadsWhileItRenews) {
  EXPECT_TRUE(Try(one_));
  EXPECT_TRUE(one_.Leads(now_));
  for (int i = 0; i < 50; ++i) {
    now_ += seconds(2);
    EXPECT_TRUE(Try(one_));
    EXPECT_FALSE(Try(two_));
    EXPECT_TRUE(one_.Leads(now_));
    EXPECT_FALSE(two_.Leads(now_));
  }
}

TEST_F(KubeElectionTest, ALeaderThatIsSilentLeadsNoMoreBeforeAnotherDoes) {
  EXPECT_TRUE(Try(one_));
  EXPECT_FALSE(Try(two_));
  const rt::Time begun = now_;
  while (!Try(two_)) {
    now_ += seconds(1);
    EXPECT_FALSE(one_.Leads(now_) && two_.Leads(now_));
  }
  EXPECT_EQ(now_ - begun, seconds(15));
  EXPECT_FALSE(one_.Leads(now_));
  EXPECT_EQ(TextAt(*lease_, {"spec", "holderIdentity"}), "two");
  EXPECT_EQ(FindAt(*lease_, {"spec", "leaseTransitions"})->AsInt(), 1);
  EXPECT_FALSE(Try(one_));
}

TEST_F(KubeElectionTest, ALeaseThatIsSeenForTheFirstTimeIsBelievedWhatItsClockSays) {
  EXPECT_TRUE(Try(one_));
  wall_ += 1'000'000;  // of the day; nobody asks it
  EXPECT_FALSE(Try(two_));
}

TEST_F(KubeElectionTest, ALeaseThatIsGivenBackIsTakenAtOnce) {
  EXPECT_TRUE(Try(one_));
  EXPECT_FALSE(two_.Release(*lease_, {.unix_seconds = wall_, .nanoseconds = 0}));
  lease_ = one_.Release(*lease_, {.unix_seconds = wall_, .nanoseconds = 0});
  ASSERT_TRUE(lease_);
  EXPECT_TRUE(Try(two_));
}

TEST_F(KubeElectionTest, WhoLosesAWriteDoesNotLead) {
  EXPECT_TRUE(Try(one_));
  one_.OnLost();
  EXPECT_FALSE(one_.Leads(now_));
}

}  // namespace
}  // namespace pixii::control
