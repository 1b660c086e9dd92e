// Files that a stranger names, out of one folder and no other.
//
// Thread: any; blocks. Source: RESOLVE_BENEATH in openat2(2).
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace pixii::rt {

/// The whole of the regular file `path` (absolute), if it lies below `folder` once all symbolic
/// links were followed, and still does when it is opened. Errors: kForbidden if it does not lie
/// there, or nowhere: who asks does not learn what exists elsewhere; kInvalidArgument for what is
/// no regular file; kTooLarge past `size_max` bytes; kUnavailable.
Result<std::string> ReadFileBelow(const std::string& folder, const std::string& path,
                                  std::uint64_t size_max);

}  // namespace pixii::rt
