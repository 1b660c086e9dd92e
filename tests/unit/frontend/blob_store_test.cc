#include "frontend/blob_store.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <semaphore>
#include <string>

#include "unit/rt/real_loop.h"

namespace pixii::frontend {
namespace {

using namespace std::chrono_literals;

class BlobStoreTest : public rt::RealLoopTest {
 protected:
  void SetUp() override {
    RealLoopTest::SetUp();
    folder = ::testing::TempDir() + "blob-store-test";
    std::filesystem::remove_all(folder);
  }

  OpenedBlobs Open() {
    auto opened = OpenFolderBlobStore(*loop, folder, 1 << 20);
    EXPECT_TRUE(opened) << opened.error().ToString();
    return std::move(*opened);
  }

  // Puts, appends, reads; what was read.
  std::string WriteAndRead(BlobStore& store) {
    std::string out;
    std::string calls;
    store.Put("a", std::make_shared<const std::string>("one,"),
              [&](Result<void> done) { calls += done ? "put " : "failed "; });
    store.Append("a", "two,", [&](Result<void> done) { calls += done ? "append " : "failed "; });
    store.Append("none", "x", [&](Result<void> done) { calls += done ? "made " : "refused "; });
    store.Get("a", [&](Result<BlobStore::Bytes> bytes) { out += bytes ? **bytes : "failed"; });
    store.Append("a", "three", [](Result<void>) {});
    store.Get("a", [&](Result<BlobStore::Bytes> bytes) { out += "|" + (bytes ? **bytes : ""); });
    store.Get("none", [&](Result<BlobStore::Bytes> bytes) {
      EXPECT_FALSE(bytes);
      loop->Stop();
    });
    EXPECT_EQ(calls, "") << "never inside the call";
    loop->Run();
    EXPECT_EQ(calls, "put append refused ");
    return out;
  }

  std::string folder;
};

/// Its first write waits until the test says so.
class GatedPlace final : public BlobPlace {
 public:
  GatedPlace(std::binary_semaphore& gate, int& removed) : gate_(gate), removed_(removed) {}

  Result<void> Write(const std::string& /*name*/, std::string_view /*bytes*/) override {
    gate_.acquire();
    return {};
  }

  Result<void> Append(const std::string& /*name*/, std::string_view /*bytes*/) override {
    return {};
  }

  Result<std::string> Read(const std::string& /*name*/) override { return std::string("read"); }

  Result<void> Remove(const std::string& /*name*/) override {
    ++removed_;
    return {};
  }

 private:
  std::binary_semaphore& gate_;
  int& removed_;
};

TEST_F(BlobStoreTest, NothingThatShallGoIsForgottenWhileMuchWaits) {
  constexpr int kMany = 10'000;
  std::binary_semaphore gate(0);
  int removed = 0;  // by the store's thread, and read behind it
  auto store = MakeBlobStore(*loop, std::make_unique<GatedPlace>(gate, removed));
  store->Put("a", std::make_shared<const std::string>("one"), [](Result<void>) {});
  for (int i = 0; i < kMany; ++i) {
    store->Remove(std::to_string(i));
  }
  int refused = 0;
  for (int i = 0; i < kMany; ++i) {
    store->Append("a", "x", [&](const Result<void>& done) { refused += done ? 0 : 1; });
  }
  gate.release();
  bool read = false;  // behind all others, once there is room for it
  while (!read) {
    store->Get("a", [&](const Result<BlobStore::Bytes>& bytes) { read = read || bytes; });
    loop->RunAt(loop->Now() + 1ms, [this] { loop->Stop(); });
    loop->Run();
  }
  EXPECT_EQ(removed, kMany);
  EXPECT_GT(refused, 0) << "other calls are bounded";
}

TEST_F(BlobStoreTest, KeepsBytesInMemoryInTheOrderOfTheCalls) {
  auto store = MakeMemoryBlobStore(*loop);
  EXPECT_EQ(WriteAndRead(*store), "one,two,|one,two,three");
}

TEST_F(BlobStoreTest, KeepsBytesInAFolderThatALaterStoreFinds) {
  {
    OpenedBlobs blobs = Open();
    EXPECT_TRUE(blobs.found.empty());
    EXPECT_EQ(WriteAndRead(*blobs.store), "one,two,|one,two,three");
    auto second = OpenFolderBlobStore(*loop, folder, 1 << 20);
    ASSERT_FALSE(second) << "the folder is in use";
    EXPECT_NE(second.error().detail().find(folder), std::string::npos);
  }
  std::ofstream(folder + "/b.json") << "{}";
  OpenedBlobs blobs = Open();
  ASSERT_EQ(blobs.found.size(), 2U);
  EXPECT_EQ(blobs.found[0].name, "a");
  EXPECT_EQ(blobs.found[0].size_bytes, 13U);
  EXPECT_EQ(blobs.found[0].bytes, "") << "contents are read when they are asked for";
  EXPECT_EQ(blobs.found[1].bytes, "{}");
  EXPECT_EQ(std::filesystem::status(folder + "/a").permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

TEST_F(BlobStoreTest, CallsNobodyOnceItIsGone) {
  bool called = false;
  auto store = MakeMemoryBlobStore(*loop);
  store->Put("a", std::make_shared<const std::string>("x"), [&](Result<void>) { called = true; });
  store.reset();
  loop->Post([this] { loop->Stop(); });
  loop->Run();
  EXPECT_FALSE(called);
}

}  // namespace
}  // namespace pixii::frontend
