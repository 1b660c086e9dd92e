// `pixii inspect --watermark`: whether a text carries a watermark.
#pragma once

#include <string>

namespace pixii::apps {

struct WatermarkQuestion {
  std::string config;  // as for --logits-processor watermark=
  std::string model;   // whose tokenizer reads the text
  bool ids = false;    // standard input holds token ids instead of a text
  bool json = false;
};

/// Scores standard input and prints the score. Exit status 0: found (z above 4), 1: not found.
int RunWatermark(const WatermarkQuestion& question);

}  // namespace pixii::apps
