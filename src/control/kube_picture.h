// What a reader of a Kubernetes API knows of holders and their keys, and whom it believes alive.
//
// Thread: values; pure: told of lists, events and the time.
// A holder lives while the renewTime of its Lease is seen to change, by the reader's own clock;
// what the texts say and what the clocks of the day are does not matter. A Lease that is seen for
// the first time has its duration from then on.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "control/kube_objects.h"
#include "rt/time.h"

namespace pixii::control {

/// An object that is to be deleted if it is still what it was.
struct KubeLeftover {
  KubeKind kind = KubeKind::kLease;
  std::string name;
  KubeVersion version;
};

class KubePicture final {
 public:
  /// All there are, as a list says: others are gone.
  void SetLeases(std::vector<KubeLease> leases, rt::Time now);
  void SetEntries(std::vector<KubeEntry> entries, rt::Time now);

  /// As events say.
  void PutLease(KubeLease lease, rt::Time now);
  void DropLease(const std::string& name, rt::Time now);
  void PutEntry(KubeEntry entry, rt::Time now);
  void DropEntry(const std::string& name);

  /// When a holder may be dead unless it is heard of; kNever if none.
  rt::Time next_suspect_at() const;
  /// Holders not heard of for their Lease's duration are dead. Pre: what we know is fresh, from a
  /// list: an event may be late.
  void Judge(rt::Time now);
  /// Nobody could be heard of until now: all that live get their whole duration again.
  void CountAnew(rt::Time now);

  /// Keys of living holders.
  std::map<std::string, std::string> ValuesUnder(std::string_view prefix) const;

  /// Grows whenever ValuesUnder("") changes.
  std::uint64_t change_count() const { return change_count_; }

  /// What is of holders that are dead, or without a Lease, for `age`.
  std::vector<KubeLeftover> Leftovers(rt::Duration age, rt::Time now) const;

 private:
  struct Holder {
    KubeLease lease;
    rt::Time changed_at{};
    std::optional<rt::Time> dead_since;
  };

  struct Held {
    KubeEntry entry;
    bool counts = false;
    rt::Time lost_at{};  // unless it counts
  };

  bool IsAlive(const std::string& holder) const;
  void Recount(rt::Time now);
  void Recount(Held& held, rt::Time now);
  void PutLeaseOnly(KubeLease lease, rt::Time now);

  std::map<std::string, Holder> holders_;  // by name of the Lease
  std::map<std::string, Held> entries_;    // by name of the ConfigMap
  std::uint64_t change_count_ = 0;
};

}  // namespace pixii::control
