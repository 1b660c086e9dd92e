// Which processes of a fleet on one host are to be started and ended next. Pure.
//
// Thread: a value; decides and does nothing. docs/subsystems/control.md
// A part is a set of equal processes, its replicas. A part that runs otherwise than before is
// replaced a replica at a time, the new one ready before an old one ends; a replica that ends by
// itself is started anew, later each time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "rt/time.h"

namespace pixii::control {

enum class ReplicaId : std::uint64_t {};

/// A part as it should be.
struct KeptPart {
  std::string name;
  std::string version;  // of how it is run: another one is another process
  std::uint32_t replicas = 1;
  std::vector<std::string> needs = {};  // parts that must be ready before its first start
  /// Whether an old replica may run beside its successor; else it ends first.
  bool overlaps = true;
  rt::Duration settle = std::chrono::seconds(1);       // a ready one counts after so long
  rt::Duration stop_grace = std::chrono::seconds(30);  // from being told to end to being killed
};

struct KeeperOptions {
  rt::Duration backoff_min = std::chrono::milliseconds(100);  // before a second start
  rt::Duration backoff_max = std::chrono::seconds(10);
  rt::Duration sound_after = std::chrono::seconds(10);  // ready for so long: its end is the first
};

struct KeeperAction {
  enum class Kind : std::uint8_t {
    kStart,
    kStop,  // it shall end what it has and then itself
    kKill,
  } kind = Kind::kStart;

  ReplicaId replica{};
  std::string part;
  std::string version;
};

struct ReplicaStatus {
  enum class State : std::uint8_t { kStarting, kReady, kStopping };

  ReplicaId replica{};
  std::string part;
  std::string version;
  State state = State::kStarting;
};

class Keeper final {
 public:
  explicit Keeper(KeeperOptions options) : options_(options) {}

  /// What shall run from now on, those that are needed before those that need them.
  void SetParts(std::vector<KeptPart> parts);

  /// It takes requests.
  void OnReady(ReplicaId replica, rt::Time now);
  /// It is no more, or it could not be started.
  void OnExit(ReplicaId replica, rt::Time now);

  /// All shall end, those that need others before them.
  void Drain() { draining_ = true; }

  /// What to do; what is returned counts as done. Call after every other verb and at next_time().
  std::vector<KeeperAction> Decide(rt::Time now);

  /// When Decide has something to do, unless something happens before; kNever.
  rt::Time next_time(rt::Time now) const;

  /// Whether all that drains has ended.
  bool finished() const { return draining_ && replicas_.empty(); }

  /// Whether every part is as it should be.
  bool settled(rt::Time now) const;

  std::vector<ReplicaStatus> replicas() const;

 private:
  struct Replica {
    std::string part;
    std::string version;
    std::uint32_t slot = 0;  // which of the part's it is: its successor has the same
    bool ready = false;
    rt::Time ready_at{};
    bool stopping = false;
    rt::Time kill_at{};  // if stopping; kNever: it was killed
  };

  struct Failures {
    std::uint32_t count = 0;
    rt::Time next_start{};
  };

  using Replicas = std::map<ReplicaId, Replica>;
  using Slot = std::pair<std::string, std::uint32_t>;  // of a part

  /// Of one part, by what they are.
  struct Census {
    std::vector<ReplicaId> current;  // as they should be, the oldest first
    std::vector<ReplicaId> old;
    std::size_t stopping = 0;
    bool rising = false;  // a current one is not settled
  };

  Census Count(const KeptPart& part, rt::Time now) const;
  const KeptPart* Find(const std::string& name) const;
  bool Settled(const Replica& replica, const KeptPart& part, rt::Time now) const;
  bool NeedsMet(const KeptPart& part) const;
  bool IsNeeded(const std::string& name) const;
  std::vector<std::uint32_t> FreeSlots(const KeptPart& part, std::size_t count) const;
  void DecideDrain(rt::Time now, std::vector<KeeperAction>& out);
  void DecidePart(const KeptPart& part, rt::Time now, std::vector<KeeperAction>& out);
  void Start(const KeptPart& part, std::size_t count, rt::Time now, std::vector<KeeperAction>& out);
  void Stop(ReplicaId id, rt::Time now, std::vector<KeeperAction>& out);

  KeeperOptions options_;
  std::vector<KeptPart> parts_;
  Replicas replicas_;
  std::map<Slot, Failures> failures_;
  std::uint64_t last_id_ = 0;
  bool draining_ = false;
};

}  // namespace pixii::control
