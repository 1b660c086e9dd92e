// `pixii serve --engine mock`: made-up tokens where a model's would be.
#pragma once

#include <memory>
#include <optional>

#include "apps/option_structs.h"
#include "base/result.h"
#include "engine/mock_executor.h"
#include "model/language_model.h"

namespace pixii::apps {

/// Whether the flags ask for a mock engine.
inline bool IsMock(const MockFlags& flags) { return flags.mock || flags.engine == "mock"; }

/// What the flags ask of a mock engine; nothing unless --engine says so. Errors: kInvalidArgument
/// for mock flags without it, and for flags that it cannot go with; those of reading the profile.
Result<std::optional<engine::MockOptions>> MockOptionsOf(const MockFlags& serve,
                                                         const EngineFlags& engine);

struct MockSizes {
  std::uint32_t context_tokens = 0;
  std::uint32_t step_tokens = 0;
  std::uint32_t step_logit_rows = 0;
};

/// Answers with tokens of the vocabulary of `spec`. Errors: kInvalidArgument if the cache does not
/// hold a context.
Result<std::unique_ptr<engine::StepExecutor>> MakeMockExecutor(engine::MockOptions options,
                                                               const model::ModelSpec& spec,
                                                               const EngineFlags& flags,
                                                               const MockSizes& sizes);

}  // namespace pixii::apps
