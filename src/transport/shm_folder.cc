#include "transport/shm_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "rt/file.h"

namespace pixii::transport {

namespace {

constexpr std::string_view kPrefix = "pixii-";
constexpr std::string_view kHeld = ".held";
constexpr std::size_t kDigits = 16;
constexpr std::size_t kEntriesMax = 1 << 20;  // of a folder that is swept
constexpr int kTries = 3;

bool IsHeldName(std::string_view name) {
  if (name.size() != kPrefix.size() + kDigits + kHeld.size() || !name.starts_with(kPrefix) ||
      !name.ends_with(kHeld)) {
    return false;
  }
  return std::ranges::all_of(name.substr(kPrefix.size(), kDigits), [](char letter) {
    return (letter >= '0' && letter <= '9') || (letter >= 'a' && letter <= 'f');
  });
}

}  // namespace

std::string ShmSocketPath(const std::string& folder, AgentId agent) {
  return fmt::format("{}/{}{:016x}", folder, kPrefix, agent.high ^ agent.low);
}

Result<ShmSocketHold> ShmSocketHold::Take(const std::string& socket_path) {
  ShmSocketHold hold;
  hold.path_ = fmt::format("{}{}", socket_path, kHeld);
  // Who sweeps may have been there before it was locked.
  for (int left = kTries; !hold.file_; --left) {
    Result<rt::HeldFile> made = rt::HeldFile::Create(hold.path_);
    if (made) {
      hold.file_ = std::move(*made);
    } else if (left == 1 || made.error().code() != Code::kUnavailable) {
      return Fail(made.error());
    }
  }
  return hold;
}

void ShmSocketHold::Release() {
  if (file_) {
    (void)rt::RemoveFile(path_);
    file_.reset();
  }
}

std::size_t SweepShmSockets(const std::string& folder) {
  const Result<std::vector<rt::StampedFile>> files = rt::ListStamped(folder, kEntriesMax);
  std::size_t swept = 0;
  for (const rt::StampedFile& file : files ? *files : std::vector<rt::StampedFile>()) {
    if (!IsHeldName(file.name)) {
      continue;
    }
    const std::string held = fmt::format("{}/{}", folder, file.name);
    const Result<std::optional<rt::HeldFile>> dead = rt::HeldFile::TakeOver(held);
    if (!dead || !*dead) {
      continue;  // its owner lives, or is another user's
    }
    // The lock's file last: as long as it is there, what is left can be found again.
    if (rt::RemoveFile(held.substr(0, held.size() - kHeld.size())) && rt::RemoveFile(held)) {
      ++swept;
    }
  }
  return swept;
}

}  // namespace pixii::transport
