// Sockets of shm agents in a folder: each has a file beside it that is locked as long as its owner
// lives, so that what dead ones left can be told from what living ones use.
//
// Thread: any; blocks, so only at start and end. Private to the shm transport.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "base/result.h"
#include "rt/shared_folder.h"
#include "transport/agent.h"

namespace pixii::transport {

/// FOLDER/pixii-XXXXXXXXXXXXXXXX: of one life of an agent.
std::string ShmSocketPath(const std::string& folder, AgentId agent);

class ShmSocketHold final {
 public:
  /// Before the socket is made. Errors: kUnavailable, kResourceExhausted, kNotFound.
  static Result<ShmSocketHold> Take(const std::string& socket_path);

  ShmSocketHold() = default;
  ShmSocketHold(ShmSocketHold&&) noexcept = default;
  ShmSocketHold& operator=(ShmSocketHold&&) noexcept = default;

  /// After the socket is gone.
  void Release();

 private:
  std::optional<rt::HeldFile> file_;
  std::string path_;
};

/// Removes the sockets whose owners are dead, which their locks prove; others stay, also those
/// without such a file. Returns how many.
std::size_t SweepShmSockets(const std::string& folder);

}  // namespace pixii::transport
