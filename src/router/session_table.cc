#include "router/session_table.h"

namespace pixii::router {

void SessionTable::Expire(rt::Time now) {
  while (!idle_.empty() && idle_.begin()->first <= now) {
    sessions_.erase(idle_.begin()->second);
    idle_.erase(idle_.begin());
  }
}

std::optional<Target> SessionTable::Find(const std::string& session, rt::Time now) {
  Expire(now);
  const auto found = sessions_.find(session);
  return found == sessions_.end() ? std::nullopt : found->second.target;
}

bool SessionTable::Begin(const std::string& session, const Target& target, rt::Time now) {
  Expire(now);
  auto found = sessions_.find(session);
  if (found == sessions_.end()) {
    if (sessions_.size() >= options_.session_count_max) {
      if (idle_.empty()) {
        return false;
      }
      sessions_.erase(idle_.begin()->second);
      idle_.erase(idle_.begin());
    }
    found = sessions_.try_emplace(session).first;
  } else if (found->second.running == 0) {
    idle_.erase(found->second.place);
  }
  found->second.target = target;
  ++found->second.running;
  return true;
}

void SessionTable::End(const std::string& session, rt::Time now) {
  const auto found = sessions_.find(session);
  if (found != sessions_.end() && found->second.running > 0 && --found->second.running == 0) {
    found->second.place = idle_.emplace(now + options_.ttl, session);
  }
}

void SessionTable::Forget(InstanceId instance) {
  for (auto& [name, session] : sessions_) {
    if (session.target && session.target->instance == instance) {
      session.target.reset();
    }
  }
}

}  // namespace pixii::router
