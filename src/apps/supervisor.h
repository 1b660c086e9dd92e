// Processes of this program kept running as a Keeper decides: started, watched, ended.
//
// Thread: one loop, of the thread that ends last: what it started is killed with it.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "apps/process_unit.h"
#include "control/keeper.h"
#include "rt/child_process.h"

namespace pixii::apps {

/// How a replica is started.
struct Launch {
  rt::ChildOptions child;
  std::string port_file;  // it takes requests once that is there
};

class Supervisor final {
 public:
  struct Options {
    /// Of a replica that is about to start.
    std::function<Launch(const control::KeeperAction& start)> launch;
    /// Something started, got ready or ended; empty: nobody is told.
    std::function<void(const control::ReplicaStatus& replica, std::int32_t pid,
                       const std::string& what)>
        on_change = {};
    /// Everything is as SetParts said, for the first time since.
    std::function<void()> on_settled = {};
    /// All that drained has ended.
    std::function<void()> on_finished = {};
  };

  /// `process` outlives it.
  Supervisor(ProcessUnit& process, Options options);

  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;
  /// Kills what still runs.
  ~Supervisor();

  /// What shall run from now on; see Keeper::SetParts.
  void SetParts(std::vector<control::KeptPart> parts);

  void Drain();

  /// A child has ended: SignalHandlers::child.
  void OnChild();

  const control::Keeper& keeper() const { return keeper_; }

 private:
  struct Child {
    rt::ChildProcess process;
    std::string port_file;
    bool ready = false;
  };

  void Step();
  void Start(const control::KeeperAction& action);
  void LookForReady();
  void Tell(control::ReplicaId replica, std::int32_t pid, const std::string& what);
  void SetTimer();

  ProcessUnit& process_;
  Options options_;
  control::Keeper keeper_{control::KeeperOptions{}};
  std::map<control::ReplicaId, Child> children_;
  rt::TimerId timer_ = rt::TimerId::kNone;
  bool settled_ = false;
  bool finished_ = false;
};

/// The path of this program.
inline constexpr const char* kOwnProgram = "/proc/self/exe";

}  // namespace pixii::apps
