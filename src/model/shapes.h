// Named shapes of well-known models, for random-weight models in benches and tests.
//
// Thread: pure functions. Source: the public config.json of each model.
#pragma once

#include <span>
#include <string_view>

#include "base/result.h"
#include "model/decoder_spec.h"

namespace pixii::model {

/// "qwen2.5-0.5b", "llama-3.2-1b", …
std::span<const std::string_view> Shapes();

/// Errors: kNotFound naming the shapes there are.
Result<DecoderSpec> FindShape(std::string_view name);

}  // namespace pixii::model
