#include "streams.h"

#include <gtest/gtest.h>

#include "rt/thread.h"

namespace pixii::python {
namespace {

using namespace std::chrono_literals;

Piece Tokens(std::vector<TokenId> tokens, bool ends = false) {
  Piece out;
  out.frame.tokens = std::move(tokens);
  if (ends) {
    out.frame.finish = wire::FinishReason::kStop;
  }
  return out;
}

TEST(Streams, PiecesWaitInOrderAndTheFirstOfThemWakes) {
  Streams streams;
  int woken = 0;
  const StreamKey key = streams.Open([&] { ++woken; });
  const StreamKey other = streams.Open([] { FAIL() << "nothing came for it"; });
  streams.Put(key, Tokens({1}));
  streams.Put(key, Tokens({2}));
  EXPECT_EQ(woken, 1);
  const std::vector<Piece> taken = streams.Take(key, 0s);
  ASSERT_EQ(taken.size(), 2U);
  EXPECT_EQ(taken[1].frame.tokens, std::vector<TokenId>{2});
  EXPECT_TRUE(streams.Take(key, 0s).empty());
  EXPECT_TRUE(streams.Take(other, 0s).empty());
  streams.Put(key, Tokens({3}, true));
  EXPECT_EQ(woken, 2);
  streams.Put(key, Tokens({4}));
  EXPECT_EQ(streams.Take(key, 0s).size(), 1U) << "nothing comes behind its end";
}

TEST(Streams, WhoWaitsGetsWhatComesAndOneThatIsClosedGetsNothing) {
  Streams streams;
  const StreamKey key = streams.Open([] {});
  std::vector<Piece> taken;
  {
    rt::Thread waiter("waiter", [&] {
      while (taken.empty()) {
        taken = streams.Take(key, 10s);
      }
    });
    streams.Put(key, Tokens({7}));
  }
  ASSERT_EQ(taken.size(), 1U);
  EXPECT_EQ(taken[0].frame.tokens, std::vector<TokenId>{7});
  streams.Close(key);
  streams.Put(key, Tokens({8}));
  EXPECT_TRUE(streams.Take(key, 10s).empty()) << "and does not wait for it";
}

TEST(Streams, WhenAllIsOverEachEndsOnceAlsoThoseThatComeLater) {
  Streams streams;
  const StreamKey ended = streams.Open([] {});
  streams.Put(ended, Tokens({1}, true));
  const StreamKey open = streams.Open([] {});
  streams.EndAll(Error(Code::kShuttingDown, "over"));
  EXPECT_EQ(streams.Take(ended, 0s).size(), 1U);
  const StreamKey late = streams.Open([] {});
  for (const StreamKey key : {open, late}) {
    const std::vector<Piece> taken = streams.Take(key, 0s);
    ASSERT_EQ(taken.size(), 1U);
    EXPECT_EQ(taken[0].frame.finish, wire::FinishReason::kError);
    EXPECT_EQ(taken[0].frame.error->code(), Code::kShuttingDown);
  }
}

}  // namespace
}  // namespace pixii::python
