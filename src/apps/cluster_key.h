// The secret that the workers of a cluster share.
//
// Thread: any.
#pragma once

#include <string>

#include "base/result.h"

namespace pixii::apps {

/// What --cluster-key names; empty: nothing. Errors: those of reading; kInvalidArgument if it is
/// too short.
Result<std::string> ReadClusterKey(const std::string& path);

/// A fresh one at `path`, readable by its owner alone, unless one is there.
Result<void> MakeClusterKey(const std::string& path);

}  // namespace pixii::apps
