#include "rt/gzip.h"

#include <gtest/gtest.h>

#include <string>

namespace pixii::rt {
namespace {

TEST(Gzip, MembersBehindOneAnotherAreOneText) {
  std::string text;
  for (int i = 0; i < 50'000; ++i) {
    text += std::to_string(i * 7919 % 1000);
  }
  const std::string file = Gzip(text) + Gzip("") + Gzip("end");
  EXPECT_LT(file.size(), text.size());
  const Result<std::string> back = Gunzip(file, text.size() + 3);
  ASSERT_TRUE(back);
  EXPECT_EQ(*back, text + "end");
  const Result<std::string> large = Gunzip(file, text.size());
  ASSERT_FALSE(large);
  EXPECT_EQ(large.error().code(), Code::kTooLarge);
}

TEST(Gzip, WhatIsDamagedOrCutOffIsRefused) {
  const std::string file = Gzip("some text, some text, some text");
  for (std::size_t size = 1; size < file.size(); ++size) {
    EXPECT_FALSE(Gunzip(std::string_view(file).substr(0, size), 1000)) << size;
  }
  EXPECT_FALSE(Gunzip("no gzip at all", 1000));
  std::string wrong = file;
  wrong[file.size() / 2] = static_cast<char>(wrong[file.size() / 2] ^ 0x40);
  EXPECT_FALSE(Gunzip(wrong, 1000));
  EXPECT_EQ(Gunzip("", 1000).value_or("x"), "");
}

}  // namespace
}  // namespace pixii::rt
