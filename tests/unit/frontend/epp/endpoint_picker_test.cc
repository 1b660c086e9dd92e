// What the picker makes of addresses and bodies; how it works as a whole: tests/e2e/epp_test.py.
#include "frontend/epp/endpoint_picker.h"

#include <gtest/gtest.h>

#include "wire/json.h"

namespace pixii::frontend {
namespace {

TEST(EndpointPicker, AnEndpointIsBesideItsWorker) {
  EXPECT_EQ(EndpointOf("10.1.2.3:4567", 8000), "10.1.2.3:8000");
  EXPECT_EQ(EndpointOf("[fd00::1]:4567", 80), "[fd00::1]:80");
  EXPECT_FALSE(EndpointOf("unix:/run/worker", 8000));
  EXPECT_FALSE(EndpointOf("nowhere", 8000));
}

TEST(EndpointPicker, TokensGoWithTheBody) {
  EXPECT_EQ(WithTokenData(R"({"a": 1.50, "nvext": {"b": [2]}})", {7, 8}),
            R"({"a":1.50,"nvext":{"b":[2],"token_data":[7,8]}})");
  EXPECT_EQ(WithTokenData(R"({"nvext":null})", {7}), R"({"nvext":{"token_data":[7]}})");
  EXPECT_EQ(WithTokenData(R"({"nvext":{"token_data":[1]}})", {7}),
            R"({"nvext":{"token_data":[7]}})");
  EXPECT_FALSE(WithTokenData("[1]", {7}));
  EXPECT_FALSE(WithTokenData("{", {7}));
}

}  // namespace
}  // namespace pixii::frontend
