// The event plane of a process, as --event-plane says.
//
// Thread: one loop.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "apps/option_structs.h"
#include "apps/process_unit.h"
#include "base/result.h"
#include "control/nats_plane.h"
#include "obs/metrics.h"
#include "rt/sync.h"

namespace pixii::apps {

class PlaneUnit final {
 public:
  /// Null: there is none. `listens`: to workers. `process` outlives it. Errors: kInvalidArgument,
  /// kUnsupported naming the flag.
  static Result<std::unique_ptr<PlaneUnit>> Open(ProcessUnit& process, const ClusterFlags& flags,
                                                 bool listens);

  PlaneUnit(const PlaneUnit&) = delete;
  PlaneUnit& operator=(const PlaneUnit&) = delete;

  ~PlaneUnit() { tasks_.Clear(); }

  control::EventPlane& plane() { return *plane_; }

  void Export(obs::Registry& registry) const;

  /// To the log.
  void DumpState() const;

 private:
  explicit PlaneUnit(ProcessUnit& process) : process_(process) {}

  rt::Task<void> WatchLoop();

  ProcessUnit& process_;
  std::unique_ptr<control::NatsPlane> plane_;
  std::optional<bool> said_ready_;
  std::string said_trouble_;
  rt::SpawnedTasks tasks_;  // last: their frames use what stands above
};

}  // namespace pixii::apps
