// A lease store in a folder, for processes of one host. Who is killed is gone at once; who is
// stopped, after its lease.
//
// Thread: one loop; the file system is worked on by a thread of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "control/file_session.h"
#include "control/lease_store.h"
#include "rt/loop.h"
#include "rt/shared_folder.h"
#include "rt/work_pool.h"

namespace pixii::control {

struct FileStoreOptions {
  std::string folder;
  LeaseOptions lease;
};

class FileStore final : public LeaseStore {
 public:
  /// `loop` outlives it. A folder that cannot be used is trouble of the views, not an error.
  FileStore(rt::Loop& loop, FileStoreOptions options);
  FileStore(const FileStore&) = delete;
  FileStore& operator=(const FileStore&) = delete;
  ~FileStore() override;

  Result<void> Put(const std::string& key, std::string value) override;
  void Delete(const std::string& key) override;
  WatchId Watch(std::string prefix, WatchHandler on_view) override;
  void Unwatch(WatchId watch) override;
  void Close(std::function<void()> on_closed) override;

 private:
  struct LocalWatch {
    std::string prefix;
    WatchHandler on_view;
    std::optional<StoreView> told;
  };

  void StartRound();
  void OnRound(Result<FileSession::Round> round);
  void WatchFolders(std::uint64_t stamp);
  void OnFolderChange();
  void TellWatches();

  rt::Loop& loop_;
  FileStoreOptions options_;
  std::unique_ptr<FileSession> session_;  // used by the round that runs, else by nobody
  FileSession::Values wanted_;
  std::map<std::uint64_t, LocalWatch> watches_;
  std::uint64_t last_watch_ = 0;
  std::optional<FileSession::Values> values_;  // of the last round that succeeded
  std::optional<Error> trouble_;
  bool round_runs_ = false;
  bool again_ = false;       // something changed since the round began
  bool look_twice_ = false;  // a folder changed: see OnFolderChange
  bool closing_ = false;
  std::function<void()> on_closed_;
  rt::TimerId timer_ = rt::TimerId::kNone;
  rt::TimerId tell_ = rt::TimerId::kNone;
  std::uint64_t watched_stamp_ = 0;
  std::unique_ptr<rt::FolderWatch> keys_watch_;
  std::unique_ptr<rt::FolderWatch> leases_watch_;
  rt::WorkPool pool_;  // last: its work uses what stands above
};

}  // namespace pixii::control
