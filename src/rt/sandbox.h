// Shuts this process in: for a child that reads what strangers wrote.
//
// Thread: the only one of its process.
// Source: seccomp(2) by libseccomp, setrlimit(2).
#pragma once

#include <cstdint>

#include "base/result.h"

namespace pixii::rt {

struct SandboxOptions {
  /// Address space beyond what is mapped already. No effect under a sanitizer, whose own maps are
  /// larger than any limit.
  std::uint64_t memory_bytes_max = 0;
};

/// For the rest of its life this process computes, takes memory that is not executable, maps
/// descriptors that it is sent, speaks over the one that is its standard input, and ends. Any other
/// call to the system kills it: it opens no file, makes no connection, starts and signals nobody.
/// All descriptors but the standard ones are closed. Errors: kUnavailable naming what the system
/// refused; it is not shut in then.
Result<void> EnterSandbox(const SandboxOptions& options);

}  // namespace pixii::rt
