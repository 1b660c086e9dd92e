// An engine with its model, ready to be served: loaded, on a thread of its own, behind a link.
//
// Thread: made and used on one loop's; the engine runs on another.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/command.h"
#include "apps/kv_connector.h"
#include "apps/kv_tiers.h"
#include "apps/model_host.h"
#include "apps/option_structs.h"
#include "base/result.h"
#include "engine/engine_loop.h"
#include "frontend/served_model.h"
#include "obs/log.h"
#include "obs/metrics.h"
#include "rt/loop.h"
#include "rt/thread.h"
#include "worker/hosted_link.h"
#include "worker/local_link.h"
#include "worker/ranked_link.h"

namespace pixii::apps {

struct EngineUnitOptions {
  ModelFlags model;
  EngineFlags engine;
  MockFlags mock;
  bool offline = false;
  std::uint32_t kv_event_count_max = 0;  // engine::EngineOptions
  bool kv_event_tokens = false;          // likewise
  std::string cluster_key = {};          // the secret itself; empty: there is none
  std::vector<ModelHost::ConnectorMaker> connectors = {};  // for ModelHost::UseConnector
  bool shared_blocks = false;                              // ModelHost::ShareBlocks
  bool kv_events_consolidated = true;                      // worker::LocalLinkOptions
  kernels::ComputeTurns* turns = nullptr;                  // engine::EngineLoopOptions
  /// Makes one more logits processor for each rank; none: there is none.
  std::function<std::unique_ptr<engine::LogitsProcessor>()> processor = {};
};

class EngineUnit final {
 public:
  /// Finds and loads `model`, which may take long; the log says how far it is. All outlive it.
  static Result<std::unique_ptr<EngineUnit>> Load(rt::Loop& loop, obs::Log& log,
                                                  EngineUnitOptions options,
                                                  const std::string& model);

  /// The same in two halves: Prepare takes long and may run on any thread, then Connect on the
  /// loop's.
  static std::unique_ptr<EngineUnit> Make(rt::Loop& loop, obs::Log& log, EngineUnitOptions options);
  Result<void> Prepare(const std::string& model);
  Result<void> Connect();

  EngineUnit(const EngineUnit&) = delete;
  EngineUnit& operator=(const EngineUnit&) = delete;
  /// Stops the engine; what runs is not answered any more.
  ~EngineUnit();

  /// The engine begins to run.
  void Start();

  worker::HostedLink& link() { return *link_; }

  /// The same for who shares links; the unit outlives it.
  std::shared_ptr<control::WorkerLink> shared_link() {
    return std::shared_ptr<control::WorkerLink>(std::shared_ptr<void>(), &*link_);
  }

  /// In the API, unless it is told another one.
  const std::string& name() const { return name_; }

  /// Where the checkpoint is.
  const std::string& folder() const { return folder_; }

  /// Where tokenizer and template are: there, unless a flag names others.
  const std::string& text_folder() const { return text_folder_; }

  /// How it reads texts.
  const frontend::PoolingProfile& pooling() const { return pooling_; }

  /// Tokenizer, template and defaults; call once.
  frontend::ServedModel TakeServed() { return std::move(*served_); }

  /// As ModelHost::feature_terms.
  worker::FeatureTerms feature_terms() const { return host_->feature_terms(); }

  /// As engine::EngineLoop::OfferFeatures. Pre: there is one rank.
  void OfferFeatures(std::string digest, std::shared_ptr<const model::VisionFeatures> features) {
    engines_.front()->OfferFeatures(std::move(digest), std::move(features));
  }

  /// The engine's counters, as of its last step.
  void Export(obs::Registry& registry) const;

  /// To the log.
  void DumpState(std::size_t requests, std::size_t connections) const;

 private:
  EngineUnit(rt::Loop& loop, obs::Log& log, EngineUnitOptions options)
      : loop_(loop), log_(log), options_(std::move(options)) {}

  Result<void> LoadHost();
  Result<void> MakeLink();
  engine::EngineLoopOptions LoopOptions();
  worker::LocalLinkOptions LinkOptions();
  worker::RankedLinkOptions RankOptions();
  Result<frontend::ServedModel> LoadTexts();
  void SayLoading(double done);
  void SaySleep(engine::EngineState state);
  worker::AdapterLinkOptions::Reader Logged(worker::AdapterLinkOptions::Reader read);
  Result<void> CheckAdapterNames() const;
  void ExportTrtllm(obs::Registry& registry, const engine::EngineLoad& load) const;
  void ExportRanks(obs::Registry& registry) const;
  void ExportProcessors(obs::Registry& registry) const;

  rt::Loop& loop_;
  obs::Log& log_;
  EngineUnitOptions options_;
  std::string name_;
  std::string folder_;
  std::string text_folder_;
  frontend::PoolingProfile pooling_;
  rt::Time loading_said_{};
  std::unique_ptr<KvTiers> tiers_;
  std::unique_ptr<KvConnector> kv_connector_;
  std::unique_ptr<ModelHost> host_;
  std::optional<frontend::ServedModel> served_;
  rt::Time began_{};
  std::vector<std::unique_ptr<engine::Engine>> prepared_;     // [rank], between the halves
  std::vector<std::unique_ptr<rt::Loop>> engine_loops_;       // [rank]
  std::vector<std::unique_ptr<engine::EngineLoop>> engines_;  // [rank]
  std::unique_ptr<worker::HostedLink> link_;
  std::vector<rt::Thread> threads_;  // [rank]
};

}  // namespace pixii::apps
