// The allow-list of logits processors from the flags, and Dynamo's test switch.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "engine/processor_set.h"
#include "frontend/served_model.h"

namespace pixii::apps {

/// One for each --logits-processor: NAME or PATH.so, then perhaps =JSON with the processor's
/// configuration and "policy" ("fail_request" or "skip") and "always" (bool). Errors name the flag
/// and what is wrong.
Result<std::shared_ptr<engine::ProcessorSet>> MakeProcessors(std::span<const std::string> flags,
                                                             std::uint32_t vocab_size);

/// With DYN_ENABLE_TEST_LOGITS_PROCESSOR or DYNAMO_ENABLE_TEST_LOGITS_PROCESSOR exactly 1: the
/// engine has a processor that answers "Hello world!", and frontends ask for it in every chat.
/// Errors: kInvalidArgument without a tokenizer or an
/// end token.
Result<void> AddTestProcessor(std::span<const TokenId> end_ids, engine::ProcessorSet& processors,
                              const frontend::ServedModel& served);

}  // namespace pixii::apps
