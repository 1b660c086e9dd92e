// A logits processor from a shared object that speaks the C ABI of
// include/pixii/logits_processor.h.
//
// Thread: as logits_processor.h.
// Whatever the plug-in throws is caught here and becomes an error of the rows it was given.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "engine/logits_processor.h"
#include "wire/json.h"

namespace pixii::engine {

/// Errors: kNotFound (no such file); kUnsupported (no plug-in, another ABI number);
/// kInvalidArgument with what the plug-in says of `config`.
Result<std::unique_ptr<LogitsProcessor>> LoadPluginProcessor(const std::string& path,
                                                             const wire::Json& config,
                                                             std::uint32_t vocab_size);

}  // namespace pixii::engine
