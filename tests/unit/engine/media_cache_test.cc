// Features are kept by digest, the latest used longest, within a budget of bytes.
#include "engine/media_cache.h"

#include <gtest/gtest.h>

#include <memory>

namespace pixii::engine {
namespace {

std::shared_ptr<const model::VisionFeatures> Floats(std::size_t count) {
  auto features = std::make_shared<model::VisionFeatures>();
  features->rows_data.resize(count);
  return features;
}

TEST(MediaCache, TheLeastRecentlyUsedGoFirst) {
  MediaCache cache(3 * 4 * sizeof(float));
  for (const char* name : {"a", "b", "c"}) {
    cache.Put(name, Floats(4));
  }
  EXPECT_NE(cache.Find("a"), nullptr);
  cache.Put("d", Floats(4));
  EXPECT_EQ(cache.Find("b"), nullptr);
  EXPECT_NE(cache.Find("a"), nullptr);
  EXPECT_NE(cache.Find("c"), nullptr);
  EXPECT_NE(cache.Find("d"), nullptr);
  EXPECT_EQ(cache.count(), 3U);
}

TEST(MediaCache, ItsBudgetIsNeverPassed) {
  MediaCache cache(40);
  cache.Put("large", Floats(11));
  EXPECT_EQ(cache.count(), 0U) << "44 bytes";
  cache.Put("small", Floats(2));
  cache.Put("small", Floats(2));
  EXPECT_EQ(cache.size_bytes(), 8U) << "counted once";
  cache.Put("whole", Floats(10));
  EXPECT_EQ(cache.Find("small"), nullptr);
  EXPECT_EQ(cache.size_bytes(), 40U);
}

}  // namespace
}  // namespace pixii::engine
