#include "kv/tiers/disk_store.h"

#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>

#include "unit/kv/tiers/faulty_file.h"
#include "unit/kv/tiers/stored_blocks.h"

namespace pixii::kv {
namespace {

/// While it lives, this thread may do no more to files than their modes say, root's too.
class AsOrdinaryUser final {
 public:
  AsOrdinaryUser() {
    EXPECT_EQ(::syscall(SYS_capget, &header_, data_), 0);
    const __user_cap_data_struct before[2] = {data_[0], data_[1]};
    data_[0].effective &= ~(1U << CAP_DAC_OVERRIDE);
    EXPECT_EQ(::syscall(SYS_capset, &header_, data_), 0);
    data_[0] = before[0];
    data_[1] = before[1];
  }

  ~AsOrdinaryUser() { EXPECT_EQ(::syscall(SYS_capset, &header_, data_), 0); }

  AsOrdinaryUser(const AsOrdinaryUser&) = delete;
  AsOrdinaryUser& operator=(const AsOrdinaryUser&) = delete;

 private:
  __user_cap_header_struct header_{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data_[2]{};  // as they were
};

class DiskStoreTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(::mkdtemp(folder_.data()), nullptr); }

  void TearDown() override {
    std::filesystem::permissions(folder_, std::filesystem::perms::owner_all);
    std::filesystem::remove_all(folder_);
  }

  DiskStoreOptions Options() const {
    DiskStoreOptions options;
    options.folder = folder_;
    options.size_bytes = 1 << 20;
    options.open = faults_.Opener();
    return options;
  }

  std::unique_ptr<DiskStore> Open(const std::string& model = "model") const {
    auto store = DiskStore::Open(SmallShape(), {model, "numerics", "bf16"}, Options());
    EXPECT_TRUE(store) << store.error().ToString();
    return store ? std::move(*store) : nullptr;
  }

  StoredBlock BlockOf(TokenId first) const {
    const std::vector<TokenId> tokens{first, 2, 3, 4};
    return MakeStored(root_, tokens, 0);
  }

  std::vector<std::byte> PayloadOf(TokenId first) const {
    return RandomBytes(SmallShape().payload_bytes(), static_cast<std::uint64_t>(first));
  }

  Result<void> Put(DiskStore& store, std::uint32_t slot, TokenId first) const {
    return store.Write(slot, BlockOf(first), PayloadOf(first));
  }

  /// As a tier reads: everything proven.
  BlockFault Get(DiskStore& store, std::uint32_t slot, TokenId first) const {
    StoredBlock read;
    std::span<const std::byte> payload;
    const StoredBlock wanted = BlockOf(first);
    BlockFault fault = store.Read(slot, wanted.hash, read, payload);
    fault =
        fault == BlockFault::kNone ? CompareHeader(read, WantedOf(wanted), SmallShape()) : fault;
    return fault == BlockFault::kNone ? CheckPayload(read, payload) : fault;
  }

  struct Scanned {
    std::map<std::uint32_t, Hash128> found;  // slot -> hash
    std::vector<BlockFault> faults;
  };

  static Scanned ScanAll(DiskStore& store) {
    Scanned scanned;
    store.Scan(
        [&](BlockStore::Found found) {
          scanned.found[found.place.slot] = found.block.hash;
          return true;
        },
        [&](BlockFault fault) { scanned.faults.push_back(fault); });
    return scanned;
  }

  static void FlipBit(const std::string& path, std::uint64_t offset, int bit) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<std::streamoff>(offset));
    const char byte = static_cast<char>(file.get());
    file.seekp(static_cast<std::streamoff>(offset));
    file.put(static_cast<char>(byte ^ (1 << bit)));
  }

  std::string folder_ = ::testing::TempDir() + "pixii-disk-store-XXXXXX";
  std::shared_ptr<const BlockRoot> root_ = MakeTestRoot();
  FileFaults faults_;
};

