// The logits processors that come with Pixii, by name. docs/subsystems/engine.md lists their
// arguments.
//
// Thread: as logits_processor.h.
// None fails on a row, keeps state or looks at a clock: each is a function of prompt, generated
// tokens and arguments. Texts of arguments are token ids by the time they come here (the frontend
// has the tokenizer).
#pragma once

#include <memory>
#include <string_view>

#include "base/result.h"
#include "engine/logits_processor.h"

namespace pixii::engine {

/// bans, forced_sequence, temperature_schedule, watermark, guidance or thinking_budget; `config` is
/// the worker's (an object). Errors: kInvalidArgument naming the key of `config`; kNotFound for
/// other names.
Result<std::unique_ptr<LogitsProcessor>> MakeBuiltinProcessor(std::string_view name,
                                                              const wire::Json& config);

/// Forces `tokens`, then an end token, whatever a request's arguments say: the answer of every
/// request that has it.
std::unique_ptr<LogitsProcessor> MakeFixedAnswerProcessor(std::string_view name,
                                                          std::vector<TokenId> tokens);

}  // namespace pixii::engine
