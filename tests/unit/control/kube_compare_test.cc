#include "control/kube_compare.h"

#include <gtest/gtest.h>

namespace pixii::control {
namespace {

using wire::Json;

bool Holds(const char* there, const char* wanted) {
  return Covers(*wire::ParseJson(there), *wire::ParseJson(wanted));
}

TEST(KubeCompareTest, WhatTheServerAddsIsNoDifference) {
  EXPECT_TRUE(Holds(R"({"a":1,"b":{"c":2,"d":3}})", R"({"b":{"c":2}})"));
  EXPECT_TRUE(Holds(R"({"l":[{"name":"x","protocol":"TCP"}]})", R"({"l":[{"name":"x"}]})"));
  EXPECT_TRUE(Holds(R"({})", R"({"a":"","b":0,"c":false,"d":[],"e":{},"f":null,"g":{"h":{}}})"));
  EXPECT_TRUE(Holds(R"({"cpu":"1","memory":"1Gi"})", R"({"cpu":"1000m","memory":"1024Mi"})"));
  EXPECT_TRUE(Holds(R"({"cpu":"4"})", R"({"cpu":4})"));
}

TEST(KubeCompareTest, WhatSomebodyChangedIs) {
  EXPECT_FALSE(Holds(R"({"a":1})", R"({"a":2})"));
  EXPECT_FALSE(Holds(R"({})", R"({"a":1})"));
  EXPECT_FALSE(Holds(R"({"l":[1,2]})", R"({"l":[1]})"));
  EXPECT_FALSE(Holds(R"({"l":[{"name":"x"}]})", R"({"l":[{"name":"y"}]})"));
  EXPECT_FALSE(Holds(R"({"cpu":"1"})", R"({"cpu":"1001m"})"));
  EXPECT_FALSE(Holds(R"({"image":"pixii:1"})", R"({"image":"pixii:2"})"));
}

TEST(KubeCompareTest, QuantitiesAreNumbers) {
  EXPECT_EQ(KubeQuantity("100m"), 0.1);
  EXPECT_EQ(KubeQuantity("1Gi"), 1073741824.0);
  EXPECT_EQ(KubeQuantity("1e3"), 1000.0);
  for (const char* none : {"", "Gi", "1 Gi", "1gi", "pixii", "1KiB", "nan"}) {
    EXPECT_FALSE(KubeQuantity(none)) << none;
  }
}

TEST(KubeCompareTest, ADigestIsOfTheValueNotOfItsOrder) {
  EXPECT_EQ(KubeDigest(*wire::ParseJson(R"({"a":1,"b":[{"c":2,"d":3}]})")),
            KubeDigest(*wire::ParseJson(R"({"b":[{"d":3,"c":2}],"a":1})")));
  EXPECT_NE(KubeDigest(*wire::ParseJson(R"([1,2])")), KubeDigest(*wire::ParseJson(R"([2,1])")));
  EXPECT_NE(KubeDigest(*wire::ParseJson(R"(["a","b"])")),
            KubeDigest(*wire::ParseJson(R"(["ab"])")));
}

}  // namespace
}  // namespace pixii::control