TEST_F(DiskStoreTest, BlocksComeBackAndAreFoundAgainAfterARestart) {
  {
    const auto store = Open();
    for (TokenId i = 0; i < 5; ++i) {
      ASSERT_TRUE(Put(*store, static_cast<std::uint32_t>(2 * i), i));
    }
    EXPECT_EQ(Get(*store, 4, 2), BlockFault::kNone);
  }
  const auto store = Open();
  EXPECT_EQ(store->foreign(), BlockFault::kNone);
  const Scanned scanned = ScanAll(*store);
  EXPECT_EQ(scanned.found.size(), 5U);
  EXPECT_TRUE(scanned.faults.empty());
  for (TokenId i = 0; i < 5; ++i) {
    EXPECT_EQ(scanned.found.at(static_cast<std::uint32_t>(2 * i)), BlockOf(i).hash);
    EXPECT_EQ(Get(*store, static_cast<std::uint32_t>(2 * i), i), BlockFault::kNone);
  }
}

TEST_F(DiskStoreTest, ADroppedBlockIsNotFoundAgain) {
  const auto store = Open();
  ASSERT_TRUE(Put(*store, 0, 1));
  store->Drop(0, BlockOf(1).hash);
  EXPECT_TRUE(ScanAll(*store).found.empty());
  EXPECT_EQ(Get(*store, 0, 1), BlockFault::kHeader);
}

// The process dies after any number of bytes of any write: what was there before in other slots is
// found, the torn block is not, and nothing but whole blocks is believed.
TEST_F(DiskStoreTest, ATornWriteIsIgnoredWhereverItEnds) {
  const std::uint64_t slot_bytes = MakeDiskHeader(SmallShape(), {}).slot_bytes();
  int lost = 0;
  int kept = 0;
  for (std::uint64_t limit = 0; limit <= slot_bytes + 2 * 4096; limit += 512) {
    std::filesystem::remove_all(folder_);
    {
      const auto store = Open();
      ASSERT_TRUE(Put(*store, 0, 1));
      ASSERT_TRUE(Put(*store, 1, 2));
      faults_.state->bytes_until_death = limit;
      static_cast<void>(Put(*store, 1, 3));
      faults_.state->bytes_until_death.reset();
    }
    const auto store = Open();
    const Scanned scanned = ScanAll(*store);
    EXPECT_EQ(scanned.found.at(0), BlockOf(1).hash);
    EXPECT_EQ(Get(*store, 0, 1), BlockFault::kNone);
    if (!scanned.found.contains(1)) {
      ++lost;
      continue;
    }
    // All of the old one or all of the new one.
    const TokenId which = scanned.found.at(1) == BlockOf(3).hash ? 3 : 2;
    EXPECT_EQ(Get(*store, 1, which), BlockFault::kNone) << "after " << limit << " bytes";
    ++kept;
  }
  EXPECT_GT(lost, 5);
  EXPECT_GE(kept, 2);
}

TEST_F(DiskStoreTest, ManyBlocksGoAndComeAsOneByOne) {
  DiskStoreOptions options = Options();
  options.open = {};  // in batches of the system's, where it has them
  auto store = std::move(*DiskStore::Open(SmallShape(), {"model", "numerics", "bf16"}, options));
  constexpr std::uint32_t kCount = 40;  // some batches
  const auto is_gone = [](std::size_t number) { return number % 7 == 3; };
  std::vector<std::uint32_t> slots;
  std::vector<BlockStore::Ask> asks;
  for (std::uint32_t i = 0; i < kCount; ++i) {
    slots.push_back(kCount - i);
    asks.push_back({.slot = kCount - i, .hash = BlockOf(static_cast<TokenId>(i)).hash});
  }
  std::vector<std::byte> bytes;
  const std::vector<Result<void>> results = store->WriteMany(
      slots, [&](std::size_t i, StoredBlock& block, std::span<const std::byte>& payload) {
        block = BlockOf(static_cast<TokenId>(i));
        bytes = PayloadOf(static_cast<TokenId>(i));
        payload = bytes;
        return !is_gone(i);
      });
  ASSERT_EQ(results.size(), kCount);
  for (std::size_t i = 0; i < kCount; ++i) {
    EXPECT_EQ(results[i].has_value(), !is_gone(i));
  }
  FlipBit(store->path(), store->header().offset(slots[5]) + store->header().header_bytes, 3);
  std::vector<std::size_t> read;
  store->ReadMany(
      asks, [](std::size_t i) { return i != 8; },
      [&](std::size_t i, BlockFault fault, const StoredBlock& block,
          std::span<const std::byte> payload) {
        read.push_back(i);
        const auto first = static_cast<TokenId>(i);
        ASSERT_EQ(fault == BlockFault::kNone, !is_gone(i)) << FaultName(fault);
        if (!is_gone(i)) {
          EXPECT_EQ(CompareHeader(block, WantedOf(BlockOf(first)), SmallShape()),
                    BlockFault::kNone);
          EXPECT_EQ(CheckPayload(block, payload),
                    i == 5 ? BlockFault::kChecksum : BlockFault::kNone);
          EXPECT_EQ(Get(*store, slots[i], first), CheckPayload(block, payload));
        }
      });
  EXPECT_EQ(read.size(), kCount - 1);
  EXPECT_TRUE(std::ranges::is_sorted(read));
}

