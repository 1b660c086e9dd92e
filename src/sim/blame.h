// What the faults of a run may have done to whom and when, and which ends of requests that
// explains.
//
// Thread: a value. Knows faults and what the simulator sees of the cluster, not how the product
// works: an error that is not explained here is a violation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "rt/time.h"

namespace pixii::sim {

struct BlameOptions {
  std::size_t frontend_count = 1;
  std::uint32_t moves_max = 3;   // of a request
  std::uint32_t deaths_max = 2;  // workers that may die under one
  rt::Duration settle{};         // after a fault, until its last effect
};

class Blame final {
 public:
  enum class Kind : std::uint8_t {
    kJoining,     // a worker that is new: it takes nothing away
    kOnce,        // requests there may fail, each once
    kTwice,       // once more when it is over: either side may have taken the other for dead
    kRepeatedly,  // and however often they come back
  };

  explicit Blame(BlameOptions options) : options_(options) {}

  /// A worker begins; returns its number. It joins each frontend.
  /// `answers`: else it works for those who do, and requests do without it.
  std::size_t AddWorker(rt::Time now, bool answers = true);
  /// It has ended, by whatever.
  void RemoveWorker(std::size_t worker, rt::Time now);

  /// From now to `until`, and until it is used again after that, `worker` may be lost to
  /// `frontend`.
  void Disturb(std::string_view fault, std::size_t worker, std::size_t frontend, Kind kind,
               rt::Time now, rt::Time until);

  /// What is seen: whether `frontend` uses `worker`. A sentence if nothing explains it.
  std::string See(std::size_t worker, std::size_t frontend, bool used, rt::Time now);

  /// Forgets what this frontend has to recover from: it has ended, and its successor joins anew.
  void RestartFrontend(std::size_t frontend, rt::Time now);

  /// Nobody will ask about times before `before`: what was over then need not be known any more.
  void Forget(rt::Time before);

  /// Whether anything of `worker` may be lost to `frontend` within these.
  bool IsDisturbed(std::size_t worker, std::size_t frontend, rt::Time begin, rt::Time end) const;

  /// Whether `frontend` must have heard until `end` what `worker` said at `begin`: there was a
  /// connection, and nothing but `besides` happened to it.
  bool Hears(std::size_t worker, std::size_t frontend, rt::Time begin, rt::Time end,
             std::initializer_list<std::string_view> besides) const;

  /// Whether a fault of `worker` falls into these, for whatever frontend.
  bool WasHit(std::size_t worker, rt::Time begin, rt::Time end) const;

  /// The names of the faults that explain an end with `code` of a request of `frontend` that was
  /// under way from `begin` to `end`, joined by +; empty: nothing does. kUnavailable,
  /// kDisconnected, kShuttingDown, kRequestPoisoned. `refusals`: times that a worker said to it
  /// that it is full, which are moves, too.
  std::string Explain(std::string_view code, std::size_t frontend, rt::Time begin, rt::Time end,
                      std::uint64_t refusals = 0) const;

  /// Whether it could answer at some time within these.
  bool Serves(std::size_t worker, rt::Time begin, rt::Time end) const {
    return workers_[worker].answers && workers_[worker].begin <= end &&
           workers_[worker].end >= begin;
  }

  std::uint64_t DisruptionCount(std::size_t frontend, rt::Time begin, rt::Time end) const;

 private:
  struct Trouble {
    std::string fault;
    std::size_t worker = 0;
    std::size_t frontend = 0;
    Kind kind{};
    rt::Time begin{};
    rt::Time until{};           // the fault itself
    rt::Time end = rt::kNever;  // and what came of it

    bool Overlaps(rt::Time from, rt::Time to) const { return begin <= to && end >= from; }
  };

  struct Worker {
    bool answers = true;
    rt::Time begin{};
    rt::Time end = rt::kNever;
  };

  bool Outage(std::size_t frontend, rt::Time begin, rt::Time end) const;
  bool NobodyServes(std::size_t frontend, rt::Time at) const;

  BlameOptions options_;
  std::vector<Worker> workers_;
  std::map<std::uint64_t, Trouble> troubles_;  // by their numbers, as they began
  std::uint64_t last_trouble_ = 0;
  std::vector<std::vector<std::uint64_t>> open_;  // [worker * frontends + frontend] numbers
};

}  // namespace pixii::sim
