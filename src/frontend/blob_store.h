// Bytes under names: in memory, or where calls block, as in a folder. What files, batches, videos
// and pictures stand on.
//
// Thread: the frontend's loop. `done` is called on it later, never inside the call, and not at all
// once the store is gone. Calls take effect in the order they were made.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "rt/loop.h"

namespace pixii::frontend {

class BlobStore {
 public:
  using Bytes = std::shared_ptr<const std::string>;
  using OnStored = std::function<void(Result<void>)>;
  using OnRead = std::function<void(Result<Bytes>)>;

  virtual ~BlobStore() = default;

  /// Whether what it holds outlives the process.
  virtual bool durable() const = 0;
  /// Puts `bytes` in the place of what `name` had, whole or not at all. Errors: kUnavailable,
  /// kResourceExhausted (the disk, or too much waits for it).
  virtual void Put(const std::string& name, Bytes bytes, OnStored done) = 0;
  /// Appends to a blob that is there. A crash may leave the front part of `bytes`.
  virtual void Append(const std::string& name, std::string bytes, OnStored done) = 0;
  virtual void Get(const std::string& name, OnRead done) = 0;
  virtual void Remove(const std::string& name) = 0;
};

std::unique_ptr<BlobStore> MakeMemoryBlobStore(rt::Loop& loop);

/// Where bytes lie, reached by calls that block.
//
// Thread: one at a time.
class BlobPlace {
 public:
  virtual ~BlobPlace() = default;

  /// As BlobStore::Put and the others.
  virtual Result<void> Write(const std::string& name, std::string_view bytes) = 0;
  virtual Result<void> Append(const std::string& name, std::string_view bytes) = 0;
  virtual Result<std::string> Read(const std::string& name) = 0;
  virtual Result<void> Remove(const std::string& name) = 0;
};

/// A store that outlives the process, on a thread of its own.
std::unique_ptr<BlobStore> MakeBlobStore(rt::Loop& loop, std::unique_ptr<BlobPlace> place);

/// A blob that was there at the start.
struct FoundBlob {
  std::string name;
  std::optional<std::uint64_t> size_bytes;  // nothing: the place does not say
  std::string bytes;                        // of names that end in ".json"
};

struct OpenedBlobs {
  std::unique_ptr<BlobStore> store;
  std::vector<FoundBlob> found;
};

/// Takes `folder`, made if it is missing, for this process alone. Blocks: at the start.
/// Errors: those of the files, kUnavailable if another process has it; naming the path.
Result<OpenedBlobs> OpenFolderBlobStore(rt::Loop& loop, const std::string& folder,
                                        std::uint64_t blob_bytes_max);

}  // namespace pixii::frontend
