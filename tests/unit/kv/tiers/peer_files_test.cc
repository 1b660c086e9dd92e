#include "kv/tiers/peer_files.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>

#include "unit/kv/tiers/stored_blocks.h"

namespace pixii::kv {
namespace {

class PeerFilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(::mkdtemp(folder_.data()), nullptr);
    own_ = Open("model");
    other_ = Open("model");
    peers_.emplace(
        PeerFilesOptions{.own_path = own_->path(), .header = own_->header(), .slots_of_scan = 8});
  }

  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::unique_ptr<DiskStore> Open(const std::string& model) {
    return *DiskStore::Open(
        SmallShape(), {model, "numerics", "bf16"},
        {.folder = folder_, .size_bytes = 1 << 20, .direct = false, .open = {}});
  }

  StoredBlock BlockOf(TokenId first) const {
    const std::vector<TokenId> tokens{first, 2, 3, 4};
    return MakeStored(MakeTestRoot(), tokens, 0);
  }

  void Put(DiskStore& store, std::uint32_t slot, TokenId first) {
    ASSERT_TRUE(store.Write(slot, BlockOf(first), RandomBytes(SmallShape().payload_bytes(), 1)));
  }

  std::size_t Scan() {
    std::size_t count = 0;
    peers_->Scan(
        [&](const BlockStore::Found&) {
          ++count;
          return true;
        },
        [](BlockFault) { FAIL(); });
    return count;
  }

  BlockFault Get(TokenId first) {
    StoredBlock block;
    std::span<const std::byte> payload;
    const BlockFault fault = peers_->Read(0, BlockOf(first).hash, block, payload);
    return fault == BlockFault::kNone ? CheckPayload(block, payload) : fault;
  }

  std::string folder_ = ::testing::TempDir() + "pixii-peers-XXXXXX";
  std::unique_ptr<DiskStore> own_;
  std::unique_ptr<DiskStore> other_;
  std::optional<PeerFiles> peers_;
};

TEST_F(PeerFilesTest, BlocksOfOthersAreFoundAndOwnOnesAreNot) {
  Put(*own_, 0, 1);
  Put(*other_, 3, 2);
  EXPECT_EQ(Scan(), 1U);
  EXPECT_EQ(Get(2), BlockFault::kNone);
  EXPECT_EQ(Get(1), BlockFault::kMissing);
}

TEST_F(PeerFilesTest, AFileIsLookedAtInPieces) {
  for (std::uint32_t slot = 0; slot < 20; ++slot) {
    Put(*other_, slot, static_cast<TokenId>(slot));
  }
  EXPECT_EQ(Scan(), 8U);
  EXPECT_EQ(Scan(), 8U);
  EXPECT_EQ(Scan(), 4U);
  EXPECT_EQ(Scan(), 8U);  // again from its beginning
  EXPECT_EQ(Get(19), BlockFault::kNone);
}

TEST_F(PeerFilesTest, WhatItsOwnerWroteOverOrDroppedIsAMiss) {
  Put(*other_, 0, 1);
  Put(*other_, 1, 2);
  EXPECT_EQ(Scan(), 2U);
  Put(*other_, 0, 9);
  other_->Drop(1, BlockOf(2).hash);
  EXPECT_EQ(Get(1), BlockFault::kMissing);
  EXPECT_EQ(Get(2), BlockFault::kMissing);
}

TEST_F(PeerFilesTest, ASpoiltBlockIsGivenAsItIsForWhoeverAskedToSee) {
  Put(*other_, 0, 1);
  EXPECT_EQ(Scan(), 1U);
  std::fstream file(other_->path(), std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(
      static_cast<std::streamoff>(other_->header().offset(0) + other_->header().header_bytes + 5));
  file.put('!');
  file.close();
  EXPECT_EQ(Get(1), BlockFault::kChecksum);
}

TEST_F(PeerFilesTest, FilesOfOtherModelsAreNotLookedAtAndFilesThatGoAreForgotten) {
  const std::unique_ptr<DiskStore> foreign = Open("another");
  Put(*foreign, 0, 1);
  Put(*other_, 0, 2);
  EXPECT_EQ(Scan(), 1U);
  EXPECT_EQ(Get(1), BlockFault::kMissing);
  std::filesystem::remove(other_->path());
  EXPECT_EQ(Scan(), 0U);
  EXPECT_EQ(Get(2), BlockFault::kMissing);
}

}  // namespace
}  // namespace pixii::kv
