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
// What is not removed would lie there uncounted, so that any number of removals waits: all that a
// store of jobs holds may have had its time at once.
constexpr std::uint32_t kRemovalsMax = 1U << 20U;
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
class ThreadBlobStore final : public BlobStore {
 public:
  ThreadBlobStore(rt::Loop& loop, std::unique_ptr<BlobPlace> place)
      : loop_(loop),
        place_(std::move(place)),
        pool_(std::make_unique<rt::WorkPool>(loop, "files", 1, kQueueLengthMax + kRemovalsMax)) {}

  bool durable() const override { return true; }

  void Put(const std::string& name, Bytes bytes, OnStored done) override {
    Run<Result<void>>(std::move(done), [&place = *place_, name, bytes = std::move(bytes)] {
      return place.Write(name, *bytes);
    });
  }

  void Append(const std::string& name, std::string bytes, OnStored done) override {
    Run<Result<void>>(std::move(done), [&place = *place_, name, bytes = std::move(bytes)] {
      return place.Append(name, bytes);
    });
  }

  void Get(const std::string& name, OnRead done) override {
    Run<Result<Bytes>>(std::move(done), [&place = *place_, name]() -> Result<Bytes> {
      PX_TRY(std::string text, place.Read(name));
      return std::make_shared<const std::string>(std::move(text));
    });
  }

  void Remove(const std::string& name) override {
    (void)pool_->Submit([&place = *place_, name] { (void)place.Remove(name); }, [] {});
  }

 private:
  template <class Out, class Work>
  void Run(std::function<void(Out)> done, Work work) {
    auto out = std::make_shared<std::optional<Out>>();
    const bool taken = waiting_ < kQueueLengthMax &&
                       pool_->Submit([out, work = std::move(work)] { out->emplace(work()); },
                                     [this, out, done] {
                                       --waiting_;
                                       done(std::move(**out));
                                     });
    if (taken) {
      ++waiting_;
    } else {
      loop_.Post([alive = std::weak_ptr(alive_), done = std::move(done)] {
        if (alive.lock()) {
          done(Fail(Code::kResourceExhausted, "too much waits for the store; try again later"));
        }
      });
    }
  }

  rt::Loop& loop_;
  std::unique_ptr<BlobPlace> place_;
  std::uint32_t waiting_ = 0;  // calls that somebody hears of
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::unique_ptr<rt::WorkPool> pool_;  // last: its thread ends first
};

class Folder final : public BlobPlace {
 public:
  Folder(std::string folder, rt::FileLock lock, std::uint64_t blob_bytes_max)
      : folder_(std::move(folder)), lock_(std::move(lock)), blob_bytes_max_(blob_bytes_max) {}

  Result<void> Write(const std::string& name, std::string_view bytes) override {
    return rt::WriteFileAtomic(Path(name), bytes, kFileMode);
  }

  Result<void> Append(const std::string& name, std::string_view bytes) override {
    PX_TRY(const std::optional<rt::FileInfo> info, rt::StatFile(Path(name)));
    if (!info) {
      return Fail(NoBlob(Path(name)));
    }
    PX_TRY(rt::FileWriter writer, rt::FileWriter::Open(Path(name), info->size_bytes));
    PX_CHECK_OK(writer.Append(bytes));
    return writer.Sync();
  }

  Result<std::string> Read(const std::string& name) override {
    return rt::ReadFile(Path(name), blob_bytes_max_);
  }

  Result<void> Remove(const std::string& name) override { return rt::RemoveFile(Path(name)); }

 private:
  std::string Path(const std::string& name) const { return folder_ + "/" + name; }

  const std::string folder_;
  rt::FileLock lock_;
  const std::uint64_t blob_bytes_max_;
};

}  // namespace

std::unique_ptr<BlobStore> MakeMemoryBlobStore(rt::Loop& loop) {
  return std::make_unique<MemoryBlobStore>(loop);
}

std::unique_ptr<BlobStore> MakeBlobStore(rt::Loop& loop, std::unique_ptr<BlobPlace> place) {
  return std::make_unique<ThreadBlobStore>(loop, std::move(place));
}

Result<OpenedBlobs> OpenFolderBlobStore(rt::Loop& loop, const std::string& folder,
                                        std::uint64_t blob_bytes_max) {
  PX_CHECK_OK(rt::CreateFolders(folder));
  PX_TRY(rt::FileLock lock, rt::FileLock::Take(fmt::format("{}/{}", folder, kLockName)));
  PX_TRY(const std::vector<rt::FolderEntry> entries, rt::ListFolder(folder, kEntriesMax));
  OpenedBlobs out;
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
  out.store =
      MakeBlobStore(loop, std::make_unique<Folder>(folder, std::move(lock), blob_bytes_max));
  return out;
}

}  // namespace pixii::frontend
