// Memory of weight parts that are not simply mapped: decoded codes, widened scales, aligned copies.
//
// Thread: one owner. What it handed out lives until Clear.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace pixii::model {

class PartMemory final {
 public:
  std::span<float> Floats(std::size_t count) {
    blocks_.emplace_back(count / 2 + 1);
    return {reinterpret_cast<float*>(blocks_.back().data()), count};
  }

  /// Zeroed, aligned to 8.
  std::span<std::byte> Bytes(std::size_t count) {
    blocks_.emplace_back(count / sizeof(double) + 1);
    return {reinterpret_cast<std::byte*>(blocks_.back().data()), count};
  }

  void Clear() { blocks_.clear(); }

 private:
  std::vector<std::vector<double>> blocks_;  // double for its alignment
};

}  // namespace pixii::model
