#include "rt/epoll_loop.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>

namespace pixii::rt {
namespace {

constexpr int kEventsPerWaitMax = 256;
// Work done without waiting in one turn (reads that found bytes, accepts) before others get their
// turn.
constexpr std::uint32_t kTurnBudget = 256;
// Due timers run in one turn: timers that set timers for now must not starve descriptors.
constexpr std::uint32_t kTimersPerTurnMax = 4096;
constexpr Duration kForever = Duration::max();

timespec ToTimespec(Duration duration) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(duration);
  return timespec{.tv_sec = seconds.count(), .tv_nsec = (duration - seconds).count()};
}

int ToMillisecondsUp(Duration duration) {
  constexpr std::int64_t kMax = 60'000;
  if (duration == kForever) {
    return -1;
  }
  return static_cast<int>(
      std::min(std::chrono::ceil<std::chrono::milliseconds>(duration).count(), kMax));
}

timespec ReadClock(clockid_t clock) {
  timespec now{};
  const int failure = ::clock_gettime(clock, &now);
  PX_ASSERT(failure == 0);
  return now;
}

}  // namespace

Result<std::unique_ptr<EpollLoop>> EpollLoop::Create() {
  Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  Fd wake(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!epoll || !wake) {
    return Fail(Code::kResourceExhausted,
                fmt::format("no descriptor for an event loop (errno {}); raise ulimit -n", errno));
  }
  epoll_event event{.events = EPOLLIN | EPOLLET, .data = {.ptr = nullptr}};
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event) != 0) {
    return Fail(Code::kResourceExhausted,
                fmt::format("cannot watch an eventfd (errno {}); raise max_user_watches", errno));
  }
  return std::make_unique<EpollLoop>(std::move(epoll), std::move(wake));
}

EpollLoop::EpollLoop(Fd epoll, Fd wake) : epoll_(std::move(epoll)), wake_(std::move(wake)) {}

EpollLoop::~EpollLoop() {
  spawned_.Clear();
  // What a dying callback or frame posts dies in turn.
  while (TakeMailbox()) {
    batch_.clear();
    spawned_.Clear();
  }
}

Time EpollLoop::Now() const {
  const timespec now = ReadClock(CLOCK_MONOTONIC);
  return Time(std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec));
}

WallTime EpollLoop::WallNow() const {
  const timespec now = ReadClock(CLOCK_REALTIME);
  return WallTime{.unix_seconds = now.tv_sec,
                  .nanoseconds = static_cast<std::int32_t>(now.tv_nsec)};
}

void EpollLoop::Post(Callback fn) {
  bool wake = false;
  {
    MutexLock lock(mutex_);
    mailbox_.push_back(std::move(fn));
    wake = std::exchange(sleeping_, false);
  }
  if (wake) {
    const std::uint64_t one = 1;
    // It can only fail with EAGAIN, when 2^64 - 2 wakes are pending: then it wakes anyway.
    [[maybe_unused]] const ssize_t ignored = ::write(wake_.get(), &one, sizeof(one));
  }
}

TimerId EpollLoop::RunAt(Time when, Callback fn) {
  PX_DASSERT(OnOwnThread());
  return timers_.Add(when, std::move(fn));
}

void EpollLoop::CancelTimer(TimerId id) {
  PX_DASSERT(OnOwnThread());
  if (id != TimerId::kNone) {
    const Callback dropped = timers_.Cancel(id);
  }
}

void EpollLoop::Spawn(Task<void> task) {
  PX_DASSERT(OnOwnThread());
  spawned_.Start(std::move(task));
}

void EpollLoop::Resume(Suspended& suspended) {
  PX_DASSERT(OnOwnThread());
  suspended.Unlink();
  ready_.PushBack(suspended);
}

bool EpollLoop::SpendBudget() {
  if (budget_ == 0) {
    return false;
  }
  --budget_;
  return true;
}

void EpollLoop::Stop() {
  Post([this] {
    MutexLock lock(mutex_);
    stop_ = true;
  });
}

