#include "bench/columns.h"

#include <gtest/gtest.h>

namespace pixii::bench {
namespace {

TEST(Columns, FiguresComeInTheOrderOfTheirFirstRound) {
  Columns columns;
  for (const double value : {3.0, 1.0, 2.0}) {
    columns.Put("second", "ms", value * 10);
    columns.Put("first", "s", value);
  }
  const std::vector<Figure> figures = columns.Figures();
  ASSERT_EQ(figures.size(), 2U);
  EXPECT_EQ(figures[0].name, "second");
  EXPECT_EQ(figures[0].unit, "ms");
  EXPECT_EQ(figures[0].value, 20);
  EXPECT_EQ(figures[1].low, 1);
  EXPECT_EQ(figures[1].high, 3);
  EXPECT_FALSE(figures[1].limit);
}

TEST(Columns, RatiosAreThoseOfTheRounds) {
  Columns columns;
  for (const auto& [ours, theirs] : {std::pair{10.0, 20.0}, {30.0, 10.0}, {8.0, 8.0}}) {
    columns.Put("ours", "1/s", ours);
    columns.Put("theirs", "1/s", theirs);
  }
  constexpr std::pair<std::string_view, std::string_view> kLimits[] = {{"ours", "theirs"},
                                                                       {"theirs", "nobody"}};
  const std::vector<Figure> figures = columns.Figures(kLimits);
  ASSERT_EQ(figures.size(), 3U);
  EXPECT_EQ(figures[0].limit_name, "theirs");
  EXPECT_EQ(figures[0].fraction(), 1);  // the median of 0.5, 3 and 1
  EXPECT_EQ(figures[1].name, "ours_of_theirs");
  EXPECT_EQ(figures[1].value, 1);
  EXPECT_EQ(figures[1].high, 3);
  EXPECT_FALSE(figures[2].limit);
}

}  // namespace
}  // namespace pixii::bench
