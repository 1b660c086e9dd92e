#include "engine/sampling_state.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "wire/messages/generate.h"

namespace pixii::engine {
namespace {

TEST(SamplingState, SaysNothingWhenThereIsNothingToSay) {
  SamplingState state;
  EXPECT_EQ(state.Encode(), "");
  state.processors.resize(3);
  EXPECT_EQ(state.Encode(), "");
  EXPECT_TRUE(state.Decode(""));
}

TEST(SamplingState, ComesBackAsItWas) {
  SamplingState state;
  state.has_mean = true;
  state.mirostat_mean = 4.71F;
  state.processors = {"", std::string("\0\xff\x01", 3), std::string(300, 'x')};
  std::string bytes = state.Encode();
  EXPECT_EQ(bytes.size(), state.encoded_size());
  SamplingState back;
  back.has_mean = true;
  back.processors.resize(3);
  ASSERT_TRUE(back.Decode(bytes));
  EXPECT_EQ(back.mirostat_mean, 4.71F);
  EXPECT_EQ(back.processors, state.processors);
}

TEST(SamplingState, RefusesWhatItDidNotWrite) {
  SamplingState state;
  state.has_mean = true;
  state.processors = {"abc", "d"};
  std::string good = state.Encode();
  auto refused = [](const std::string& bytes) {
    SamplingState back;
    back.has_mean = true;
    back.processors.resize(2);
    return !back.Decode(bytes);
  };
  EXPECT_FALSE(refused(good));
  for (std::size_t size = 1; size < good.size(); ++size) {
    EXPECT_TRUE(refused(good.substr(0, size))) << size;
  }
  EXPECT_TRUE(refused(good + "x"));
  EXPECT_TRUE(refused("\x02" + good.substr(1)));
  std::string nan = good;
  nan.replace(1, 4, "\x00\x00\xc0\x7f", 4);
  EXPECT_TRUE(refused(nan));
  EXPECT_TRUE(refused(std::string(wire::kStateBytesMax + 1, '\x01')));
  std::mt19937_64 random(3);
  for (int i = 0; i < 5000; ++i) {  // whatever comes, it never reads past its end
    std::string bytes = good;
    bytes[random() % bytes.size()] = static_cast<char>(random());
    SamplingState back;
    back.processors.resize(2);
    (void)back.Decode(bytes);
  }
}

}  // namespace
}  // namespace pixii::engine
