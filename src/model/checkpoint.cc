#include "model/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "model/gguf_blocks.h"
#include "model/gguf_model.h"
#include "wire/json.h"
#include "wire/quoted.h"

namespace pixii::model {
namespace {

constexpr std::string_view kWholeEnd = ".safetensors";
constexpr std::string_view kIndexEnd = ".safetensors.index.json";
constexpr std::string_view kOtherFormats[] = {"pytorch_model.bin", "pytorch_model.bin.index.json",
                                              "tf_model.h5", "consolidated.00.pth"};

/// "folder/index.json: key: what".
struct IndexPlace {
  const CheckpointFolder& folder;
  const std::string& name;

  tl::unexpected<Error> Bad(std::string_view key, std::string_view what) const {
    return Fail(Code::kDataCorrupt, fmt::format("{}/{}: {}: {}", folder.path(), name, key, what),
                name);
  }
};

}  // namespace

Result<Checkpoint> Checkpoint::Open(const CheckpointFolder& folder, std::string_view stem) {
  const std::string whole_name = fmt::format("{}{}", stem, kWholeEnd);
  const std::string index_name = fmt::format("{}{}", stem, kIndexEnd);
  Checkpoint checkpoint;
  if (folder.gguf() != nullptr) {
    PX_CHECK_OK(checkpoint.AddGguf(folder));
  } else if (folder.Has(whole_name)) {
    PX_CHECK_OK(checkpoint.AddFile(folder, whole_name));
  } else if (folder.Has(index_name)) {
    PX_CHECK_OK(checkpoint.AddShards(folder, index_name));
  } else {
    for (const std::string_view name : kOtherFormats) {
      if (folder.Has(name)) {
        return Fail(Code::kUnsupported,
                    fmt::format("{}/{}: this build reads safetensors only; convert the checkpoint",
                                folder.path(), name),
                    std::string(name));
      }
    }
    return Fail(Code::kNotFound,
                fmt::format("{} has neither {} nor {}", folder.path(), whole_name, index_name),
                folder.path());
  }
  PX_CHECK_OK(checkpoint.SortByName());
  return checkpoint;
}

Result<Checkpoint> Checkpoint::OpenFile(const CheckpointFolder& folder, const std::string& name) {
  Checkpoint checkpoint;
  PX_CHECK_OK(checkpoint.AddFile(folder, name));
  PX_CHECK_OK(checkpoint.SortByName());
  return checkpoint;
}

Result<void> Checkpoint::AddFile(const CheckpointFolder& folder, const std::string& name) {
  PX_TRY(rt::FileMap file, folder.Map(name));
  const std::span<const std::byte> bytes = file.bytes();
  PX_TRY(SafetensorsHeader header,
         ParseSafetensorsHeader(bytes, bytes.size(), folder.path() + "/" + name));
  const auto file_index = static_cast<std::uint32_t>(files_.size());
  for (StoredTensor& tensor : header.tensors) {
    const auto content = bytes.subspan(tensor.file_offset, tensor.size_bytes);
    tensors_.push_back({std::move(tensor), content, file_index});
  }
  size_bytes_ += bytes.size();
  files_.push_back(std::move(file));
  file_names_.push_back(name);
  return {};
}

Result<void> Checkpoint::AddGguf(const CheckpointFolder& folder) {
  gguf_ = folder.gguf();
  const GgufFile& file = gguf_->file;
  PX_TRY(const std::vector<GgufNamed> names, GgufTensorNames(file));
  for (const GgufNamed& named : names) {
    const GgufTensor& tensor = *named.tensor;
    CheckpointTensor added;
    added.stored = {.name = named.name,
                    .type = FindGgufBlock(tensor.type)->stored,
                    .shape = tensor.shape,
                    .file_offset = tensor.file_offset,
                    .size_bytes = tensor.size_bytes};
    if (named.index >= 0) {
      added.stored.shape.erase(added.stored.shape.begin());
      added.stored.size_bytes /= static_cast<std::uint64_t>(named.count);
      added.stored.file_offset += static_cast<std::uint64_t>(named.index) * added.stored.size_bytes;
    }
    if (named.one_row && added.stored.shape.size() == 1) {
      added.stored.shape.insert(added.stored.shape.begin(), 1);
    }
    added.bytes = file.bytes().subspan(added.stored.file_offset, added.stored.size_bytes);
    added.head_rows = named.head_rows;
    added.added = named.added;
    tensors_.push_back(std::move(added));
  }
  size_bytes_ = file.bytes().size();
  file_names_.push_back(file.name());
  return {};
}

Result<void> Checkpoint::AddShards(const CheckpointFolder& folder, const std::string& index_name) {
  const IndexPlace place = {folder, index_name};
  PX_TRY(const std::string text, folder.ReadText(index_name, kIndexSizeMax));
  const auto index = wire::ParseJson(text, {.depth_max = 8, .values_max = kSafetensorsValuesMax});
  if (!index) {
    return place.Bad("not JSON", index.error().detail());
  }
  const wire::Json* weight_map = index->Find("weight_map");
  if (weight_map == nullptr || !weight_map->is_object()) {
    return place.Bad("weight_map", "is not an object");
  }
  std::vector<std::pair<std::string_view, std::string_view>> files;  // (file, tensor)
  for (const auto& [tensor, file] : weight_map->object()) {
    if (!file.is_string()) {
      return place.Bad("weight_map",
                       fmt::format("the file of {} is not a string", wire::Quoted(tensor)));
    }
    files.emplace_back(file.string(), tensor);
  }
  std::sort(files.begin(), files.end());
  for (std::size_t i = 0; i < files.size(); ++i) {
    const std::string_view file = files[i].first;
    if (i > 0 && file == files[i - 1].first) {
      continue;
    }
    if (files_.size() == kShardCountMax) {
      return place.Bad("weight_map", fmt::format("more than {} files", kShardCountMax));
    }
    const auto added = AddFile(folder, std::string(file));
    if (!added) {
      return Fail(added.error().code(),
                  fmt::format("{} (named by {})", added.error().detail(), index_name),
                  added.error().param());
    }
  }
  PX_CHECK_OK(SortByName());
  for (const auto& [file, tensor] : files) {
    const CheckpointTensor* found = Find(tensor);
    if (found == nullptr || file_names_[found->file_index] != file) {
      return place.Bad("weight_map",
                       fmt::format("{} is not in {}", wire::Quoted(tensor), wire::Quoted(file)));
    }
  }
  return {};
}

Result<void> Checkpoint::SortByName() {
  std::sort(tensors_.begin(), tensors_.end(),
            [](const CheckpointTensor& a, const CheckpointTensor& b) {
              return a.stored.name < b.stored.name;
            });
  const auto twin = std::adjacent_find(
      tensors_.begin(), tensors_.end(),
      [](const auto& a, const auto& b) { return a.stored.name == b.stored.name; });
  if (twin != tensors_.end()) {
    return Fail(Code::kDataCorrupt,
                fmt::format("tensor {} occurs twice: {} offset {} and {} offset {}",
                            wire::Quoted(twin->stored.name), file_names_[twin->file_index],
                            twin->stored.file_offset, file_names_[std::next(twin)->file_index],
                            std::next(twin)->stored.file_offset),
                twin->stored.name);
  }
  return {};
}

std::string Checkpoint::Place(const CheckpointTensor& tensor) const {
  return fmt::format("{}: offset {}: tensor {}", file_names_[tensor.file_index],
                     tensor.stored.file_offset, wire::Quoted(tensor.stored.name));
}

const CheckpointTensor* Checkpoint::Find(std::string_view name) const {
  const auto found = std::lower_bound(tensors_.begin(), tensors_.end(), name,
                                      [](const CheckpointTensor& tensor, std::string_view key) {
                                        return tensor.stored.name < key;
                                      });
  return found != tensors_.end() && found->stored.name == name ? &*found : nullptr;
}

}  // namespace pixii::model
