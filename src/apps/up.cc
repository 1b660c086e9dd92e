#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <csignal>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "apps/cluster_key.h"
#include "apps/cluster_unit.h"
#include "apps/command.h"
#include "apps/graph_flags.h"
#include "apps/model_source.h"
#include "apps/option_structs.h"
#include "apps/process_unit.h"
#include "apps/supervisor.h"
#include "apps/version.h"
#include "base/hash.h"
#include "control/graph.h"
#include "control/scale_keeper.h"
#include "rt/file.h"
#include "rt/file_lock.h"

namespace pixii::apps {

namespace {

constexpr std::uint64_t kGraphBytesMax = 1U << 20U;
constexpr std::uint64_t kSmallFileBytesMax = 64;
constexpr std::uint64_t kPathBytesMax = 8192;
constexpr std::size_t kPortFilesMax = 65536;
constexpr std::uint64_t kLogBytesMax =
    64U << 20U;  // of a component's log, before the next start begins a new one

// A port that a process listens on, by its flag; 0 and less: any, or none.
struct PortFlag {
  std::string_view flag;
  std::string_view otherwise;           // its default
  std::string_view only_with = {};      // counts if this flag is given, too; empty: always
  std::string_view host_flag = "host";  // where
};

// A command that a component may run.
struct Runnable {
  std::string_view command;
  bool takes_model = false;
  bool in_cluster = true;  // it finds others, and is found
  std::array<PortFlag, 2> ports = {};
  std::string_view socket_flag = {};  // names a socket file; empty: it has none
};

constexpr std::array<Runnable, 5> kRunnables = {{
    {.command = "frontend",
     .ports = {{{"port", "8000"}, {"grpc-port", "8001", "kserve-grpc-server"}}},
     .socket_flag = "listen"},
    {.command = "worker",
     .takes_model = true,
     .ports = {{{"worker-port", "0", {}, "worker-host"}, {"system-port", "-1", {}, "system-host"}}},
     .socket_flag = "worker-listen"},
    {.command = "planner", .ports = {{{"port", "9085"}}}},
    {.command = "router", .ports = {{{"port", "8090"}, {"route-port", "0", {}, "route-host"}}}},
    {.command = "serve",
     .takes_model = true,
     .in_cluster = false,
     .ports = {{{"port", "8000"}, {"grpc-port", "8001", "kserve-grpc-server"}}},
     .socket_flag = "listen"},
}};

const Runnable& RunnableOf(std::string_view command) {
  return *std::ranges::find(kRunnables, command, &Runnable::command);
}

bool TakesMany(const std::string& command, const std::string& flag) {
  GraphFlags flags;
  return std::ranges::any_of(flags.Of(command), [&](const config::Option& option) {
    return Goes(option, flag) && std::holds_alternative<config::ListField>(option.field);
  });
}

// Whether a command has such a flag, and takes the value.
Result<void> CheckFlag(const std::string& command, const std::string& flag,
                       const std::string& value) {
  GraphFlags flags;
  const std::vector<config::Option> options = flags.Of(command);
  std::vector<std::string> names;
  for (const config::Option& option : options) {
    if (Goes(option, flag)) {
      return config::Assign(option, value);
    }
    names.push_back(option.name);
  }
  const std::optional<std::string> nearest = config::Nearest(flag, names);
  return Fail(Code::kInvalidArgument,
              fmt::format("pixii {} has no flag --{}{}", command, flag,
                          nearest ? fmt::format("; did you mean {}?", *nearest) : ""),
              flag);
}

std::string HexOf(std::string_view text) {
  return fmt::format("{:016x}",
                     Hash64(std::as_bytes(std::span<const char>(text.data(), text.size()))));
}

// Whether the component listens at no port of its own choice there.
bool IsFree(const control::GraphComponent& component, const PortFlag& port) {
  if (port.flag.empty() || (!port.only_with.empty() && component.Flag(port.only_with) == nullptr)) {
    return true;
  }
  const std::string* value = component.Flag(port.flag);
  const std::string_view number = value != nullptr ? *value : port.otherwise;
  return number == "0" || number.starts_with('-');
}

// Whether two of it can run at a time: not if both want the same port or socket.
bool Overlaps(const control::GraphComponent& component) {
  const Runnable& runnable = RunnableOf(component.command);
  return std::ranges::all_of(runnable.ports,
                             [&](const PortFlag& port) { return IsFree(component, port); }) &&
         (runnable.socket_flag.empty() || component.Flag(runnable.socket_flag) == nullptr);
}

// Two components cannot listen at one place.
Result<void> CheckPorts(const control::Graph& graph, const std::string& path) {
  std::map<std::string, std::string> taken;  // by place: the component's name
  for (const control::GraphComponent& component : graph.components) {
    const Runnable& runnable = RunnableOf(component.command);
    const bool on_socket =
        !runnable.socket_flag.empty() && component.Flag(runnable.socket_flag) != nullptr;
    if (component.replicas == 0) {
      continue;
    }
    for (const PortFlag& one : runnable.ports) {
      const bool is_main = &one == runnable.ports.data();
      if (IsFree(component, one) || (is_main && on_socket)) {
        continue;
      }
      const std::string* const port = component.Flag(one.flag);
      const std::string* const host = component.Flag(one.host_flag);
      const std::string place = fmt::format("{}:{}", host != nullptr ? *host : "127.0.0.1",
                                            port != nullptr ? *port : one.otherwise);
      const auto [at, is_new] = taken.emplace(place, component.name);
      if (!is_new) {
        return Fail(Code::kInvalidArgument,
                    fmt::format("{}:{}: components.{}.flags.{}: {} is {}'s already", path,
                                component.line, component.name, one.flag, place, at->second),
                    std::string(one.flag));
      }
    }
  }
  return {};
}

Result<control::Graph> ReadGraphFile(const std::string& path) {
  control::GraphRules rules = {
      .commands = {}, .model_commands = {}, .check_flag = CheckFlag, .takes_many = TakesMany};
  for (const Runnable& one : kRunnables) {
    rules.commands.emplace_back(one.command);
    if (one.takes_model) {
      rules.model_commands.emplace_back(one.command);
    }
  }
  PX_TRY(const std::string text, rt::ReadFile(path, kGraphBytesMax));
  PX_TRY(control::Graph graph, control::ReadGraph(text, path, rules));
  for (const control::GraphComponent& component : graph.components) {
    if (component.replicas > 1 && !Overlaps(component)) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("{}:{}: components.{}.replicas: several cannot have one port; give "
                              "them port 0",
                              path, component.line, component.name),
                  "replicas");
    }
  }
  PX_CHECK_OK(CheckPorts(graph, path));
  return graph;
}

