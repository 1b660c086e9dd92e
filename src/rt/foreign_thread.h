// A thread for code of others that may never return: at its end it is waited for no longer than a
// limit, and then left to itself.
//
// Thread: Post by any; Stop and the destructor by its owner.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "rt/function.h"
#include "rt/time.h"

namespace pixii::rt {

class ForeignThread final {
 public:
  static constexpr std::size_t kJobsMax = 4096;  // that wait

  /// Dies with a message if the system gives no thread.
  explicit ForeignThread(std::string name);
  ForeignThread(const ForeignThread&) = delete;
  ForeignThread& operator=(const ForeignThread&) = delete;

  ~ForeignThread() { Stop({}, {}); }

  /// Jobs run one at a time, in the order they came. False: too many wait already, and the job is
  /// dropped.
  bool Post(Function<void()> job);

  /// Drops what has not begun and runs `last`, if there is one. False: it does not return in time,
  /// or what runs does not, and the thread is left to itself with all that they hold. True as well
  /// the second time.
  bool Stop(Duration limit, Function<void()> last);

 private:
  struct State;

  static void* Serve(void* state);

  std::shared_ptr<State> state_;
};

}  // namespace pixii::rt
