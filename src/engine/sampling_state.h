// What the generated tokens of a choice cannot give back: mirostat's mean and the processors' own
// state, and its form on the wire.
//
// Thread: values.
// Layout: version (1 byte, 1), mirostat's mean (fp32, little endian), count of processors (1 byte),
// then for each its size (2 bytes, little endian) and bytes. Nothing to say: an empty string.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pixii::engine {

struct SamplingState {
  bool has_mean = false;  // mirostat is on
  float mirostat_mean = 0.0F;
  std::vector<std::string> processors;  // [chain]

  /// Bytes that Encode would give.
  std::size_t encoded_size() const;
  std::string Encode() const;

  /// Reads `bytes` into a state made for the same request. Errors: kInvalidArgument naming
  /// "states".
  Result<void> Decode(std::string_view bytes);
};

}  // namespace pixii::engine