TEST_F(DiskStoreTest, BlocksAreMadeAndProvenWhileOthersAreOnTheirWay) {
  faults_.state->says_direct = true;
  const auto store = Open();
  constexpr std::uint32_t kCount = 40;
  const std::size_t window = store->batch_blocks();
  ASSERT_GT(window, 4U);
  const std::size_t busy_min = window / 2;
  std::vector<std::uint32_t> slots;
  std::vector<BlockStore::Ask> asks;
  for (std::uint32_t i = 0; i < kCount; ++i) {
    slots.push_back(i);
    asks.push_back({.slot = i, .hash = BlockOf(static_cast<TokenId>(i)).hash});
  }
  std::vector<std::byte> bytes;
  for (const Result<void>&each : store->WriteMany(
           slots, [&](std::size_t i, StoredBlock& block, std::span<const std::byte>& payload) {
             EXPECT_GE(faults_.state->under_way, std::min(i, busy_min)) << "block " << i;
             block = BlockOf(static_cast<TokenId>(i));
             bytes = PayloadOf(static_cast<TokenId>(i));
             payload = bytes;
             return true;
           })) {
    EXPECT_TRUE(each);
  }
  EXPECT_EQ(faults_.state->under_way, 0U);
  EXPECT_EQ(faults_.state->pieces, kCount);  // each block in one write
  std::size_t next = 0;
  store->ReadMany(
      asks, [](std::size_t) { return true; },
      [&](std::size_t i, BlockFault fault, const StoredBlock& block,
          std::span<const std::byte> payload) {
        EXPECT_EQ(i, next++);
        EXPECT_GE(faults_.state->under_way, std::min(kCount - 1 - i, busy_min)) << "block " << i;
        ASSERT_EQ(fault, BlockFault::kNone);
        EXPECT_EQ(CheckPayload(block, payload), BlockFault::kNone);
      });
  EXPECT_EQ(next, kCount);
  EXPECT_EQ(faults_.state->under_way, 0U);
}

TEST_F(DiskStoreTest, AWriteThatEndsInTheMiddleOfABlockLeavesNone) {
  faults_.state->says_direct = true;
  const auto store = Open();
  ASSERT_TRUE(Put(*store, 0, 1));
  ASSERT_TRUE(Put(*store, 1, 2));
  faults_.state->bytes_until_error = rt::kBlockFileAlignment;
  const std::uint32_t slots[] = {0, 1};
  std::vector<std::byte> bytes;
  const std::vector<Result<void>> results = store->WriteMany(
      slots, [&](std::size_t i, StoredBlock& block, std::span<const std::byte>& payload) {
        block = BlockOf(static_cast<TokenId>(3 + i));
        bytes = PayloadOf(static_cast<TokenId>(3 + i));
        payload = bytes;
        return true;
      });
  EXPECT_FALSE(results[0]);
  EXPECT_FALSE(faults_.state->bytes_until_error);
  EXPECT_TRUE(results[1]);
  EXPECT_EQ(Get(*store, 1, 4), BlockFault::kNone);
  faults_.state->bytes_until_error = rt::kBlockFileAlignment;
  EXPECT_FALSE(Put(*store, 1, 5));
  EXPECT_TRUE(ScanAll(*store).found.empty());
  EXPECT_TRUE(ScanAll(*store).faults.empty());
}

