// One model of a frontend: its texts, who computes for it, whether that works, what is counted.
//
// Thread: the frontend's loop; the model is immutable and may be read on any.
// It lives until the frontend took it back and nothing of it runs any more.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "control/engine_watch.h"
#include "control/worker_link.h"
#include "frontend/frontend_metrics.h"
#include "frontend/generation.h"
#include "frontend/options.h"
#include "frontend/receipt.h"
#include "frontend/served_model.h"
#include "obs/metrics.h"
#include "rt/loop.h"

namespace pixii::frontend {

/// Of one call of Frontend::Serve; never used twice.
enum class ServiceId : std::uint64_t {};

/// What the models of a frontend share.
class ServiceHost {
 public:
  virtual ~ServiceHost() = default;
  virtual rt::Loop& loop() = 0;
  virtual const FrontendOptions& options() const = 0;
  virtual bool draining() const = 0;
  virtual RequestId NextRequestId() = 0;
  virtual void OnRecorded(RequestRecord record) = 0;
  virtual void OnTraced(std::unique_ptr<RequestTrace> trace) = 0;
  /// Nothing will call `work` any more; the host destroys it, but not inside this call.
  virtual void OnDone(ClientWork& work) = 0;
};

class ModelService final : public GenerationHost {
 public:
  /// `host` and `registry` outlive it.
  ModelService(ServiceHost& host, ServiceId id, ServedModel model,
               std::shared_ptr<control::WorkerLink> link, obs::Registry& registry);

  ServiceId id() const { return id_; }

  const ServedModel& model() const { return *model_; }

  std::shared_ptr<const ServedModel> shared_model() const { return model_; }

  const std::string& name() const { return model_->name(); }

  const wire::ModelCard& card() const { return link_->card(); }

  /// Whether `wanted` names the model or an adapter of it.
  bool Serves(std::string_view wanted) const;

  FrontendMetrics& metrics() { return metrics_; }

  const FrontendMetrics& metrics() const { return metrics_; }

  /// Test requests begin; the first at once.
  void Start() { watch_.Start(); }

  /// No further test requests.
  void StopCanaries() { watch_.Stop(); }

  /// Looks whether a test request is due.
  void Probe() { watch_.Probe(); }

  const control::CanaryCounts& canaries() const { return watch_.canaries(); }

  bool ready() { return watch_.ready(); }

  bool ever_ready() const { return watch_.ever_ready(); }

  /// A sentence: ready, or what is in the way.
  std::string Describe() const { return watch_.Describe(); }

  /// Beyond them requests are refused; those that are nothing stay as they are. A router keeps its
  /// own for each worker. Errors: kUnsupported (of tokens, where nobody routes).
  Result<void> SetBusyThresholds(const control::BusyThresholds& thresholds);

  control::BusyThresholds busy_thresholds() const {
    return link_->routes() ? link_->busy_thresholds() : busy_;
  }

  /// Errors: kResourceExhausted.
  Result<void> AdmitByLoad() const;

  // Whoever calls it later holds it.
  void Hold() { ++use_count_; }

  void Release() { --use_count_; }

  std::size_t use_count() const { return use_count_; }

  // GenerationHost
  control::WorkerLink& link() override { return *link_; }

  void OnRecorded(RequestRecord record) override { host_.OnRecorded(std::move(record)); }

  void OnTraced(std::unique_ptr<RequestTrace> trace) override { host_.OnTraced(std::move(trace)); }

  const TextProcessor* text() const override { return model_->text.get(); }

  rt::Time Now() const override { return host_.loop().Now(); }

  RequestId NextRequestId() override { return host_.NextRequestId(); }

  std::uint32_t held_tokens_max() const override { return host_.options().held_tokens_max; }

  std::uint32_t retry_after_seconds() const override { return host_.options().retry_after_seconds; }

  int overload_status() const override { return host_.options().overload_status; }

  void OnTokens(const GenerationRecord& record, std::uint64_t count) override;
  void OnAnswered(const GenerationRecord& record) override;

  void OnPooled() override { watch_.OnToken(); }

  void OnDone(ClientWork& work) override { host_.OnDone(work); }

 private:
  ServiceHost& host_;
  ServiceId id_;
  std::shared_ptr<const ServedModel> model_;
  std::shared_ptr<control::WorkerLink> link_;
  FrontendMetrics metrics_;
  control::BusyThresholds busy_;  // of a worker that nobody chooses
  std::size_t use_count_ = 0;
  control::EngineWatch watch_;
};

}  // namespace pixii::frontend
