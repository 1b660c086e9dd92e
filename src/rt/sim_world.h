// Virtual machines in one thread: loops, a network and a clock that a seed decides. No real time,
// thread or socket.
//
// Thread: one. A world and everything in it belong to the thread that steps it; same seed and same
// calls give the same events in the same order (state_hash() tells), on every machine. Model: a
// node is one loop. Its turns (due timers, then posts, then woken coroutines) happen at one instant
// each and make the node busy for a little virtual time, so even a loop of yields moves the clock.
// The network is one ordered byte stream per connection and direction with latency, bandwidth, a
// bounded window and the faults below.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "rt/loop.h"
#include "rt/net.h"

namespace pixii::rt {

struct SimOptions {
  std::uint64_t seed = 0;

  // Scheduling.
  Duration turn_cost_min = 1us;  // a node is busy for so long after a turn; >= 1 ns
  Duration turn_cost_max = 10us;
  Duration wake_delay_max = 20us;  // until a sleeping node notices a post of another node or bytes

  // Network.
  Duration latency_min = 20us;  // one way, per piece sent
  Duration latency_max = 200us;
  std::uint64_t bandwidth_bytes_per_s = 1'000'000'000;  // per direction of a connection
  std::uint32_t window_size_bytes_max = 256 * 1024;     // sent and not yet read, per direction
  double partial_read_probability = 0.2;                // a read returns fewer bytes than are there
  double partial_write_probability = 0.1;  // a write takes fewer bytes than there is room

  // Faults; all off by default. May be changed while the world runs.
  double reset_probability = 0;   // per piece: the connection breaks
  double refuse_probability = 0;  // per connect
  double delay_probability = 0;   // per piece: it and what follows arrive late
  Duration delay_max = 100ms;
};

struct SimState;

/// One simulated machine. What lives on it (servers, streams) is destroyed before the world, or
/// after Kill().
class SimNode {
 public:
  virtual ~SimNode() = default;

  virtual const std::string& host() const = 0;
  virtual Loop& loop() = 0;
  virtual Net& net() = 0;

  /// The node makes no turn until `until`; bytes and posts pile up meanwhile.
  virtual void Freeze(Time until) = 0;
  /// The process dies: its tasks, posts and timers are destroyed and its connections break for
  /// their peers. Everything called on its loop or net later has no effect. Pre: not called from
  /// the node's own turn.
  virtual void Kill() = 0;
  /// As Kill, but its machine goes with it: peers hear nothing, not even a reset.
  virtual void Vanish() = 0;
  /// Its clock goes `rate` as fast as the world's from now on, and its calendar is `wall_offset`
  /// ahead. Pre: rate > 0; no timer is set yet.
  virtual void SetClock(double rate, Duration wall_offset) = 0;
  virtual bool alive() const = 0;
  /// Loop::Stop() was called: the node makes no more turns.
  virtual bool stopped() const = 0;
};

enum class SimEnd : std::uint8_t {
  kDone,       // what was waited for happened
  kTimeLimit,  // the limit came first
  kDeadlock,   // nothing is left that could ever happen
};

class SimWorld final {
 public:
  explicit SimWorld(const SimOptions& options);
  SimWorld(const SimWorld&) = delete;
  SimWorld& operator=(const SimWorld&) = delete;
  ~SimWorld();

  /// A node that others reach as `host`; it may take the name of a dead one. On the node itself
  /// "127.0.0.1", "0.0.0.0",
  /// "::", "::1" and "localhost" mean `host`. Lives as long as the world.
  SimNode& AddNode(std::string host);

  Time now() const;
  /// The same as given; faults and speeds may be changed while the world runs.
  SimOptions& options();
  /// For scripts; part of what the seed decides.
  Random& random();

  /// Runs `fn` at `when`, outside every node: for scripts of faults and arrivals.
  TimerId RunAt(Time when, Callback fn);
  void CancelTimer(TimerId id);

  /// Stops (or lets again) everything between two hosts. Bytes under way wait for the healing, as
  /// TCP repeats them; connects wait for it or for their deadline.
  void SetPartition(const std::string& host_a, const std::string& host_b, bool cut);
  /// The same of one direction: `to` hears nothing of `from`, and is heard.
  void SetOneWayCut(const std::string& from, const std::string& to, bool cut);
  /// Of the pieces between two hosts this share arrives with a bit changed; 0: none.
  void SetCorruption(const std::string& host_a, const std::string& host_b, double probability);

  /// Makes the next thing happen. False: nothing is left.
  bool Step();
  /// Steps until `done` or `limit`.
  SimEnd RunUntil(const std::function<bool()>& done, Time limit);
  /// Steps until nothing is left, or `limit`: then false.
  bool RunUntilQuiescent(Time limit);
  /// Everything up to `until` happens, and the clock stands there then.
  void RunTo(Time until);

  /// Of every event so far: equal for equal runs.
  std::uint64_t state_hash() const;
  std::uint64_t event_count() const;
  /// Spawned tasks not yet ended, on all nodes.
  std::size_t spawned_count() const;

 private:
  std::unique_ptr<SimState> state_;
};

}  // namespace pixii::rt
