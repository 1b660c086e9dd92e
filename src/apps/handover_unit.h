// A worker's hand-overs: the connectors of its engine, what they are made of, and their figures.
//
// Thread: one loop, but for Make, which any thread may call before the engine runs.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "apps/option_structs.h"
#include "apps/transfer_agent_maker.h"
#include "apps/transfer_figures.h"
#include "base/result.h"
#include "kv/handover_connector.h"
#include "obs/log.h"
#include "obs/metrics.h"
#include "rt/loop.h"
#include "worker/handover_keeper.h"

namespace pixii::apps {

struct HandoverFlags {
  std::string role;         // "prefill" or "decode"
  std::string host;         // that peers reach this worker at
  std::string cluster_key;  // the secret itself
};

class HandoverUnit final {
 public:
  /// Errors: kInvalidArgument, kUnsupported naming the flag. `loop` and `log` outlive it.
  static Result<std::unique_ptr<HandoverUnit>> Open(rt::Loop& loop, obs::Log& log,
                                                    HandoverFlags flags, const EngineFlags& engine);

  /// The connector of an engine that is about to be made, whose it is; this outlives it. A worker
  /// with data-parallel ranks has an engine for each.
  Result<std::unique_ptr<kv::Connector>> Make(const kv::BlockGeometry& geometry);

  /// Whether the engine's blocks are to lie where processes of this host can read them.
  bool shares_memory() const { return SharesMemory(engine_); }

  /// Once the engine is made.
  worker::HandoverKeeper& keeper();

  void Export(const std::string& model, obs::Registry& registry);

  void AddFigures(std::vector<AgentFigures>& out) const;

 private:
  HandoverUnit(rt::Loop& loop, obs::Log& log, HandoverFlags flags, const EngineFlags& engine)
      : loop_(loop), log_(log), flags_(std::move(flags)), engine_(engine) {}

  rt::Loop& loop_;
  obs::Log& log_;
  HandoverFlags flags_;
  EngineFlags engine_;
  std::vector<kv::HandoverConnector*> connectors_;  // the engines', of each rank
  std::optional<worker::RanksKeeper> keeper_;
};

}  // namespace pixii::apps
