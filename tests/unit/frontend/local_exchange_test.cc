#include "frontend/local_exchange.h"

#include <gtest/gtest.h>

namespace pixii::frontend {
namespace {

struct Watcher final : ExchangeWatcher {
  void OnClientGone() override { gone = true; }

  void OnRoom() override { room = true; }

  bool gone = false;
  bool room = false;
};

TEST(LocalExchange, GivesTheWholeAnswer) {
  int changes = 0;
  LocalExchange exchange({}, [&] { ++changes; }, 8);
  EXPECT_FALSE(exchange.ended());
  exchange.Respond({.status = 404, .body = "x", .fields = {}});
  EXPECT_TRUE(exchange.ended());
  EXPECT_EQ(exchange.response()->status, 404);
  EXPECT_EQ(changes, 1);
}

TEST(LocalExchange, HoldsAStreamThatNobodyTakesAndGoesOn) {
  LocalExchange exchange({}, [] {}, 8);
  Watcher watcher;
  exchange.Watch(&watcher);
  exchange.StartStream("text/event-stream", {});
  EXPECT_TRUE(exchange.streaming());
  exchange.stream() += "123456789";
  EXPECT_TRUE(exchange.congested());
  EXPECT_FALSE(watcher.room);
  EXPECT_EQ(exchange.TakeStream(), "123456789");
  EXPECT_TRUE(watcher.room);
  EXPECT_FALSE(exchange.congested());
  exchange.stream() += "0";
  exchange.EndStream();
  EXPECT_TRUE(exchange.ended());
  EXPECT_EQ(exchange.TakeStream(), "0");
}

TEST(LocalExchange, TellsWhoAnswersThatNobodyWaits) {
  LocalExchange exchange({}, [] {}, 8);
  Watcher watcher;
  exchange.Watch(&watcher);
  exchange.HangUp();
  EXPECT_TRUE(watcher.gone);
  EXPECT_TRUE(exchange.ended());
  EXPECT_FALSE(exchange.response());
}

}  // namespace
}  // namespace pixii::frontend
