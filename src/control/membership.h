// Which instances exist, decided from what the store says and what the connections say. Pure.
//
// Thread: values. The store is advice, not truth:
//   store away                  nothing changes
//   wiped, or set back          who is connected stays, who is not stays for a while
//   older state of an instance  ignored: its generation is lower
//   instance withdrawn          gone at once, and no old snapshot brings it back; it said so in the
//                               store, or on its connection
//   instance gone from there    gone once its connection was lost, too, for `absence_grace`
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <vector>

#include "control/instance.h"
#include "control/instance_codec.h"
#include "rt/time.h"

namespace pixii::control {

struct MembershipOptions {
  /// An instance that neither the store nor its connection shows is kept for so long.
  rt::Duration absence_grace = std::chrono::seconds(5);
  std::size_t withdrawn_max = 4096;  // instances that are remembered as withdrawn
};

struct MembershipChange {
  enum class Kind : std::uint8_t {
    kAdded,
    kChanged,
    kRemoved,  // nothing new for it; what it runs may end
  } kind = Kind::kAdded;

  Instance instance;  // as it is now; kRemoved: as it was
};

class Membership final {
 public:
  explicit Membership(MembershipOptions options) : options_(options) {}

  /// The store's answer. Of what `seen` holds twice the last counts.
  void OnView(const std::vector<SeenInstance>& seen, rt::Time now);

  /// The store cannot be asked.
  void OnTrouble();

  /// Whether somebody here has a connection to this very instance; no effect on one that is not
  /// known. Nobody: as after a connection that was lost.
  void OnConnection(InstanceId id, bool connected, rt::Time now);

  /// It said on its connection that it ends: it is withdrawn once the store lacks it. No effect on
  /// one that is not known.
  void OnGoingAway(InstanceId id);

  /// Drops whose time has come.
  void OnTime(rt::Time now);

  /// When OnTime has something to do; kNever: not before something else happens.
  rt::Time next_deadline() const;

  /// What happened since the last call, in order; an instance may stand there more than once.
  std::vector<MembershipChange> TakeChanges();

  using Instances = std::map<InstanceId, Instance>;

  const Instances& instances() const { return instances_; }

  bool frozen() const { return frozen_; }

 private:
  struct Standing {
    bool connected = false;
    bool in_store = true;
    bool goes_away = false;   // by its own word on a connection
    rt::Time absent_since{};  // from both; meaningful if neither has it
  };

  void Take(const Instance& instance);

  bool GoesAway(InstanceId id, const Standing& standing) const {
    return standing.goes_away || instances_.at(id).draining;
  }

  void Withdraw(InstanceId id);
  void Remove(InstanceId id);
  bool IsStale(const Instance& instance) const;

  MembershipOptions options_;
  Instances instances_;
  std::map<InstanceId, Standing> standings_;       // the same keys
  std::map<InstanceId, std::uint64_t> withdrawn_;  // generation by id
  std::deque<InstanceId> withdrawn_order_;         // oldest first
  std::vector<MembershipChange> changes_;
  bool frozen_ = true;  // until the store answered
};

}  // namespace pixii::control
