// Compares a model folder with the golden files beside it: the library behind `pixii check`.
//
// Thread: one caller. Golden form: docs/subsystems/model.md, "Golden files".
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "kernels/operators.h"
#include "media/image.h"
#include "model/language_model.h"

namespace pixii::model {

struct CheckOptions {
  std::string golden_folder = {};  // where the golden files are; empty: in the model's folder
  double tolerance = 1e-4;         // of an error relative to the tensor's largest value
  double margin_min = 1e-3;  // a greedy token may differ where best and second are closer than this
  std::int32_t block_tokens = 16;
  std::uint64_t seed = 1;  // of the random cuts and of the block order
  RankOptions ranks = {};  // how many hold the model together
  /// Reads a picture of a vision-language model's golden files, from images/ beside them or two
  /// folders up, to compare what becomes of its pixels; empty: that is not compared.
  std::function<Result<media::Image>(const std::string& path)> read_image = {};
  double grey_levels_max = 2.0;  // by which a pixel may differ: of what resizes otherwise
};

/// One thing that was compared.
struct CheckLine {
  std::string name;  // "p33.logits", "p7.hidden.2", "greedy.p7", "p100 in chunks"
  double error_max =
      0.0;  // largest |ours - golden| / largest |golden|; for tokens and bits: how many differ
  double limit = 0.0;
  std::uint64_t count = 0;  // values, tokens or bits' floats compared
  bool passed = false;
  std::string detail = {};  // why it failed; empty if it passed
};

struct CheckReport {
  std::string folder;
  std::string operators;  // name of the backend
  std::vector<CheckLine> lines;

  bool passed() const;
  /// A table for people, with its heading.
  std::string ToText() const;
};

/// Loads `folder` in fp32 and compares logits, every layer, greedy tokens; then cuts the prompts at
/// random and runs several sequences in one step, which must give the same bits. Errors: those of
/// Load, and of missing or broken golden files.
Result<CheckReport> CheckFolder(const std::string& folder, kernels::Operators& operators,
                                const CheckOptions& options = {});

}  // namespace pixii::model
