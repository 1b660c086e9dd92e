// The files that a server with workers of its own shares with them: the key of their cluster, and
// where they say their ports.
//
// Thread: one owner.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"
#include "rt/file_lock.h"

namespace pixii::apps {

class ServeFolder final {
 public:
  /// Of the server that `server` names among all ("serve-PID-RANDOM"), in `folder`, which is made
  /// if it is missing. What servers left there that were killed is removed. Errors: the system's.
  static Result<std::unique_ptr<ServeFolder>> Open(std::string folder, std::string server);

  ServeFolder(const ServeFolder&) = delete;
  ServeFolder& operator=(const ServeFolder&) = delete;
  /// Removes its files.
  ~ServeFolder();

  /// The path of its file `name`.
  std::string PathOf(std::string_view name) const;

 private:
  ServeFolder(std::string folder, std::string server, rt::FileLock lock)
      : folder_(std::move(folder)), server_(std::move(server)), lock_(std::move(lock)) {}

  std::string folder_;
  std::string server_;
  rt::FileLock lock_;  // as long as it lives, whoever else looks
};

}  // namespace pixii::apps
