#include "control/file_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "rt/file.h"

namespace pixii::control {

namespace {

constexpr std::string_view kSuffix = ".entry";
constexpr std::size_t kFileNameBytesMax = 248;  // of 255: a new file has 7 more for a while
constexpr std::size_t kFilesMax = 200'000;
constexpr std::uint64_t kEntryBytesMax = kStoreValueBytesMax + 1024;

bool IsPlain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_' || c == '.';
}

// '/' is ',' and whatever else is not plain '%' and two digits: listings read well.
std::string Escape(std::string_view key) {
  std::string name;
  for (const char c : key) {
    if (c == '/') {
      name += ',';
    } else if (IsPlain(c)) {
      name += c;
    } else {
      name += fmt::format("%{:02x}", static_cast<unsigned char>(c));
    }
  }
  return name;
}

std::optional<std::string> Unescape(std::string_view name) {
  std::string key;
  for (std::size_t i = 0; i < name.size(); ++i) {
    if (name[i] == ',') {
      key += '/';
    } else if (name[i] == '%') {
      unsigned code = 0;
      const char* begin = name.data() + i + 1;
      if (name.size() - i < 3 || std::from_chars(begin, begin + 2, code, 16).ptr != begin + 2) {
        return std::nullopt;
      }
      key += static_cast<char>(code);
      i += 2;
    } else {
      key += name[i];
    }
  }
  return key;
}

bool IsLease(std::string_view name) {
  return name.size() == 16 && std::ranges::all_of(name, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

}  // namespace

FileSession::FileSession(std::string folder, std::string lease, LeaseOptions options)
    : folder_(std::move(folder)), lease_(std::move(lease)), options_(options) {}

FileSession::~FileSession() { Release(); }

Result<std::string> FileSession::FileNameOf(const std::string& key) {
  std::string name = Escape(key) + std::string(kSuffix);
  if (name.size() > kFileNameBytesMax) {
    return Fail(Code::kInvalidArgument,
                fmt::format("key '{}' is too long for the name of a file", key));
  }
  return name;
}

Result<FileSession::Round> FileSession::Run(const Values& wanted, rt::Time now) {
  PX_CHECK_OK(rt::CreateFolders(keys_folder()));
  PX_CHECK_OK(rt::CreateFolders(leases_folder()));
  PX_CHECK_OK(HoldLease(now));
  PX_CHECK_OK(LookAtLeases(now));
  PX_CHECK_OK(ReadEntries());
  PX_CHECK_OK(RemoveStale(wanted));
  PX_CHECK_OK(WriteWanted(wanted));
  PX_CHECK_OK(ReadEntries());
  PX_TRY(const std::uint64_t keys_inode, rt::FolderInode(keys_folder()));
  PX_TRY(const std::uint64_t leases_inode, rt::FolderInode(leases_folder()));
  Round round{.values = {}, .folder_stamp = keys_inode * 31 + leases_inode};
  for (const auto& [name, entry] : entries_) {
    const auto lease = leases_.find(entry.lease);
    if (entry.lease == lease_ || (lease != leases_.end() && lease->second.valid)) {
      round.values[entry.key] = entry.value;
    }
  }
  return round;
}

Result<void> FileSession::HoldLease(rt::Time now) {
  if (!held_ || !held_->linked()) {
    held_.reset();
    beat_at_.reset();
    const std::string path = leases_folder() + "/" + lease_;
    for (int left = 3; !held_; --left) {
      Result<rt::HeldFile> made = rt::HeldFile::Create(path);
      if (made) {
        held_ = std::move(*made);
      } else if (left == 1) {
        return Fail(made.error());
      }  // else somebody took the file, not yet locked, for that of a dead holder
    }
  }
  if (!beat_at_ || now - *beat_at_ >= options_.ttl / 4) {
    PX_CHECK_OK(held_->Write(fmt::format("{}\n", ++beats_)));
    beat_at_ = now;
  }
  return {};
}

Result<void> FileSession::LookAtLeases(rt::Time now) {
  PX_TRY(const auto files, rt::ListStamped(leases_folder(), kFilesMax));
  std::map<std::string, Lease> leases;
  for (const rt::StampedFile& file : files) {
    if (file.name == lease_ || !IsLease(file.name)) {
      continue;
    }
    const std::string path = leases_folder() + "/" + file.name;
    PX_TRY(std::optional<rt::HeldFileState> state, rt::LookAtHeldFile(path));
    if (!state) {
      continue;
    }
    if (!state->held) {
      PX_CHECK_OK(ClearAway(file.name));
      continue;
    }
    // Its clock and the file's times are not asked: only that something moved, by our own clock.
    const auto old = leases_.find(file.name);
    Lease lease{.text = std::move(state->text), .changed_at = now, .valid = true};
    if (old != leases_.end() && old->second.text == lease.text) {
      lease.changed_at = old->second.changed_at;
      lease.valid = now - lease.changed_at < options_.ttl;
    }
    leases.emplace(file.name, std::move(lease));
  }
  leases_ = std::move(leases);
  return {};
}

// Its holder is dead: nobody writes under that lease any more.
Result<void> FileSession::ClearAway(const std::string& lease) {
  const std::string path = leases_folder() + "/" + lease;
  PX_TRY(const auto taken, rt::HeldFile::TakeOver(path));
  if (!taken) {
    return {};
  }
  PX_CHECK_OK(ReadEntries());
  for (const auto& [name, entry] : entries_) {
    if (entry.lease == lease) {
      PX_CHECK_OK(rt::RemoveFile(keys_folder() + "/" + name));
    }
  }
  return rt::RemoveFile(path);
}

Result<void> FileSession::ReadEntries() {
  PX_TRY(const auto files, rt::ListStamped(keys_folder(), kFilesMax));
  std::map<std::string, Entry> entries;
  for (const rt::StampedFile& file : files) {
    if (!file.name.ends_with(kSuffix)) {
      continue;  // being written
    }
    const auto known = entries_.find(file.name);
    if (known != entries_.end() && known->second.stamp == file.stamp) {
      entries.insert(*known);
      continue;
    }
    const auto key =
        Unescape(std::string_view(file.name).substr(0, file.name.size() - kSuffix.size()));
    Result<std::string> text = rt::ReadFile(keys_folder() + "/" + file.name, kEntryBytesMax);
    if (!text && text.error().code() != Code::kNotFound && text.error().code() != Code::kTooLarge) {
      return Fail(text.error());
    }
    const std::size_t line_end = text ? text->find('\n') : std::string::npos;
    if (!key || line_end == std::string::npos || !IsLease(text->substr(0, line_end))) {
      continue;  // removed meanwhile, or no entry
    }
    entries.emplace(file.name, Entry{.stamp = file.stamp,
                                     .key = *key,
                                     .lease = text->substr(0, line_end),
                                     .value = text->substr(line_end + 1)});
  }
  entries_ = std::move(entries);
  return {};
}

Result<void> FileSession::WriteWanted(const Values& wanted) {
  for (const auto& [key, value] : wanted) {
    PX_TRY(const std::string name, FileNameOf(key));
    const auto there = entries_.find(name);
    // A key that another living holder has stays as it is: two would overwrite each other for ever.
    const bool others = there != entries_.end() && there->second.lease != lease_ &&
                        leases_.contains(there->second.lease);
    if (others || (there != entries_.end() && there->second.lease == lease_ &&
                   there->second.value == value)) {
      continue;
    }
    PX_CHECK_OK(rt::WriteFileAtomic(keys_folder() + "/" + name, lease_ + "\n" + value, 0644));
  }
  return {};
}

Result<void> FileSession::RemoveStale(const Values& wanted) {
  for (const auto& [name, entry] : entries_) {
    bool stale = entry.lease == lease_ && !wanted.contains(entry.key);
    if (entry.lease != lease_ && !leases_.contains(entry.lease)) {
      // A lease's file is there before its keys and goes after them: without it nobody has the key.
      PX_TRY(const auto state, rt::LookAtHeldFile(leases_folder() + "/" + entry.lease));
      stale = !state;
    }
    if (stale) {
      PX_CHECK_OK(rt::RemoveFile(keys_folder() + "/" + name));
    }
  }
  return {};
}

void FileSession::Release() {
  if (!held_) {
    return;
  }
  if (ReadEntries()) {
    (void)RemoveStale({});  // if this fails, others clear it away
  }
  if (held_->linked()) {
    (void)rt::RemoveFile(leases_folder() + "/" + lease_);
  }
  held_.reset();
}

}  // namespace pixii::control
