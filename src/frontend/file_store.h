// Files that clients upload and batches write: /v1/files. What they are stands here, their bytes in
// a BlobStore.
//
// Thread: the frontend's loop. Bounded in count and bytes, together and for each tenant; nothing
// that a client stored is dropped before its time: a full store refuses.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "frontend/blob_store.h"

namespace pixii::frontend {

struct FileStoreOptions {
  std::string folder;                                // empty: in memory
  std::uint64_t bytes_max = std::uint64_t{1} << 28;  // of all files
  std::uint64_t tenant_bytes_max = 0;                // of one tenant's; 0: as bytes_max
  std::uint32_t count_max = 10'000;                  // files, and as many batches
  std::int64_t lifetime_seconds = 30LL * 24 * 3600;
};

struct StoredFile {
  std::string id;
  std::string tenant;
  std::string name;  // as the client called it
  std::string purpose;
  std::uint64_t size_bytes = 0;
  std::int64_t created_at = 0;  // seconds since 1970
  std::int64_t expires_at = 0;  // likewise
  std::uint64_t order = 0;      // among those of one second, in this process

  /// OpenAI's file object.
  std::string Body() const;
  /// The same and the tenant, for the store's own use.
  std::string Record() const;
  /// Of Record(). Errors: kDataCorrupt.
  static Result<StoredFile> FromRecord(std::string_view text);
};

class FileStore final {
 public:
  FileStore(const FileStoreOptions& options, std::unique_ptr<BlobStore> blobs)
      : options_(options), blobs_(std::move(blobs)) {}

  /// Takes over what was found of an earlier process, and removes what no longer counts.
  /// `is_claimed`: blobs that somebody else keeps, for example a batch that still writes.
  void Restore(std::span<const FoundBlob> found, std::int64_t now,
               const std::function<bool(std::string_view)>& is_claimed);

  /// Stores `file` with `content`; `done` once it can be found. Errors: kTooLarge (no room),
  /// those of the blobs.
  void Add(StoredFile file, std::string content, std::function<void(Result<StoredFile>)> done);

  /// Null: unknown, expired, or another tenant's.
  const StoredFile* Find(std::string_view tenant, std::string_view id, std::int64_t now);
  /// A tenant's files, oldest first.
  std::vector<const StoredFile*> List(std::string_view tenant, std::int64_t now);
  /// Whether it was there.
  bool Erase(std::string_view tenant, std::string_view id, std::int64_t now);

  void Read(const StoredFile& file, BlobStore::OnRead done) { blobs_->Get(file.id, done); }

  /// Room for a file that grows; kept until Publish or Release. Errors: kTooLarge.
  Result<void> TakeRoom(const std::string& tenant, std::uint64_t bytes);
  void Release(const std::string& tenant, std::uint64_t bytes);
  /// Makes a blob that a batch wrote, and took room for, a file. `done` once that is stored.
  void Publish(StoredFile file, BlobStore::OnStored done);
  /// Undoes Publish, if it was called, with the room; the blob stays.
  void Reclaim(std::string_view id);

  BlobStore& blobs() { return *blobs_; }

  std::uint64_t size_bytes() const { return size_bytes_; }

 private:
  using Files = std::map<std::string, StoredFile, std::less<>>;  // by id

  void Insert(StoredFile file);
  void DropExpired(std::int64_t now);
  void Drop(Files::iterator file);
  Result<void> CheckRoom(const std::string& tenant, std::uint64_t bytes) const;

  const FileStoreOptions options_;
  std::unique_ptr<BlobStore> blobs_;
  Files files_;
  std::map<std::string, std::uint64_t, std::less<>> tenant_bytes_;
  std::uint64_t size_bytes_ = 0;
  std::uint64_t last_order_ = 0;
  std::uint32_t adding_ = 0;  // on their way into the store
};

}  // namespace pixii::frontend
