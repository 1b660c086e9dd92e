// A loop of the real system for a test, stopped when the test takes too long.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <utility>

#include "rt/loop.h"

namespace pixii::rt {

class RealLoopTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = MakeLoop();
    ASSERT_TRUE(made);
    loop = std::move(*made);
    loop->RunAt(loop->Now() + std::chrono::seconds(30), [this] {
      ADD_FAILURE() << "too late";
      loop->Stop();
    });
  }

  std::unique_ptr<Loop> loop;
};

}  // namespace pixii::rt
