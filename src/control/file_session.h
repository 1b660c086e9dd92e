// One process's part in a folder that several processes of a host use as a store. It blocks.
//
// Thread: one call at a time; the caller tells the time. docs/formats/discovery.md
// Layout: leases/{lease}: locked by its holder as long as it lives, with a number that it changes
// to show that it runs; keys/{escaped key}.entry: the holder's lease, a line end, the value. A key
// counts while its lease's file is locked and its number was seen to change within the lease.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "base/result.h"
#include "control/lease_store.h"
#include "rt/shared_folder.h"
#include "rt/time.h"

namespace pixii::control {

class FileSession final {
 public:
  using Values = std::map<std::string, std::string>;

  struct Round {
    Values values;               // all keys that count
    std::uint64_t folder_stamp;  // another one: the folder was made anew
  };

  /// `lease`: 16 hexadecimal digits in lower case that no other session has.
  FileSession(std::string folder, std::string lease, LeaseOptions options);
  FileSession(const FileSession&) = delete;
  FileSession& operator=(const FileSession&) = delete;
  /// Takes its keys and its lease away.
  ~FileSession();

  /// Makes the folder hold `wanted` and nothing else of ours, shows that we run, clears away what
  /// the dead left, and reads what is there. Errors: those of the file system.
  Result<Round> Run(const Values& wanted, rt::Time now);

  /// As the destructor; after it nothing else may be called.
  void Release();

  std::string keys_folder() const { return folder_ + "/keys"; }

  std::string leases_folder() const { return folder_ + "/leases"; }

  /// Name of the file of `key`. Errors: kInvalidArgument if that is longer than a file's name may
  /// be.
  static Result<std::string> FileNameOf(const std::string& key);

 private:
  struct Entry {
    rt::FileStamp stamp;
    std::string key;
    std::string lease;
    std::string value;
  };

  struct Lease {
    std::string text;
    rt::Time changed_at{};
    bool valid = false;
  };

  Result<void> HoldLease(rt::Time now);
  Result<void> LookAtLeases(rt::Time now);
  Result<void> ReadEntries();
  Result<void> WriteWanted(const Values& wanted);
  Result<void> RemoveStale(const Values& wanted);
  Result<void> ClearAway(const std::string& lease);

  std::string folder_;
  std::string lease_;
  LeaseOptions options_;
  std::optional<rt::HeldFile> held_;
  std::uint64_t beats_ = 0;
  std::optional<rt::Time> beat_at_;
  std::map<std::string, Lease> leases_;   // of others
  std::map<std::string, Entry> entries_;  // by file name
};

}  // namespace pixii::control
