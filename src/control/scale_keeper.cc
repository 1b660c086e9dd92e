#include "control/scale_keeper.h"

#include <algorithm>
#include <utility>

namespace pixii::control {

ScaleAsker::ScaleAsker(LeaseStore& store, std::string ns) : store_(store), ns_(std::move(ns)) {
  watch_ = store_.Watch(ScaleReportKey(ns_), [this](const StoreView& view) { OnView(view); });
}

ScaleAsker::~ScaleAsker() { store_.Unwatch(watch_); }

Result<void> ScaleAsker::Ask(ScaleOrder order) {
  order.done = done_;
  PX_CHECK_OK(store_.Put(ScaleOrderKey(ns_), EncodeScaleOrder(order)));
  asked_ = std::move(order);
  return {};
}

void ScaleAsker::OnView(const StoreView& view) {
  trouble_ = view.trouble;
  answered_ = answered_ || !view.trouble;
  const auto found = view.values.find(ScaleReportKey(ns_));
  if (found == view.values.end()) {
    return;  // whoever said it is gone; what it said was true
  }
  Result<ScaleReport> report = DecodeScaleReport(found->second);
  if (!report) {
    return;
  }
  report_ = std::move(*report);
  if (report_->decision > done_) {
    done_ = report_->decision;
    if (asked_) {
      (void)Ask(*asked_);  // who completes a decision goes when it reads that it is known
    }
  }
}

ScaleDoer::ScaleDoer(LeaseStore& store, std::string ns, OrderHandler on_order)
    : store_(store), ns_(std::move(ns)), on_order_(std::move(on_order)) {
  watch_ = store_.Watch(ScaleOrderKey(ns_), [this](const StoreView& view) {
    const auto found = view.values.find(ScaleOrderKey(ns_));
    if (found == view.values.end()) {
      return;
    }
    const Result<ScaleOrder> order = DecodeScaleOrder(found->second);
    if (order && (!last_ || *last_ != *order)) {
      last_ = *order;
      on_order_(*order);
    }
  });
}

ScaleDoer::~ScaleDoer() { store_.Unwatch(watch_); }

Result<void> ScaleDoer::Say(const ScaleReport& report) {
  return store_.Put(ScaleReportKey(ns_), EncodeScaleReport(report));
}

}  // namespace pixii::control
