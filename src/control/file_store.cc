#include "control/file_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace pixii::control {

namespace {

// The system tells of a holder's end a moment before it gives its lock back.
constexpr rt::Duration kSecondLook = std::chrono::milliseconds(20);
constexpr rt::Duration kRetry = std::chrono::milliseconds(200);
constexpr rt::Duration kPollWithoutWatch = std::chrono::milliseconds(500);

}  // namespace

FileStore::FileStore(rt::Loop& loop, FileStoreOptions options)
    : loop_(loop),
      options_(std::move(options)),
      session_(std::make_unique<FileSession>(
          options_.folder, fmt::format("{:016x}", loop.random().Next()), options_.lease)),
      pool_(loop, "file-store", 1, 1) {
  StartRound();
}

FileStore::~FileStore() {
  loop_.CancelTimer(timer_);
  loop_.CancelTimer(tell_);
}

Result<void> FileStore::Put(const std::string& key, std::string value) {
  PX_CHECK_OK(CheckStoreEntry(key, value));
  PX_CHECK_OK(FileSession::FileNameOf(key));
  wanted_[key] = std::move(value);
  StartRound();
  return {};
}

void FileStore::Delete(const std::string& key) {
  if (wanted_.erase(key) > 0) {
    StartRound();
  }
}

WatchId FileStore::Watch(std::string prefix, WatchHandler on_view) {
  const std::uint64_t id = ++last_watch_;
  watches_[id] =
      LocalWatch{.prefix = std::move(prefix), .on_view = std::move(on_view), .told = std::nullopt};
  if (tell_ == rt::TimerId::kNone) {
    tell_ = loop_.RunAt(loop_.Now(), [this] {
      tell_ = rt::TimerId::kNone;
      TellWatches();
    });
  }
  return WatchId{id};
}

void FileStore::Unwatch(WatchId watch) { watches_.erase(static_cast<std::uint64_t>(watch)); }

void FileStore::StartRound() {
  if (round_runs_) {
    again_ = true;
    return;
  }
  loop_.CancelTimer(timer_);
  round_runs_ = true;
  again_ = false;
  const auto result = std::make_shared<std::optional<Result<FileSession::Round>>>();
  const bool taken = pool_.Submit(
      [result, session = session_.get(), wanted = wanted_, now = loop_.Now(), closing = closing_] {
        if (closing) {
          session->Release();
        } else {
          result->emplace(session->Run(wanted, now));
        }
      },
      [this, result] {
        round_runs_ = false;
        if (*result) {
          OnRound(std::move(**result));
        } else if (on_closed_) {
          loop_.Post(std::exchange(on_closed_, nullptr));  // it may destroy this store
        }
      });
  PX_ASSERT(taken);  // one round at a time
}

void FileStore::OnRound(Result<FileSession::Round> round) {
  if (closing_) {
    StartRound();
    return;
  }
  rt::Duration next = std::min<rt::Duration>(options_.lease.ttl / 4, kRetry);
  if (round) {
    WatchFolders(round->folder_stamp);
    const bool is_watched = keys_watch_ && leases_watch_;
    next = is_watched ? options_.lease.ttl / 4
                      : std::min<rt::Duration>(options_.lease.ttl / 4, kPollWithoutWatch);
    trouble_.reset();
    values_ = std::move(round->values);
  } else {
    trouble_ = round.error();
  }
  if (again_) {
    StartRound();
  } else {
    if (std::exchange(look_twice_, false)) {
      next = std::min(next, kSecondLook);
    }
    timer_ = loop_.RunAt(loop_.Now() + next, [this] { StartRound(); });
  }
  TellWatches();
}

// A folder that was made anew needs new watches, and may have changed before they stood.
void FileStore::WatchFolders(std::uint64_t stamp) {
  if (stamp == watched_stamp_) {
    return;
  }
  const auto watch = [this](const std::string& path) -> std::unique_ptr<rt::FolderWatch> {
    auto made = rt::WatchFolder(loop_, path, [this] { OnFolderChange(); });
    return made ? std::move(*made) : nullptr;  // without it the folder is looked at now and then
  };
  watched_stamp_ = stamp;
  keys_watch_ = watch(session_->keys_folder());
  leases_watch_ = watch(session_->leases_folder());
  again_ = true;
}

void FileStore::OnFolderChange() {
  look_twice_ = true;
  StartRound();
}

void FileStore::TellWatches() {
  if (!values_ && !trouble_) {
    return;  // the first round runs
  }
  std::vector<std::uint64_t> ids;
  for (const auto& [id, watch] : watches_) {
    ids.push_back(id);
  }
  for (const std::uint64_t id : ids) {
    const auto found = watches_.find(id);  // a handler may have ended it
    if (found == watches_.end() || closing_) {
      continue;
    }
    StoreView view{.values = {}, .trouble = trouble_};
    if (values_) {
      const std::string& prefix = found->second.prefix;
      for (auto it = values_->lower_bound(prefix);
           it != values_->end() && it->first.starts_with(prefix); ++it) {
        view.values.insert(*it);
      }
    }
    if (!found->second.told || !(*found->second.told == view)) {
      found->second.told = view;
      const WatchHandler on_view = found->second.on_view;
      on_view(view);
    }
  }
}

void FileStore::Close(std::function<void()> on_closed) {
  closing_ = true;
  on_closed_ = std::move(on_closed);
  StartRound();
}

}  // namespace pixii::control