TEST_F(DiskStoreTest, ATornBatchLeavesOnlyWholeBlocks) {
  const std::uint64_t slot_bytes = MakeDiskHeader(SmallShape(), {}).slot_bytes();
  for (std::uint64_t bytes = 0; bytes < 4 * slot_bytes + 4 * 4096; bytes += 1031) {
    {
      const std::unique_ptr<DiskStore> store = Open();
      for (std::uint32_t slot = 0; slot < 4; ++slot) {
        ASSERT_TRUE(Put(*store, slot, 100 + static_cast<TokenId>(slot)));
      }
      faults_.state->bytes_until_death = bytes;
      const std::uint32_t slots[] = {0, 1, 2, 3};
      std::vector<std::byte> payloads[4];
      (void)store->WriteMany(
          slots, [&](std::size_t i, StoredBlock& block, std::span<const std::byte>& payload) {
            block = BlockOf(static_cast<TokenId>(i));
            payloads[i] = PayloadOf(static_cast<TokenId>(i));
            payload = payloads[i];
            return true;
          });
      faults_.state->bytes_until_death.reset();
    }
    const std::unique_ptr<DiskStore> again = Open();
    for (const auto& [slot, hash] : ScanAll(*again).found) {
      const auto fresh = static_cast<TokenId>(slot);
      const TokenId stands = hash == BlockOf(fresh).hash ? fresh : fresh + 100;
      EXPECT_EQ(Get(*again, slot, stands), BlockFault::kNone) << bytes << " bytes, slot " << slot;
    }
  }
}

TEST_F(DiskStoreTest, TenThousandFlippedBitsInTheFileAreEachSeen) {
  const std::uint64_t seed = ::testing::UnitTest::GetInstance()->random_seed();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  rt::Random random(seed + 2);
  const auto store = Open();
  ASSERT_TRUE(Put(*store, 0, 1));
  ASSERT_TRUE(Put(*store, 1, 2));
  for (int i = 0; i < 10'000; ++i) {
    const std::uint64_t offset =
        store->header().offset(1) + random.Below(store->header().slot_bytes());
    const int bit = static_cast<int>(random.Below(8));
    FlipBit(store->path(), offset, bit);
    ASSERT_NE(Get(*store, 1, 2), BlockFault::kNone) << "offset " << offset;
    FlipBit(store->path(), offset, bit);
  }
  EXPECT_EQ(Get(*store, 1, 2), BlockFault::kNone);
}

TEST_F(DiskStoreTest, SwappedTruncatedAndStaleSlotsAreSeen) {
  const auto store = Open();
  ASSERT_TRUE(Put(*store, 0, 1));
  ASSERT_TRUE(Put(*store, 1, 2));
  EXPECT_EQ(Get(*store, 0, 2), BlockFault::kIdentity);
  StoredBlock newer = BlockOf(1);
  newer.generation = 2;
  ASSERT_TRUE(store->Write(0, newer, PayloadOf(1)));
  EXPECT_EQ(Get(*store, 0, 1), BlockFault::kGeneration);
  std::filesystem::resize_file(store->path(), store->header().offset(1) + 4096);
  EXPECT_EQ(Get(*store, 1, 2), BlockFault::kTruncated);
  std::filesystem::resize_file(store->path(), 0);
  EXPECT_EQ(Get(*store, 0, 1), BlockFault::kTruncated);
}

TEST_F(DiskStoreTest, AFileOfAnotherModelUnderTheSameNameIsEmptied) {
  std::string own;
  std::string other;
  {
    const auto store = Open("model");
    ASSERT_TRUE(Put(*store, 0, 1));
    own = store->path();
  }
  {
    const auto store = Open("another model");
    ASSERT_TRUE(Put(*store, 0, 1));
    other = store->path();
  }
  EXPECT_NE(own, other);
  std::filesystem::copy_file(other, own, std::filesystem::copy_options::overwrite_existing);
  const auto store = Open("model");
  EXPECT_EQ(store->foreign(), BlockFault::kRoot);
  EXPECT_TRUE(ScanAll(*store).found.empty());
  ASSERT_TRUE(Put(*store, 0, 1));
  EXPECT_EQ(Get(*store, 0, 1), BlockFault::kNone);
}

