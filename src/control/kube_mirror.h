// Follows the objects of a store in a Kubernetes API: lists them, watches what changes, deletes
// what nobody owns any more.
//
// Thread: one loop. Both kinds are followed by themselves; the picture of both is what counts.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "control/kube_client.h"
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
  /// One kind of objects.
  struct Side {
    KubeKind kind;
    KubeClient client;
    std::string version;    // what the picture is the state of
    bool listed = false;    // ever
    bool was_away = false;  // since the last list
    std::optional<Error> trouble;
  };

  rt::Task<void> FollowLoop(Side& side);
  rt::Task<Result<void>> Follow(Side& side);
  rt::Task<Result<void>> ListAll(Side& side);
  enum class Next : std::uint8_t { kWatch, kList };
  rt::Task<Result<Next>> WatchOnce(Side& side);
  rt::Task<Result<Next>> AskIfSilent(Side& side);
  rt::Task<void> SweepLoop();
  Result<void> TakeList(Side& side, const wire::Json& list);
  Result<void> TakePiece(Side& side, std::string& pending, std::string_view piece);
  Result<void> TakeEvent(Side& side, const KubeEvent& event);
  rt::Time PatienceOf(const Side& side) const;
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
  Side leases_;
  Side entries_;
  KubeClient sweeper_;
  rt::SpawnedTasks tasks_;  // last: their frames use what stands above
};

}  // namespace pixii::control
