// A lease store in a Kubernetes API: a Lease per holder, a ConfigMap per key.
// docs/formats/discovery.md
//
// Thread: one loop. This holds what was put; KubeMirror sees what others put.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "control/kube_client.h"
#include "control/kube_mirror.h"
#include "control/lease_store.h"
#include "rt/loop.h"
#include "rt/net.h"
#include "rt/sync.h"

namespace pixii::control {

class KubeStore final : public LeaseStore {
 public:
  /// `loop` and `net` outlive it.
  KubeStore(rt::Loop& loop, rt::Net& net, KubeStoreOptions options);
  KubeStore(const KubeStore&) = delete;
  KubeStore& operator=(const KubeStore&) = delete;
  /// Without Close the keys go when the lease has run out.
  ~KubeStore() override;

  Result<void> Put(const std::string& key, std::string value) override;
  void Delete(const std::string& key) override;
  WatchId Watch(std::string prefix, WatchHandler on_view) override;
  void Unwatch(WatchId watch) override;
  void Close(std::function<void()> on_closed) override;

  /// The name of whoever holds what is put here; of one start, never used twice.
  const std::string& holder() const { return holder_; }

 private:
  /// A ConfigMap of ours, as far as we know.
  struct Standing {
    std::optional<std::string> value;  // nothing: not what we put
    KubeVersion version;
  };

  struct PrefixWatch {
    std::string prefix;
    WatchHandler on_view;
    std::optional<StoreView> told;
  };

  rt::Task<void> HoldLoop();
  rt::Task<Result<void>> Hold();
  rt::Task<Result<void>> HaveLease();
  rt::Task<Result<void>> CheckPut();
  rt::Task<Result<void>> PutWanted();
  rt::Task<Result<void>> PutEntry(std::string key, std::string value);
  rt::Task<Result<void>> DeleteEntry(std::string key);
  rt::Task<Result<KubeAnswer>> Read(std::string key);
  rt::Task<void> CloseTask();
  void TellAll();
  void Tell(std::uint64_t watch);

  rt::Duration beat() const { return options_.lease.ttl / 3; }

  rt::Time call_deadline() const { return loop_.Now() + beat(); }

  rt::Loop& loop_;
  KubeStoreOptions options_;
  std::string holder_;
  std::map<std::string, std::string> wanted_;
  std::map<std::string, Standing> put_;  // by key
  std::string lease_uid_;                // empty: none that we know of
  rt::Time renewed_at_{};
  std::map<std::uint64_t, PrefixWatch> watches_;
  std::uint64_t last_watch_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::function<void()> on_closed_;
  bool closing_ = false;
  bool mirroring_ = false;
  KubeClient client_;
  rt::Event wanted_changed_;
  KubeMirror mirror_;
  rt::SpawnedTasks holding_;  // last: their frames use what stands above
  rt::SpawnedTasks closing_task_;
};

}  // namespace pixii::control
