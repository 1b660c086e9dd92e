#include "rt/sim_world.h"

#include <algorithm>

#include "rt/sim_loop.h"
#include "rt/sim_net.h"

namespace pixii::rt {

class SimMachine final : public SimNode {
 public:
  SimMachine(SimState& world, std::string host, std::uint32_t index)
      : world_(world), loop_(world, index), net_(world, loop_, std::move(host)) {}

  const std::string& host() const override { return net_.host(); }

  Loop& loop() override { return loop_; }

  Net& net() override { return net_; }

  void Freeze(Time until) override { loop_.Freeze(until); }

  void Kill() override {
    PX_ASSERT(world_.current != &loop_);
    loop_.Die();
    net_.Die();
  }

  void Vanish() override {
    PX_ASSERT(world_.current != &loop_);
    net_.Vanish();
    loop_.Die();
  }

  void SetClock(double rate, Duration wall_offset) override { loop_.SetClock(rate, wall_offset); }

  bool alive() const override { return loop_.alive(); }

  bool stopped() const override { return loop_.stopped(); }

 private:
  SimState& world_;
  SimLoop loop_;
  SimNet net_;
};

SimWorld::SimWorld(const SimOptions& options) : state_(std::make_unique<SimState>(options)) {
  PX_ASSERT(options.turn_cost_min > Duration::zero() && options.bandwidth_bytes_per_s > 0);
}

SimWorld::~SimWorld() {
  // Frames first, while every loop and connection is there.
  for (auto& node : state_->nodes) {
    node->Kill();
  }
  state_->held.clear();
  while (std::optional<Callback> event = state_->events.PopDue(kNever)) {
    event.reset();
  }
}

SimNode& SimWorld::AddNode(std::string host) {
  for (const auto& node : state_->nodes) {
    PX_ASSERT(!node->alive() || node->host() != host);
  }
  const auto index = static_cast<std::uint32_t>(state_->nodes.size());
  state_->nodes.push_back(std::make_unique<SimMachine>(*state_, std::move(host), index));
  return *state_->nodes.back();
}

Time SimWorld::now() const { return state_->now; }

SimOptions& SimWorld::options() { return state_->options; }

Random& SimWorld::random() { return state_->random; }

TimerId SimWorld::RunAt(Time when, Callback fn) {
  return state_->events.Add(std::max(when, state_->now), std::move(fn));
}

void SimWorld::CancelTimer(TimerId id) { const Callback dropped = state_->events.Cancel(id); }

void SimWorld::SetPartition(const std::string& host_a, const std::string& host_b, bool cut) {
  SetOneWayCut(host_a, host_b, cut);
  SetOneWayCut(host_b, host_a, cut);
}

void SimWorld::SetOneWayCut(const std::string& from, const std::string& to, bool cut) {
  if (cut) {
    state_->held.try_emplace({from, to});
    return;
  }
  auto healed = state_->held.extract({from, to});
  if (healed.empty()) {
    return;
  }
  // In the order they were held up: the streams keep theirs anyway.
  Time when = state_->now;
  for (Callback& call : healed.mapped()) {
    when = std::max(when, state_->now + state_->RandomBetween(state_->options.latency_min,
                                                              state_->options.latency_max));
    state_->events.Add(when, std::move(call));
  }
}

void SimWorld::SetCorruption(const std::string& host_a, const std::string& host_b,
                             double probability) {
  if (probability > 0) {
    state_->corrupt[MakeHostPair(host_a, host_b)] = probability;
  } else {
    state_->corrupt.erase(MakeHostPair(host_a, host_b));
  }
}

bool SimWorld::Step() {
  if (state_->events.empty() || state_->events.next_time() == kNever) {
    return false;
  }
  state_->now = state_->events.next_time();
  ++state_->event_count;
  const std::optional<Callback> event = state_->events.PopDue(state_->now);
  (*event)();
  return true;
}

SimEnd SimWorld::RunUntil(const std::function<bool()>& done, Time limit) {
  while (!done()) {
    if (state_->events.empty() || state_->events.next_time() == kNever) {
      return SimEnd::kDeadlock;
    }
    if (state_->events.next_time() > limit) {
      return SimEnd::kTimeLimit;
    }
    Step();
  }
  return SimEnd::kDone;
}

bool SimWorld::RunUntilQuiescent(Time limit) {
  return RunUntil([] { return false; }, limit) == SimEnd::kDeadlock;
}

void SimWorld::RunTo(Time until) {
  const SimEnd end = RunUntil([] { return false; }, until);
  PX_ASSERT(end != SimEnd::kDone);
  state_->now = std::max(state_->now, until);
}

std::uint64_t SimWorld::state_hash() const { return state_->hash; }

std::uint64_t SimWorld::event_count() const { return state_->event_count; }

std::size_t SimWorld::spawned_count() const {
  std::size_t count = 0;
  for (const auto& node : state_->nodes) {
    count += node->loop().spawned_count();
  }
  return count;
}

}  // namespace pixii::rt
