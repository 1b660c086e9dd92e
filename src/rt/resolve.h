// Names of hosts to addresses.
//
// Thread: blocks its caller; never called on a loop.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace pixii::rt {

/// The numeric address of `host`, a name or one already; IPv4 first. Errors: kUnavailable naming
/// it.
Result<std::string> ResolveHost(const std::string& host);

/// All of them. Errors: as ResolveHost.
Result<std::vector<std::string>> ResolveAll(const std::string& host);

}  // namespace pixii::rt
