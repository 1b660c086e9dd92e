#include "engine/rank_balance.h"

#include <algorithm>

namespace pixii::engine {

bool RankBalance::Holds(std::uint32_t rank, const StepOutlook& outlook) {
  Rank& own = ranks_[rank];
  own.outlook = outlook;
  const auto all = [this](std::uint32_t StepOutlook::* count) {
    return std::ranges::all_of(ranks_, [count](const Rank& one) { return one.outlook.*count > 0; });
  };
  if (!options_.enable || outlook.prompts == 0 || outlook.decodes == 0) {
    own.waited = own.gathered = 0;
    return false;
  }
  // Without decodes everywhere somebody would idle for nothing.
  const bool all_decode = all(&StepOutlook::decodes);
  if (all(&StepOutlook::prompts)) {
    own.waited = 0;
    if (all_decode && own.gathered < options_.batching_steps) {
      ++own.gathered;
      return true;
    }
    own.gathered = 0;
    return false;
  }
  if (!all_decode || ++own.waited >= options_.timeout_steps) {
    own.waited = 0;
    return false;
  }
  return true;
}

}  // namespace pixii::engine
