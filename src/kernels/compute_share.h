// How a language model and a diffusion model share one device: steps of the first go first, and
// while step follows step, pieces of the second get their share of the time.
//
// Thread: pure; the caller says what time it is. docs/video_serving.md
// A step earns pieces share / (1 - share) of the time that it took. The next step waits until that
// is used up, so steps that follow one another are 1 / (1 - share) times as far apart as without
// pieces, and the length of a piece further at most. Nobody waits for time that nobody wants.
#pragma once

#include "rt/time.h"

namespace pixii::kernels {

class ComputeShare final {
 public:
  /// How soon behind a step the next one counts as following it.
  static constexpr rt::Duration kFollows{1'000'000};

  /// `piece_share`: 0 .. 0.9, of the time while there are steps all the time.
  explicit ComputeShare(double piece_share) : earned_(piece_share / (1 - piece_share)) {}

  /// A step wants to begin: for how long pieces go on before it. `wanted`: there are pieces.
  rt::Duration OnStepWanted(rt::Time now, bool wanted);
  void OnStepBegun(rt::Time now);
  /// Returns when pieces may go on, unless another step wants to begin before.
  rt::Time OnStepEnded(rt::Time now, bool wanted);

 private:
  const double earned_;  // by a nanosecond of a step
  rt::Duration owed_{};  // to pieces; below 0: they had more than their share
  rt::Time wanted_at_{};
  rt::Time begun_at_{};
  rt::Time ended_at_{};
};

}  // namespace pixii::kernels
