// The keys of TensorRT-LLM's engine YAML as values of our own options: a table of every known key,
// what it becomes, and which values of those without a counterpart change nothing.
//
// Thread: values; used once at start.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace pixii::config {

struct EngineArgsFile {
  std::string text;
  std::string path;  // for messages
};

/// What was given, weakest first. Dotted flags and JSON exclude one another.
struct EngineArgsInput {
  std::optional<EngineArgsFile> file;                       // --extra-engine-args
  std::optional<std::string> json;                          // --override-engine-args
  std::vector<std::pair<std::string, std::string>> dotted;  // --trtllm.KEY VALUE
};

/// One option to be set; `option` is "MODEL" for the positional.
struct EngineSetting {
  std::string key;
  std::string option;
  std::string value;
  std::string where;  // "engine.yaml:3", "--override-engine-args", "--trtllm.max_seq_len"
};

struct EngineSettings {
  std::vector<EngineSetting> settings;
  std::vector<std::string> notices;  // which key took another's place
};

/// null means the default: the key is as good as absent. A later source replaces single keys of an
/// earlier one, or with null a whole group. Errors name place, key and value: kInvalidArgument for
/// syntax, unknown keys (with the nearest known one) and wrong types; kUnsupported for a known key
/// with a value that Pixii has no counterpart for, saying what it does instead; kTooLarge.
Result<EngineSettings> ReadEngineArgs(const EngineArgsInput& input);

/// docs/reference/engine_yaml.md.
std::string EngineArgsReference();

}  // namespace pixii::config
