#include "control/scale_order.h"

#include <gtest/gtest.h>

namespace pixii::control {
namespace {

TEST(ScaleOrder, ComesBackAsItWasWritten) {
  const ScaleOrder order{.decision = 1'763'000'000'000,
                         .done = 7,
                         .counts = {{"prefill", 2}, {"decode", 0}},
                         .reason = "3 carry \"it\""};
  const auto read = DecodeScaleOrder(EncodeScaleOrder(order));
  ASSERT_TRUE(read) << read.error().detail();
  EXPECT_EQ(*read, order);
  const ScaleReport report{.decision = 9, .counts = {{"decode", 3}}, .error = "no room"};
  EXPECT_EQ(*DecodeScaleReport(EncodeScaleReport(report)), report);
}

TEST(ScaleOrder, WhatAnybodyMayHaveWrittenIsChecked) {
  EXPECT_FALSE(DecodeScaleOrder("[]"));
  EXPECT_FALSE(DecodeScaleOrder(R"({"decision_id":1,"scaled_decision_id":0})"));
  EXPECT_EQ(DecodeScaleOrder(R"({"decision_id":-1,"scaled_decision_id":0,"components":{}})")
                .error()
                .param(),
            "decision_id");
  for (const char* count : {"-1", "1.5", "2000000000", "\"3\"", "null"}) {
    const std::string text =
        std::string(R"({"scaled_decision_id":1,"components":{"a":)") + count + "}}";
    EXPECT_EQ(DecodeScaleReport(text).error().param(), "components") << count;
  }
}

TEST(ScaleOrder, KeysOfOneNamespaceHaveOnePrefix) {
  EXPECT_TRUE(ScaleOrderKey("a").starts_with(ScalePrefix("a")));
  EXPECT_TRUE(ScaleReportKey("a").starts_with(ScalePrefix("a")));
  EXPECT_NE(ScaleOrderKey("a"), ScaleReportKey("a"));
}

}  // namespace
}  // namespace pixii::control
