// A folder or file that belongs to one process at a time.
//
// Thread: any; the lock has one owner. The system gives it back when the process ends, however.
#pragma once

#include <string>

#include "base/result.h"
#include "rt/fd.h"

namespace pixii::rt {

class FileLock final {
 public:
  /// Creates the file `path` if it is missing. Errors: kUnavailable if another process has it, or
  /// what the system says.
  static Result<FileLock> Take(const std::string& path);

 private:
  explicit FileLock(Fd fd) : fd_(std::move(fd)) {}

  Fd fd_;
};

}  // namespace pixii::rt
