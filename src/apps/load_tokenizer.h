// The tokenizer of what a user calls a model.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "text/tokenizer/tokenizer.h"

namespace pixii::apps {

/// Errors: those of ResolveModel and of the tokenizer's file.
Result<std::unique_ptr<const text::Tokenizer>> LoadTokenizer(const std::string& model);

}  // namespace pixii::apps
