// What stores on other machines have in common: all that is wanted stands there under one lease,
// however often that takes.
//
// Thread: one loop.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "control/lease_store.h"
#include "rt/loop.h"
#include "rt/sync.h"

namespace pixii::control {

/// When a store is asked.
struct HoldPace {
  LeaseOptions lease;
  rt::Duration backoff_min{};  // between two attempts, doubling
  rt::Duration backoff_max{};
};

class HeldStore : public LeaseStore {
 public:
  HeldStore(const HeldStore&) = delete;
  HeldStore& operator=(const HeldStore&) = delete;

  Result<void> Put(const std::string& key, std::string value) final;
  void Delete(const std::string& key) final;
  void Close(std::function<void()> on_closed) final;

 protected:
  /// `loop` outlives it. Whoever derives calls StartHolding when it is whole and StopHolding before
  /// it goes.
  HeldStore(rt::Loop& loop, HoldPace pace);

  void StartHolding();
  void StopHolding();

  /// One attempt to have a living lease with all of wanted() on it. It is asked again at once when
  /// that changes, after a while when it failed, and when is_due().
  virtual rt::Task<Result<void>> Hold() = 0;

  virtual bool has_lease() const = 0;

  /// No attempt after one that failed comes before this.
  virtual rt::Time not_before() const { return {}; }

  /// Whoever watches hears nothing more. Called once, from the loop.
  virtual void EndWatches() = 0;

  /// Pre: has_lease(). One attempt is enough: the lease ends by itself.
  virtual rt::Task<Result<void>> GiveBack() = 0;

  const std::map<std::string, std::string>& wanted() const { return wanted_; }

  bool closing() const { return closing_; }

  rt::Loop& loop() const { return loop_; }

  /// The lease lives since then.
  void SetRenewed(rt::Time at) { renewed_at_ = at; }

  bool is_due() const { return loop_.Now() - renewed_at_ >= beat(); }

  rt::Duration beat() const { return pace_.lease.ttl / 3; }

  rt::Time call_deadline() const { return loop_.Now() + beat(); }

 private:
  rt::Task<void> HoldLoop();
  rt::Task<void> CloseTask();

  rt::Loop& loop_;
  HoldPace pace_;
  std::map<std::string, std::string> wanted_;
  rt::Time renewed_at_{};
  std::function<void()> on_closed_;
  bool closing_ = false;
  rt::Event wanted_changed_;
  rt::SpawnedTasks holding_;  // last: their frames use what stands above
  rt::SpawnedTasks closing_task_;
};

}  // namespace pixii::control
