// The same tests on the real loop and on the simulated one.
#pragma once

#include <gtest/gtest.h>

#include <memory>

#include "rt/loop.h"
#include "rt/net.h"
#include "rt/sim_world.h"

namespace pixii::rt {

class RealWorld {
 public:
  Loop& loop() { return *loop_; }

  Net& net() { return *net_; }

  std::string host() const { return "127.0.0.1"; }

  /// Runs until `done`; fails the test if that takes 20 s.
  template <class Predicate>
  void RunUntil(Predicate done) {
    const Time give_up = loop_->Now() + 20s;
    loop_->Spawn(StopWhen(*loop_, Function<bool()>(done), give_up));
    loop_->Run();
    EXPECT_TRUE(done()) << "it did not happen within 20 s";
  }

  void RunFor(Duration duration) {
    loop_->RunAt(loop_->Now() + duration, [this] { loop_->Stop(); });
    loop_->Run();
  }

 private:
  static Task<void> StopWhen(Loop& loop, Function<bool()> done, Time give_up) {
    while (!done() && loop.Now() < give_up) {
      co_await loop.SleepFor(20us);
    }
    loop.Stop();
  }

  std::unique_ptr<Loop> loop_ = MakeLoop().value();
  std::unique_ptr<Net> net_ = MakeNet(*loop_);
};

class SimTestWorld {
 public:
  Loop& loop() { return node_.loop(); }

  Net& net() { return node_.net(); }

  std::string host() const { return "127.0.0.1"; }

  template <class Predicate>
  void RunUntil(Predicate done) {
    EXPECT_EQ(world_.RunUntil(done, world_.now() + 20s), SimEnd::kDone);
  }

  void RunFor(Duration duration) { world_.RunTo(world_.now() + duration); }

 private:
  SimWorld world_{SimOptions{.seed = 1}};
  SimNode& node_ = world_.AddNode("node");
};

using Worlds = testing::Types<RealWorld, SimTestWorld>;

}  // namespace pixii::rt
