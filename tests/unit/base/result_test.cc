#include "base/result.h"

#include <gtest/gtest.h>

#include <set>

namespace pixii {
namespace {

Result<int> Half(int value) {
  if (value % 2 != 0) {
    return Fail(Code::kInvalidArgument, "value must be even", "value");
  }
  return value / 2;
}

Result<int> Quarter(int value) {
  PX_TRY(int half, Half(value));
  PX_TRY(int quarter, Half(half));
  return quarter;
}

TEST(Result, TryReturnsTheFirstError) {
  EXPECT_EQ(Quarter(8).value(), 2);
  Result<int> bad = Quarter(6);
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().code(), Code::kInvalidArgument);
  EXPECT_EQ(bad.error().param(), "value");
  EXPECT_EQ(bad.error().ToString(), "InvalidArgument: value must be even");
}

TEST(ErrorCodes, NamesAreUniqueAndStatusesAreErrors) {
  std::set<std::string_view> names;
  for (int i = 0; i <= static_cast<int>(Code::kResourceExhausted); ++i) {
    auto code = static_cast<Code>(i);
    EXPECT_TRUE(names.insert(CodeName(code)).second) << CodeName(code);
    EXPECT_GE(HttpStatus(code), 400);
  }
}

}  // namespace
}  // namespace pixii
