#include "model/checkpoint_folder.h"

#include <fmt/format.h>

#include <utility>

#include "model/gguf_model.h"
#include "model/gguf_tokenizer.h"
#include "model/other_tokenizer.h"
#include "wire/quoted.h"

namespace pixii::model {
namespace {

constexpr std::string_view kTokenizerJson = "tokenizer.json";

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

/// Whether `path` is a file that says it is GGUF, by its name or its first bytes.
bool IsGguf(const std::string& path) {
  const auto info = rt::StatFile(path);
  if (!info || !*info || (*info)->kind != rt::FileKind::kFile) {
    return false;
  }
  const auto map = rt::FileMap::Open(path);
  return path.ends_with(".gguf") || (map && map->text().starts_with("GGUF"));
}

}  // namespace

Result<CheckpointFolder> CheckpointFolder::Open(const std::string& path) {
  const auto real_path = rt::RealPath(path);
  if (real_path && IsGguf(*real_path)) {
    return OpenGgufFile(path, *real_path);
  }
  const auto info = real_path ? rt::StatFile(*real_path) : Result<std::optional<rt::FileInfo>>();
  if (!real_path || !info || !*info || (*info)->kind != rt::FileKind::kFolder) {
    return Fail(Code::kNotFound,
                fmt::format("{} is neither a folder nor a GGUF file", wire::Quoted(path)), path);
  }
  return CheckpointFolder(path, *real_path, BlobFolder(*real_path));
}

Result<CheckpointFolder> CheckpointFolder::OpenGgufFile(const std::string& path,
                                                        const std::string& real_path) {
  auto open = std::make_shared<OpenGguf>();
  PX_TRY(open->map, rt::FileMap::Open(real_path));
  PX_TRY(open->file, GgufFile::Parse(open->map.bytes(), path));
  PX_TRY(open->texts["config.json"], GgufConfig(open->file));
  PX_TRY(std::string tokenizer, GgufTokenizer(open->file));
  if (!tokenizer.empty()) {
    open->texts["tokenizer.json"] = std::move(tokenizer);
    PX_TRY(open->texts["tokenizer_config.json"], GgufTokenizerConfig(open->file));
  }
  CheckpointFolder out(path, real_path, {});
  out.gguf_ = std::move(open);
  return out;
}

bool CheckpointFolder::Has(std::string_view name) const {
  if (gguf_ != nullptr) {
    return gguf_->texts.contains(name);
  }
  const auto info = rt::StatFile(real_path_ + "/" + std::string(name));
  return (info && info->has_value()) ||
         (name == kTokenizerJson && !OtherTokenizerFile(*this).empty());
}

Result<std::string> CheckpointFolder::Resolve(std::string_view name) const {
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string_view::npos ||
      name.find('\0') != std::string_view::npos) {
    return Fail(
        Code::kDataCorrupt,
        fmt::format("{}: {} is not the name of a file in this folder", path_, wire::Quoted(name)),
        std::string(name));
  }
  auto real = rt::RealPath(real_path_ + "/" + std::string(name));
  if (!real) {
    return Fail(Code::kNotFound, fmt::format("{}: {} does not exist", path_, wire::Quoted(name)),
                std::string(name));
  }
  if (!IsDirectlyIn(*real, real_path_) && !IsDirectlyIn(*real, blob_folder_)) {
    return Fail(Code::kDataCorrupt,
                fmt::format("{}: {} is a link that leaves the folder", path_, wire::Quoted(name)),
                std::string(name));
  }
  return real;
}

Result<CheckpointFolder> CheckpointFolder::Subfolder(std::string_view name) const {
  PX_TRY(std::string real, Resolve(name));
  PX_TRY(const CheckpointFolder folder, Open(real));
  if (!IsDirectlyIn(real, real_path_)) {
    return Fail(Code::kDataCorrupt,
                fmt::format("{}: {} is no folder of it", path_, wire::Quoted(name)),
                std::string(name));
  }
  return CheckpointFolder(fmt::format("{}/{}", path_, name), std::move(real), blob_folder_);
}

Result<std::string> CheckpointFolder::ReadText(std::string_view name,
                                               std::uint64_t size_max) const {
  if (gguf_ != nullptr) {
    const auto found = gguf_->texts.find(name);
    if (found == gguf_->texts.end()) {
      return Fail(Code::kNotFound, fmt::format("{} has no {}", path_, wire::Quoted(name)),
                  std::string(name));
    }
    if (found->second.size() > size_max) {
      return Fail(Code::kTooLarge,
                  fmt::format("{}: {} would have {} bytes, the limit is {}", path_, name,
                              found->second.size(), size_max),
                  std::string(name));
    }
    return found->second;
  }
  const auto path = Resolve(name);
  if (!path && path.error().code() == Code::kNotFound && name == kTokenizerJson) {
    if (const std::string other = OtherTokenizerFile(*this); !other.empty()) {
      return OtherTokenizerJson(*this, other);
    }
  }
  if (!path) {
    return Fail(path.error());
  }
  return rt::ReadFile(*path, size_max);
}

Result<rt::FileMap> CheckpointFolder::Map(std::string_view name) const {
  if (gguf_ != nullptr) {
    return Fail(Code::kNotFound, fmt::format("{} has no {}", path_, wire::Quoted(name)),
                std::string(name));
  }
  PX_TRY(const std::string path, Resolve(name));
  PX_TRY(rt::FileMap file, rt::FileMap::Open(path));
  if (file.bytes().empty()) {
    return Fail(Code::kDataCorrupt, fmt::format("{}/{}: offset 0: the file is empty", path_, name),
                std::string(name));
  }
  return file;
}

}  // namespace pixii::model
