#include "apps/supervisor.h"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <optional>
#include <utility>

#include "rt/file.h"

namespace pixii::apps {

namespace {

constexpr rt::Duration kReadyPoll = std::chrono::milliseconds(20);

}  // namespace

Supervisor::Supervisor(ProcessUnit& process, Options options)
    : process_(process), options_(std::move(options)) {}

Supervisor::~Supervisor() { process_.loop().CancelTimer(timer_); }

void Supervisor::SetParts(std::vector<control::KeptPart> parts) {
  settled_ = false;
  keeper_.SetParts(std::move(parts));
  Step();
}

void Supervisor::Drain() {
  keeper_.Drain();
  Step();
}

void Supervisor::OnChild() {
  std::vector<control::ReplicaId> gone;
  for (auto& [replica, child] : children_) {
    if (!child.process.running()) {
      gone.push_back(replica);
    }
  }
  for (const control::ReplicaId replica : gone) {
    const auto found = children_.find(replica);
    Tell(replica, 0, fmt::format("ended with status {}", found->second.process.exit_status()));
    (void)rt::RemoveFile(found->second.port_file);
    children_.erase(found);
    keeper_.OnExit(replica, process_.loop().Now());
  }
  Step();
}

void Supervisor::Tell(control::ReplicaId replica, std::int32_t pid, const std::string& what) {
  if (!options_.on_change) {
    return;
  }
  for (const control::ReplicaStatus& one : keeper_.replicas()) {
    if (one.replica == replica) {
      options_.on_change(one, pid, what);
    }
  }
}

void Supervisor::Start(const control::KeeperAction& action) {
  Launch launch = options_.launch(action);
  (void)rt::RemoveFile(launch.port_file);
  Result<rt::ChildProcess> started = rt::ChildProcess::Start(launch.child);
  if (!started) {
    Tell(action.replica, 0, started.error().detail());
    keeper_.OnExit(action.replica, process_.loop().Now());
    return;
  }
  const std::int32_t pid = started->pid();
  children_.emplace(action.replica, Child{.process = std::move(*started),
                                          .port_file = std::move(launch.port_file)});
  Tell(action.replica, pid, "started");
}

void Supervisor::LookForReady() {
  for (auto& [replica, child] : children_) {
    const auto found =
        child.ready ? std::nullopt : rt::StatFile(child.port_file).value_or(std::nullopt);
    if (found) {
      child.ready = true;
      keeper_.OnReady(replica, process_.loop().Now());
      Tell(replica, child.process.pid(), "is ready");
    }
  }
}

void Supervisor::Step() {
  LookForReady();
  while (true) {
    const std::vector<control::KeeperAction> actions = keeper_.Decide(process_.loop().Now());
    if (actions.empty()) {
      break;
    }
    for (const control::KeeperAction& action : actions) {
      using Kind = control::KeeperAction::Kind;
      const auto child = children_.find(action.replica);
      if (action.kind == Kind::kStart) {
        Start(action);
      } else if (child != children_.end()) {
        child->second.process.Signal(action.kind == Kind::kStop ? SIGTERM : SIGKILL);
        Tell(action.replica, child->second.process.pid(),
             action.kind == Kind::kStop ? "shall end" : "is killed");
      }
    }
  }
  SetTimer();
  if (!std::exchange(settled_, keeper_.settled(process_.loop().Now())) && settled_ &&
      options_.on_settled) {
    options_.on_settled();
  }
  if (keeper_.finished() && !std::exchange(finished_, true) && options_.on_finished) {
    options_.on_finished();
  }
}

void Supervisor::SetTimer() {
  rt::Loop& loop = process_.loop();
  loop.CancelTimer(timer_);
  rt::Time next = keeper_.next_time(loop.Now());
  const bool rising =
      std::ranges::any_of(children_, [](const auto& one) { return !one.second.ready; });
  if (rising) {
    next = std::min(next, loop.Now() + kReadyPoll);
  }
  timer_ = next == rt::kNever ? rt::TimerId::kNone : loop.RunAt(next, [this] {
    timer_ = rt::TimerId::kNone;
    Step();
  });
}

}  // namespace pixii::apps
