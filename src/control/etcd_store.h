// A lease store in etcd 3.4 or later, through its JSON gateway.
//
// Thread: one loop.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "control/etcd_client.h"
#include "control/held_store.h"
#include "rt/loop.h"
#include "rt/net.h"
#include "rt/sync.h"

namespace pixii::control {

struct EtcdStoreOptions {
  std::vector<rt::Address> endpoints;  // at least one
  LeaseOptions lease;
  rt::Duration backoff_min = std::chrono::milliseconds(50);  // between two attempts, doubling
  rt::Duration backoff_max = std::chrono::seconds(2);
};

class EtcdStore final : public HeldStore {
 public:
  /// `loop` and `net` outlive it.
  EtcdStore(rt::Loop& loop, rt::Net& net, EtcdStoreOptions options);
  /// Without Close the keys go with the lease.
  ~EtcdStore() override;

  WatchId Watch(std::string prefix, WatchHandler on_view) override;
  void Unwatch(WatchId watch) override;

 private:
  struct Standing {
    std::string value;
    std::int64_t revision = 0;
  };

  struct PrefixWatch {
    PrefixWatch(rt::Net& net, const EtcdStoreOptions& options) : client(net, options.endpoints) {}

    std::string prefix;
    WatchHandler on_view;
    StoreView view;
    std::optional<StoreView> told;
    std::int64_t revision = 0;  // what `view` is the state of
    EtcdClient client;
    rt::SpawnedTasks tasks;  // last: its frame uses what stands above
  };

  rt::Task<Result<void>> Hold() override;

  bool has_lease() const override { return lease_ != EtcdLease::kNone; }

  void EndWatches() override;
  rt::Task<Result<void>> GiveBack() override;
  rt::Task<Result<void>> RenewLease();
  rt::Task<Result<void>> CheckPut();
  rt::Task<Result<void>> PutWanted();
  rt::Task<void> WatchLoop(std::shared_ptr<PrefixWatch> watch);
  rt::Task<Result<void>> Follow(std::shared_ptr<PrefixWatch> watch);
  rt::Task<Result<bool>> IsUpToDate(std::shared_ptr<PrefixWatch> watch);
  Result<void> Apply(PrefixWatch& watch, std::string& pending, std::string piece);
  void Tell(PrefixWatch& watch);
  void DropEnded();

  rt::Net& net_;
  EtcdStoreOptions options_;
  std::map<std::string, Standing> put_;  // what hangs on the lease, as far as we know
  EtcdLease lease_ = EtcdLease::kNone;
  std::map<std::uint64_t, std::shared_ptr<PrefixWatch>> watches_;
  std::vector<std::shared_ptr<PrefixWatch>> ended_;  // their frames may still be running
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::uint64_t last_watch_ = 0;
  EtcdClient client_;
};

}  // namespace pixii::control
