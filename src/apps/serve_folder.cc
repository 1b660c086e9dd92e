#include "apps/serve_folder.h"

#include <fmt/format.h>

#include <map>
#include <optional>
#include <vector>

#include "rt/file.h"

namespace pixii::apps {

namespace {

constexpr std::size_t kEntriesMax = 1U << 16;
constexpr std::string_view kLock = "lock";
constexpr int kServerDashes = 3;  // serve-PID-RANDOM-NAME

/// Names of files by the server that they are of.
using Files = std::map<std::string, std::vector<std::string>>;

/// The server that a file is of; nothing if it is of none.
std::optional<std::string> ServerOf(std::string_view file) {
  std::size_t end = 0;
  for (int dash = 0; dash < kServerDashes; ++dash) {
    end = file.find('-', dash == 0 ? 0 : end + 1);
    if (end == std::string_view::npos) {
      return std::nullopt;
    }
  }
  return file.starts_with("serve-") ? std::optional(std::string(file.substr(0, end)))
                                    : std::nullopt;
}

Files FilesOf(const std::string& folder) {
  Files out;
  if (const auto entries = rt::ListFolder(folder, kEntriesMax)) {
    for (const rt::FolderEntry& entry : *entries) {
      if (std::optional<std::string> server = ServerOf(entry.name)) {
        out[std::move(*server)].push_back(entry.name);
      }
    }
  }
  return out;
}

// The lock goes last: who finds the other files without it takes it once more.
void Remove(const std::string& folder, const std::string& server,
            const std::vector<std::string>& files) {
  const std::string lock = fmt::format("{}-{}", server, kLock);
  for (const std::string& file : files) {
    if (file != lock) {
      (void)rt::RemoveFile(fmt::format("{}/{}", folder, file));
    }
  }
  (void)rt::RemoveFile(fmt::format("{}/{}", folder, lock));
}

// Whose lock is free is gone, however it ended. A lock alone may be of one that begins just now.
void Sweep(const std::string& folder) {
  for (const auto& [server, files] : FilesOf(folder)) {
    const std::string lock = fmt::format("{}-{}", server, kLock);
    if (files != std::vector{lock} && rt::FileLock::Take(fmt::format("{}/{}", folder, lock))) {
      Remove(folder, server, files);
    }
  }
}

}  // namespace

Result<std::unique_ptr<ServeFolder>> ServeFolder::Open(std::string folder, std::string server) {
  PX_CHECK_OK(rt::CreateFolders(folder));
  Sweep(folder);
  PX_TRY(rt::FileLock lock, rt::FileLock::Take(fmt::format("{}/{}-{}", folder, server, kLock)));
  return std::unique_ptr<ServeFolder>(new ServeFolder(  // tidy: new the constructor is private
      std::move(folder), std::move(server), std::move(lock)));
}

ServeFolder::~ServeFolder() { Remove(folder_, server_, FilesOf(folder_)[server_]); }

std::string ServeFolder::PathOf(std::string_view name) const {
  return fmt::format("{}/{}-{}", folder_, server_, name);
}

}  // namespace pixii::apps
