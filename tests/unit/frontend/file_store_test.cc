#include "frontend/file_store.h"

#include <gtest/gtest.h>

#include <map>

namespace pixii::frontend {
namespace {

// Answers at once.
class FakeBlobs final : public BlobStore {
 public:
  bool durable() const override { return true; }

  void Put(const std::string& name, Bytes bytes, OnStored done) override {
    if (!fault) {
      blobs[name] = *bytes;
    }
    done(fault ? Result<void>(Fail(*fault)) : Result<void>());
  }

  void Append(const std::string& name, std::string bytes, OnStored done) override {
    blobs[name] += bytes;
    done({});
  }

  void Get(const std::string& name, OnRead done) override {
    done(std::make_shared<const std::string>(blobs.at(name)));
  }

  void Remove(const std::string& name) override { blobs.erase(name); }

  std::map<std::string, std::string> blobs;
  std::optional<Error> fault;
};

struct Fixture {
  explicit Fixture(FileStoreOptions options = {}) {
    auto owned = std::make_unique<FakeBlobs>();
    blobs = owned.get();
    store = std::make_unique<FileStore>(options, std::move(owned));
  }

  std::string Add(std::string_view tenant, std::string_view id, std::string content,
                  std::int64_t now = 1000) {
    std::string out = "nothing";
    store->Add({.id = std::string(id),
                .tenant = std::string(tenant),
                .name = "n",
                .purpose = "batch",
                .created_at = now},
               std::move(content), [&](const Result<StoredFile>& file) {
                 out = file ? file->Body() : file.error().detail();
               });
    return out;
  }

  FakeBlobs* blobs;
  std::unique_ptr<FileStore> store;
};

TEST(FileStore, KeepsFilesToTheirTenants) {
  Fixture it;
  EXPECT_EQ(it.Add("a", "file-1", "abc"),
            R"({"id":"file-1","object":"file","bytes":3,"created_at":1000,"expires_at":2593000,)"
            R"("filename":"n","purpose":"batch","status":"processed"})");
  it.Add("b", "file-2", "x");
  EXPECT_EQ(it.store->List("a", 1000).size(), 1U);
  EXPECT_EQ(it.store->Find("b", "file-1", 1000), nullptr);
  EXPECT_FALSE(it.store->Erase("b", "file-1", 1000));
  EXPECT_TRUE(it.store->Erase("a", "file-1", 1000));
  EXPECT_EQ(it.store->size_bytes(), 1U);
  EXPECT_FALSE(it.blobs->blobs.contains("file-1"));
  EXPECT_FALSE(it.blobs->blobs.contains("file-1.json"));
}

TEST(FileStore, RefusesWhatDoesNotFitAndDropsNothing) {
  Fixture it({.folder = {}, .bytes_max = 10, .tenant_bytes_max = 6, .count_max = 3});
  it.Add("a", "file-1", "1234");
  EXPECT_NE(it.Add("a", "file-2", "123").find("room for 2"), std::string::npos);
  it.Add("b", "file-3", "12345");
  EXPECT_NE(it.Add("c", "file-4", "12").find("room for 1"), std::string::npos);
  it.Add("c", "file-5", "1");
  it.store->Erase("b", "file-3", 1000);
  it.Add("c", "file-6", "1");
  EXPECT_NE(it.Add("c", "file-7", "1").find("3 files"), std::string::npos);
  EXPECT_EQ(it.store->size_bytes(), 6U);
  it.blobs->fault = Error(Code::kResourceExhausted, "the disk is full");
  it.store->Erase("c", "file-6", 1000);
  EXPECT_EQ(it.Add("c", "file-8", "1"), "the disk is full");
  EXPECT_EQ(it.store->size_bytes(), 5U) << "and the room is free again";
}

TEST(FileStore, ForgetsFilesWhoseTimeIsOver) {
  Fixture it({.folder = {}, .lifetime_seconds = 10});
  it.Add("a", "file-1", "1", 1000);
  EXPECT_NE(it.store->Find("a", "file-1", 1009), nullptr);
  EXPECT_EQ(it.store->Find("a", "file-1", 1010), nullptr);
  EXPECT_TRUE(it.blobs->blobs.empty());
  EXPECT_EQ(it.store->size_bytes(), 0U);
}

TEST(FileStore, TakesOverWhatAnEarlierProcessKept) {
  Fixture before;
  before.Add("a", "file-1", "abc");
  before.Add("a", "file-2", "abc");
  before.Add("a", "file-3", "abc");
  std::vector<FoundBlob> found;
  before.blobs->blobs["file-2"] = "short";          // changed behind our back
  before.blobs->blobs["file-4.json"] = "{";         // torn
  before.blobs->blobs["file-5"] = "lost";           // an upload that did not end
  before.blobs->blobs["file-6"] = "being written";  // by a batch
  Fixture after;
  after.blobs->blobs = before.blobs->blobs;
  for (const auto& [name, bytes] : before.blobs->blobs) {
    found.push_back({.name = name,
                     .size_bytes = bytes.size(),
                     .bytes = name.ends_with(".json") ? bytes : std::string()});
  }
  after.store->Restore(found, 1000, [](std::string_view id) { return id == "file-6"; });
  std::vector<std::string> ids;
  for (const StoredFile* file : after.store->List("a", 1000)) {
    ids.push_back(file->id);
  }
  EXPECT_EQ(ids, (std::vector<std::string>{"file-1", "file-3"}));
  EXPECT_EQ(after.store->size_bytes(), 6U);
  std::vector<std::string> left;
  for (const auto& [name, bytes] : after.blobs->blobs) {
    left.push_back(name);
  }
  EXPECT_EQ(left,
            (std::vector<std::string>{"file-1", "file-1.json", "file-3", "file-3.json", "file-6"}));
}

TEST(FileStore, PublishesWhatWasWrittenInPieces) {
  Fixture it({.folder = {}, .bytes_max = 10});
  EXPECT_TRUE(it.store->TakeRoom("a", 4));
  EXPECT_FALSE(it.store->TakeRoom("a", 7));
  it.blobs->blobs["file-9"] = "1234";
  bool stored = false;
  it.store->Publish({.id = "file-9",
                     .tenant = "a",
                     .name = "o",
                     .purpose = "batch_output",
                     .size_bytes = 4,
                     .created_at = 1},
                    [&](const Result<void>& done) { stored = done.has_value(); });
  EXPECT_TRUE(stored);
  EXPECT_NE(it.store->Find("a", "file-9", 2), nullptr);
  it.store->Reclaim("file-9");
  EXPECT_EQ(it.store->Find("a", "file-9", 2), nullptr);
  EXPECT_EQ(it.store->size_bytes(), 0U);
  EXPECT_TRUE(it.blobs->blobs.contains("file-9")) << "the bytes stay";
}

}  // namespace
}  // namespace pixii::frontend
