// Being told when a descriptor of somebody else can be read, as that of a library.
//
// Thread: one loop.
#pragma once

#include <memory>

#include "base/result.h"
#include "rt/function.h"
#include "rt/loop.h"

namespace pixii::rt {

class FdWatch {
 public:
  virtual ~FdWatch() = default;  // `on_readable` is not called any more
};

/// `on_readable` is called on the loop after `fd` became readable: once for many times. `fd` stays
/// open as long as the watch lives; `loop` is a real one. Errors: kResourceExhausted.
Result<std::unique_ptr<FdWatch>> WatchReadable(Loop& loop, int fd, Function<void()> on_readable);

}  // namespace pixii::rt
