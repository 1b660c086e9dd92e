#include "control/mem_store.h"

#include <utility>
#include <vector>

namespace pixii::control {

// The hub's side of a store: the store may be gone when something for it arrives.
struct MemHub::Mailbox {
  Mailbox(rt::Loop& loop_in, MemStore* store_in) : loop(loop_in), store(store_in) {}

  rt::Loop& loop;
  MemStore* store;  // read and written on `loop` alone

  template <class Fn>
  static void Send(const std::shared_ptr<Mailbox>& mailbox, Fn fn) {
    mailbox->loop.Post([mailbox, fn = std::move(fn)]() mutable {
      if (mailbox->store != nullptr) {
        fn(*mailbox->store);
      }
    });
  }

  static void Synced(const std::shared_ptr<Mailbox>& mailbox) {
    Send(mailbox, [](MemStore& store) { store.OnSynced(); });
  }

  static void Left(const std::shared_ptr<Mailbox>& mailbox) {
    Send(mailbox, [](MemStore& store) { store.OnLeft(); });
  }

  static void View(const std::shared_ptr<Mailbox>& mailbox, std::uint64_t watch, Values values) {
    Send(mailbox, [watch, values = std::move(values)](MemStore& store) mutable {
      store.OnView(watch, std::move(values));
    });
  }
};

MemHub::~MemHub() {
  for (auto& [id, holder] : holders_) {
    loop_.CancelTimer(holder.expiry);
  }
}

MemHub::Values MemHub::Dump() const {
  Values all;
  for (const auto& [id, holder] : holders_) {
    for (const auto& [key, value] : holder.values) {
      all[key] = value;  // of two holders of one key the later one counts
    }
  }
  return all;
}

void MemHub::StartLease(std::uint64_t holder) {
  rt::TimerId& expiry = holders_[holder].expiry;
  loop_.CancelTimer(expiry);
  expiry = loop_.RunAt(loop_.Now() + options_.ttl, [this, holder] {
    holders_.erase(holder);
    TellWatchers();
  });
}

void MemHub::Sync(std::uint64_t holder, const std::shared_ptr<Mailbox>& mailbox, Wanted wanted) {
  StartLease(holder);
  Holder& mine = holders_[holder];
  mine.mailbox = mailbox;
  bool changed = mine.values != wanted.values;
  mine.values = std::move(wanted.values);
  std::erase_if(mine.watchers,
                [&](const auto& old) { return !wanted.watches.contains(old.first); });
  for (auto& [id, prefix] : wanted.watches) {
    changed |= mine.watchers
                   .try_emplace(id, Watcher{.prefix = std::move(prefix), .told = false, .last = {}})
                   .second;
  }
  if (changed) {  // most signs of life say nothing new
    TellWatchers();
  }
  Mailbox::Synced(mailbox);
}

void MemHub::Leave(std::uint64_t holder) {
  const auto found = holders_.find(holder);
  if (found != holders_.end()) {
    loop_.CancelTimer(found->second.expiry);
    holders_.erase(found);
    TellWatchers();
  }
}

void MemHub::Reset(const Values& values) {
  for (auto& [id, holder] : holders_) {
    holder.values.clear();
  }
  if (!values.empty()) {
    StartLease(0);
    holders_[0].values = values;
  }
  TellWatchers();
}

void MemHub::TellWatchers() {
  const Values all = Dump();
  for (auto& [holder_id, holder] : holders_) {
    for (auto& [id, watcher] : holder.watchers) {
      Values mine;
      for (auto it = all.lower_bound(watcher.prefix);
           it != all.end() && it->first.starts_with(watcher.prefix); ++it) {
        mine.insert(*it);
      }
      if (!watcher.told || mine != watcher.last) {
        watcher.told = true;
        watcher.last = mine;
        Mailbox::View(holder.mailbox, id, std::move(mine));
      }
    }
  }
}

MemStore::MemStore(rt::Loop& loop, std::shared_ptr<MemHub> hub)
    : loop_(loop),
      hub_(std::move(hub)),
      mailbox_(std::make_shared<MemHub::Mailbox>(loop, this)),
      holder_(hub_->NewId()) {
  SendSync();
}

MemStore::~MemStore() {
  mailbox_->store = nullptr;
  loop_.CancelTimer(beat_);
  loop_.CancelTimer(silence_);
  if (!closed_) {
    hub_->loop().Post([hub = hub_, holder = holder_] { hub->Leave(holder); });
  }
}

Result<void> MemStore::Put(const std::string& key, std::string value) {
  PX_CHECK_OK(CheckStoreEntry(key, value));
  values_[key] = std::move(value);
  SendSync();
  return {};
}

void MemStore::Delete(const std::string& key) {
  if (values_.erase(key) > 0) {
    SendSync();
  }
}

// One sign of life at a time, each with everything: a hub that hangs does not collect them, and one
// that lost its data has them all after the next.
void MemStore::SendSync() {
  dirty_ = true;
  if (closed_ || sync_under_way_) {
    return;
  }
  loop_.CancelTimer(beat_);
  dirty_ = false;
  sync_under_way_ = true;
  MemHub::Wanted wanted{.values = values_, .watches = {}};
  for (const auto& [id, watch] : watches_) {
    wanted.watches[id] = watch.prefix;
  }
  silence_ = loop_.RunAt(loop_.Now() + hub_->options().ttl / 3, [this] { SetTrouble(true); });
  hub_->loop().Post(
      [hub = hub_, holder = holder_, mailbox = mailbox_, wanted = std::move(wanted)]() mutable {
        hub->Sync(holder, mailbox, std::move(wanted));
      });
}

void MemStore::OnSynced() {
  if (closed_) {
    return;
  }
  loop_.CancelTimer(silence_);
  sync_under_way_ = false;
  if (dirty_) {
    SendSync();
  } else {
    beat_ = loop_.RunAt(loop_.Now() + hub_->options().ttl / 3, [this] { SendSync(); });
  }
  SetTrouble(false);
}

void MemStore::SetTrouble(bool away) {
  if (away == away_ || closed_) {
    return;
  }
  away_ = away;
  std::vector<std::uint64_t> ids;
  for (auto& [id, watch] : watches_) {
    watch.view.trouble.reset();
    if (away) {
      watch.view.trouble = Error(Code::kUnavailable, "the store does not answer");
    }
    if (away || watch.answered) {
      ids.push_back(id);
    }
  }
  for (const std::uint64_t id : ids) {
    Tell(id);
  }
}

void MemStore::Tell(std::uint64_t watch) {
  const auto found = watches_.find(watch);  // a handler may have ended it
  if (found != watches_.end() && !closed_) {
    const WatchHandler on_view = found->second.on_view;
    const StoreView view = found->second.view;
    on_view(view);
  }
}

WatchId MemStore::Watch(std::string prefix, WatchHandler on_view) {
  const std::uint64_t id = hub_->NewId();
  watches_[id] = LocalWatch{
      .prefix = std::move(prefix), .on_view = std::move(on_view), .view = {}, .answered = false};
  SendSync();
  return WatchId{id};
}

void MemStore::Unwatch(WatchId watch) {
  if (watches_.erase(static_cast<std::uint64_t>(watch)) > 0) {
    SendSync();
  }
}

void MemStore::OnView(std::uint64_t watch, MemHub::Values values) {
  const auto found = watches_.find(watch);
  if (found != watches_.end()) {
    found->second.answered = true;
    found->second.view.values = std::move(values);
    Tell(watch);
  }
}

void MemStore::Close(std::function<void()> on_closed) {
  closed_ = true;
  on_closed_ = std::move(on_closed);
  loop_.CancelTimer(beat_);
  loop_.CancelTimer(silence_);
  silence_ = loop_.RunAt(loop_.Now() + hub_->options().ttl / 3, [this] { OnLeft(); });
  hub_->loop().Post([hub = hub_, holder = holder_, mailbox = mailbox_] {
    hub->Leave(holder);
    MemHub::Mailbox::Left(mailbox);
  });
}

void MemStore::OnLeft() {
  loop_.CancelTimer(silence_);
  if (on_closed_) {
    loop_.Post(std::exchange(on_closed_, nullptr));  // it may destroy this store
  }
}

}  // namespace pixii::control
