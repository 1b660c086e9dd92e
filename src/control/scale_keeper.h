// Both ends of a scaling over discovery's store: a planner that asks, and whoever does it.
//
// Thread: one loop. docs/planner.md, docs/formats/scaling.md
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "base/result.h"
#include "control/lease_store.h"
#include "control/scale_order.h"

namespace pixii::control {

/// The planner's end.
class ScaleAsker final {
 public:
  /// `store` outlives it.
  ScaleAsker(LeaseStore& store, std::string ns);
  ScaleAsker(const ScaleAsker&) = delete;
  ScaleAsker& operator=(const ScaleAsker&) = delete;
  ~ScaleAsker();

  /// Asks for `order`, in place of what was asked before. `done` of it is set here. Errors: those
  /// of the store's entries.
  Result<void> Ask(ScaleOrder order);

  /// What whoever changes the fleet said last; nothing: nobody has said anything.
  const std::optional<ScaleReport>& report() const { return report_; }

  /// Why the store cannot be asked; nothing: it can.
  const std::optional<Error>& trouble() const { return trouble_; }

  /// Whether the store has answered since the start.
  bool answered() const { return answered_; }

  /// The highest decision that is known to be done.
  std::int64_t done() const { return done_; }

 private:
  void OnView(const StoreView& view);

  LeaseStore& store_;
  std::string ns_;
  WatchId watch_{};
  std::optional<ScaleOrder> asked_;
  std::optional<ScaleReport> report_;
  std::optional<Error> trouble_;
  bool answered_ = false;
  std::int64_t done_ = 0;
};

/// The other end.
class ScaleDoer final {
 public:
  using OrderHandler = std::function<void(const ScaleOrder& order)>;

  /// `on_order` hears of each order that is another than the one before, once; not of its end: what
  /// a planner that died had asked for stays right. `store` outlives it.
  ScaleDoer(LeaseStore& store, std::string ns, OrderHandler on_order);
  ScaleDoer(const ScaleDoer&) = delete;
  ScaleDoer& operator=(const ScaleDoer&) = delete;
  ~ScaleDoer();

  /// From now on this stands there, until this is destroyed. Errors: those of the store's entries.
  Result<void> Say(const ScaleReport& report);

 private:
  LeaseStore& store_;
  std::string ns_;
  OrderHandler on_order_;
  WatchId watch_{};
  std::optional<ScaleOrder> last_;
};

}  // namespace pixii::control
