// The weights of a folder: model.safetensors, the shards its index names, or a GGUF file; mapped
// and checked.
//
// Thread: immutable after Open. Tensors point into the maps, which live as long as the Checkpoint.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/checkpoint_folder.h"
#include "model/safetensors.h"

namespace pixii::model {

inline constexpr std::size_t kShardCountMax = 4096;  // files of one checkpoint
inline constexpr std::uint64_t kIndexSizeMax = std::uint64_t{64}
                                               << 20;  // bytes of model.safetensors.index.json

struct CheckpointTensor {
  StoredTensor stored;
  std::span<const std::byte> bytes;  // may be misaligned for its type
  std::uint32_t file_index = 0;      // into Checkpoint::file_names()
  // Of GGUF files, undone when the tensor is read:
  std::int64_t head_rows = 0;  // not 0: rows of each head of so many lie in pairs (gguf_blocks.h)
  float added = 0.0F;          // to every value, when the file was made
};

class Checkpoint final {
 public:
  /// model.safetensors first, as the reference loader; else every shard of
  /// model.safetensors.index.json. Errors name file and offset or key: kNotFound (no weights,
  /// missing shard), kDataCorrupt, kUnsupported (other formats).
  /// `stem` in place of "model": "diffusion_pytorch_model" of what diffusers saves.
  static Result<Checkpoint> Open(const CheckpointFolder& folder, std::string_view stem = "model");

  /// A single file of `folder`, such as a golden file.
  static Result<Checkpoint> OpenFile(const CheckpointFolder& folder, const std::string& name);

  /// Null if there is none of this name. O(log tensors).
  const CheckpointTensor* Find(std::string_view name) const;

  /// "file: offset n: tensor "name"", for errors.
  std::string Place(const CheckpointTensor& tensor) const;

  /// By name.
  std::span<const CheckpointTensor> tensors() const { return tensors_; }

  std::span<const std::string> file_names() const { return file_names_; }

  std::uint64_t size_bytes() const { return size_bytes_; }

 private:
  Result<void> AddFile(const CheckpointFolder& folder, const std::string& name);
  Result<void> AddShards(const CheckpointFolder& folder, const std::string& index_name);
  Result<void> AddGguf(const CheckpointFolder& folder);
  Result<void> SortByName();

  std::vector<rt::FileMap> files_;
  std::shared_ptr<const OpenGguf> gguf_;  // where the tensors lie, if the folder is one file
  std::vector<std::string> file_names_;
  std::vector<CheckpointTensor> tensors_;
  std::uint64_t size_bytes_ = 0;  // of the files
};

}  // namespace pixii::model
