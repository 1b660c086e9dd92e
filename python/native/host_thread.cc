#include "host_thread.h"

#include <utility>

namespace pixii::python {

Result<void> HostThread::Start(const char* name, Body body) {
  thread_ = rt::Thread(name, [this, body = std::move(body)] {
    Result<rt::Loop*> opened = body.open();
    {
      const rt::MutexLock lock(mutex_);
      loop_ = opened ? *opened : nullptr;
      opened_ = opened ? Result<void>() : Result<void>(Fail(opened.error()));
      begun_.NotifyAll();
    }
    if (opened) {
      (*opened)->Run();
    }
    {
      const rt::MutexLock lock(mutex_);
      loop_ = nullptr;
    }
    body.close();
    stopped_ = true;
  });
  const rt::MutexLock lock(mutex_);
  while (!opened_) {
    begun_.Wait(mutex_);
  }
  return *opened_;
}

bool HostThread::Post(rt::Callback fn) {
  const rt::MutexLock lock(mutex_);
  if (loop_ == nullptr) {
    return false;
  }
  loop_->Post(std::move(fn));
  return true;
}

}  // namespace pixii::python
