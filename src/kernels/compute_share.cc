#include "kernels/compute_share.h"

#include <algorithm>

namespace pixii::kernels {

rt::Duration ComputeShare::OnStepWanted(rt::Time now, bool wanted) {
  if (owed_ > rt::Duration::zero()) {  // they had the device since the last step
    owed_ = std::max(rt::Duration::zero(), owed_ - (now - ended_at_));
  }
  wanted_at_ = now;
  return wanted ? std::max(rt::Duration::zero(), owed_) : rt::Duration::zero();
}

void ComputeShare::OnStepBegun(rt::Time now) {
  owed_ -= now - wanted_at_;
  begun_at_ = now;
}

rt::Time ComputeShare::OnStepEnded(rt::Time now, bool wanted) {
  ended_at_ = now;
  owed_ = std::min(owed_, rt::Duration::zero());  // what a step did not wait for is not owed
  if (!wanted) {
    return now;
  }
  const auto took = static_cast<double>((now - begun_at_).count());
  owed_ += rt::Duration(static_cast<rt::Duration::rep>(took * earned_));
  return owed_ > rt::Duration::zero() ? now : now + kFollows;
}

}  // namespace pixii::kernels
