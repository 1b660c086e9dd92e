#include "text/tokenizer/stop_matcher.h"

#include <gtest/gtest.h>

#include <random>

namespace pixii::text {
namespace {

StopMatcher Make(std::vector<std::string> stops, bool include = false) {
  auto matcher = StopMatcher::Create(std::move(stops), include);
  EXPECT_TRUE(matcher.has_value());
  return *matcher;
}

TEST(StopMatcherTest, AStopThatArrivesInTwoPiecesIsNeverSent) {
  StopMatcher matcher = Make({"END"});
  EXPECT_EQ(matcher.Push("abc E"), "abc ");
  EXPECT_FALSE(matcher.matched());
  EXPECT_EQ(matcher.Push("ND tail"), "");
  EXPECT_EQ(matcher.matched(), 0U);
  EXPECT_EQ(matcher.Push("more"), "");
  EXPECT_EQ(matcher.Flush(), "");
}

TEST(StopMatcherTest, AStopInsideTwoPiecesKeepsTheTextBeforeIt) {
  StopMatcher matcher = Make({"END"});
  EXPECT_EQ(matcher.Push("xEN"), "x");
  EXPECT_EQ(matcher.Push("Dy"), "");
  EXPECT_EQ(matcher.matched(), 0U);
}

TEST(StopMatcherTest, AStopThatNeverCompletesIsFlushedAtTheEnd) {
  StopMatcher matcher = Make({"END"});
  EXPECT_EQ(matcher.Push("the EN"), "the ");
  EXPECT_EQ(matcher.held_bytes(), 2U);
  EXPECT_EQ(matcher.Flush(), "EN");
  EXPECT_FALSE(matcher.matched());
}

TEST(StopMatcherTest, AFalseStartIsReleasedAsSoonAsItIsOne) {
  StopMatcher matcher = Make({"END"});
  EXPECT_EQ(matcher.Push("E"), "");
  EXPECT_EQ(matcher.Push("E"), "E");
  EXPECT_EQ(matcher.Push("x"), "Ex");
}

TEST(StopMatcherTest, TheStopStandsInTheTextWhenAskedFor) {
  StopMatcher matcher = Make({"\n\n", "END"}, true);
  EXPECT_EQ(matcher.Push("aEN"), "a");
  EXPECT_EQ(matcher.Push("Dz"), "END");
  EXPECT_EQ(matcher.matched(), 1U);
}

TEST(StopMatcherTest, OfStopsThatCompleteTogetherTheLongestCounts) {
  StopMatcher matcher = Make({"b", "ab", "xyz"});
  EXPECT_EQ(matcher.Push("xab"), "x");
  EXPECT_EQ(matcher.matched(), 1U);
}

TEST(StopMatcherTest, RefusesEmptyTooLongAndTooManyByName) {
  for (auto stops : {std::vector<std::string>{""}, std::vector<std::string>(33, "a"),
                     std::vector<std::string>{std::string(kStopStringBytesMax + 1, 'a')}}) {
    auto matcher = StopMatcher::Create(stops);
    ASSERT_FALSE(matcher.has_value());
    EXPECT_EQ(matcher.error().code(), Code::kInvalidArgument);
    EXPECT_EQ(matcher.error().param(), "stop");
  }
}

// The oracle looks at the whole text: the earliest end of any stop, the longest of those that end
// there.
struct Expected {
  std::string text;
  bool matched;
};

Expected Oracle(const std::string& text, const std::vector<std::string>& stops) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    std::size_t longest = 0;
    for (const std::string& stop : stops) {
      if (end >= stop.size() && text.compare(end - stop.size(), stop.size(), stop) == 0) {
        longest = std::max(longest, stop.size());
      }
    }
    if (longest > 0) {
      return {text.substr(0, end - longest), true};
    }
  }
  return {text, false};
}

// How much of `text` may still become a stop string.
std::size_t LongestBeginning(const std::string& text, const std::vector<std::string>& stops) {
  std::size_t longest = 0;
  for (const std::string& stop : stops) {
    for (std::size_t n = 1; n < stop.size() && n <= text.size(); ++n) {
      if (text.compare(text.size() - n, n, stop, 0, n) == 0) {
        longest = std::max(longest, n);
      }
    }
  }
  return longest;
}

TEST(StopMatcherTest, AgreesWithANaiveSearchUnderEveryPartition) {
  auto seed = std::random_device{}();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  auto draw = [&](std::size_t low, std::size_t high) {
    return std::uniform_int_distribution<std::size_t>(low, high)(random);
  };
  auto word = [&](std::size_t bytes_max) {
    std::string out(draw(1, bytes_max), 'a');
    for (char& c : out) {
      c = static_cast<char>('a' + draw(0, 2));
    }
    return out;
  };
  for (int round = 0; round < 5'000; ++round) {
    std::vector<std::string> stops;
    for (std::size_t n = draw(1, 5); n > 0; --n) {
      stops.push_back(word(6));
    }
    std::string text = word(30);
    StopMatcher matcher = Make(stops);
    std::string sent;
    for (std::size_t at = 0; at < text.size() && !matcher.matched();) {
      std::size_t size = draw(1, 4);
      sent += matcher.Push(std::string_view(text).substr(at, size));
      at = std::min(text.size(), at + size);
      if (!matcher.matched()) {
        ASSERT_EQ(at - sent.size(), LongestBeginning(text.substr(0, at), stops)) << text;
      }
    }
    bool matched = matcher.matched().has_value();
    sent += matcher.Flush();
    Expected expected = Oracle(text, stops);
    ASSERT_EQ(sent, expected.text) << text;
    ASSERT_EQ(matched, expected.matched) << text;
  }
}

}  // namespace
}  // namespace pixii::text
