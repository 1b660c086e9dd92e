// Items that go from any thread to one loop: those that come before it looks go together.
//
// Thread: Put on any; the handler runs on the loop. What Loop::Post does for each item (a callback
// of its own, the loop's lock, perhaps a wake-up) is done once for all that wait.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "rt/loop.h"
#include "rt/thread.h"

namespace pixii::rt {

template <class T>
class Inbox final : public std::enable_shared_from_this<Inbox<T>> {
 public:
  /// `loop` outlives it. `on_items` gets them in the order they were put.
  static std::shared_ptr<Inbox> Make(Loop& loop, Function<void(std::vector<T>)> on_items) {
    return std::shared_ptr<Inbox>(new Inbox(loop, std::move(on_items)));
  }

  /// `join(last, item)` may add `item` to the last one that still waits and then returns true; it
  /// runs under the lock. Without effect once the loop is gone.
  template <class Join>
  void Put(T item, const Join& join) {
    {
      MutexLock lock(mutex_);
      if (!items_.empty()) {
        if (!join(items_.back(), item)) {
          items_.push_back(std::move(item));
        }
        return;  // it was told of the first one
      }
      items_.push_back(std::move(item));
    }
    loop_.Post([self = this->shared_from_this()] { self->Give(); });
  }

 private:
  Inbox(Loop& loop, Function<void(std::vector<T>)> on_items)
      : loop_(loop), on_items_(std::move(on_items)) {}

  void Give() {
    std::vector<T> items;
    {
      MutexLock lock(mutex_);
      items.swap(items_);
    }
    on_items_(std::move(items));
  }

  Loop& loop_;
  Function<void(std::vector<T>)> on_items_;
  Mutex mutex_;
  std::vector<T> items_ PX_GUARDED_BY(mutex_);
};

}  // namespace pixii::rt
