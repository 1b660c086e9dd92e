#include "sim/blame.h"

#include <gtest/gtest.h>

namespace pixii::sim {
namespace {

using std::chrono::milliseconds;

rt::Time At(int ms) { return rt::Time(milliseconds(ms)); }

// Two workers that both frontends use at 100 ms.
class BlameTest : public ::testing::Test {
 protected:
  BlameTest() {
    for (int i = 0; i < 2; ++i) {
      blame.AddWorker(At(0));
    }
    SeeAll(At(100));
  }

  void SeeAll(rt::Time now) {
    for (std::size_t worker = 0; worker < 2; ++worker) {
      for (std::size_t frontend = 0; frontend < 2; ++frontend) {
        EXPECT_EQ(blame.See(worker, frontend, true, now), "");
      }
    }
  }

  Blame blame{{.frontend_count = 2, .moves_max = 1, .deaths_max = 2, .settle = milliseconds(50)}};
};

TEST_F(BlameTest, WithoutAFaultNothingIsExplained) {
  for (const char* code : {"unavailable", "disconnected", "shutting_down", "request_poisoned"}) {
    EXPECT_EQ(blame.Explain(code, 0, At(200), At(300)), "") << code;
  }
  EXPECT_NE(blame.See(0, 0, false, At(200)), "") << "it is lost for no reason";
}

TEST_F(BlameTest, AWorkerThatJoinsMayBeUnusedUntilItIsUsed) {
  const std::size_t next = blame.AddWorker(At(200));
  EXPECT_EQ(blame.See(next, 0, false, At(300)), "");
  EXPECT_EQ(blame.See(next, 0, true, At(320)), "");
  EXPECT_NE(blame.See(next, 0, false, At(340)), "");
  EXPECT_EQ(blame.See(next, 1, false, At(340)), "") << "the other frontend has not found it yet";
}

TEST_F(BlameTest, OneFaultExplainsNoMoreThanItsWorkerAndItsTime) {
  blame.Disturb("freeze", 0, 0, Blame::Kind::kOnce, At(200), At(300));
  EXPECT_EQ(blame.See(0, 0, false, At(250)), "");
  EXPECT_EQ(blame.Explain("unavailable", 0, At(210), At(290)), "") << "worker 1 was there";
  EXPECT_EQ(blame.Explain("disconnected", 0, At(210), At(290)), "") << "it may move once";
  blame.Disturb("kill", 1, 0, Blame::Kind::kOnce, At(260), At(260));
  EXPECT_EQ(blame.Explain("disconnected", 0, At(210), At(290)), "freeze+kill");
  EXPECT_EQ(blame.Explain("unavailable", 0, At(210), At(290)), "freeze+kill");
  EXPECT_EQ(blame.Explain("request_poisoned", 0, At(210), At(290)), "freeze+kill");
  EXPECT_EQ(blame.Explain("disconnected", 1, At(210), At(290)), "") << "the other frontend";
  SeeAll(At(400));
  EXPECT_EQ(blame.Explain("disconnected", 0, At(401), At(500)), "") << "all was over";
}

TEST_F(BlameTest, AFaultThatRepeatsExplainsAnyNumberOfMoves) {
  blame.Disturb("reset", 0, 0, Blame::Kind::kRepeatedly, At(200), At(300));
  EXPECT_EQ(blame.Explain("disconnected", 0, At(210), At(290)), "reset");
  EXPECT_EQ(blame.Explain("unavailable", 0, At(210), At(290)), "reset");
}

TEST_F(BlameTest, AnOutageIsWhenNobodyIsThereAtOneInstant) {
  blame.RemoveWorker(0, At(200));
  EXPECT_EQ(blame.Explain("unavailable", 0, At(210), At(290)), "");
  blame.RemoveWorker(1, At(250));
  EXPECT_EQ(blame.Explain("unavailable", 0, At(260), At(290)), "no worker");
  EXPECT_FALSE(blame.Serves(0, At(210), At(290)));
  EXPECT_TRUE(blame.Serves(1, At(210), At(290)));
}

TEST_F(BlameTest, RefusalsAreMovesButEndNothingByThemselves) {
  EXPECT_EQ(blame.Explain("disconnected", 0, At(210), At(290), 2), "") << "nothing happened";
  blame.Disturb("kill", 0, 0, Blame::Kind::kOnce, At(200), At(200));
  EXPECT_EQ(blame.Explain("disconnected", 0, At(210), At(290)), "") << "it may move once";
  EXPECT_EQ(blame.Explain("disconnected", 0, At(210), At(290), 1), "kill");
}

TEST_F(BlameTest, WhatAWorkerSaysIsHeardIfNothingElseHappens) {
  blame.Disturb("drain", 0, 0, Blame::Kind::kOnce, At(200), At(200));
  EXPECT_TRUE(blame.Hears(0, 0, At(200), At(220), {"drain"}));
  EXPECT_FALSE(blame.Hears(0, 0, At(200), At(220), {}));
  blame.Disturb("partition", 0, 0, Blame::Kind::kTwice, At(210), At(215));
  EXPECT_FALSE(blame.Hears(0, 0, At(200), At(220), {"drain"}));
  EXPECT_TRUE(blame.Hears(0, 1, At(200), At(220), {})) << "the other frontend";
}

TEST_F(BlameTest, AFrontendThatBeginsAgainHasToFindTheWorkersAnew) {
  EXPECT_NE(blame.See(0, 1, false, At(190)), "");
  blame.RestartFrontend(1, At(200));
  EXPECT_EQ(blame.See(0, 1, false, At(210)), "");
  EXPECT_NE(blame.Explain("unavailable", 1, At(205), At(220)), "");
  EXPECT_EQ(blame.DisruptionCount(1, At(205), At(220)), 0U);
}

TEST_F(BlameTest, WhatIsOverIsForgottenAndWhatIsNotIsKept) {
  blame.Disturb("kill", 0, 0, Blame::Kind::kOnce, At(200), At(210));
  blame.Disturb("freeze", 1, 0, Blame::Kind::kTwice, At(200), At(10'000));
  EXPECT_EQ(blame.See(0, 0, true, At(300)), "");
  EXPECT_TRUE(blame.IsDisturbed(0, 0, At(200), At(210)));
  blame.Forget(At(290));
  EXPECT_TRUE(blame.IsDisturbed(0, 0, At(200), At(210))) << "it ended later";
  blame.Forget(At(400));
  EXPECT_FALSE(blame.IsDisturbed(0, 0, At(200), At(210)));
  EXPECT_TRUE(blame.IsDisturbed(1, 0, At(500), At(600)));
  EXPECT_EQ(blame.See(1, 0, false, At(500)), "") << "it is still explained";
  EXPECT_EQ(blame.See(1, 0, true, At(11'000)), "");
  blame.Forget(At(12'000));
  EXPECT_FALSE(blame.IsDisturbed(1, 0, At(500), At(600)));
}

}  // namespace
}  // namespace pixii::sim
