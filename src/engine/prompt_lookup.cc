#include "engine/prompt_lookup.h"

#include <algorithm>

namespace pixii::engine {

namespace {

/// Prompt and output as one row of tokens.
class Tokens final {
 public:
  Tokens(std::span<const TokenId> prompt, std::span<const TokenId> generated)
      : prompt_(prompt), generated_(generated) {}

  std::size_t size() const { return prompt_.size() + generated_.size(); }

  TokenId operator[](std::size_t index) const {
    return index < prompt_.size() ? prompt_[index] : generated_[index - prompt_.size()];
  }

  /// How many tokens up to and with `end` - 1 equal those at the end of all, at most `limit`.
  std::uint32_t MatchLength(std::size_t end, std::uint32_t limit) const {
    std::uint32_t length = 0;
    while (length < limit && length < end &&
           (*this)[end - 1 - length] == (*this)[size() - 1 - length]) {
      ++length;
    }
    return length;
  }

 private:
  std::span<const TokenId> prompt_;
  std::span<const TokenId> generated_;
};

}  // namespace

void PromptLookup::Draft(std::span<DraftRequest> requests) {
  for (DraftRequest& request : requests) {
    const Tokens tokens(request.request->prompt, request.generated);
    const std::size_t size = tokens.size();
    const std::size_t oldest = size - std::min<std::size_t>(size, options_.window_tokens);
    std::size_t best_end = 0;
    std::uint32_t best = options_.match_tokens_min - 1;
    for (std::size_t end = size - std::min<std::size_t>(size, 1); end > oldest; --end) {
      const std::uint32_t length = tokens.MatchLength(end, options_.match_tokens_max);
      if (length > best) {
        best = length;
        best_end = end;
        if (length == options_.match_tokens_max) {
          break;
        }
      }
    }
    for (std::size_t at = best_end;
         best_end > 0 && at < size && request.guesses->size() < request.count_max; ++at) {
      request.guesses->push_back(tokens[at]);
    }
  }
}

}  // namespace pixii::engine
