// The lines of a batch: one JSON object each, {"custom_id", "method", "url", "body"}.
//
// Thread: values; pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pixii::frontend {

inline constexpr std::uint32_t kBatchLinesMax = 50'000;
inline constexpr std::uint32_t kBatchErrorsMax = 1000;  // shown of one file

struct BatchLine {
  std::string custom_id;
  std::string_view text;  // the whole line, in the file
};

/// What is wrong with a batch, as its `errors` show it.
struct BatchError {
  std::string code;
  std::string message;
  std::string param;       // empty: none
  std::uint64_t line = 0;  // counted from 1; 0: none
};

struct BatchInput {
  std::vector<BatchLine> lines;
  std::vector<BatchError> errors;  // if any, nothing is run
};

/// Whether a batch may have lines for this route.
bool IsBatchEndpoint(std::string_view endpoint);

/// Every line of `file`; empty ones are skipped. Each line that cannot be run is an error, up to
/// kBatchErrorsMax of them and one that counts the rest.
BatchInput ReadBatchInput(std::string_view file, std::string_view endpoint);

/// The request body of a line that ReadBatchInput has taken, as JSON text.
std::string BatchLineBody(const BatchLine& line);

}  // namespace pixii::frontend
