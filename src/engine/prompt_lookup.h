// Drafts by looking for the last tokens earlier in prompt and output, and guessing what followed
// there.
//
// Thread: pure. Cost: one pass over the tokens looked at.
// Source: prompt look-up decoding (A. Saxena, 2023), n-gram speculation of vLLM and TensorRT-LLM.
#pragma once

#include "engine/drafter.h"

namespace pixii::engine {

struct PromptLookupOptions {
  std::uint32_t match_tokens_min = 2;    // shorter matches guess nothing
  std::uint32_t match_tokens_max = 4;    // a match this long is taken at once, the latest first
  std::uint32_t window_tokens = 16'384;  // how far back it looks
};

class PromptLookup final : public Drafter {
 public:
  explicit PromptLookup(const PromptLookupOptions& options = {}) : options_(options) {}

  void Draft(std::span<DraftRequest> requests) override;

  void Forget(DraftKey /*key*/) override {}

 private:
  PromptLookupOptions options_;
};

}  // namespace pixii::engine
