// Who changes the number of workers for a planner: another process over discovery's store (pixii up
// or a client of its own), or a DynamoGraphDeployment in Kubernetes. docs/planner.md
//
// Thread: one loop. Source: spec/dynamo-core.md F.3 (connectors), H.1 (spec.components[].replicas).
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "control/kube_client.h"
#include "control/lease_store.h"
#include "control/planner.h"
#include "control/scale_order.h"
#include "rt/loop.h"
#include "rt/net.h"
#include "rt/task.h"
#include "rt/time.h"
#include "wire/json.h"

namespace pixii::control {

/// The component of each pool; empty: the planner has no such pool.
using PoolComponents = std::array<std::string, kPoolCount>;

struct ScaleView {
  std::array<std::optional<std::uint32_t>, kPoolCount>
      asked;               // that the fleet shall have, as it knows it; nothing: it does not say
  bool pending = false;    // the last change is not done: nothing else is to be asked for
  std::string error = {};  // why it could not be done; empty: it could
};

class ScaleConnector {
 public:
  virtual ~ScaleConnector() = default;

  /// Errors: kUnavailable and others if the fleet cannot be asked.
  virtual rt::Task<Result<ScaleView>> Look(rt::Time deadline) = 0;

  /// Asks for `order`, counts of components. Errors: likewise; then nothing has changed, or it is
  /// not known.
  virtual rt::Task<Result<void>> Scale(ScaleOrder order, rt::Time deadline) = 0;
};

struct StoreConnectorOptions {
  std::string ns = "dynamo";
  PoolComponents components;
  /// Only what a report says counts, as pixii up's; else what was asked for last.
  bool needs_report = false;
  rt::Duration patience = std::chrono::minutes(30);  // then a change counts as done
};

/// All outlive it.
std::unique_ptr<ScaleConnector> MakeStoreConnector(rt::Loop& loop, LeaseStore& store,
                                                   StoreConnectorOptions options);

/// Patches spec.components[].replicas of the deployment `name`, if it is still what was read. All
/// outlive it.
std::unique_ptr<ScaleConnector> MakeKubeConnector(rt::Loop& loop, rt::Net& net, KubeAccess access,
                                                  std::string name, PoolComponents components);

/// Which element of spec.components a pool is: the one of that name, else the only one of its type
/// (prefill, or decode and worker). Errors: kNotFound naming what is there.
Result<std::size_t> FindGraphComponent(const wire::Json& deployment, Pool pool,
                                       std::string_view component);

}  // namespace pixii::control
