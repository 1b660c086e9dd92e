// Normalizers of tokenizer.json: what happens to a text before it is split.
//
// Thread: immutable after load. Source: Hugging Face tokenizers, normalizers/.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "text/tokenizer/component_json.h"
#include "wire/json.h"

namespace pixii::text {

/// Bytes that a text of `bytes` may grow to: hostile replacements must not double it again and
/// again.
constexpr std::size_t NormalizedBytesMax(std::size_t bytes) { return bytes * 64 + 65'536; }

class Normalizer {
 public:
  Normalizer() = default;
  Normalizer(const Normalizer&) = delete;
  Normalizer& operator=(const Normalizer&) = delete;
  virtual ~Normalizer() = default;

  /// Rewrites `text`, valid UTF-8 before and after. Linear but for sorting combining marks.
  /// Errors: kTooLarge past `bytes_max`; kResourceExhausted from a pattern.
  virtual Result<void> Apply(std::string& text, std::size_t bytes_max) const = 0;

  Result<void> Apply(std::string& text) const {
    return Apply(text, NormalizedBytesMax(text.size()));
  }

  /// Null for JSON null. Errors: kDataCorrupt, kUnsupported, naming `place`.
  static Result<std::unique_ptr<const Normalizer>> FromJson(const wire::Json& json,
                                                            const JsonPlace& place);
};

}  // namespace pixii::text
