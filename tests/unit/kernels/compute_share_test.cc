#include "kernels/compute_share.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace pixii::kernels {
namespace {

using namespace std::chrono_literals;

/// Steps of `step`, one wanted `gap` behind another, beside pieces of `piece` that never end.
struct Shared {
  rt::Duration steps{};
  rt::Duration pieces{};
  rt::Duration longest_wait{};

  double share() const {
    return static_cast<double>(pieces.count()) / static_cast<double>((steps + pieces).count());
  }
};

Shared RunShared(double piece_share, rt::Duration step, rt::Duration piece, rt::Duration gap,
                 int count) {
  ComputeShare share(piece_share);
  Shared out;
  rt::Time now{};
  rt::Time piece_free_at = now;  // when the piece under way ends
  rt::Time opens_at = now;
  for (int i = 0; i < count; ++i) {
    const rt::Time wanted = now + gap;
    const auto pieces_until = [&](rt::Time end) {
      while (std::max(piece_free_at, opens_at) < end) {
        const rt::Time begin = std::max(piece_free_at, opens_at);
        piece_free_at = begin + piece;
        out.pieces += piece;
      }
    };
    pieces_until(wanted);
    const rt::Time owed_until = wanted + share.OnStepWanted(wanted, true);
    pieces_until(owed_until);
    const rt::Time begun = std::max(owed_until, piece_free_at);
    out.longest_wait = std::max(out.longest_wait, begun - wanted);
    share.OnStepBegun(begun);
    now = begun + step;
    out.steps += step;
    opens_at = share.OnStepEnded(now, true);
  }
  return out;
}

TEST(ComputeShare, PiecesGetTheirShareWhileStepFollowsStep) {
  for (const double wanted : {0.1, 0.25, 0.5}) {
    for (const rt::Duration piece : {rt::Duration(50us), rt::Duration(700us), rt::Duration(3ms)}) {
      const Shared shared = RunShared(wanted, 2ms, piece, 20us, 4000);
      EXPECT_NEAR(shared.share(), wanted, 0.02) << wanted << " " << piece.count();
      // For what they are owed, and one piece more.
      const auto owed = rt::Duration(static_cast<long>(2e6 * wanted / (1 - wanted)));
      EXPECT_LE(shared.longest_wait, owed + piece);
    }
  }
}

TEST(ComputeShare, WithoutAShareAStepWaitsForOnePieceAtMost) {
  const Shared shared = RunShared(0, 2ms, 300us, 20us, 1000);
  EXPECT_LE(shared.longest_wait, 300us);
  EXPECT_LE(shared.pieces, 300us) << "no piece begins between steps that follow one another";
}

TEST(ComputeShare, PiecesHaveWhateverStepsLeave) {
  const Shared shared = RunShared(0.25, 1ms, 100us, 10ms, 1000);
  EXPECT_GT(shared.share(), 0.85);
  EXPECT_LE(shared.longest_wait, 100us) << "they had more than their share already";
}

TEST(ComputeShare, NobodyWaitsForPiecesThatThereAreNot) {
  ComputeShare share(0.5);
  rt::Time now{};
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(share.OnStepWanted(now, false), rt::Duration::zero());
    share.OnStepBegun(now);
    now += 1ms;
    EXPECT_EQ(share.OnStepEnded(now, false), now);
  }
  // What was not wanted is not owed later.
  EXPECT_EQ(share.OnStepWanted(now, true), rt::Duration::zero());
}

TEST(ComputeShare, StepsOfAnyLengthWaitForAPartOfTheOneBeforeAndAPiece) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    const double wanted = static_cast<double>(random() % 90) / 100;
    ComputeShare share(wanted);
    rt::Time now{};
    rt::Duration last{};
    for (int i = 0; i < 100; ++i) {
      now += rt::Duration(random() % 3'000'000);
      const rt::Duration wait = share.OnStepWanted(now, random() % 4 > 0);
      ASSERT_GE(wait, rt::Duration::zero());
      ASSERT_LE(static_cast<double>(wait.count()),
                static_cast<double>(last.count()) * wanted / (1 - wanted) + 1);
      now += wait + rt::Duration(random() % 500'000);
      share.OnStepBegun(now);
      last = rt::Duration(random() % 20'000'000);
      now += last;
      const rt::Time opens = share.OnStepEnded(now, true);
      ASSERT_GE(opens, now);
      ASSERT_LE(opens, now + ComputeShare::kFollows);
    }
  }
}

}  // namespace
}  // namespace pixii::kernels
