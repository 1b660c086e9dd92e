// Which rank a session's requests go to.
//
// Thread: a value; time is told. Source: spec/dynamo-core.md B.10.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>

#include "router/rank.h"
#include "rt/time.h"

namespace pixii::router {

struct SessionTableOptions {
  rt::Duration ttl{};                   // after a session's last request ended
  std::uint32_t session_count_max = 1;  // beyond it the one that is idle longest is forgotten
};

class SessionTable final {
 public:
  explicit SessionTable(SessionTableOptions options) : options_(options) {}

  /// Where the session is bound.
  std::optional<Target> Find(const std::string& session, rt::Time now);

  /// A request of the session went to `target`: bound there from now on. False, and nothing is
  /// kept, if all sessions there may be have requests that run.
  bool Begin(const std::string& session, const Target& target, rt::Time now);

  /// A request that Begin took is over; the session idles from now on.
  void End(const std::string& session, rt::Time now);

  /// Sessions of the worker are bound nowhere.
  void Forget(InstanceId instance);

  std::size_t size() const { return sessions_.size(); }

 private:
  struct Session {
    std::optional<Target> target;
    std::uint32_t running = 0;
    std::multimap<rt::Time, std::string>::iterator place;  // while nothing runs
  };

  void Expire(rt::Time now);

  SessionTableOptions options_;
  std::unordered_map<std::string, Session> sessions_;
  std::multimap<rt::Time, std::string> idle_;  // by expiry
};

}  // namespace pixii::router
