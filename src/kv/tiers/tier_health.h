// When a tier that fails is left alone, and when it is tried again.
//
// Thread: one owner. No clock.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>

#include "rt/time.h"

namespace pixii::kv {

/// Of reads or of writes.
class TierHealth final {
 public:
  static constexpr std::uint32_t kFailuresMax = 3;  // in a row, before it rests
  static constexpr rt::Duration kRestMin = std::chrono::seconds(1);
  static constexpr rt::Duration kRestMax = std::chrono::minutes(5);

  /// `grave`: once is enough, for example a disk that is full.
  void Failed(rt::Time now, bool grave, std::string why = {}) {
    failures_ = grave ? kFailuresMax : failures_ + 1;
    why_ = std::move(why);
    // What was on its way when the rest began says nothing new: a hundred such failures would make
    // it rest for minutes.
    if (failures_ >= kFailuresMax && !rests(now)) {
      rests_until_ = now + rest_;
      rest_ = std::min(2 * rest_, kRestMax);
    }
  }

  void Succeeded() {
    failures_ = 0;
    rest_ = kRestMin;
    rests_until_ = rt::Time{};
  }

  bool rests(rt::Time now) const { return now < rests_until_; }

  /// It rests, or has rested and has not succeeded since.
  bool failing() const { return failures_ >= kFailuresMax; }

  /// What the last failure said.
  const std::string& why() const { return why_; }

 private:
  std::uint32_t failures_ = 0;
  rt::Duration rest_ = kRestMin;
  rt::Time rests_until_{};
  std::string why_;
};

}  // namespace pixii::kv
