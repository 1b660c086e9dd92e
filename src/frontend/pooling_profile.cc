#include "frontend/pooling_profile.h"

#include <algorithm>

namespace pixii::frontend {

const std::string* PoolingProfile::FindPrompt(std::string_view name) const {
  auto found = std::ranges::find(prompts, name, &std::pair<std::string, std::string>::first);
  return found == prompts.end() ? nullptr : &found->second;
}

}  // namespace pixii::frontend
