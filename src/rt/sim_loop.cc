#include "rt/sim_loop.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace pixii::rt {
namespace {

constexpr std::uint32_t kTurnBudget = 256;  // as on the real loop
constexpr std::uint32_t kTimersPerTurnMax = 4096;
constexpr std::int64_t kWallStartSeconds = 1'767'225'600;  // 2026-01-01

}  // namespace

HostPair MakeHostPair(const std::string& a, const std::string& b) {
  return a < b ? HostPair(a, b) : HostPair(b, a);
}

void SimState::Note(std::uint64_t what, std::uint64_t value) {
  constexpr std::uint64_t kOdd1 = 0x9e3779b97f4a7c15U;
  constexpr std::uint64_t kOdd2 = 0xd6e8feb86659fd93U;
  const auto instant = static_cast<std::uint64_t>(now.time_since_epoch().count());
  hash = (std::rotl(hash, 7) ^ (instant * kOdd1)) * kOdd2;
  hash = (std::rotl(hash, 7) ^ (what * kOdd1)) * kOdd2;
  hash = (std::rotl(hash, 7) ^ (value * kOdd1)) * kOdd2;
}

Duration SimState::RandomBetween(Duration low, Duration high) {
  return low >= high ? low : Duration(random.Between(low.count(), high.count()));
}

SimLoop::SimLoop(SimState& world, std::uint32_t index)
    : world_(world), index_(index), random_(world.random.Fork()) {}

Time SimLoop::Now() const {
  if (clock_rate_ == 1) {
    return clock_local_ + (world_.now - clock_world_);
  }
  const auto passed = static_cast<double>((world_.now - clock_world_).count());
  return clock_local_ + Duration(static_cast<std::int64_t>(passed * clock_rate_));
}

Time SimLoop::WorldTimeOf(Time local) const {
  if (local == kNever || clock_rate_ == 1) {
    return local == kNever ? kNever : clock_world_ + (local - clock_local_);
  }
  const auto left = static_cast<double>((local - clock_local_).count());
  return clock_world_ + Duration(static_cast<std::int64_t>(std::ceil(left / clock_rate_)));
}

void SimLoop::SetClock(double rate, Duration wall_offset) {
  PX_ASSERT(rate > 0);
  clock_local_ = Now();
  clock_world_ = world_.now;
  clock_rate_ = rate;
  wall_offset_ = wall_offset;
}

WallTime SimLoop::WallNow() const {
  const std::int64_t ns = (Now() + wall_offset_).time_since_epoch().count();
  return WallTime{.unix_seconds = kWallStartSeconds + ns / 1'000'000'000,
                  .nanoseconds = static_cast<std::int32_t>(ns % 1'000'000'000)};
}

void SimLoop::Post(Callback fn) {
  if (alive_) {
    mailbox_.push_back(std::move(fn));
    Wake();
  }
}

TimerId SimLoop::RunAt(Time when, Callback fn) {
  if (!alive_) {
    return TimerId::kNone;
  }
  const TimerId id = timers_.Add(when, std::move(fn));
  if (!in_turn_ && when != kNever) {
    ScheduleTurn(WorldTimeOf(when));
  }
  return id;
}

void SimLoop::CancelTimer(TimerId id) {
  if (id != TimerId::kNone) {
    const Callback dropped = timers_.Cancel(id);
  }
}

void SimLoop::Spawn(Task<void> task) {
  if (alive_) {
    spawned_.Start(std::move(task));
  }
}

void SimLoop::Resume(Suspended& suspended) {
  suspended.Unlink();
  if (alive_) {
    ready_.PushBack(suspended);
    Wake();
  }
}

bool SimLoop::SpendBudget() {
  if (budget_ == 0) {
    return false;
  }
  --budget_;
  return true;
}

void SimLoop::Run() {
  PX_ASSERT(false && "a simulated loop is run by its world");  // NOLINT(misc-static-assert)
}

void SimLoop::Freeze(Time until) { busy_until_ = std::max(busy_until_, until); }

void SimLoop::Die() {
  alive_ = false;
  // What dies may post or set timers in vain: Post() and RunAt() refuse by now.
  spawned_.Clear();
  std::exchange(mailbox_, {}).clear();
  std::exchange(batch_, {}).clear();
  while (std::optional<Callback> timer = timers_.PopDue(kNever)) {
    timer.reset();
  }
  timers_ = TimerHeap();  // a world keeps its dead, and a long one has many
  const Callback dropped = world_.events.Cancel(std::exchange(turn_, TimerId::kNone));
}

void SimLoop::Wake() {
  if (in_turn_) {
    return;  // the end of the turn sees the work
  }
  const bool asleep =
      turn_ == TimerId::kNone || turn_at_ > world_.now + world_.options.wake_delay_max;
  if (asleep) {
    ScheduleTurn(world_.now +
                 world_.RandomBetween(Duration::zero(), world_.options.wake_delay_max));
  }
}

void SimLoop::ScheduleTurn(Time when) {
  when = std::max({when, busy_until_, world_.now});
  if (turn_ != TimerId::kNone) {
    if (turn_at_ <= when) {
      return;
    }
    const Callback dropped = world_.events.Cancel(turn_);
  }
  turn_at_ = when;
  turn_ = world_.events.Add(when, [this] { Turn(); });
}

void SimLoop::Turn() {
  turn_ = TimerId::kNone;
  if (stopped_) {
    return;
  }
  if (world_.now < busy_until_) {  // frozen since the turn was planned
    ScheduleTurn(busy_until_);
    return;
  }
  in_turn_ = true;
  world_.current = this;
  budget_ = kTurnBudget;
  std::uint64_t timers_run = 0;
  while (timers_run < kTimersPerTurnMax) {
    std::optional<Callback> due = timers_.PopDue(Now());
    if (!due) {
      break;
    }
    (*due)();
    ++timers_run;
  }
  batch_.swap(mailbox_);
  for (Callback& fn : batch_) {
    const Callback running = std::move(fn);
    running();
  }
  const std::size_t posts_run = batch_.size();
  batch_.clear();
  std::uint64_t resumed = 0;
  ListNode batch;
  batch.Splice(ready_);
  while (batch.linked()) {
    auto& next = static_cast<Suspended&>(*batch.next());
    next.Unlink();
    next.handle.resume();
    ++resumed;
  }
  in_turn_ = false;
  world_.current = nullptr;
  world_.Note(index_, (timers_run << 40U) ^ (std::uint64_t{posts_run} << 20U) ^ resumed);
  const SimOptions& options = world_.options;
  busy_until_ = std::max(
      busy_until_, world_.now + world_.RandomBetween(options.turn_cost_min, options.turn_cost_max));
  if (has_work()) {
    ScheduleTurn(busy_until_);
  } else if (!timers_.empty() && timers_.next_time() != kNever) {
    ScheduleTurn(WorldTimeOf(timers_.next_time()));
  }
}

}  // namespace pixii::rt
