// Bytes as gzip has them: for files that other programs read.
//
// Thread: pure functions. Source: RFC 1952; several members behind one another are one file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace pixii::rt {

/// One whole member: what is appended to a file of such is one again.
std::string Gzip(std::string_view bytes);

/// All members. Errors: kDataCorrupt, also for a last one that is cut off; kTooLarge past
/// `size_max` bytes.
Result<std::string> Gunzip(std::string_view bytes, std::uint64_t size_max);

}  // namespace pixii::rt
