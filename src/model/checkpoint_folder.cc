#include "model/checkpoint_folder.h"

#include <fmt/format.h>

#include <utility>

#include "model/quoted.h"

namespace pixii::model {
namespace {

/// Where Hugging Face's cache keeps the bytes of the snapshot at `real_path`, or nothing if this is
/// no snapshot.
std::string BlobFolder(const std::string& real_path) {
  const std::size_t revision = real_path.rfind('/');
  if (revision == std::string::npos || revision == 0) {
    return {};
  }
  const std::string parent = real_path.substr(0, revision);
  constexpr std::string_view kSnapshots = "/snapshots";
  if (!parent.ends_with(kSnapshots)) {
    return {};
  }
  return parent.substr(0, parent.size() - kSnapshots.size()) + "/blobs";
}

/// Whether `path` is an entry of `folder` itself.
bool IsDirectlyIn(const std::string& path, const std::string& folder) {
  return !folder.empty() && path.size() > folder.size() + 1 && path.starts_with(folder) &&
         path[folder.size()] == '/' && path.find('/', folder.size() + 1) == std::string::npos;
}

}  // namespace

Result<CheckpointFolder> CheckpointFolder::Open(const std::string& path) {
  const auto real_path = rt::RealPath(path);
  const auto info = real_path ? rt::StatFile(*real_path) : Result<std::optional<rt::FileInfo>>();
  if (!real_path || !info || !*info || (*info)->kind != rt::FileKind::kFolder) {
    return Fail(Code::kNotFound, fmt::format("{} is not a folder", Quoted(path)), path);
  }
  return CheckpointFolder(path, *real_path, BlobFolder(*real_path));
}

bool CheckpointFolder::Has(std::string_view name) const {
  const auto info = rt::StatFile(real_path_ + "/" + std::string(name));
  return info && info->has_value();
}

Result<std::string> CheckpointFolder::Resolve(std::string_view name) const {
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string_view::npos ||
      name.find('\0') != std::string_view::npos) {
    return Fail(Code::kDataCorrupt,
                fmt::format("{}: {} is not the name of a file in this folder", path_, Quoted(name)),
                std::string(name));
  }
  auto real = rt::RealPath(real_path_ + "/" + std::string(name));
  if (!real) {
    return Fail(Code::kNotFound, fmt::format("{}: {} does not exist", path_, Quoted(name)),
                std::string(name));
  }
  if (!IsDirectlyIn(*real, real_path_) && !IsDirectlyIn(*real, blob_folder_)) {
    return Fail(Code::kDataCorrupt,
                fmt::format("{}: {} is a link that leaves the folder", path_, Quoted(name)),
                std::string(name));
  }
  return real;
}

Result<CheckpointFolder> CheckpointFolder::Subfolder(std::string_view name) const {
  PX_TRY(std::string real, Resolve(name));
  PX_TRY(const CheckpointFolder folder, Open(real));
  if (!IsDirectlyIn(real, real_path_)) {
    return Fail(Code::kDataCorrupt, fmt::format("{}: {} is no folder of it", path_, Quoted(name)),
                std::string(name));
  }
  return CheckpointFolder(fmt::format("{}/{}", path_, name), std::move(real), blob_folder_);
}

Result<std::string> CheckpointFolder::ReadText(std::string_view name,
                                               std::uint64_t size_max) const {
  PX_TRY(const std::string path, Resolve(name));
  return rt::ReadFile(path, size_max);
}

Result<rt::FileMap> CheckpointFolder::Map(std::string_view name) const {
  PX_TRY(const std::string path, Resolve(name));
  PX_TRY(rt::FileMap file, rt::FileMap::Open(path));
  if (file.bytes().empty()) {
    return Fail(Code::kDataCorrupt, fmt::format("{}/{}: offset 0: the file is empty", path_, name),
                std::string(name));
  }
  return file;
}

}  // namespace pixii::model
