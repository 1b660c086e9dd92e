#include "text/grammar/number_box.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace pixii::text::grammar {
namespace {

Decimal D(std::string_view text) { return Decimal::Parse(text).value_or(Decimal()); }

TEST(Decimal, ComparesByValue) {
  EXPECT_EQ(D("1"), D("1.0"));
  EXPECT_EQ(D("100"), D("1e2"));
  EXPECT_EQ(D("-0"), D("0.000"));
  EXPECT_LT(D("-2"), D("-1.5"));
  EXPECT_LT(D("9.99"), D("10"));
  EXPECT_LT(D("0.5"), D("5"));
  EXPECT_GT(D("1e400"), D("9e399"));
  EXPECT_TRUE(D("1.5e1").IsInteger());
  EXPECT_FALSE(D("1.55e1").IsInteger());
  for (const char* bad : {"", "-", "01", "1.", ".5", "1e", "+1", "1x"}) {
    EXPECT_FALSE(Decimal::Parse(bad)) << bad;
  }
}

TEST(Decimal, MultiplesAreExact) {
  EXPECT_TRUE(D("0.3").IsMultipleOf(D("0.1")));
  EXPECT_TRUE(D("19.99").IsMultipleOf(D("0.01")));
  EXPECT_FALSE(D("0.35").IsMultipleOf(D("0.1")));
  EXPECT_TRUE(D("1e300").IsMultipleOf(D("7e299")) == false);
  EXPECT_TRUE(D("123456789012345678901234567890").IsMultipleOf(D("15")));
}

// Every prefix of a number of the box can become one; what cannot has no continuation in reach.
TEST(NumberBox, ZerosOfAnExponentLeaveRoomForTheDigitsThatCount) {
  EXPECT_TRUE(IsNumberPrefix("2.5e+00"));
  EXPECT_TRUE(IsNumberPrefix("2.5e+001"));
  EXPECT_FALSE(IsNumberPrefix("2.5e+000"));
}

TEST(NumberBox, PrefixesAgreeWithASearch) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    NumberBox box;
    int low = static_cast<int>(random() % 400) - 200;
    int high = low + static_cast<int>(random() % 60);
    box.AtLeast(D(std::to_string(low)), random() % 2 == 0);
    box.AtMost(D(std::to_string(high)), random() % 2 == 0);
    box.integer = random() % 2 == 0;
    if (random() % 3 == 0) {
      box.steps.push_back(D(std::to_string(1 + random() % 9)));
    }
    for (int value = low - 5; value <= high + 5; ++value) {
      std::string text = std::to_string(value);
      if (!box.Holds(D(text))) {
        continue;
      }
      for (std::size_t size = 1; size <= text.size(); ++size) {
        EXPECT_TRUE(CanBecome(box, text.substr(0, size))) << low << " " << high << " " << text;
      }
    }
    // Three digits are out of reach of |200| + 60 only by plain spelling beyond 999.
    for (int lead = 1000; lead < 1020; ++lead) {
      EXPECT_FALSE(CanBecome(box, std::to_string(lead))) << low << " " << high << " " << lead;
    }
  }
}

TEST(NumberBox, SaysWhenNothingIsLeft) {
  NumberBox box;
  box.AtLeast(D("0.1"), false);
  box.AtMost(D("0.9"), false);
  EXPECT_TRUE(box.Possible());
  box.integer = true;
  EXPECT_FALSE(box.Possible());
  NumberBox step;
  step.AtLeast(D("10"), true);
  step.AtMost(D("13"), false);
  step.steps = {D("2"), D("3")};
  EXPECT_TRUE(step.Possible());
  step.excluded = {D("12")};
  EXPECT_FALSE(step.Possible());
}

TEST(NumberBox, ExponentsAreFollowed) {
  NumberBox box;
  box.AtLeast(D("0"), false);
  box.AtMost(D("0.001"), false);
  EXPECT_TRUE(CanBecome(box, "5"));
  EXPECT_TRUE(CanBecome(box, "5.1e-"));
  EXPECT_TRUE(CanBecome(box, "5e-05"));
  EXPECT_FALSE(CanBecome(box, "5e0"));
  EXPECT_FALSE(CanBecome(box, "55"));
  EXPECT_FALSE(CanBecome(box, "5e+"));
}

}  // namespace
}  // namespace pixii::text::grammar
