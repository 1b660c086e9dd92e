#include "bench/report.h"

#include <gtest/gtest.h>

namespace pixii::bench {
namespace {

TEST(Quantile, IsTheNearestRank) {
  EXPECT_EQ(Quantile({}, 0.5), 0);
  EXPECT_EQ(Quantile({3, 1, 2}, 0.5), 2);
  EXPECT_EQ(Quantile({1, 2, 3, 4}, 0.5), 2);
  EXPECT_EQ(Quantile({1, 2, 3, 4}, 0.99), 4);
  EXPECT_EQ(Quantile({5}, 0), 5);
}

TEST(Report, WritesEveryKeyThatReadersExpect) {
  Report report;
  report.commit = "abc";
  report.machine = wire::Json(wire::Json::Object{});
  report.flags = wire::Json(wire::Json::Object{});
  report.figures.push_back(MakeFigure("decode_b1", "tokens/s", {10, 30, 20}));
  report.figures.back().limit = 40;
  report.figures.back().limit_name = "memory bandwidth";
  wire::Json json = report.ToJson();
  const wire::Json& row = json.Find("results")->array().at(0);
  EXPECT_EQ(row.Find("value")->AsDouble(), 20);
  EXPECT_EQ(row.Find("low")->AsDouble(), 10);
  EXPECT_EQ(row.Find("high")->AsDouble(), 30);
  EXPECT_EQ(row.Find("quartile_low")->AsDouble(), 10);
  EXPECT_EQ(row.Find("quartile_high")->AsDouble(), 30);
  EXPECT_EQ(row.Find("fraction")->AsDouble(), 0.5);
  EXPECT_EQ(row.Find("limit_name")->string(), "memory bandwidth");
  for (const char* key : {"machine", "commit", "flags"}) {
    EXPECT_NE(json.Find(key), nullptr) << key;
  }
}

}  // namespace
}  // namespace pixii::bench
