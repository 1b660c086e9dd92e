#include "rt/thread.h"

#include <memory>

#include "base/assert.h"

namespace pixii::rt {
namespace {

struct Start {
  std::string name;
  Function<void()> body;
};

void* Entry(void* argument) {
  const std::unique_ptr<Start> start(static_cast<Start*>(argument));
  ::pthread_setname_np(::pthread_self(), start->name.c_str());
  start->body();
  return nullptr;
}

}  // namespace

Thread::Thread(std::string name, Function<void()> body) {
  name.resize(std::min<std::size_t>(name.size(), 15));
  auto start = std::make_unique<Start>(Start{.name = std::move(name), .body = std::move(body)});
  const int failure = ::pthread_create(&thread_, nullptr, Entry, start.get());
  PX_ASSERT(failure == 0);
  start.release();  // NOLINT(bugprone-unused-return-value): the thread owns it now
  joinable_ = true;
}

Thread::Thread(Thread&& other) noexcept
    : thread_(other.thread_), joinable_(std::exchange(other.joinable_, false)) {}

Thread& Thread::operator=(Thread&& other) noexcept {
  if (this != &other) {
    Join();
    thread_ = other.thread_;
    joinable_ = std::exchange(other.joinable_, false);
  }
  return *this;
}

void Thread::Join() {
  if (std::exchange(joinable_, false)) {
    ::pthread_join(thread_, nullptr);
  }
}

}  // namespace pixii::rt
