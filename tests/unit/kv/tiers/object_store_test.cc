#include "kv/tiers/object_store.h"

#include <gtest/gtest.h>

#include <map>

#include "kv/tiers/s3_service.h"
#include "unit/kv/tiers/endless_list.h"
#include "unit/kv/tiers/stored_blocks.h"

namespace pixii::kv {
namespace {

const std::vector<TokenId> kTokens{1, 2, 3, 4};

class MapService final : public ObjectService {
 public:
  explicit MapService(std::map<std::string, std::string>& objects) : objects_(objects) {}

  Result<void> Put(const std::string& name, std::string_view bytes) override {
    objects_[name] = bytes;
    return {};
  }

  Result<std::string> Get(const std::string& name, std::uint64_t size_max) override {
    const auto found = objects_.find(name);
    if (found == objects_.end()) {
      return Fail(Code::kNotFound, "nothing");
    }
    if (found->second.size() > size_max) {
      return Fail(Code::kTooLarge, "large");
    }
    return found->second;
  }

  Result<void> Delete(const std::string& name) override {
    objects_.erase(name);
    return {};
  }

  Result<void> List(const std::string& prefix, ListWatch& /*watch*/,
                    const std::function<bool(std::string_view)>& on_name) override {
    for (const auto& [name, bytes] : objects_) {
      if (name.starts_with(prefix) && !on_name(name)) {
        break;
      }
    }
    return {};
  }

 private:
  std::map<std::string, std::string>& objects_;
};

class ObjectStoreTest : public ::testing::Test {
 protected:
  BlockFault Get() {
    StoredBlock read;
    std::span<const std::byte> payload;
    BlockFault fault = store_.Read(0, block_.hash, read, payload);
    WantedBlock wanted = WantedOf(block_);
    wanted.generation = 0;
    fault = fault == BlockFault::kNone ? CompareHeader(read, wanted, SmallShape()) : fault;
    return fault == BlockFault::kNone ? CheckPayload(read, payload) : fault;
  }

  std::map<std::string, std::string> objects_;
  ObjectStore store_{
      std::make_unique<MapService>(objects_), SmallShape(), {"model", "numerics", "bf16"}};
  StoredBlock block_ = MakeStored(MakeTestRoot(), kTokens, 0);
};

TEST_F(ObjectStoreTest, ABlockIsAnObjectUnderItsHash) {
  ASSERT_TRUE(store_.Write(7, block_, RandomBytes(SmallShape().payload_bytes(), 1)));
  EXPECT_TRUE(objects_.contains(store_.prefix() + ToHex(block_.hash)));
  EXPECT_EQ(Get(), BlockFault::kNone);
  std::vector<Hash128> found;
  objects_[store_.prefix() + "not a hash at all, but as long.."] = "";
  store_.Scan(
      [&](const BlockStore::Found& one) {
        found.push_back(one.block.hash);
        return true;
      },
      [](BlockFault) { FAIL(); });
  EXPECT_EQ(found, std::vector<Hash128>{block_.hash});
  store_.Drop(7, block_.hash);
  EXPECT_EQ(Get(), BlockFault::kMissing);
}

TEST_F(ObjectStoreTest, TwoWritersOfABlockWriteTheSameBytes) {
  const auto payload = RandomBytes(SmallShape().payload_bytes(), 1);
  ASSERT_TRUE(store_.Write(7, block_, payload));
  const std::string first = objects_.begin()->second;
  block_.generation = 55;
  ASSERT_TRUE(store_.Write(9, block_, payload));
  EXPECT_EQ(objects_.begin()->second, first);
}

TEST_F(ObjectStoreTest, WhatIsShortLongOrSpoiltIsSeen) {
  ASSERT_TRUE(store_.Write(7, block_, RandomBytes(SmallShape().payload_bytes(), 1)));
  std::string& object = objects_.begin()->second;
  const std::string whole = object;
  object.pop_back();
  EXPECT_EQ(Get(), BlockFault::kTruncated);
  object = whole + "x";
  EXPECT_EQ(Get(), BlockFault::kShape);
  object = whole;
  object[whole.size() - 1] = static_cast<char>(object[whole.size() - 1] ^ 2);
  EXPECT_EQ(Get(), BlockFault::kChecksum);
}

class EndlessServer final : public rt::HttpClient {
 public:
  Result<rt::HttpFetchResponse> Fetch(const rt::HttpFetchRequest& /*request*/) override {
    rt::HttpFetchResponse response;
    response.status = 200;
    response.body =
        "<Contents><Key>a</Key></Contents><NextContinuationToken>more</NextContinuationToken>";
    return response;
  }
};

TEST(S3ServiceTest, AListWithoutAnEndEndsWithAnError) {
  auto service = S3Service::Create({.endpoint = "https://host", .bucket = "b", .credentials = {}},
                                   std::make_unique<EndlessServer>(), [] { return 0; })
                     .value();
  ExpectEndlessListEnds(*service);
}

TEST(S3ServiceTest, AScanOfAListWithoutAnEndIsAFailureAndAStoppedOneEnds) {
  auto make = [] {
    return S3Service::Create({.endpoint = "https://host", .bucket = "b", .credentials = {}},
                             std::make_unique<EndlessServer>(), [] { return 0; })
        .value();
  };
  ObjectStore store(make(), SmallShape(), {"model", "numerics", "bf16"}, {}, {.parts_max = 10});
  std::vector<BlockFault> faults;
  const auto scan = [&](ObjectStore& scanned) {
    faults.clear();
    scanned.Scan([](const BlockStore::Found&) { return true; },
                 [&](BlockFault fault) { faults.push_back(fault); });
  };
  scan(store);
  EXPECT_EQ(faults, std::vector<BlockFault>{BlockFault::kIo});
  ObjectStore stopped(make(), SmallShape(), {"model", "numerics", "bf16"}, {}, {.parts_max = ~0U});
  stopped.Stop();
  scan(stopped);  // ends
}

TEST(S3ServiceTest, AnEndpointIsASchemeAndAHost) {
  for (const char* endpoint : {"", "localhost:9000", "ftp://host", "http://host/path"}) {
    EXPECT_FALSE(S3Service::Create({.endpoint = endpoint, .bucket = "b", .credentials = {}},
                                   nullptr, [] { return 0; }))
        << endpoint;
  }
  EXPECT_TRUE(
      S3Service::Create({.endpoint = "https://host:9000/", .bucket = "b", .credentials = {}},
                        nullptr, [] { return 0; }));
}

}  // namespace
}  // namespace pixii::kv
