#include "sim/cluster_faults.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

namespace pixii::sim {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Kind = Blame::Kind;

bool ClusterFaults::AnyWithin(const std::vector<Window>& windows, rt::Time begin, rt::Time end) {
  return std::ranges::any_of(
      windows, [&](const Window& one) { return one.begin <= end && one.until >= begin; });
}

void ClusterFaults::Plan(rt::Time end) {
  const rt::Time now = cluster_.world().now();
  if (cluster_.shape().clocks_drift) {
    ++counts_["clock_drift"];
  }
  for (std::uint32_t i = 0; i < cluster_.shape().faults; ++i) {
    const rt::Time at = now + rt::Duration(random_.Between(0, (end - now).count()));
    cluster_.world().RunAt(at, [this] {
      if (!stopped_) {
        Make();
      }
    });
  }
}

void ClusterFaults::Make() {
  using Fault = void (ClusterFaults::*)();
  static constexpr std::pair<const char*, Fault> kFaults[] = {
      {"kill", &ClusterFaults::KillWorker},
      {"kill", &ClusterFaults::KillWorker},
      {"vanish", &ClusterFaults::VanishWorker},
      {"drain", &ClusterFaults::DrainWorker},
      {"drain", &ClusterFaults::DrainWorker},
      {"rolling_update", &ClusterFaults::RollingUpdate},
      {"freeze", &ClusterFaults::FreezeWorker},
      {"sleep", &ClusterFaults::SleepWorker},
      {"stall", &ClusterFaults::StallWorker},
      {"partition", &ClusterFaults::CutWorker},
      {"half_open", &ClusterFaults::HalfCutWorker},
      {"corrupt", &ClusterFaults::CorruptLine},
      {"reset", &ClusterFaults::ResetConnections},
      {"refuse", &ClusterFaults::RefuseConnects},
      {"delay", &ClusterFaults::DelayBytes},
      {"slow_line", &ClusterFaults::SlowLines},
      {"store_freeze", &ClusterFaults::FreezeStore},
      {"store_wipe", &ClusterFaults::WipeStore},
      {"store_set_back", &ClusterFaults::SetStoreBack},
      {"frontend_freeze", &ClusterFaults::FreezeFrontend},
      {"frontend_kill", &ClusterFaults::KillFrontend},
      {"clear_cache", &ClusterFaults::ClearCaches},
      {"listener_freeze", &ClusterFaults::FreezeListener},
  };
  const auto& [name, fault] = kFaults[random_.Below(std::size(kFaults))];
  ++counts_[name];
  cluster_.Tell("{}", name);
  (this->*fault)();
}

// A while that is short or long beside what peers take for death.
rt::Duration ClusterFaults::DrawWhile() {
  return rt::Duration(static_cast<std::int64_t>(
      random_.Exponential(static_cast<double>(cluster_.shape().dead_after.count()))));
}

rt::Duration ClusterFaults::DrawRestart() {
  return rt::Duration(
      static_cast<std::int64_t>(random_.Exponential(Pick(random_, {1e7, 5e8, 5e9}))));
}

bool ClusterFaults::AnyWorker(std::size_t& worker) {
  const std::vector<std::size_t> usable = cluster_.Usable();
  if (!usable.empty()) {
    worker = usable[random_.Below(usable.size())];
  }
  return !usable.empty();
}

rt::Time ClusterFaults::Until(rt::Duration time) {
  const rt::Time until = cluster_.world().now() + time;
  last_until_ = std::max(last_until_, until);
  return until;
}

void ClusterFaults::DisturbPair(std::string_view fault, std::size_t worker, std::size_t frontend,
                                Kind kind, rt::Duration time) {
  cluster_.Tell("  worker {} and frontend {}: {} for {} ms", worker, frontend, fault,
                time.count() / 1'000'000);
  cluster_.blame().Disturb(fault, worker, frontend, kind, cluster_.world().now(), Until(time));
}

void ClusterFaults::Disturb(std::string_view fault, std::size_t worker, Kind kind,
                            rt::Duration time) {
  for (std::size_t frontend = 0; frontend < cluster_.frontends().size(); ++frontend) {
    DisturbPair(fault, worker, frontend, kind, time);
  }
}

void ClusterFaults::DisturbAll(std::string_view fault, Kind kind, rt::Duration time) {
  for (const std::size_t worker : cluster_.known()) {
    if (cluster_.workers()[worker].process->alive()) {
      Disturb(fault, worker, kind, time);
    }
  }
}

void ClusterFaults::DisturbLine(std::string_view fault, std::size_t worker, std::size_t frontend,
                                Kind kind, rt::Duration time) {
  DisturbPair(fault, worker, frontend, kind, time);
  lines_.push_back({.fault = std::string(fault),
                    .host = cluster_.workers()[worker].process->host(),
                    .frontend = frontend,
                    .kind = kind,
                    .until = Until(time)});
}

void ClusterFaults::StartWorker(const std::string& host, control::WorkerRole role) {
  ++counts_["restart"];
  cluster_.StartWorker(host, role);
  const std::size_t worker = cluster_.workers().size() - 1;
  const rt::Time now = cluster_.world().now();
  if (now < reset_until_) {
    Disturb("reset", worker, Kind::kRepeatedly, reset_until_ - now);
  }
  for (const LineFault& line : lines_) {
    if (now < line.until && line.host == cluster_.workers()[worker].process->host()) {
      DisturbPair(line.fault, worker, line.frontend, line.kind, line.until - now);
    }
  }
}

// Another instance, sometimes under the same address.
void ClusterFaults::RestartLater(const std::string& host, rt::Duration wait) {
  const std::string next = random_.Chance(0.5) ? host : std::string();
  const control::WorkerRole role = cluster_.RoleAt(host);
  cluster_.world().RunAt(Until(wait), [this, next, role] { StartWorker(next, role); });
}

void ClusterFaults::KillWorker() {
  if (std::size_t worker = 0; AnyWorker(worker)) {
    Disturb("kill", worker, Kind::kOnce);
    cluster_.KillWorker(worker, false);
    RestartLater(cluster_.workers()[worker].process->host(), DrawRestart());
  }
}

void ClusterFaults::VanishWorker() {
  if (std::size_t worker = 0; AnyWorker(worker)) {
    Disturb("vanish", worker, Kind::kOnce);
    cluster_.KillWorker(worker, true);
    RestartLater(cluster_.workers()[worker].process->host(), DrawRestart());
  }
}

// The new one comes before or after the old one goes.
void ClusterFaults::DrainWorker() {
  if (std::size_t worker = 0; AnyWorker(worker)) {
    Disturb("drain", worker, Kind::kOnce);
    RestartLater(cluster_.workers()[worker].process->host(),
                 random_.Chance(0.5) ? rt::Duration{} : DrawRestart());
    cluster_.DrainWorker(
        worker, Pick<rt::Duration>(random_, {rt::Duration{}, milliseconds(50), seconds(5)}));
  }
}

void ClusterFaults::RollingUpdate() {
  if (rolling_.empty() && rolling_now_ == 0) {
    rolling_ = cluster_.Usable();
  }
}

// A request that kills whoever runs it may do so as often as the flight allows. Where something was
// between worker and frontend, the word that the worker had it may not have come through.
void ClusterFaults::KillPoisoned() {
  for (const std::size_t worker : cluster_.Usable()) {
    const WorkerProcess& process = *cluster_.workers()[worker].process;
    const std::vector<std::string> poisons = process.watched().poisons();
    if (poisons.empty()) {
      continue;
    }
    ++counts_["poison"];
    const rt::Time now = cluster_.world().now();
    const bool heard = !cluster_.blame().WasHit(worker, now, now);
    for (const std::string& poison : poisons) {
      poison_kills_[poison] += heard ? 1 : 0;
      // Each of two legs counts for itself, and the first may have given its token before.
      const std::uint32_t kills_max =
          frontend::FlightOptions{}.deaths_max + (cluster_.shape().prefill_workers > 0 ? 1 : 0);
      if (heard && poison_kills_[poison] > kills_max) {
        cluster_.Violate(fmt::format("one request killed {} workers", poison_kills_[poison]));
      }
    }
    Disturb("poison", worker, Kind::kOnce);
    cluster_.KillWorker(worker, false);
    RestartLater(process.host(), DrawRestart());
  }
}

// One after the other: its successor is used before it goes.
void ClusterFaults::Continue() {
  if (rolling_now_ > 0) {
    const WorkerProcess& old = *cluster_.workers()[rolling_now_ - 1].process;
    if (old.alive() && !old.draining()) {
      const std::size_t successor = cluster_.workers().size() - 1;
      const bool used = std::ranges::all_of(cluster_.frontends(), [&](const auto& slot) {
        return slot.process &&
               slot.process->uses(cluster_.workers()[successor].process->instance());
      });
      if (used || stopped_) {
        Disturb("rolling_update", rolling_now_ - 1, Kind::kOnce);
        cluster_.DrainWorker(rolling_now_ - 1, seconds(1));
      }
      return;
    }
    if (old.alive()) {
      return;
    }
    rolling_now_ = 0;
  }
  while (!rolling_.empty()) {
    const std::size_t next = rolling_.back();
    rolling_.pop_back();
    const WorkerProcess* const process = cluster_.workers()[next].process.get();
    if (process != nullptr && process->alive() && !process->draining()) {
      rolling_now_ = next + 1;
      StartWorker("", process->role());
      return;
    }
  }
}

void ClusterFaults::FreezeWorker() {
  if (std::size_t worker = 0; AnyWorker(worker)) {
    const rt::Duration time = DrawWhile();
    Disturb("freeze", worker, Kind::kTwice, time);
    cluster_.workers()[worker].process->Freeze(cluster_.world().now() + time);
  }
}

void ClusterFaults::SleepWorker() {
  if (std::size_t worker = 0; AnyWorker(worker)) {
    const rt::Duration time = DrawWhile();
    Disturb("sleep", worker, Kind::kTwice, time);
    cluster_.workers()[worker].process->Sleep(
        Pick<rt::Duration>(random_, {milliseconds(20), seconds(5)}), time);
  }
}

void ClusterFaults::StallWorker() {
  if (std::size_t worker = 0; AnyWorker(worker)) {
    const rt::Duration time = 2 * DrawWhile() + milliseconds(200);
    Disturb("stall", worker, Kind::kTwice, time);
    cluster_.StallWorker(worker, time);
  }
}

void ClusterFaults::CutWorker() {
  if (std::size_t worker = 0; AnyWorker(worker)) {
    const std::size_t frontend = AnyFrontend();
    const rt::Duration time = DrawWhile();
    DisturbLine("partition", worker, frontend, Kind::kTwice, time);
    const std::string host = cluster_.workers()[worker].process->host();
    cluster_.world().SetPartition(Cluster::FrontendHost(frontend), host, true);
    cluster_.world().RunAt(Until(time), [this, frontend, host] {
      cluster_.world().SetPartition(Cluster::FrontendHost(frontend), host, false);
    });
  }
}

void ClusterFaults::HalfCutWorker() {
  if (std::size_t worker = 0; AnyWorker(worker)) {
    const std::size_t frontend = AnyFrontend();
    const rt::Duration time = 2 * DrawWhile();
    DisturbLine("half_open", worker, frontend, Kind::kTwice, time);
    std::string from = Cluster::FrontendHost(frontend);
    std::string to = cluster_.workers()[worker].process->host();
    if (random_.Chance(0.5)) {
      std::swap(from, to);
    }
    cluster_.world().SetOneWayCut(from, to, true);
    cluster_.world().RunAt(Until(time),
                           [this, from, to] { cluster_.world().SetOneWayCut(from, to, false); });
  }
}

void ClusterFaults::CorruptLine() {
  if (std::size_t worker = 0; AnyWorker(worker)) {
    const std::size_t frontend = AnyFrontend();
    const rt::Duration time = DrawWhile();
    DisturbLine("corrupt", worker, frontend, Kind::kRepeatedly, time);
    const std::string host = cluster_.workers()[worker].process->host();
    cluster_.world().SetCorruption(Cluster::FrontendHost(frontend), host,
                                   Pick(random_, {0.002, 0.05}));
    cluster_.world().RunAt(Until(time), [this, frontend, host] {
      cluster_.world().SetCorruption(Cluster::FrontendHost(frontend), host, 0);
    });
  }
}

// Changes the network for a while.
void ClusterFaults::ForAWhile(double rt::SimOptions::* probability, double value,
                              rt::Duration time) {
  cluster_.world().options().*probability = value;
  cluster_.world().RunAt(Until(time), [this, probability] {
    cluster_.world().options().*probability = cluster_.calm().*probability;
  });
}

void ClusterFaults::ResetConnections() {
  const rt::Duration time = DrawWhile();
  DisturbAll("reset", Kind::kRepeatedly, time);
  reset_until_ = std::max(reset_until_, Until(time));
  resets_.push_back({.begin = cluster_.world().now(), .until = Until(time)});
  ForAWhile(&rt::SimOptions::reset_probability, Pick(random_, {0.001, 0.02}), time);
}

void ClusterFaults::RefuseConnects() {
  const rt::Duration time = DrawWhile();
  refusals_.push_back({.begin = cluster_.world().now(), .until = Until(time)});
  ForAWhile(&rt::SimOptions::refuse_probability, Pick(random_, {0.3, 0.9}), time);
}

// Far below what peers take for death.
void ClusterFaults::DelayBytes() {
  cluster_.world().options().delay_max = cluster_.shape().dead_after / 20;
  ForAWhile(&rt::SimOptions::delay_probability, 0.2, DrawWhile());
}

void ClusterFaults::SlowLines() {
  rt::SimWorld& world = cluster_.world();
  world.options().bandwidth_bytes_per_s = Pick<std::uint64_t>(random_, {2'000'000, 20'000'000});
  world.RunAt(Until(DrawWhile()), [this] {
    cluster_.world().options().bandwidth_bytes_per_s = cluster_.calm().bandwidth_bytes_per_s;
  });
}

void ClusterFaults::FreezeStore() { cluster_.store_node().Freeze(Until(2 * DrawWhile())); }

void ClusterFaults::WipeStore() { cluster_.setup().hub->Reset(); }

void ClusterFaults::SetStoreBack() {
  cluster_.world().RunAt(Until(DrawWhile()), [this, old = cluster_.setup().hub->Dump()] {
    cluster_.setup().hub->Reset(old);
  });
}

void ClusterFaults::FreezeFrontend() {
  const std::size_t frontend = AnyFrontend();
  Cluster::Frontend& slot = cluster_.frontends()[frontend];
  if (!slot.process) {
    return;
  }
  const rt::Duration time = DrawWhile();
  // Workers may take it for dead, also by two that follow each other.
  const bool again = slot.frozen_until + cluster_.shape().dead_after > cluster_.world().now();
  if (again || time > cluster_.shape().dead_after / 2) {
    for (const std::size_t worker : cluster_.known()) {
      if (cluster_.workers()[worker].process->alive()) {
        DisturbPair("frontend_freeze", worker, frontend, Kind::kTwice, time);
      }
    }
  }
  if (slot.frozen_until < cluster_.world().now()) {
    slot.frozen_from = cluster_.world().now();
  }
  slot.frozen_until = std::max(slot.frozen_until, Until(time));
  slot.process->node().Freeze(slot.frozen_until);
}

void ClusterFaults::KillFrontend() {
  const std::size_t frontend = AnyFrontend();
  if (!cluster_.frontends()[frontend].process) {
    return;
  }
  cluster_.KillFrontend(frontend);
  cluster_.world().RunAt(Until(DrawRestart() / 4), [this, frontend] {
    ++counts_["frontend_restart"];
    cluster_.StartFrontend(frontend);
  });
}

void ClusterFaults::FreezeListener() { cluster_.FreezeListener(Until(DrawWhile())); }

// No fault: nobody may notice but by the time it takes.
void ClusterFaults::ClearCaches() {
  const std::size_t frontend = AnyFrontend();
  FrontendProcess* process = cluster_.frontends()[frontend].process.get();
  if (process != nullptr && process->ready()) {
    process->node().loop().Post([process] {
      process->fleet().ClearCache(control::CacheDepth::kMemory, [](const auto&) {});
    });
    process->node().loop().Post([process] {
      process->prefill().ClearCache(control::CacheDepth::kMemory, [](const auto&) {});
    });
  }
}

void ClusterFaults::Forget(rt::Time before) {
  const auto is_over = [before](const auto& one) { return one.until < before; };
  std::erase_if(lines_, is_over);
  std::erase_if(refusals_, is_over);
  std::erase_if(resets_, is_over);
}

void ClusterFaults::Stop() {
  stopped_ = true;
  rt::SimOptions& now = cluster_.world().options();
  const std::uint64_t seed = now.seed;
  now = cluster_.calm();
  now.seed = seed;
}

}  // namespace pixii::sim
