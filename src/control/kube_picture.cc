#include "control/kube_picture.h"

#include <algorithm>
#include <set>
#include <utility>

namespace pixii::control {

bool KubePicture::IsAlive(const std::string& holder) const {
  const auto found = holders_.find(KubeLeaseName(holder));
  return found != holders_.end() && !found->second.dead_since;
}

void KubePicture::Recount(Held& held, rt::Time now) {
  const bool counts = IsAlive(held.entry.holder);
  if (counts != held.counts) {
    held.counts = counts;
    held.lost_at = now;
    ++change_count_;
  }
}

void KubePicture::Recount(rt::Time now) {
  for (auto& [name, held] : entries_) {
    Recount(held, now);
  }
}

// ---- leases

void KubePicture::PutLeaseOnly(KubeLease lease, rt::Time now) {
  Holder& holder = holders_[lease.name];
  if (holder.lease.version.uid != lease.version.uid ||
      holder.lease.renew_time != lease.renew_time) {
    holder.changed_at = now;
    holder.dead_since.reset();
  }
  holder.lease = std::move(lease);
}

void KubePicture::PutLease(KubeLease lease, rt::Time now) {
  const bool was_alive = IsAlive(lease.holder);
  PutLeaseOnly(std::move(lease), now);
  if (!was_alive) {  // most events are renewals of the living
    Recount(now);
  }
}

void KubePicture::DropLease(const std::string& name, rt::Time now) {
  if (holders_.erase(name) > 0) {
    Recount(now);
  }
}

void KubePicture::SetLeases(std::vector<KubeLease> leases, rt::Time now) {
  std::set<std::string> there;
  for (KubeLease& lease : leases) {
    there.insert(lease.name);
    PutLeaseOnly(std::move(lease), now);
  }
  std::erase_if(holders_, [&](const auto& item) { return !there.contains(item.first); });
  Recount(now);
}

rt::Time KubePicture::next_suspect_at() const {
  rt::Time next = rt::kNever;
  for (const auto& [name, holder] : holders_) {
    if (!holder.dead_since) {
      next = std::min(next, holder.changed_at + holder.lease.duration);
    }
  }
  return next;
}

void KubePicture::Judge(rt::Time now) {
  for (auto& [name, holder] : holders_) {
    if (!holder.dead_since && now - holder.changed_at >= holder.lease.duration) {
      holder.dead_since = now;
    }
  }
  Recount(now);
}

void KubePicture::CountAnew(rt::Time now) {
  for (auto& [name, holder] : holders_) {
    if (!holder.dead_since) {
      holder.changed_at = now;
    }
  }
}

// ---- entries

void KubePicture::PutEntry(KubeEntry entry, rt::Time now) {
  const auto [place, is_new] = entries_.try_emplace(entry.name);
  Held& held = place->second;
  if (is_new) {
    held.lost_at = now;
  }
  if (held.counts && (held.entry.key != entry.key || held.entry.value != entry.value)) {
    ++change_count_;
  }
  held.entry = std::move(entry);
  Recount(held, now);
}

void KubePicture::DropEntry(const std::string& name) {
  const auto found = entries_.extract(name);
  if (!found.empty() && found.mapped().counts) {
    ++change_count_;
  }
}

void KubePicture::SetEntries(std::vector<KubeEntry> entries, rt::Time now) {
  std::set<std::string> there;
  for (KubeEntry& entry : entries) {
    there.insert(entry.name);
    PutEntry(std::move(entry), now);
  }
  std::vector<std::string> gone;
  for (const auto& [name, held] : entries_) {
    if (!there.contains(name)) {
      gone.push_back(name);
    }
  }
  for (const std::string& name : gone) {
    DropEntry(name);
  }
}

// ---- what follows

std::map<std::string, std::string> KubePicture::ValuesUnder(std::string_view prefix) const {
  std::map<std::string, std::string> values;
  for (const auto& [name, held] : entries_) {
    if (held.counts && held.entry.key.starts_with(prefix)) {
      values[held.entry.key] = held.entry.value;
    }
  }
  return values;
}

std::vector<KubeLeftover> KubePicture::Leftovers(rt::Duration age, rt::Time now) const {
  std::vector<KubeLeftover> leftovers;
  for (const auto& [name, held] : entries_) {
    if (!held.counts && now - held.lost_at >= age) {
      leftovers.push_back(
          {.kind = KubeKind::kConfigMap, .name = name, .version = held.entry.version});
    }
  }
  for (const auto& [name, holder] : holders_) {
    if (holder.dead_since && now - *holder.dead_since >= age) {
      leftovers.push_back(
          {.kind = KubeKind::kLease, .name = name, .version = holder.lease.version});
    }
  }
  return leftovers;
}

}  // namespace pixii::control