bool EpollLoop::OnOwnThread() const {
  const std::thread::id owner = owner_.load(std::memory_order_relaxed);
  return owner == std::thread::id{} || owner == std::this_thread::get_id();
}

Result<void> EpollLoop::Watch(int fd, FdWatcher& watcher) {
  epoll_event event{.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data = {.ptr = &watcher}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return Fail(Code::kResourceExhausted,
                fmt::format("cannot watch descriptor {} (errno {})", fd, errno));
  }
  watches_ = true;
  return {};
}

void EpollLoop::Run() {
  owner_.store(std::this_thread::get_id(), std::memory_order_relaxed);
  while (true) {
    budget_ = kTurnBudget;
    bool work_left = ready_.linked();
    {
      MutexLock lock(mutex_);
      if (std::exchange(stop_, false)) {
        break;
      }
      work_left = work_left || !mailbox_.empty();
      sleeping_ = !work_left;
    }
    if (!work_left || watches_) {  // else nothing can be ready: an engine's thread between steps
      WaitForEvents(TimeToWait(work_left));
    }
    RunTimers();
    RunMailbox();
    RunSuspended();
  }
  owner_.store(std::thread::id{}, std::memory_order_relaxed);
}

Duration EpollLoop::TimeToWait(bool work_left) const {
  if (work_left) {
    return Duration::zero();
  }
  if (timers_.empty() || timers_.next_time() == kNever) {
    return kForever;
  }
  return std::max(Duration::zero(), timers_.next_time() - Now());
}

void EpollLoop::WaitForEvents(Duration wait) {
  std::array<epoll_event, kEventsPerWaitMax> events;  // NOLINT: filled by the kernel
  int count = -1;
  if (has_pwait2_) {
    const timespec timeout = ToTimespec(wait == kForever ? Duration::zero() : wait);
    count = ::epoll_pwait2(epoll_.get(), events.data(), kEventsPerWaitMax,
                           wait == kForever ? nullptr : &timeout, nullptr);
    has_pwait2_ = count >= 0 || (errno != ENOSYS && errno != EPERM);  // before Linux 5.11
  }
  if (!has_pwait2_) {
    count = ::epoll_wait(epoll_.get(), events.data(), kEventsPerWaitMax, ToMillisecondsUp(wait));
  }
  PX_ASSERT(count >= 0 || errno == EINTR);
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = events[static_cast<std::size_t>(i)];
    // The eventfd is edge-triggered and never read: each write is an edge, and the count has room
    // for 2^64 - 2.
    if (event.data.ptr != nullptr) {
      static_cast<FdWatcher*>(event.data.ptr)->OnReady(event.events);
    }
  }
}

bool EpollLoop::TakeMailbox() {
  MutexLock lock(mutex_);
  sleeping_ = false;
  batch_.swap(mailbox_);
  return !batch_.empty();
}

void EpollLoop::RunTimers() {
  if (timers_.empty()) {
    return;
  }
  const Time now = Now();
  for (std::uint32_t i = 0; i < kTimersPerTurnMax; ++i) {
    std::optional<Callback> due = timers_.PopDue(now);
    if (!due) {
      return;
    }
    (*due)();
  }
}

void EpollLoop::RunMailbox() {
  if (!TakeMailbox()) {
    return;
  }
  for (Callback& fn : batch_) {
    const Callback running = std::move(fn);
    running();
  }
  batch_.clear();
}

void EpollLoop::RunSuspended() {
  ListNode batch;
  batch.Splice(ready_);
  while (batch.linked()) {
    auto& next = static_cast<Suspended&>(*batch.next());
    next.Unlink();
    next.handle.resume();
  }
}

Result<std::unique_ptr<Loop>> MakeLoop() {
  PX_TRY(std::unique_ptr<EpollLoop> loop, EpollLoop::Create());
  return std::unique_ptr<Loop>(std::move(loop));
}

}  // namespace pixii::rt
