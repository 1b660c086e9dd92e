// A line on a terminal that shows how far long work has come; where standard error is none,
// nothing.
//
// Thread: one.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>

#include "apps/command.h"

namespace pixii::apps {

class ProgressBar final {
 public:
  explicit ProgressBar(std::string what)
      : what_(std::move(what)), shown_(isatty(STDERR_FILENO) == 1) {}

  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  /// Leaves nothing behind: the line is that of what comes after.
  ~ProgressBar() {
    if (percent_ >= 0) {
      SayError("\r\x1b[K");
    }
  }

  /// `share`, 0 to 1, is done. Draws a percent once.
  void Show(double share) {
    constexpr int kWidth = 30;
    const int percent = static_cast<int>(std::clamp(share, 0.0, 1.0) * 100);
    if (!shown_ || percent == percent_) {
      return;
    }
    percent_ = percent;
    std::string bar(static_cast<std::size_t>(percent * kWidth / 100), '#');
    bar.resize(kWidth, '.');
    SayError("\r{} [{}] {:3} %\x1b[K", what_, bar, percent);
  }

 private:
  std::string what_;
  bool shown_;
  int percent_ = -1;
};

}  // namespace pixii::apps
