#include "rt/function.h"

#include <gtest/gtest.h>

#include <array>
#include <memory>

namespace pixii::rt {
namespace {

TEST(Function, HoldsWhatCannotBeCopied) {
  Function<int(int)> add = [owned = std::make_unique<int>(40)](int x) { return *owned + x; };
  Function<int(int)> moved = std::move(add);
  EXPECT_FALSE(add);  // NOLINT(bugprone-use-after-move): the state after a move is what is tested
  EXPECT_EQ(moved(2), 42);
}

TEST(Function, DestroysItsCallableExactlyOnceInlineAndOnTheHeap) {
  auto counter = std::make_shared<int>(0);
  {
    Function<void()> small = [counter] {};
    Function<void()> large = [counter, padding = std::array<char, 200>{}] { (void)padding; };
    static_assert(sizeof(small) <= 64);
    EXPECT_EQ(counter.use_count(), 3);
    Function<void()> other = std::move(small);
    other = std::move(large);
    EXPECT_EQ(counter.use_count(), 2) << "assignment drops what was there";
    other();
  }
  EXPECT_EQ(counter.use_count(), 1);
}

TEST(Function, PassesReferencesAndMovesValuesThrough) {
  Function<void(int&, std::unique_ptr<int>)> store = [](int& out, std::unique_ptr<int> in) {
    out = *in;
  };
  int out = 0;
  store(out, std::make_unique<int>(7));
  EXPECT_EQ(out, 7);
}

TEST(FunctionDeathTest, CallingAnEmptyOneIsABug) {
  Function<void()> empty;
  EXPECT_DEATH(empty(), "operations_ != nullptr");
}

}  // namespace
}  // namespace pixii::rt
