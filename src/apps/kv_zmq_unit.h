// The KV events of this process's engine over ZeroMQ, one publisher for each rank.
//
// Thread: one loop, that of the link. docs/kv_events_for_engines.md
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "apps/option_structs.h"
#include "apps/process_unit.h"
#include "base/result.h"
#include "control/zmq_kv_publisher.h"
#include "worker/hosted_link.h"

namespace pixii::apps {

/// The flags as the worker has them that `place` ranks of other workers come before. Errors:
/// kInvalidArgument naming the flag.
Result<KvZmqFlags> PlacedBehind(const KvZmqFlags& flags, std::uint32_t place);

class KvZmqUnit final {
 public:
  /// Null: no flag asks for it. `ranks`: of `link`, which outlives the unit, as does `process`.
  /// Errors: kInvalidArgument naming the flag; those of Listen; kUnsupported if the engine says
  /// nothing of its blocks.
  static Result<std::unique_ptr<KvZmqUnit>> Open(ProcessUnit& process, const KvZmqFlags& flags,
                                                 worker::HostedLink& link);

  /// To the log.
  void DumpState() const;

 private:
  explicit KvZmqUnit(ProcessUnit& process) : process_(process) {}

  Result<void> AddRank(const KvZmqFlags& flags, std::uint32_t rank);
  void OnEvents(std::uint32_t rank, std::vector<wire::EngineKvEvent> events);
  void Publish(std::uint32_t rank, std::vector<wire::EngineKvEvent> events);

  ProcessUnit& process_;
  bool says_ranks_ = false;
  double last_seconds_ = 0;
  std::vector<std::unique_ptr<control::ZmqKvPublisher>> ranks_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // on the loop alone
};

}  // namespace pixii::apps
