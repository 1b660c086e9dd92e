// An engine with its model, ready to be served: loaded, on a thread of its own, behind a link.
//
// Thread: made and used on one loop's; the engine runs on another.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "apps/model_host.h"
#include "apps/option_structs.h"
#include "base/result.h"
#include "engine/engine_loop.h"
#include "frontend/served_model.h"
#include "obs/log.h"
#include "obs/metrics.h"
#include "rt/loop.h"
#include "rt/thread.h"
#include "worker/local_link.h"

namespace pixii::apps {

struct EngineUnitOptions {
  ModelFlags model;
  EngineFlags engine;
  MockFlags mock;
  bool offline = false;
};

class EngineUnit final {
 public:
  /// Finds and loads `model`, which may take long; the log says how far it is. All outlive it.
  static Result<std::unique_ptr<EngineUnit>> Load(rt::Loop& loop, obs::Log& log,
                                                  EngineUnitOptions options,
                                                  const std::string& model);

  EngineUnit(const EngineUnit&) = delete;
  EngineUnit& operator=(const EngineUnit&) = delete;
  /// Stops the engine; what runs is not answered any more.
  ~EngineUnit();

  /// The engine begins to run.
  void Start();

  worker::LocalLink& link() { return *link_; }

  /// In the API, unless it is told another one.
  const std::string& name() const { return name_; }

  /// Where the checkpoint and its tokenizer are.
  const std::string& folder() const { return folder_; }

  /// Tokenizer, template and defaults; call once.
  frontend::ServedModel TakeServed() { return std::move(*served_); }

  /// The engine's counters, as of its last step.
  void Export(obs::Registry& registry) const;

  /// To the log.
  void DumpState(std::size_t requests, std::size_t connections) const;

 private:
  EngineUnit(rt::Loop& loop, obs::Log& log, EngineUnitOptions options)
      : loop_(loop), log_(log), options_(std::move(options)) {}

  Result<void> LoadModel(const std::string& model);
  Result<void> LoadHost();
  Result<frontend::ServedModel> LoadTexts() const;
  void SayLoading(double done);
  void SaySleep(engine::EngineState state);
  worker::AdapterLinkOptions::Reader Logged(worker::AdapterLinkOptions::Reader read);
  Result<void> CheckAdapterNames() const;
  void ExportProcessors(obs::Registry& registry) const;

  rt::Loop& loop_;
  obs::Log& log_;
  EngineUnitOptions options_;
  std::string name_;
  std::string folder_;
  rt::Time loading_said_{};
  std::unique_ptr<ModelHost> host_;
  std::optional<frontend::ServedModel> served_;
  std::unique_ptr<rt::Loop> engine_loop_;
  std::optional<engine::EngineLoop> engine_;
  std::optional<worker::LocalLink> link_;
  std::optional<rt::Thread> thread_;
};

}  // namespace pixii::apps
