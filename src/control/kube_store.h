// A lease store in a Kubernetes API: a Lease per holder, a ConfigMap per key.
// docs/formats/discovery.md
//
// Thread: one loop. This holds what was put; KubeMirror sees what others put.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "control/held_store.h"
#include "control/kube_client.h"
#include "control/kube_mirror.h"
#include "rt/loop.h"
#include "rt/net.h"

namespace pixii::control {

class KubeStore final : public HeldStore {
 public:
  /// `loop` and `net` outlive it.
  KubeStore(rt::Loop& loop, rt::Net& net, KubeStoreOptions options);
  /// Without Close the keys go when the lease has run out.
  ~KubeStore() override;

  WatchId Watch(std::string prefix, WatchHandler on_view) override;
  void Unwatch(WatchId watch) override;

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

  rt::Task<Result<void>> Hold() override;

  bool has_lease() const override { return !lease_uid_.empty(); }

  rt::Time not_before() const override { return client_.not_before(); }

  void EndWatches() override;
  rt::Task<Result<void>> GiveBack() override;
  rt::Task<Result<void>> HaveLease();
  rt::Task<Result<void>> CheckPut();
  rt::Task<Result<void>> PutWanted();
  rt::Task<Result<void>> PutEntry(std::string key, std::string value);
  rt::Task<Result<void>> DeleteEntry(std::string key);
  rt::Task<Result<KubeAnswer>> Read(std::string key);
  void TellAll();
  void Tell(std::uint64_t watch);

  KubeStoreOptions options_;
  std::string holder_;
  std::map<std::string, Standing> put_;  // by key
  std::string lease_uid_;                // empty: none that we know of
  std::map<std::uint64_t, PrefixWatch> watches_;
  std::uint64_t last_watch_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  bool mirroring_ = false;
  KubeClient client_;
  KubeMirror mirror_;
};

}  // namespace pixii::control
