#include "frontend/file_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "wire/json.h"

namespace pixii::frontend {

using wire::Json;

namespace {

constexpr std::string_view kRecordSuffix = ".json";
constexpr std::string_view kFilePrefix = "file-";

Json Describe(const StoredFile& file) {
  Json out{Json::Object{}};
  out.Set("id", file.id);
  out.Set("object", "file");
  out.Set("bytes", file.size_bytes);
  out.Set("created_at", file.created_at);
  out.Set("expires_at", file.expires_at);
  out.Set("filename", file.name);
  out.Set("purpose", file.purpose);
  out.Set("status", "processed");
  return out;
}

Result<std::string> TextOf(const Json& record, std::string_view name) {
  const Json* found = record.Find(name);
  if (found == nullptr || !found->is_string()) {
    return Fail(Code::kDataCorrupt, fmt::format("the record of a file has no {}", name));
  }
  return found->string();
}

Result<std::int64_t> CountOf(const Json& record, std::string_view name) {
  const Json* found = record.Find(name);
  const std::optional<std::int64_t> count = found == nullptr ? std::nullopt : found->AsInt();
  if (!count || *count < 0) {
    return Fail(Code::kDataCorrupt, fmt::format("the record of a file has no {}", name));
  }
  return *count;
}

}  // namespace

std::string StoredFile::Body() const { return Describe(*this).Dump(); }

std::string StoredFile::Record() const {
  Json out = Describe(*this);
  out.Set("tenant", tenant);
  return out.Dump();
}

Result<StoredFile> StoredFile::FromRecord(std::string_view text) {
  PX_TRY(const Json record, wire::ParseJson(text));
  StoredFile out;
  PX_TRY(out.id, TextOf(record, "id"));
  PX_TRY(out.tenant, TextOf(record, "tenant"));
  PX_TRY(out.name, TextOf(record, "filename"));
  PX_TRY(out.purpose, TextOf(record, "purpose"));
  PX_TRY(const std::int64_t size, CountOf(record, "bytes"));
  out.size_bytes = static_cast<std::uint64_t>(size);
  PX_TRY(out.created_at, CountOf(record, "created_at"));
  PX_TRY(out.expires_at, CountOf(record, "expires_at"));
  return out;
}

void FileStore::Restore(std::span<const FoundBlob> found, std::int64_t now,
                        const std::function<bool(std::string_view)>& is_claimed) {
  std::map<std::string_view, std::optional<std::uint64_t>> sizes;
  for (const FoundBlob& blob : found) {
    sizes.emplace(blob.name, blob.size_bytes);
  }
  for (const FoundBlob& blob : found) {
    if (!blob.name.starts_with(kFilePrefix) || !blob.name.ends_with(kRecordSuffix)) {
      continue;
    }
    Result<StoredFile> file = StoredFile::FromRecord(blob.bytes);
    auto size = file ? sizes.find(file->id) : sizes.end();
    if (!file || blob.name != file->id + std::string(kRecordSuffix) || size == sizes.end() ||
        size->second != file->size_bytes || file->expires_at <= now) {
      blobs_->Remove(blob.name);
      continue;
    }
    size_bytes_ += file->size_bytes;
    tenant_bytes_[file->tenant] += file->size_bytes;
    Insert(std::move(*file));
  }
  for (const FoundBlob& blob : found) {
    if (blob.name.starts_with(kFilePrefix) && !blob.name.ends_with(kRecordSuffix) &&
        !files_.contains(blob.name) && !is_claimed(blob.name)) {
      blobs_->Remove(blob.name);
    }
  }
}

void FileStore::Insert(StoredFile file) {
  file.order = ++last_order_;
  files_.insert_or_assign(file.id, std::move(file));
}

Result<void> FileStore::CheckRoom(const std::string& tenant, std::uint64_t bytes) const {
  const std::uint64_t tenant_max =
      options_.tenant_bytes_max == 0 ? options_.bytes_max : options_.tenant_bytes_max;
  const auto used = tenant_bytes_.find(tenant);
  const std::uint64_t tenant_used = used == tenant_bytes_.end() ? 0 : used->second;
  const std::uint64_t left =
      std::min(options_.bytes_max - std::min(options_.bytes_max, size_bytes_),
               tenant_max - std::min(tenant_max, tenant_used));
  if (bytes > left) {
    return Fail(Code::kTooLarge,
                fmt::format("{} bytes do not fit into the file store, which has room for {}; "
                            "delete files",
                            bytes, left));
  }
  return {};
}

Result<void> FileStore::TakeRoom(const std::string& tenant, std::uint64_t bytes) {
  PX_CHECK_OK(CheckRoom(tenant, bytes));
  size_bytes_ += bytes;
  tenant_bytes_[tenant] += bytes;
  return {};
}

void FileStore::Release(const std::string& tenant, std::uint64_t bytes) {
  auto used = tenant_bytes_.find(tenant);
  if (used == tenant_bytes_.end()) {
    return;  // it took none
  }
  size_bytes_ -= bytes;
  used->second -= bytes;
  if (used->second == 0) {
    tenant_bytes_.erase(used);
  }
}

void FileStore::Add(StoredFile file, std::string content,
                    std::function<void(Result<StoredFile>)> done) {
  file.size_bytes = content.size();
  DropExpired(file.created_at);
  Result<void> room = TakeRoom(file.tenant, file.size_bytes);
  if (room && files_.size() + adding_ >= options_.count_max) {
    Release(file.tenant, file.size_bytes);
    room = Fail(Code::kTooLarge, fmt::format("the file store holds {} files, which is its limit; "
                                             "delete files",
                                             options_.count_max));
  }
  if (!room) {
    done(Fail(room.error()));
    return;
  }
  if (file.expires_at == 0) {
    file.expires_at = file.created_at + options_.lifetime_seconds;
  }
  ++adding_;
  auto on_recorded = [this, file, done](const Result<void>& stored) {
    --adding_;
    if (!stored) {
      blobs_->Remove(file.id);
      Release(file.tenant, file.size_bytes);
      done(Fail(stored.error()));
      return;
    }
    Insert(file);
    done(file);
  };
  blobs_->Put(file.id, std::make_shared<const std::string>(std::move(content)),
              [this, file, on_recorded = std::move(on_recorded)](const Result<void>& stored) {
                if (!stored) {
                  on_recorded(stored);
                  return;
                }
                blobs_->Put(file.id + std::string(kRecordSuffix),
                            std::make_shared<const std::string>(file.Record()), on_recorded);
              });
}

void FileStore::Publish(StoredFile file, BlobStore::OnStored done) {
  if (file.expires_at == 0) {
    file.expires_at = file.created_at + options_.lifetime_seconds;
  }
  blobs_->Put(file.id + std::string(kRecordSuffix),
              std::make_shared<const std::string>(file.Record()),
              [this, file, done = std::move(done)](const Result<void>& stored) {
                if (stored) {
                  Insert(file);
                }
                done(stored);
              });
}

void FileStore::Reclaim(std::string_view id) {
  if (auto found = files_.find(id); found != files_.end()) {
    blobs_->Remove(found->first + std::string(kRecordSuffix));
    Release(found->second.tenant, found->second.size_bytes);
    files_.erase(found);
  }
}

void FileStore::Drop(Files::iterator file) {
  blobs_->Remove(file->first + std::string(kRecordSuffix));
  blobs_->Remove(file->first);
  Release(file->second.tenant, file->second.size_bytes);
  files_.erase(file);
}

void FileStore::DropExpired(std::int64_t now) {
  for (auto file = files_.begin(); file != files_.end();) {
    auto next = std::next(file);
    if (file->second.expires_at <= now) {
      Drop(file);
    }
    file = next;
  }
}

const StoredFile* FileStore::Find(std::string_view tenant, std::string_view id, std::int64_t now) {
  auto found = files_.find(id);
  if (found == files_.end() || found->second.tenant != tenant) {
    return nullptr;
  }
  if (found->second.expires_at <= now) {
    Drop(found);
    return nullptr;
  }
  return &found->second;
}

std::vector<const StoredFile*> FileStore::List(std::string_view tenant, std::int64_t now) {
  DropExpired(now);
  std::vector<const StoredFile*> out;
  for (const auto& [id, file] : files_) {
    if (file.tenant == tenant) {
      out.push_back(&file);
    }
  }
  std::ranges::sort(
      out, {}, [](const StoredFile* file) { return std::pair(file->created_at, file->order); });
  return out;
}

bool FileStore::Erase(std::string_view tenant, std::string_view id, std::int64_t now) {
  if (Find(tenant, id, now) == nullptr) {
    return false;
  }
  Drop(files_.find(id));
  return true;
}

}  // namespace pixii::frontend
