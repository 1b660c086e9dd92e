// What loops hand over to a thread that may block: writing to disks, sending to collectors.
//
// Thread: Push from any; the handler runs on the queue's own. The destructor hands over what waits,
// for the last time, and ends the thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "rt/thread.h"
#include "rt/time.h"

namespace pixii::apps {

struct BackgroundQueueOptions {
  std::string name;            // of the thread
  std::size_t length_max = 0;  // items that wait; what finds no room is lost
  std::size_t batch_max = 1;   // items handed over at a time
  rt::Duration pause{};        // for which items wait for others of their batch; 0: they do not
};

/// What the handler gets.
template <class Item>
struct BackgroundBatch {
  std::vector<Item> items;
  std::size_t lost = 0;   // items that found no room since the last batch
  bool stopping = false;  // the process ends: what cannot be done soon should not be tried
};

template <class Item>
class BackgroundQueue final {
 public:
  /// Gets batches, empty ones too: one each `pause`, and the very last. False: whatever waits is to
  /// be dropped, too; it counts as lost.
  using Handler = std::function<bool(BackgroundBatch<Item>)>;

  BackgroundQueue(BackgroundQueueOptions options, Handler handler)
      : options_(std::move(options)), handler_(std::move(handler)) {
    thread_ = rt::Thread(options_.name, [this] { Serve(); });
  }

  BackgroundQueue(const BackgroundQueue&) = delete;
  BackgroundQueue& operator=(const BackgroundQueue&) = delete;

  ~BackgroundQueue() {
    {
      rt::MutexLock lock(mutex_);
      stopping_ = true;
    }
    wake_.NotifyAll();
  }

  /// Does not block. False: there is no room, and it is lost.
  bool Push(Item item) {
    bool wake = false;
    {
      rt::MutexLock lock(mutex_);
      if (waiting_.size() >= options_.length_max) {
        ++lost_;
        return false;
      }
      waiting_.push_back(std::move(item));
      wake = options_.pause == rt::Duration::zero() || waiting_.size() == options_.batch_max;
    }
    if (wake) {
      wake_.NotifyOne();  // else the thread looks by itself
    }
    return true;
  }

  bool stopping() {
    rt::MutexLock lock(mutex_);
    return stopping_;
  }

  /// For the handler, between two tries. True: the process ends, and the pause with it.
  bool Sleep(rt::Duration pause) {
    rt::MutexLock lock(mutex_);
    if (!stopping_) {
      (void)wake_.WaitFor(mutex_, pause);
    }
    return stopping_;
  }

 private:
  BackgroundBatch<Item> Next() {
    BackgroundBatch<Item> out;
    rt::MutexLock lock(mutex_);
    if (options_.pause > rt::Duration::zero()) {
      if (waiting_.size() < options_.batch_max && !stopping_) {
        (void)wake_.WaitFor(mutex_, options_.pause);
      }
    } else {
      while (waiting_.empty() && lost_ == 0 && !stopping_) {
        wake_.Wait(mutex_);
      }
    }
    const auto end = waiting_.begin() +
                     static_cast<std::ptrdiff_t>(std::min(waiting_.size(), options_.batch_max));
    out.items.assign(std::make_move_iterator(waiting_.begin()), std::make_move_iterator(end));
    waiting_.erase(waiting_.begin(), end);
    out.lost = std::exchange(lost_, 0);
    out.stopping = stopping_;
    return out;
  }

  void Serve() {
    while (true) {
      BackgroundBatch<Item> batch = Next();
      const bool last = batch.stopping && batch.items.empty();
      if (!handler_(std::move(batch))) {
        rt::MutexLock lock(mutex_);
        lost_ += waiting_.size();
        waiting_.clear();
      }
      if (last) {
        return;
      }
    }
  }

  const BackgroundQueueOptions options_;
  const Handler handler_;
  rt::Mutex mutex_;
  rt::CondVar wake_;
  std::vector<Item> waiting_ PX_GUARDED_BY(mutex_);
  std::size_t lost_ PX_GUARDED_BY(mutex_) = 0;
  bool stopping_ PX_GUARDED_BY(mutex_) = false;
  rt::Thread thread_;  // last: it uses what stands above
};

}  // namespace pixii::apps
