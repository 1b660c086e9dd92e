// Somebody's engine YAML as one that is taken here: each key by itself, so that one that is refused
// does not hide the others.
//
// Thread: values.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pixii::config {

enum class Imported : std::uint8_t {
  kTaken,     // an option of the same name takes it
  kRenamed,   // an option of another name takes it
  kNoEffect,  // it is known, and changes nothing here
  kRefused,   // left out
};

struct ImportedKey {
  Imported outcome = Imported::kRefused;
  std::string key;
  std::uint32_t line = 0;
  std::string said;       // "--max-batch 64", or why it is refused, with file, line and key
  std::string file = {};  // where it stands; empty: in the file that was asked about
};

/// How many keys there are of each outcome.
using ImportCounts = std::array<std::size_t, 4>;

struct ImportedEngineArgs {
  std::vector<ImportedKey> keys;  // in file order
  std::string text;               // YAML of all that are not refused
};

/// A key that is left out, and why.
ImportedKey RefusedKey(std::string_view file, std::string key, std::uint32_t line,
                       std::string_view why);

std::string_view ImportedName(Imported outcome);

/// Errors: kInvalidArgument for what is no YAML mapping; kTooLarge.
Result<ImportedEngineArgs> ImportEngineArgs(const std::string& text, const std::string& path);

}  // namespace pixii::config
