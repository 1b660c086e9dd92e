// Follows the objects of a store in a Kubernetes API: lists them, watches what changes, deletes
// what nobody owns any more.
//
// Thread: one loop. Both kinds are followed by themselves; the picture of both is what counts.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>

#include "base/result.h"
#include "control/kube_client.h"
#include "control/kube_follower.h"
#include "control/kube_picture.h"
#include "control/lease_store.h"
#include "rt/loop.h"
#include "rt/net.h"

namespace pixii::control {

struct KubeStoreOptions {
  KubeAccess access;
  LeaseOptions lease;
  rt::Duration backoff_min = std::chrono::milliseconds(50);  // between two attempts, doubling
  rt::Duration backoff_max = std::chrono::seconds(2);
  rt::Duration watch_length = std::chrono::minutes(5);  // the server ends it then; we go on
  std::uint32_t sweep_after_leases = 10;  // lengths of a lease until the dead's are deleted
};

class KubeMirror final {
 public:
  /// `loop` and `net` outlive it. `on_change` is called from the loop when something that a view
  /// says may have changed.
  KubeMirror(rt::Loop& loop, rt::Net& net, KubeStoreOptions options,
             std::function<void()> on_change);
  KubeMirror(const KubeMirror&) = delete;
  KubeMirror& operator=(const KubeMirror&) = delete;

  void Start();
  void Stop();

  /// Both kinds were listed, or cannot be.
  bool answered() const;
  std::optional<Error> trouble() const;
  StoreView ViewUnder(std::string_view prefix) const;

 private:
  KubeFollowOptions FollowOptionsOf(KubeKind kind) const;
  void TakeLeases(const wire::Json::Array& objects, bool was_away);
  void TakeEntries(const wire::Json::Array& objects);
  void TakeLease(const KubeEvent& event);
  void TakeEntry(const KubeEvent& event);
  rt::Task<void> SweepLoop();
  void TellIfChanged();

  rt::Duration beat() const { return options_.lease.ttl / 3; }

  rt::Time call_deadline() const { return loop_.Now() + beat(); }

  rt::Loop& loop_;
  KubeStoreOptions options_;
  std::function<void()> on_change_;
  KubePicture picture_;
  std::uint64_t told_changes_ = 0;
  bool told_trouble_ = false;
  bool told_ = false;
  KubeFollower leases_;
  KubeFollower entries_;
  KubeClient sweeper_;
  rt::SpawnedTasks tasks_;  // last: their frames use what stands above
};

}  // namespace pixii::control
