#include "rt/alarm.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "rt/sim_world.h"

namespace pixii::rt {
namespace {

using std::chrono::seconds;

class AlarmTest : public ::testing::Test {
 protected:
  SimWorld world_{{.seed = 1}};
  Loop& loop_ = world_.AddNode("node").loop();
  Time begin_ = loop_.Now();
  std::vector<Duration> rung_;
};

TEST_F(AlarmTest, RingsOnceAtTheTimeThatWasSetLast) {
  Alarm alarm(loop_, [this] { rung_.push_back(loop_.Now() - begin_); });
  alarm.Set(begin_ + seconds(5));
  alarm.Set(begin_ + seconds(2));
  alarm.Set(begin_ + seconds(2));
  world_.RunTo(begin_ + seconds(9));
  EXPECT_EQ(rung_, (std::vector<Duration>{seconds(2)}));
  alarm.Set(begin_ + seconds(10));
  alarm.Set(kNever);
  world_.RunTo(begin_ + seconds(20));
  EXPECT_EQ(rung_.size(), 1U);
}

TEST_F(AlarmTest, MayBeSetAgainAndDestroyedByWhatItCalls) {
  std::unique_ptr<Alarm> alarm;
  alarm = std::make_unique<Alarm>(loop_, [&] {
    rung_.push_back(loop_.Now() - begin_);
    if (rung_.size() == 2) {
      alarm.reset();
    } else {
      alarm->Set(loop_.Now() + seconds(1));
    }
  });
  alarm->Set(begin_ + seconds(1));
  world_.RunTo(begin_ + seconds(9));
  EXPECT_EQ(rung_, (std::vector<Duration>{seconds(1), seconds(2)}));
}

TEST_F(AlarmTest, ADestroyedOneIsSilent) {
  {
    Alarm alarm(loop_, [this] { rung_.push_back({}); });
    alarm.Set(begin_ + seconds(1));
  }
  world_.RunTo(begin_ + seconds(9));
  EXPECT_TRUE(rung_.empty());
}

}  // namespace
}  // namespace pixii::rt
