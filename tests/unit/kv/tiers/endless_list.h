// What a store's list of names without an end must come to, whatever store it is.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string_view>

#include "kv/tiers/list_watch.h"
#include "kv/tiers/object_store.h"

namespace pixii::kv {

/// `service` answers every part of a list with one name, and that there are more.
inline void ExpectEndlessListEnds(ObjectService& service) {
  std::uint32_t names = 0;
  const auto count = [&](std::string_view) { return ++names > 0; };
  ListWatch parts({.parts_max = 100});
  EXPECT_EQ(service.List("a", parts, count).error().code(), Code::kTooLarge);
  EXPECT_EQ(names, 100U);
  rt::Time now{};
  ListWatch time({.time_max = std::chrono::seconds(10), .clock = [&] {
                    now += std::chrono::seconds(1);
                    return now;
                  }});
  EXPECT_EQ(service.List("a", time, count).error().code(), Code::kDeadlineExceeded);
  EXPECT_EQ(names, 110U);
  const std::atomic<bool> stopping = true;
  ListWatch stopped({.stopping = &stopping});
  EXPECT_EQ(service.List("a", stopped, count).error().code(), Code::kCancelled);
  EXPECT_EQ(names, 110U);
}

}  // namespace pixii::kv
