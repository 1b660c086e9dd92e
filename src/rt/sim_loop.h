// A node's loop under virtual time, and what all nodes of a world share.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "rt/loop.h"
#include "rt/sim_world.h"
#include "rt/timer_heap.h"

namespace pixii::rt {

class SimListener;
class SimLoop;

using HostPair = std::pair<std::string, std::string>;

/// In alphabetical order.
HostPair MakeHostPair(const std::string& a, const std::string& b);

struct SimState {
  explicit SimState(const SimOptions& options_in) : options(options_in), random(options_in.seed) {}

  /// Mixes what happened now into the hash.
  void Note(std::uint64_t what, std::uint64_t value);
  Duration RandomBetween(Duration low, Duration high);

  bool IsCut(const std::string& from, const std::string& to) const {
    return !held.empty() && held.contains({from, to});
  }

  /// Of a piece between two hosts.
  double CorruptProbability(const std::string& a, const std::string& b) const {
    const auto found = corrupt.empty() ? corrupt.end() : corrupt.find(MakeHostPair(a, b));
    return found == corrupt.end() ? 0 : found->second;
  }

  SimOptions options;
  Random random;
  Time now{};
  std::uint64_t hash = 0;
  std::uint64_t event_count = 0;
  std::uint64_t next_connection = 1;
  std::uint16_t next_port = 40'000;
  TimerHeap events;
  const SimLoop* current = nullptr;  // whose turn it is
  std::map<std::pair<std::string, std::uint16_t>, SimListener*> listeners;
  /// Per cut, from and to: what happens after its healing.
  std::map<HostPair, std::vector<Callback>> held;
  std::map<HostPair, double> corrupt;
  std::vector<std::unique_ptr<SimNode>> nodes;
};

class SimLoop final : public Loop {
 public:
  SimLoop(SimState& world, std::uint32_t index);

  Time Now() const override;

  WallTime WallNow() const override;

  Random& random() override { return random_; }

  void Post(Callback fn) override;
  TimerId RunAt(Time when, Callback fn) override;
  void CancelTimer(TimerId id) override;
  void Spawn(Task<void> task) override;

  std::size_t spawned_count() const override { return spawned_.count(); }

  void Resume(Suspended& suspended) override;
  bool SpendBudget() override;
  void Run() override;

  void Stop() override { stopped_ = true; }

  void Freeze(Time until);
  void SetClock(double rate, Duration wall_offset);
  /// Destroys all tasks, posts and timers, and takes no more.
  void Die();

  bool alive() const { return alive_; }

  bool stopped() const { return stopped_; }

 private:
  bool has_work() const { return ready_.linked() || !mailbox_.empty(); }

  Time WorldTimeOf(Time local) const;
  void Wake();
  void ScheduleTurn(Time when);  // of the world
  void Turn();

  SimState& world_;
  std::uint32_t index_;
  Random random_;
  bool alive_ = true;
  bool stopped_ = false;
  bool in_turn_ = false;
  std::uint32_t budget_ = 0;
  double clock_rate_ = 1;
  Time clock_world_{};  // when the clock was set, by the world's time and by its own
  Time clock_local_{};
  Duration wall_offset_{};
  Time busy_until_{};  // also by a freeze
  TimerId turn_ = TimerId::kNone;
  Time turn_at_ = kNever;
  TimerHeap timers_;
  std::vector<Callback> mailbox_;
  std::vector<Callback> batch_;
  ListNode ready_;
  SpawnedTasks spawned_;
};

}  // namespace pixii::rt
