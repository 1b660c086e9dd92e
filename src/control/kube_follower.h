// Follows the objects of one kind in a Kubernetes API: lists them, watches what changes, lists anew
// when a watch breaks, expires or lies.
//
// Thread: one loop. Source: Kubernetes API concepts, "Efficient detection of changes", "410 Gone
// responses", "Watch bookmarks".
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "control/kube_client.h"
#include "rt/loop.h"
#include "rt/net.h"

namespace pixii::control {

struct KubeFollowOptions {
  KubeAccess access;
  KubeKind kind = KubeKind::kLease;
  std::string selector = std::string(kKubeSelector);
  rt::Duration beat = std::chrono::seconds(5);  // a call's time, and how long a watch may be silent
  rt::Duration backoff_min = std::chrono::milliseconds(50);  // between two attempts, doubling
  rt::Duration backoff_max = std::chrono::seconds(2);
  rt::Duration watch_length = std::chrono::minutes(5);  // the server ends it then; we go on
  bool list_if_silent = false;  // else a silent watch goes on where the server has no news
};

struct KubeFollowHandlers {
  /// All there are now. `was_away`: the server could not be asked since the last list.
  std::function<void(const wire::Json::Array& objects, bool was_away)> on_list;
  /// One object came, changed or went.
  std::function<void(const KubeEvent& event)> on_event;
  /// After any of these, and when trouble comes.
  std::function<void()> on_change;
  /// A watch may not be silent beyond this, either; empty: the beat alone counts.
  std::function<rt::Time()> patience = {};
};

class KubeFollower final {
 public:
  /// `loop` and `net` outlive it. Handlers are called from the loop.
  KubeFollower(rt::Loop& loop, rt::Net& net, KubeFollowOptions options,
               KubeFollowHandlers handlers);
  KubeFollower(const KubeFollower&) = delete;
  KubeFollower& operator=(const KubeFollower&) = delete;

  void Start();
  void Stop();

  bool listed() const { return listed_; }

  const std::optional<Error>& trouble() const { return trouble_; }

 private:
  enum class Next : std::uint8_t { kWatch, kList };

  rt::Task<void> FollowLoop();
  rt::Task<Result<void>> Follow();
  rt::Task<Result<void>> ListAll();
  rt::Task<Result<Next>> WatchOnce();
  rt::Task<Result<Next>> AskIfSilent();
  Result<void> TakeList(const wire::Json& list);
  Result<void> TakePiece(std::string& pending, std::string_view piece);
  Result<void> TakeEvent(const KubeEvent& event);
  rt::Time Patience() const;

  rt::Time call_deadline() const { return loop_.Now() + options_.beat; }

  rt::Loop& loop_;
  KubeFollowOptions options_;
  KubeFollowHandlers handlers_;
  KubeClient client_;
  std::string version_;    // what is known is the state of
  bool listed_ = false;    // ever
  bool was_away_ = false;  // since the last list
  std::optional<Error> trouble_;
  rt::SpawnedTasks tasks_;  // last: their frames use what stands above
};

}  // namespace pixii::control
