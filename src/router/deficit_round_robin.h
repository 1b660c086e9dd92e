// Whose turn it is among classes that share by weight.
//
// Thread: a value. Source: spec/dynamo-core.md 12.3; Shreedhar and Varghese, "Efficient fair
// queuing using deficit round robin", 1995.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace pixii::router {

class DeficitRoundRobin final {
 public:
  /// First of a class's queue.
  struct Head {
    std::uint64_t cost = 0;  // 0: the queue is empty
    bool can_go = false;     // some worker would take it now
  };

  /// `quanta`: of each class, in the order of the ring. Pre: none is 0.
  explicit DeficitRoundRobin(std::vector<std::uint64_t> quanta);

  /// The class whose head goes now, charged for it; nothing if none can go. Pre: heads.size() is
  /// the number of classes. O(classes), however large costs are.
  std::optional<std::size_t> Next(std::span<const Head> heads);

  std::uint64_t deficit(std::size_t index) const { return deficits_[index]; }

 private:
  std::optional<std::size_t> Round(std::span<const Head> heads);
  void Advance();

  std::vector<std::uint64_t> quanta_;
  std::vector<std::uint64_t> deficits_;
  std::size_t cursor_ = 0;
  bool granted_ = false;  // the class at the cursor had its quantum of this visit
};

}  // namespace pixii::router