// What a graph says, kept true.
class Fleet final {
 public:
  Fleet(UpFlags flags, std::string path) : flags_(std::move(flags)), path_(std::move(path)) {}

  Result<int> Run() {
    if (!flags_.port_file.empty()) {
      return Fail(Code::kInvalidArgument,
                  "port-file: this process listens nowhere; ports of those it starts are in the "
                  "state folder's ports/",
                  "port-file");
    }
    PX_TRY(graph_, ReadGraphFile(path_));
    if (flags_.check) {
      std::int64_t processes = 0;
      for (const control::GraphComponent& component : graph_.components) {
        processes += component.replicas;
      }
      Say("{}: {} components, {} processes\n", path_, graph_.components.size(), processes);
      return kExitDone;
    }
    PX_CHECK_OK(OpenState());
    PX_TRY(const bool first, TakeOver());
    if (!first) {
      return kExitDone;
    }
    PX_CHECK_OK(rt::WriteFileAtomic(state_ + "/graph", real_path_ + "\n", 0644));
    PX_CHECK_OK(RemovePorts());
    PX_CHECK_OK(process_.Open(flags_, {.dump = [this] { SayStatus(); },
                                       .reload = [this] { Reload(); },
                                       .drain =
                                           [this] {
                                             Say("all shall end\n");
                                             doer_.reset();
                                             supervisor_->Drain();
                                             return true;
                                           },
                                       .child = [this] { supervisor_->OnChild(); }}));
    // Only now may another `pixii up` send a signal.
    PX_CHECK_OK(rt::WriteFileAtomic(state_ + "/pid", fmt::format("{}\n", rt::OwnPid()), 0644));
    supervisor_.emplace(
        process_,
        Supervisor::Options{
            .launch = [this](const control::KeeperAction& start) { return LaunchOf(start); },
            .on_change = [this](const control::ReplicaStatus& replica, std::int32_t pid,
                                const std::string& what) { OnChange(replica, pid, what); },
            .on_settled = [this] { Flushed("all is as {} says\n", path_); },
            .on_finished = [this] { process_.loop().Stop(); }});
    PX_CHECK_OK(HearPlanner());
    Apply();
    process_.loop().Run();
    supervisor_.reset();
    doer_.reset();
    store_.reset();
    (void)rt::RemoveFile(state_ + "/pid");
    return kExitDone;
  }

