#include "frontend/response_store.h"

#include <gtest/gtest.h>

namespace pixii::frontend {
namespace {

using namespace std::chrono_literals;

StoredResponse Of(std::uint64_t size_bytes) {
  return {.body = "b", .messages = {}, .size_bytes = size_bytes};
}

TEST(ResponseStore, KeepsEachTenantsOwn) {
  ResponseStore store({});
  store.Put("a", "1", Of(1), rt::Time{});
  EXPECT_NE(store.Get("a", "1", rt::Time{}), nullptr);
  EXPECT_EQ(store.Get("b", "1", rt::Time{}), nullptr);
  EXPECT_FALSE(store.Erase("b", "1", rt::Time{}));
  EXPECT_TRUE(store.Erase("a", "1", rt::Time{}));
  EXPECT_EQ(store.Get("a", "1", rt::Time{}), nullptr);
  EXPECT_EQ(store.size_bytes(), 0U);
}

TEST(ResponseStore, DropsTheOldestPastItsCountAndBytes) {
  ResponseStore store({.count_max = 2, .bytes_max = 10});
  for (const char* id : {"1", "2", "3"}) {
    store.Put("", id, Of(4), rt::Time{});
  }
  EXPECT_EQ(store.Get("", "1", rt::Time{}), nullptr);
  EXPECT_NE(store.Get("", "2", rt::Time{}), nullptr);
  store.Put("", "4", Of(10), rt::Time{});
  EXPECT_EQ(store.Get("", "3", rt::Time{}), nullptr);
  EXPECT_EQ(store.size_bytes(), 10U);
  store.Put("", "5", Of(11), rt::Time{});
  EXPECT_EQ(store.Get("", "5", rt::Time{}), nullptr) << "larger than all the room";
  EXPECT_NE(store.Get("", "4", rt::Time{}), nullptr);
}

TEST(ResponseStore, ForgetsWhatIsPastItsTime) {
  ResponseStore store({.lifetime = rt::Duration(10s)});
  store.Put("", "1", Of(1), rt::Time{});
  EXPECT_NE(store.Get("", "1", rt::Time{} + 9s), nullptr);
  EXPECT_EQ(store.Get("", "1", rt::Time{} + 10s), nullptr);
  EXPECT_EQ(store.size_bytes(), 0U);
}

}  // namespace
}  // namespace pixii::frontend
