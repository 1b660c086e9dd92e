// Texts among sampling fields and logits processors' arguments, turned into token ids: the frontend
// has the tokenizer, the engine has none.
//
// Thread: pure functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "frontend/openai_request.h"
#include "frontend/text_processor.h"
#include "wire/messages/generate.h"

namespace pixii::frontend {

/// The ways to write `word` in a text: as it stands and behind a space, without doubles. `text` may
/// be null. Errors: kUnsupported naming `field` without a tokenizer.
Result<std::vector<std::vector<TokenId>>> WordTokens(std::string_view word, std::string_view field,
                                                     const TextProcessor* text);

/// Fills the fields of `out` that texts can stand for: bad_words and DRY's breakers.
/// Errors: kInvalidArgument, kUnsupported naming the field.
Result<void> FillSamplingTexts(const OpenAiRequest& request, const TextProcessor* text,
                               wire::SamplingParams& out);

/// The engine's form of `request`: texts in the arguments of built-in processors become token ids
/// (bans: words; forced_sequence: text; guidance: negative_prompt; thinking_budget: start, end).
/// Errors: kInvalidArgument, kUnsupported naming nvext.logits_processors.
Result<wire::LogitsProcessorCall> MakeProcessorCall(const ProcessorRequest& request,
                                                    const TextProcessor* text);

}  // namespace pixii::frontend
