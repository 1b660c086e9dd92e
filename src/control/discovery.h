// Where workers say that they are there, and where others find them.
//
// Thread: one loop; handlers run on it. docs/subsystems/control.md
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "control/instance.h"
#include "control/lease_store.h"
#include "control/membership.h"
#include "obs/log.h"
#include "rt/alarm.h"
#include "rt/loop.h"

namespace pixii::control {

struct DiscoveryOptions {
  MembershipOptions membership;
  obs::Log* log = nullptr;  // outlives it; null: nothing is logged
};

/// An instance that this process says is there. Destroying it withdraws it.
class Registration final {
 public:
  Registration(LeaseStore& store, Instance instance)  // for Discovery
      : store_(store), instance_(std::move(instance)) {}

  Registration(const Registration&) = delete;
  Registration& operator=(const Registration&) = delete;
  ~Registration();

  /// Says something else of the same instance. The id and the three names stay; the generation is
  /// set here. Errors: kInvalidArgument, kTooLarge; then what was said stays.
  Result<void> Update(Instance instance);

  const Instance& instance() const { return instance_; }

  /// From now on `log` hears when the store is away and when it is back: for a process that watches
  /// no instances. `log` outlives this.
  void TellTrouble(obs::Log& log);

  /// Says that it drains; it stays there, so that who looks sees why it takes nothing new.
  void Drain();

  /// First as draining, then it is gone: who sees either takes it off at once. Idempotent.
  void Withdraw();

 private:
  friend class Discovery;

  Result<void> Publish(Instance instance);

  LeaseStore& store_;
  Instance instance_;
  bool registered_ = false;
  std::optional<WatchId> trouble_watch_;
  bool in_trouble_ = false;
};

/// The instances of one namespace, as Membership decides.
class InstanceWatch final {
 public:
  using ChangeHandler = std::function<void(const std::vector<MembershipChange>&)>;

  InstanceWatch(rt::Loop& loop, LeaseStore& store, std::string_view ns,  // for Discovery
                const DiscoveryOptions& options, ChangeHandler on_changes);
  InstanceWatch(const InstanceWatch&) = delete;
  InstanceWatch& operator=(const InstanceWatch&) = delete;
  ~InstanceWatch();

  /// What the connections say; see Membership::OnConnection. The handler may be called soon, not
  /// inside the call.
  void SetConnected(InstanceId id, bool connected);

  /// It said on a connection that it ends; see Membership::OnGoingAway. As above.
  void SetGoingAway(InstanceId id);

  const Membership::Instances& instances() const { return membership_.instances(); }

  /// Whether the store answered at least once: from then on, no instances means that there are
  /// none.
  bool complete() const { return complete_; }

  /// Why the store cannot be asked; nothing: it can.
  const std::optional<Error>& trouble() const { return trouble_; }

 private:
  void OnView(StoreView& mine, const StoreView& view, bool& answered);
  void Settle();

  void LogUnreadable(std::map<std::string, std::string> unreadable);

  rt::Loop& loop_;
  LeaseStore& store_;
  obs::Log* log_;
  ChangeHandler on_changes_;
  Membership membership_;
  WatchId instance_watch_{};
  WatchId card_watch_{};
  InstanceReader reader_;
  StoreView instance_view_;
  StoreView card_view_;
  bool instances_answered_ = false;
  bool cards_answered_ = false;
  bool complete_ = false;
  std::optional<Error> trouble_;
  std::map<std::string, std::string> unreadable_;  // key and why, as logged last
  rt::Alarm alarm_;
};

class Discovery final {
 public:
  /// `loop` outlives it; it outlives its registrations and watches.
  Discovery(rt::Loop& loop, std::unique_ptr<LeaseStore> store, DiscoveryOptions options);

  /// An id that no other instance has.
  InstanceId NewInstanceId();

  /// From now on `instance` stands in the store, whatever happens to that. An id of 0 becomes a new
  /// one. Errors: kInvalidArgument naming the field, kTooLarge.
  Result<std::unique_ptr<Registration>> Register(Instance instance);

  /// Of namespace `ns`; empty: of all. `on_changes` may not destroy the watch.
  std::unique_ptr<InstanceWatch> Watch(std::string_view ns,
                                       InstanceWatch::ChangeHandler on_changes);

  /// Everything of this process leaves the store; then nothing else may be called but destructors.
  void Close(std::function<void()> on_closed) { store_->Close(std::move(on_closed)); }

 private:
  rt::Loop& loop_;
  std::unique_ptr<LeaseStore> store_;
  DiscoveryOptions options_;
};

}  // namespace pixii::control
