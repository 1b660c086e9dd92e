#include "router/deficit_round_robin.h"

#include <algorithm>
#include <utility>

namespace pixii::router {

DeficitRoundRobin::DeficitRoundRobin(std::vector<std::uint64_t> quanta)
    : quanta_(std::move(quanta)), deficits_(quanta_.size()) {}

void DeficitRoundRobin::Advance() {
  cursor_ = (cursor_ + 1) % quanta_.size();
  granted_ = false;
}

std::optional<std::size_t> DeficitRoundRobin::Round(std::span<const Head> heads) {
  for (std::size_t visits = 0; visits < quanta_.size(); ++visits) {
    const std::size_t here = cursor_;
    const Head& head = heads[here];
    if (head.cost == 0) {
      deficits_[here] = 0;
    } else if (head.can_go) {
      if (deficits_[here] < head.cost && !granted_) {
        deficits_[here] += quanta_[here];
        granted_ = true;
      }
      if (deficits_[here] >= head.cost) {
        deficits_[here] -= head.cost;
        return here;
      }
    }
    Advance();
  }
  return std::nullopt;
}

std::optional<std::size_t> DeficitRoundRobin::Next(std::span<const Head> heads) {
  if (const std::optional<std::size_t> found = Round(heads)) {
    return found;
  }
  // Nobody can afford its head after a whole round: as many rounds at once as the first one needs.
  std::uint64_t rounds = ~std::uint64_t{0};
  for (std::size_t i = 0; i < heads.size(); ++i) {
    if (heads[i].cost > 0 && heads[i].can_go) {
      const std::uint64_t missing = heads[i].cost - std::min(deficits_[i], heads[i].cost);
      rounds = std::min(rounds, (missing + quanta_[i] - 1) / quanta_[i]);
    }
  }
  if (rounds == ~std::uint64_t{0}) {
    return std::nullopt;
  }
  for (std::size_t i = 0; i < heads.size(); ++i) {
    if (heads[i].cost > 0 && heads[i].can_go) {
      deficits_[i] += quanta_[i] * rounds;
    }
  }
  return Round(heads);
}

}  // namespace pixii::router
