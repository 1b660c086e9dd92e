// What this binary was built of and what it finds beside it: `pixii --version --json` and `doctor`.
//
// Thread: at start, by one.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "wire/json.h"

namespace pixii::apps {

/// A shared object of this program's own build.
struct PluginFacts {
  std::string name;     // "ucx"
  std::string library;  // file name
  std::int64_t abi = 0;
  std::string purpose;  // for people
};

const std::vector<PluginFacts>& KnownPlugins();

/// The file, if it lies where this program looks for it.
std::optional<std::string> FindPlugin(const PluginFacts& plugin);

/// Loads it and compares ABI numbers. Errors: kUnsupported with both numbers, with what the loader
/// says, or that there is no such file. "cuda" also needs a driver and a GPU.
Result<void> ProbePlugin(const PluginFacts& plugin);

wire::Json BuildFacts();

}  // namespace pixii::apps
