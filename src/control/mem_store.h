// A lease store inside one process, or inside a simulation: a hub on one loop, stores on any.
//
// Thread: the hub is made, used and destroyed on its loop, each store on its own; they talk by
// Loop::Post. All loops outlive the hub and its stores. In a simulation the hub's node may be
// frozen, like a store that hangs.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "control/lease_store.h"
#include "rt/loop.h"

namespace pixii::control {

class MemStore;

class MemHub final : public std::enable_shared_from_this<MemHub> {
 public:
  MemHub(rt::Loop& loop, LeaseOptions options) : loop_(loop), options_(options) {}

  MemHub(const MemHub&) = delete;
  MemHub& operator=(const MemHub&) = delete;
  ~MemHub();

  const LeaseOptions& options() const { return options_; }

  rt::Loop& loop() { return loop_; }

  using Values = std::map<std::string, std::string>;

  /// All keys of all holders, as an operator would dump them.
  Values Dump() const;

  /// As if the store had lost its data, or had been set back to `values`, which then last as long
  /// as a lease. Holders notice at their next sign of life.
  void Reset(const Values& values = {});

 private:
  friend class MemStore;
  struct Mailbox;  // where a store hears of us

  struct Watcher {
    std::string prefix;
    bool told = false;
    Values last;
  };

  /// What a store wants: sent whole every time.
  struct Wanted {
    Values values;
    std::map<std::uint64_t, std::string> watches;  // prefix by id
  };

  struct Holder {
    std::shared_ptr<Mailbox> mailbox;
    Values values;
    std::map<std::uint64_t, Watcher> watchers;
    rt::TimerId expiry = rt::TimerId::kNone;
  };

  /// Ids of holders and watches. Any thread.
  std::uint64_t NewId() { return ++last_id_; }

  void Sync(std::uint64_t holder, const std::shared_ptr<Mailbox>& mailbox, Wanted wanted);
  void Leave(std::uint64_t holder);
  void StartLease(std::uint64_t holder);
  void TellWatchers();

  rt::Loop& loop_;
  LeaseOptions options_;
  std::atomic<std::uint64_t> last_id_ = 0;
  std::map<std::uint64_t, Holder> holders_;  // 0: nobody's
};

class MemStore final : public LeaseStore {
 public:
  MemStore(rt::Loop& loop, std::shared_ptr<MemHub> hub);
  MemStore(const MemStore&) = delete;
  MemStore& operator=(const MemStore&) = delete;
  ~MemStore() override;

  Result<void> Put(const std::string& key, std::string value) override;
  void Delete(const std::string& key) override;
  WatchId Watch(std::string prefix, WatchHandler on_view) override;
  void Unwatch(WatchId watch) override;
  void Close(std::function<void()> on_closed) override;

 private:
  friend struct MemHub::Mailbox;

  struct LocalWatch {
    std::string prefix;
    WatchHandler on_view;
    StoreView view;
    bool answered = false;
  };

  void SendSync();
  void Tell(std::uint64_t watch);
  void OnSynced();
  void SetTrouble(bool away);
  void OnView(std::uint64_t watch, MemHub::Values values);
  void OnLeft();

  rt::Loop& loop_;
  std::shared_ptr<MemHub> hub_;
  std::shared_ptr<MemHub::Mailbox> mailbox_;
  std::uint64_t holder_;
  MemHub::Values values_;
  std::map<std::uint64_t, LocalWatch> watches_;
  bool sync_under_way_ = false;
  bool dirty_ = false;  // something changed since the last sync was sent
  bool away_ = false;
  bool closed_ = false;
  rt::TimerId beat_ = rt::TimerId::kNone;
  rt::TimerId silence_ = rt::TimerId::kNone;
  std::function<void()> on_closed_;
};

}  // namespace pixii::control
