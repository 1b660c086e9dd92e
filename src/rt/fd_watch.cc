#include "rt/fd_watch.h"

#include <fmt/format.h>
#include <sys/epoll.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "rt/epoll_loop.h"
#include "rt/fd.h"

namespace pixii::rt {

namespace {

// The descriptor is not ours to close, which is what ends a watch of the loop: one of ours stands
// between.
class NestedWatch final : public FdWatch, FdWatcher {
 public:
  NestedWatch(EpollLoop& loop, Fd between, Function<void()> on_readable)
      : loop_(loop),
        between_(std::move(between)),
        called_(std::make_shared<Called>(Called{.fn = std::move(on_readable)})) {}

  Result<void> Register() { return loop_.Watch(between_.get(), *this); }

 private:
  struct Called {
    Function<void()> fn;
    bool posted = false;
  };

  void OnReady(std::uint32_t /*events*/) override {
    if (std::exchange(called_->posted, true)) {
      return;
    }
    loop_.Post([weak = std::weak_ptr(called_)] {
      if (const auto called = weak.lock()) {
        called->posted = false;
        called->fn();
      }
    });
  }

  EpollLoop& loop_;
  Fd between_;
  std::shared_ptr<Called> called_;
};

}  // namespace

Result<std::unique_ptr<FdWatch>> WatchReadable(Loop& loop, int fd, Function<void()> on_readable) {
  auto* real = dynamic_cast<EpollLoop*>(&loop);
  PX_ASSERT(real != nullptr);
  Fd between(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
  if (!between || ::epoll_ctl(between.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return Fail(Code::kResourceExhausted,
                fmt::format("cannot watch a descriptor: {}", std::strerror(errno)));
  }
  auto watch = std::make_unique<NestedWatch>(*real, std::move(between), std::move(on_readable));
  PX_CHECK_OK(watch->Register());
  return watch;
}

}  // namespace pixii::rt