TEST_F(DiskStoreTest, AFileThatIsNoneOfOursIsEmptied) {
  std::string path;
  {
    path = Open()->path();
  }
  std::ofstream(path, std::ios::trunc) << std::string(10'000, 'x');
  const auto store = Open();
  EXPECT_EQ(store->foreign(), BlockFault::kHeader);
  ASSERT_TRUE(Put(*store, 3, 1));
  EXPECT_EQ(Get(*store, 3, 1), BlockFault::kNone);
}

// The vector of docs/formats/kv_disk.md.
TEST_F(DiskStoreTest, TheFormatIsThatOfItsPage) {
  const DiskHeader header = MakeDiskHeader(SmallShape(), {"model", "numerics", "bf16"});
  std::vector<std::byte> bytes(4096);
  ASSERT_TRUE(EncodeDiskHeader(header, bytes));
  EXPECT_EQ(ToHexLines(bytes), ReadVector("disk_header_v1.hex"));
  DiskHeader read;
  EXPECT_EQ(DecodeDiskHeader(bytes, read), BlockFault::kNone);
  EXPECT_EQ(read, header);
}

TEST_F(DiskStoreTest, SealedBlocksAreReadByWhoeverHasTheSecretAlone) {
  auto open = [&](const char* secret) {
    DiskStoreOptions options = Options();
    options.sealer = std::make_shared<BlockSealer>(secret);
    return *DiskStore::Open(SmallShape(), {"model", "numerics", "bf16"}, options);
  };
  std::string path;
  {
    const auto store = open("a secret");
    ASSERT_TRUE(Put(*store, 0, 1));
    ASSERT_TRUE(Put(*store, 1, 2));
    EXPECT_EQ(Get(*store, 0, 1), BlockFault::kNone);
    path = store->path();
  }
  std::ifstream file(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  const auto payload = PayloadOf(1);
  const std::string_view clear(reinterpret_cast<const char*>(payload.data()), 64);
  EXPECT_EQ(bytes.find(clear), std::string::npos);
  EXPECT_EQ(bytes.find("PXKVBLK"), std::string::npos);
  {
    const auto store = open("a secret");  // after a restart
    EXPECT_EQ(ScanAll(*store).found.size(), 2U);
    EXPECT_EQ(Get(*store, 1, 2), BlockFault::kNone);
    EXPECT_EQ(Get(*store, 0, 2), BlockFault::kIdentity);
  }
  const auto store = open("another secret");
  EXPECT_TRUE(ScanAll(*store).found.empty());
  EXPECT_EQ(Get(*store, 1, 2), BlockFault::kHeader);
  EXPECT_FALSE(DiskStore::OpenFile(path, false));
}

TEST_F(DiskStoreTest, FlippedBitsOfSealedBlocksAreEachSeen) {
  DiskStoreOptions options = Options();
  options.sealer = std::make_shared<BlockSealer>("a secret");
  const auto store = *DiskStore::Open(SmallShape(), {"model", "numerics", "bf16"}, options);
  ASSERT_TRUE(Put(*store, 0, 1));
  rt::Random random(7);
  for (int i = 0; i < 2'000; ++i) {
    const std::uint64_t offset =
        store->header().offset(0) + random.Below(store->header().slot_bytes());
    const int bit = static_cast<int>(random.Below(8));
    FlipBit(store->path(), offset, bit);
    ASSERT_NE(Get(*store, 0, 1), BlockFault::kNone) << "offset " << offset;
    FlipBit(store->path(), offset, bit);
  }
  EXPECT_EQ(Get(*store, 0, 1), BlockFault::kNone);
}

TEST_F(DiskStoreTest, ASmallerSizeKeepsWhatFits) {
  {
    const auto store = Open();
    ASSERT_TRUE(Put(*store, 0, 1));
    ASSERT_TRUE(Put(*store, 9, 2));
  }
  DiskStoreOptions options = Options();
  options.size_bytes = 4096 + 5 * MakeDiskHeader(SmallShape(), {}).slot_bytes();
  const auto store = DiskStore::Open(SmallShape(), {"model", "numerics", "bf16"}, options);
  ASSERT_TRUE(store);
  EXPECT_EQ((*store)->slot_count(), 5U);
  EXPECT_EQ(ScanAll(**store).found.size(), 1U);
  EXPECT_LE(std::filesystem::file_size((*store)->path()), options.size_bytes);
}

TEST_F(DiskStoreTest, TwoProcessesHaveTwoFiles) {
  const auto first = Open();
  const auto second = Open();
  EXPECT_NE(first->path(), second->path());
  ASSERT_TRUE(Put(*first, 0, 1));
  EXPECT_TRUE(ScanAll(*second).found.empty());
}

TEST_F(DiskStoreTest, AFileOfMoreSlotsThanThereCanBeIsRefused) {
  const std::string path = folder_ + "/large.blocks";
  const DiskHeader header = MakeDiskHeader(SmallShape(), {"model", "numerics", "bf16"});
  ASSERT_TRUE(DiskStore::CreateFile(path, header, nullptr));
  const std::uint64_t slots_max = 1U << 28;
  std::filesystem::resize_file(path, header.offset(slots_max));  // holes
  EXPECT_EQ(DiskStore::OpenFile(path, false).value()->slot_count(), slots_max);
  std::filesystem::resize_file(path, header.offset(slots_max) + 1);
  const auto opened = DiskStore::OpenFile(path, false);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code(), Code::kDataCorrupt);
  EXPECT_NE(opened.error().detail().find("268435457 KV blocks"), std::string::npos);
}

TEST_F(DiskStoreTest, WhyItCannotBeReadIsKept) {
  auto store = Open();
  EXPECT_EQ(store->trouble(), "");
  faults_.state->read_error = Code::kUnavailable;
  StoredBlock block;
  std::span<const std::byte> payload;
  EXPECT_EQ(store->Read(0, {}, block, payload), BlockFault::kIo);
  EXPECT_EQ(store->trouble(), "a read that fails");
}

TEST_F(DiskStoreTest, FailuresOfTheSystemAreErrorsAndMisses) {
  const auto store = Open();
  ASSERT_TRUE(Put(*store, 0, 1));
  faults_.state->write_error = Code::kResourceExhausted;
  const Result<void> full = Put(*store, 1, 2);
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code(), Code::kResourceExhausted);
  faults_.state->write_error.reset();
  faults_.state->read_error = Code::kUnavailable;
  EXPECT_EQ(Get(*store, 0, 1), BlockFault::kIo);
  faults_.state->read_error.reset();
  EXPECT_EQ(Get(*store, 0, 1), BlockFault::kNone);
}

TEST_F(DiskStoreTest, WhatCannotBeWrittenIsRead) {
  std::string path;
  {
    const auto store = Open();
    ASSERT_TRUE(Put(*store, 0, 1));
    path = store->path();
  }
  ASSERT_EQ(::chmod(path.c_str(), 0400), 0);
  const AsOrdinaryUser ordinary;
  const auto store = Open();
  ASSERT_TRUE(store);
  EXPECT_TRUE(store->read_only());
  EXPECT_EQ(Get(*store, 0, 1), BlockFault::kNone);
  EXPECT_FALSE(Put(*store, 1, 2));
}

TEST_F(DiskStoreTest, AFolderThatCannotBeHadIsAnErrorThatNamesIt) {
  DiskStoreOptions options = Options();
  options.folder = "/proc/nowhere";
  const auto store = DiskStore::Open(SmallShape(), {"model", "numerics", "bf16"}, options);
  ASSERT_FALSE(store);
  EXPECT_NE(store.error().detail().find("/proc/nowhere"), std::string::npos);
  options = Options();
  options.size_bytes = 5000;
  EXPECT_FALSE(DiskStore::Open(SmallShape(), {"model", "numerics", "bf16"}, options));
}

}  // namespace
}  // namespace pixii::kv