 private:
  template <class... Values>
  static void Flushed(fmt::format_string<Values...> form, Values&&... values) {
    Say(form, std::forward<Values>(values)...);
    std::fflush(stdout);
  }

  Result<void> OpenState() {
    PX_TRY(real_path_, rt::RealPath(path_));
    state_ = flags_.state_dir.empty() ? CacheFolder() + "/pixii/up/" + HexOf(real_path_)
                                      : flags_.state_dir;
    PX_CHECK_OK(rt::CreateFolders(state_ + "/logs"));
    PX_CHECK_OK(rt::CreateFolders(state_ + "/ports"));
    PX_CHECK_OK(MakeClusterKey(state_ + "/cluster-key"));
    return rt::CreateFolders(state_ + "/cluster");
  }

  // Of processes that were killed with the one that kept them.
  Result<void> RemovePorts() const {
    PX_TRY(const std::vector<rt::FolderEntry> ports,
           rt::ListFolder(state_ + "/ports", kPortFilesMax));
    for (const rt::FolderEntry& port : ports) {
      PX_CHECK_OK(rt::RemoveFile(fmt::format("{}/ports/{}", state_, port.name)));
    }
    return {};
  }

  // False: another process keeps this graph, and was told to read it anew.
  Result<bool> TakeOver() {
    Result<rt::FileLock> lock = rt::FileLock::Take(state_ + "/lock");
    if (lock) {
      lock_.emplace(std::move(*lock));
      return true;
    }
    if (lock.error().code() != Code::kUnavailable) {
      return Fail(lock.error());
    }
    PX_TRY(const std::string text, rt::ReadFile(state_ + "/pid", kSmallFileBytesMax));
    std::int32_t pid = 0;
    std::from_chars(text.data(), text.data() + text.size(), pid);
    PX_TRY(std::string kept, rt::ReadFile(state_ + "/graph", kPathBytesMax));
    kept.erase(kept.find_last_not_of('\n') + 1);
    if (kept != real_path_) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("state-dir: process {} keeps {} there; {} needs another folder", pid,
                              kept, path_),
                  "state-dir");
    }
    if (!rt::SignalProcess(pid, SIGHUP)) {
      return Fail(Code::kUnavailable,
                  fmt::format("process {} keeps {} and cannot be told", pid, path_));
    }
    Say("process {} keeps {} and reads it anew\n", pid, path_);
    return false;
  }

  void Reload() {
    Result<control::Graph> fresh = ReadGraphFile(path_);
    if (!fresh) {
      SayError("pixii: {}; what runs stays as it is\n", fresh.error().detail());
      return;
    }
    graph_ = std::move(*fresh);
    Flushed("{} is read anew\n", path_);
    if (Result<void> heard = HearPlanner(); !heard) {
      SayError("pixii: {}\n", heard.error().detail());
    }
    Apply();
  }

  // If there is one in the graph, it may change replicas from now on.
  Result<void> HearPlanner() {
    const bool planned = std::ranges::any_of(
        graph_.components,
        [](const control::GraphComponent& one) { return one.command == "planner"; });
    if (!planned || doer_) {
      return {};
    }
    ClusterFlags cluster;
    cluster.discovery = Discovery();
    PX_TRY(store_, OpenStore(process_, cluster));
    doer_.emplace(*store_, graph_.ns, [this](const control::ScaleOrder& order) { OnOrder(order); });
    return {};
  }

  // What a planner wants stays right when it ends, and while the file is read anew. A count that
  // cannot be is said to it, and the others are taken.
  void OnOrder(const control::ScaleOrder& order) {
    if (order.decision <= scaled_) {
      return;  // it read that this is done
    }
    scaled_ = order.decision;
    refused_.clear();
    bool changed = false;
    for (const control::ScaleCount& count : order.counts) {
      const auto found =
          std::ranges::find(graph_.components, count.component, &control::GraphComponent::name);
      std::string why;
      if (found == graph_.components.end()) {
        why = "there is no such component";
      } else if (count.replicas > control::kReplicasMax) {
        why = fmt::format("{} replicas are more than {}", count.replicas, control::kReplicasMax);
      } else if (count.replicas > 1 && !Overlaps(*found)) {
        why = "several cannot have one port; give them port 0";
      }
      if (!why.empty()) {
        refused_ +=
            fmt::format("{}components.{}: {}", refused_.empty() ? "" : "; ", count.component, why);
        continue;
      }
      if (ReplicasOf(*found) != count.replicas) {
        Flushed("{} shall be {}, not {}: {}\n", count.component, count.replicas, ReplicasOf(*found),
                order.reason);
        changed = true;
      }
      scaled_to_[count.component] = count.replicas;
    }
    if (!refused_.empty()) {
      Flushed("the planner wants what cannot be: {}\n", refused_);
      obs::Event(process_.log(), obs::EventId::kScaleRefused).kv("why", refused_);
    }
    if (changed) {
      Apply();
    } else {
      SayScaled();
    }
  }

  std::uint32_t ReplicasOf(const control::GraphComponent& component) const {
    const auto scaled = scaled_to_.find(component.name);
    return scaled != scaled_to_.end() ? scaled->second
                                      : static_cast<std::uint32_t>(component.replicas);
  }

  void SayScaled() {
    if (!doer_) {
      return;
    }
    control::ScaleReport report{.decision = scaled_, .counts = {}, .error = refused_};
    for (const control::GraphComponent& component : graph_.components) {
      report.counts.push_back({.component = component.name, .replicas = ReplicasOf(component)});
    }
    if (const Result<void> said = doer_->Say(report); !said) {
      SayError("pixii: {}\n", said.error().detail());
    }
  }

  std::string Discovery() const {
    return graph_.discovery.empty() ? "file:" + state_ + "/cluster" : graph_.discovery;
  }

  void Apply() {
    std::vector<control::KeptPart> parts;
    for (const control::GraphComponent& component : graph_.components) {
      parts.push_back({.name = component.name,
                       .version = HexOf(TextOf(component)),
                       .replicas = ReplicasOf(component),
                       .needs = component.needs,
                       .overlaps = Overlaps(component),
                       .settle = component.settle,
                       .stop_grace = component.stop_grace});
    }
    supervisor_->SetParts(std::move(parts));
    SayScaled();
  }

  // All that makes one process of a component another than before.
  std::string TextOf(const control::GraphComponent& component) const {
    std::string out = fmt::format("{}\n{}\n{}\n{}\n{}\n", kCommit, component.command,
                                  component.model, graph_.ns, graph_.discovery);
    for (const auto* values : {&graph_.environment, &component.environment, &component.flags}) {
      for (const auto& [name, value] : *values) {
        out += fmt::format("{}:{}={}:{}\n", name.size(), name, value.size(), value);
      }
      out += '\n';
    }
    return out;
  }

  static std::string NameOf(const std::string& part, control::ReplicaId replica) {
    return fmt::format("{}-{}", part, static_cast<std::uint64_t>(replica));
  }

  bool SaysClusterKey(const control::GraphComponent& component) const {
    const auto is_key = [](const auto& one) { return one.first == "PIXII_CLUSTER_KEY"; };
    return std::ranges::any_of(component.environment, is_key) ||
           std::ranges::any_of(graph_.environment, is_key);
  }

  Launch LaunchOf(const control::KeeperAction& start) const {
    const control::GraphComponent& component =
        *std::ranges::find(graph_.components, start.part, &control::GraphComponent::name);
    const std::string name = NameOf(start.part, start.replica);
    Launch out;
    out.port_file = fmt::format("{}/ports/{}", state_, name);
    std::vector<std::string>& words = out.child.arguments;
    words = {kOwnProgram, component.command};
    if (!component.model.empty()) {
      words.push_back(component.model);
    }
    for (const auto& [flag, value] : component.flags) {
      words.push_back(fmt::format("--{}={}", flag, value));
    }
    if (RunnableOf(component.command).in_cluster) {
      words.push_back("--discovery=" + Discovery());
      words.push_back("--namespace=" + graph_.ns);
      if (component.Flag("cluster-key") == nullptr && !SaysClusterKey(component)) {
        words.push_back("--cluster-key=" + state_ + "/cluster-key");
      }
    }
    words.push_back("--port-file=" + out.port_file);
    words.push_back(fmt::format("--parent-pid={}", rt::OwnPid()));
    out.child.output = fmt::format("{}/logs/{}.log", state_, name);
    out.child.output_bytes_max = kLogBytesMax;
    out.child.own_group = true;
    out.child.environment = component.environment;
    for (const auto& [variable, value] : graph_.environment) {
      const bool own = std::ranges::any_of(component.environment,
                                           [&](const auto& one) { return one.first == variable; });
      if (!own) {
        out.child.environment.emplace_back(variable, value);
      }
    }
    return out;
  }

  void OnChange(const control::ReplicaStatus& replica, std::int32_t pid, const std::string& what) {
    const std::string name = NameOf(replica.part, replica.replica);
    std::string port;
    if (replica.state == control::ReplicaStatus::State::kReady) {
      port =
          rt::ReadFile(fmt::format("{}/ports/{}", state_, name), kSmallFileBytesMax).value_or("");
      port.erase(std::ranges::find(port, '\n'), port.end());
    }
    const bool failed = what.starts_with("ended") && !what.ends_with(" 0");
    Flushed("{} {}{}{}{}\n", name, what, pid > 0 ? fmt::format(", process {}", pid) : "",
            port.empty() || pid == 0 ? "" : ", port " + port,
            failed ? fmt::format(", see {}/logs/{}.log", state_, name) : "");
  }

  void SayStatus() {
    for (const control::ReplicaStatus& one : supervisor_->keeper().replicas()) {
      using State = control::ReplicaStatus::State;
      Say("{} {}\n", NameOf(one.part, one.replica),
          one.state == State::kReady      ? "is ready"
          : one.state == State::kStarting ? "starts"
                                          : "ends");
    }
    std::fflush(stdout);
  }

  UpFlags flags_;
  std::string path_;
  std::string real_path_;
  std::string state_;
  control::Graph graph_;
  std::optional<rt::FileLock> lock_;
  ProcessUnit process_;
  std::optional<Supervisor> supervisor_;
  std::unique_ptr<control::LeaseStore> store_;      // null: nobody plans this graph
  std::optional<control::ScaleDoer> doer_;          // likewise
  std::map<std::string, std::uint32_t> scaled_to_;  // by component: as a planner wanted it
  std::int64_t scaled_ = 0;                         // its last decision
  std::string refused_;                             // what of that cannot be; empty: nothing
};

}  // namespace

int RunUp(const Arguments& arguments) {
  UpFlags flags;
  config::Command command;
  command.name = "up";
  command.summary = "Runs the processes that a graph file says, and keeps them running.";
  command.positionals = {
      {.name = "GRAPH", .help = "the file", .required = true, .repeated = false}};
  command.options = RowsOf(flags);
  auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  Result<int> done = Fleet(std::move(flags), parsed.positionals[0]).Run();
  return done ? *done : Complain(done.error());
}

}  // namespace pixii::apps
