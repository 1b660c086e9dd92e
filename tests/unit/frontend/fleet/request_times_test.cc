#include "frontend/fleet/request_times.h"

#include <gtest/gtest.h>

namespace pixii::frontend {
namespace {

using std::chrono::seconds;

rt::Time At(int second) { return rt::Time{} + seconds(second); }

TEST(RequestTimesTest, TheEarliestComesFirstAndNoneBeforeItsTime) {
  RequestTimes times;
  EXPECT_EQ(times.next(), rt::kNever);
  times.Set(RequestId{1}, At(3));
  times.Set(RequestId{2}, At(1));
  times.Set(RequestId{3}, At(2));
  EXPECT_EQ(times.next(), At(1));
  EXPECT_EQ(times.TakeDue(At(0)), std::nullopt);
  EXPECT_EQ(times.TakeDue(At(2)), RequestId{2});
  EXPECT_EQ(times.TakeDue(At(2)), RequestId{3});
  EXPECT_EQ(times.TakeDue(At(2)), std::nullopt);
  EXPECT_EQ(times.next(), At(3));
}

TEST(RequestTimesTest, ARequestHasOneTimeTheLastThatWasSet) {
  RequestTimes times;
  times.Set(RequestId{1}, At(1));
  times.Set(RequestId{1}, At(5));
  times.Set(RequestId{2}, At(2));
  times.Remove(RequestId{3});
  EXPECT_EQ(times.TakeAll(), (std::vector{RequestId{2}, RequestId{1}}));
  EXPECT_EQ(times.next(), rt::kNever);
  times.Set(RequestId{1}, At(1));
  times.Remove(RequestId{1});
  EXPECT_EQ(times.TakeDue(At(9)), std::nullopt);
}

}  // namespace
}  // namespace pixii::frontend
