#include "bench/tokenizer_bench.h"

#include <gtest/gtest.h>

#include "unit/text/tokenizer/small_tokenizer.h"

namespace pixii::bench {
namespace {

TEST(TokenizerBenchTest, CountsTheIdsOfTheTextAndMeasuresBothWays) {
  auto tokenizer = text::Tokenizer::FromJson(text::SmallTokenizer().Dump(), "small").value();
  auto figures = BenchTokenizer(*tokenizer, "hello hello", {.repeats = 3}).value();
  ASSERT_EQ(figures.size(), 5U);
  for (const Figure& figure : figures) {
    EXPECT_GT(figure.value, 0.0) << figure.name;
    EXPECT_LE(figure.low, figure.high) << figure.name;
  }
  EXPECT_EQ(figures.back().name, "ids");
  EXPECT_EQ(figures.back().value, 3.0);  // hello, space, hello
}

TEST(TokenizerBenchTest, AnEmptyTextIsRefused) {
  auto tokenizer = text::Tokenizer::FromJson(text::SmallTokenizer().Dump(), "small").value();
  auto figures = BenchTokenizer(*tokenizer, "", {});
  ASSERT_FALSE(figures.has_value());
  EXPECT_EQ(figures.error().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace pixii::bench
