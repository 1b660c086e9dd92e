#include "frontend/blob_store.h"

#include <fmt/format.h>

#include <map>
#include <optional>
#include <utility>

#include "rt/file.h"
#include "rt/file_lock.h"
#include "rt/work_pool.h"

namespace pixii::frontend {

namespace {

constexpr std::size_t kEntriesMax = 1'000'000;  // of the folder
constexpr std::uint32_t kQueueLengthMax = 4096;
constexpr std::uint32_t kFileMode = 0600;
constexpr std::string_view kLockName = "lock";

Error NoBlob(const std::string& name) {
  return Error(Code::kNotFound, fmt::format("the store has no {}", name));
}

class MemoryBlobStore final : public BlobStore {
 public:
  explicit MemoryBlobStore(rt::Loop& loop) : loop_(loop) {}

  bool durable() const override { return false; }

  void Put(const std::string& name, Bytes bytes, OnStored done) override {
    blobs_[name] = {.whole = std::move(bytes), .growing = nullptr};
    Answer(std::move(done), {});
  }

  void Append(const std::string& name, std::string bytes, OnStored done) override {
    auto found = blobs_.find(name);
    if (found == blobs_.end()) {
      Answer(std::move(done), Fail(NoBlob(name)));
      return;
    }
    Blob& blob = found->second;
    if (!blob.growing || blob.growing.use_count() > 1) {  // somebody reads it
      blob.growing = std::make_shared<std::string>(*blob.bytes());
      blob.whole = nullptr;
    }
    *blob.growing += bytes;
    Answer(std::move(done), {});
  }

  void Get(const std::string& name, OnRead done) override {
    auto found = blobs_.find(name);
    Result<Bytes> out =
        found == blobs_.end() ? Result<Bytes>(Fail(NoBlob(name))) : found->second.bytes();
    loop_.Post([alive = std::weak_ptr(alive_), done = std::move(done), out = std::move(out)] {
      if (alive.lock()) {
        done(out);
      }
    });
  }

  void Remove(const std::string& name) override { blobs_.erase(name); }

 private:
  void Answer(OnStored done, Result<void> result) {
    loop_.Post([alive = std::weak_ptr(alive_), done = std::move(done), result] {
      if (alive.lock()) {
        done(result);
      }
    });
  }

  struct Blob {
    Bytes whole;                           // or
    std::shared_ptr<std::string> growing;  // in place, while nobody else holds it

    Bytes bytes() const { return growing ? Bytes(growing) : whole; }
  };

  rt::Loop& loop_;
  std::map<std::string, Blob> blobs_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

// One thread, so that calls keep their order.
class FolderBlobStore final : public BlobStore {
 public:
  FolderBlobStore(rt::Loop& loop, std::string folder, rt::FileLock lock,
                  std::uint64_t blob_bytes_max)
      : loop_(loop),
        folder_(std::move(folder)),
        lock_(std::move(lock)),
        blob_bytes_max_(blob_bytes_max),
        pool_(std::make_unique<rt::WorkPool>(loop, "files", 1, kQueueLengthMax)) {}

  bool durable() const override { return true; }

  void Put(const std::string& name, Bytes bytes, OnStored done) override {
    Run(std::move(done), [path = Path(name), bytes = std::move(bytes)] {
      return rt::WriteFileAtomic(path, *bytes, kFileMode);
    });
  }

  void Append(const std::string& name, std::string bytes, OnStored done) override {
    Run(std::move(done), [path = Path(name), bytes = std::move(bytes)]() -> Result<void> {
      PX_TRY(const std::optional<rt::FileInfo> info, rt::StatFile(path));
      if (!info) {
        return Fail(NoBlob(path));
      }
      PX_TRY(rt::FileWriter writer, rt::FileWriter::Open(path, info->size_bytes));
      PX_CHECK_OK(writer.Append(bytes));
      return writer.Sync();
    });
  }

  void Get(const std::string& name, OnRead done) override {
    auto out = std::make_shared<Result<Bytes>>(Fail(NoBlob(name)));
    const bool taken = pool_->Submit(
        [out, path = Path(name), max = blob_bytes_max_] {
          Result<std::string> text = rt::ReadFile(path, max);
          *out = text ? Result<Bytes>(std::make_shared<const std::string>(std::move(*text)))
                      : Result<Bytes>(Fail(text.error()));
        },
        [out, done] { done(std::move(*out)); });
    if (!taken) {
      Later([done = std::move(done)] { done(Fail(Busy())); });
    }
  }

  void Remove(const std::string& name) override {
    Run([](const Result<void>&) {}, [path = Path(name)] { return rt::RemoveFile(path); });
  }

 private:
  static Error Busy() {
    return Error(Code::kResourceExhausted, "too much waits for the disk; try again later");
  }

  std::string Path(const std::string& name) const { return folder_ + "/" + name; }

  template <class Work>
  void Run(OnStored done, Work work) {
    auto out = std::make_shared<Result<void>>();
    const bool taken = pool_->Submit([out, work = std::move(work)] { *out = work(); },
                                     [out, done] { done(std::move(*out)); });
    if (!taken) {
      Later([done = std::move(done)] { done(Fail(Busy())); });
    }
  }

  template <class Call>
  void Later(Call call) {
    loop_.Post([alive = std::weak_ptr(alive_), call = std::move(call)] {
      if (alive.lock()) {
        call();
      }
    });
  }

  rt::Loop& loop_;
  const std::string folder_;
  rt::FileLock lock_;
  const std::uint64_t blob_bytes_max_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::unique_ptr<rt::WorkPool> pool_;  // last: its thread ends first
};

}  // namespace

std::unique_ptr<BlobStore> MakeMemoryBlobStore(rt::Loop& loop) {
  return std::make_unique<MemoryBlobStore>(loop);
}

Result<FolderBlobs> OpenFolderBlobStore(rt::Loop& loop, const std::string& folder,
                                        std::uint64_t blob_bytes_max) {
  PX_CHECK_OK(rt::CreateFolders(folder));
  PX_TRY(rt::FileLock lock, rt::FileLock::Take(fmt::format("{}/{}", folder, kLockName)));
  PX_TRY(const std::vector<rt::FolderEntry> entries, rt::ListFolder(folder, kEntriesMax));
  FolderBlobs out;
  for (const rt::FolderEntry& entry : entries) {
    if (entry.info.kind != rt::FileKind::kFile || entry.name == kLockName) {
      continue;
    }
    FoundBlob blob{.name = entry.name, .size_bytes = entry.info.size_bytes, .bytes = {}};
    if (entry.name.ends_with(".json")) {
      PX_TRY(blob.bytes, rt::ReadFile(fmt::format("{}/{}", folder, entry.name), blob_bytes_max));
    }
    out.found.push_back(std::move(blob));
  }
  out.store = std::make_unique<FolderBlobStore>(loop, folder, std::move(lock), blob_bytes_max);
  return out;
}

}  // namespace pixii::frontend
