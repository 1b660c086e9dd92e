// A model's tower without the rest of it, ready to look at pictures for other workers.
//
// Thread: made and used on one loop's, but for Prepare.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/cluster_unit.h"
#include "apps/option_structs.h"
#include "apps/transfer_figures.h"
#include "base/result.h"
#include "engine/model_encoder.h"
#include "kernels/operators.h"
#include "model/language_model.h"
#include "obs/log.h"
#include "obs/metrics.h"
#include "rt/loop.h"
#include "worker/encoder_link.h"

namespace pixii::apps {

struct EncodeUnitOptions {
  ModelFlags model;
  EngineFlags engine;
  bool offline = false;
  std::string host;         // that peers reach this worker at
  std::string cluster_key;  // the secret itself
};

class EncodeUnit final {
 public:
  EncodeUnit(rt::Loop& loop, obs::Log& log, EncodeUnitOptions options)
      : loop_(loop), log_(log), options_(std::move(options)) {}

  EncodeUnit(const EncodeUnit&) = delete;
  EncodeUnit& operator=(const EncodeUnit&) = delete;

  /// Finds `model` and loads its tower; may take long and may run on any thread. Errors: those of
  /// loading; kUnsupported of a model that has none.
  Result<void> Prepare(const std::string& model);

  /// Then, on the loop's. Errors: those of the transfer flags.
  Result<void> Connect();

  worker::EncoderLink& link() { return *link_; }

  ModelTexts texts() const { return {.folder = folder_, .text_folder = text_folder_}; }

  void Export(obs::Registry& registry) const;

  void AddFigures(std::vector<AgentFigures>& out) const;

  /// To the log.
  void DumpState(std::size_t requests) const;

 private:
  rt::Loop& loop_;
  obs::Log& log_;
  EncodeUnitOptions options_;
  std::string name_;
  std::string folder_;
  std::string text_folder_;
  model::ModelSpec spec_;
  std::string numerics_id_;
  std::unique_ptr<kernels::Operators> operators_;
  std::unique_ptr<engine::ModelEncoder> encoder_;  // until Connect
  std::unique_ptr<worker::EncoderLink> link_;
};

}  // namespace pixii::apps
