#include "kv/tiers/stored_block.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <string>

#include "kv/tiers/block_sealer.h"
#include "unit/kv/tiers/stored_blocks.h"

namespace pixii::kv {
namespace {

const std::vector<TokenId> kTokens{1, 2, 3, 4, 5, 6, 7, 8};

/// As a tier does it: the first fault of header, comparison and payload.
BlockFault FaultOf(std::span<const std::byte> bytes, const WantedBlock& wanted) {
  const std::size_t header = HeaderCapacity(SmallShape(), 1024);
  StoredBlock block;
  BlockFault fault = DecodeHeader(bytes.first(header), block);
  if (fault == BlockFault::kNone) {
    fault = CompareHeader(block, wanted, SmallShape());
  }
  return fault == BlockFault::kNone ? CheckPayload(block, bytes.subspan(header)) : fault;
}

class StoredBlockTest : public ::testing::Test {
 protected:
  StoredBlock block_ =
      MakeStored(MakeTestRoot({.adapter = "lora@1", .tenant = "acme"}), kTokens, 1);
  std::vector<std::byte> payload_ = RandomBytes(SmallShape().payload_bytes(), 1);
};

TEST_F(StoredBlockTest, ABlockComesBackAsItWas) {
  block_.public_hash = 99;
  block_.priority = -3;
  block_.frequency = 5;
  const std::vector<std::byte> bytes = Encoded(block_, payload_);
  StoredBlock read;
  ASSERT_EQ(DecodeHeader(std::span(bytes).first(HeaderCapacity(SmallShape(), 1024)), read),
            BlockFault::kNone);
  EXPECT_EQ(read.hash, block_.hash);
  EXPECT_EQ(read.parent, block_.parent);
  EXPECT_EQ(read.root->bytes, block_.root->bytes);
  EXPECT_EQ(read.root->hash, block_.root->hash);
  EXPECT_EQ(read.root->public_seed, 7U);
  EXPECT_EQ(read.root->public_adapter, "lora@1");
  EXPECT_EQ(read.index, 1U);
  EXPECT_EQ(read.tokens, (std::vector<TokenId>{5, 6, 7, 8}));
  EXPECT_EQ(read.public_hash, 99U);
  EXPECT_EQ(read.priority, -3);
  EXPECT_EQ(read.frequency, 5U);
  EXPECT_EQ(read.shape, SmallShape());
  EXPECT_EQ(FaultOf(bytes, WantedOf(block_)), BlockFault::kNone);
  const auto fields = ReadRootBytes(read.root->bytes);
  ASSERT_TRUE(fields);
  EXPECT_EQ(fields->tenant, "acme");
  EXPECT_EQ(fields->model_fingerprint, "model");
}

TEST_F(StoredBlockTest, EachFlippedBitOfHeaderAndPayloadIsSeen) {
  std::vector<std::byte> bytes = Encoded(block_, payload_);
  const WantedBlock wanted = WantedOf(block_);
  for (std::size_t position = 0; position < bytes.size(); ++position) {
    const auto bit = static_cast<std::byte>(1 << (position % 8));
    bytes[position] ^= bit;
    EXPECT_NE(FaultOf(bytes, wanted), BlockFault::kNone) << "byte " << position;
    bytes[position] ^= bit;
  }
  EXPECT_EQ(FaultOf(bytes, wanted), BlockFault::kNone);
}

TEST_F(StoredBlockTest, TenThousandRandomFlipsAreSeen) {
  const std::uint64_t seed = ::testing::UnitTest::GetInstance()->random_seed();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  rt::Random random(seed);
  std::vector<std::byte> bytes = Encoded(block_, payload_);
  const WantedBlock wanted = WantedOf(block_);
  for (int i = 0; i < 10'000; ++i) {
    const std::size_t position = random.Below(bytes.size());
    const auto bit = static_cast<std::byte>(1U << random.Below(8));
    bytes[position] ^= bit;
    ASSERT_NE(FaultOf(bytes, wanted), BlockFault::kNone) << "byte " << position;
    bytes[position] ^= bit;
  }
}

TEST_F(StoredBlockTest, AnyOtherModelNumericsDtypeAdapterTenantOrSaltIsAnotherBlock) {
  const std::vector<std::byte> bytes = Encoded(block_, payload_);
  const TestRoot own{.adapter = "lora@1", .tenant = "acme"};
  for (std::string TestRoot::* field : {&TestRoot::model, &TestRoot::numerics, &TestRoot::dtype,
                                        &TestRoot::adapter, &TestRoot::tenant, &TestRoot::salt}) {
    TestRoot other = own;
    other.*field = "other";
    WantedBlock wanted = WantedOf(block_);
    wanted.root = MakeTestRoot(other);
    EXPECT_EQ(FaultOf(bytes, wanted), BlockFault::kRoot);
  }
}

TEST_F(StoredBlockTest, OtherTokensPlacesGenerationsAndShapesAreNamed) {
  const std::vector<std::byte> bytes = Encoded(block_, payload_);
  WantedBlock wanted = WantedOf(block_);
  wanted.tokens[2] = 70;
  EXPECT_EQ(FaultOf(bytes, wanted), BlockFault::kTokens);
  wanted = WantedOf(block_);
  wanted.index = 2;
  EXPECT_EQ(FaultOf(bytes, wanted), BlockFault::kIdentity);
  wanted = WantedOf(block_);
  wanted.generation = 2;
  EXPECT_EQ(FaultOf(bytes, wanted), BlockFault::kGeneration);
  wanted.generation = 0;
  EXPECT_EQ(FaultOf(bytes, wanted), BlockFault::kNone);
  StoredBlock read;
  ASSERT_EQ(DecodeHeader(std::span(bytes).first(HeaderCapacity(SmallShape(), 1024)), read),
            BlockFault::kNone);
  std::vector<std::uint32_t> slices = SmallShape().slices();
  std::swap(slices[1], slices[2]);
  EXPECT_EQ(CompareHeader(read, wanted, BlockShape(4, slices)), BlockFault::kShape);
}

TEST_F(StoredBlockTest, AHeaderThatLiesUnderARightSumIsRefused) {
  const std::size_t header = HeaderCapacity(SmallShape(), 1024);
  const std::vector<std::byte> bytes = Encoded(block_, payload_);
  std::uint32_t size = 0;
  std::memcpy(&size, bytes.data() + 12, 4);
  rt::Random random(3);
  for (int i = 0; i < 20'000; ++i) {
    std::vector<std::byte> lying(bytes.begin(), bytes.begin() + static_cast<long>(header));
    const std::size_t position = 8 + random.Below(size - 16);
    if (position >= 12 && position < 16) {
      continue;
    }
    lying[position] = static_cast<std::byte>(random.Below(256));
    const std::uint64_t sum = Hash64(std::span(lying).first(size - 8));
    std::memcpy(lying.data() + size - 8, &sum, 8);
    StoredBlock read;
    if (DecodeHeader(lying, read) == BlockFault::kNone) {
      EXPECT_EQ(read.checksums.size(), read.shape.slice_count());  // and nothing was read past it
    }
  }
}

// The vector of docs/formats/kv_block.md.
TEST_F(StoredBlockTest, TheFormatIsThatOfItsPage) {
  StoredBlock block = MakeStored(MakeTestRoot({.adapter = "lora@1", .tenant = "acme"}), kTokens, 1);
  block.public_hash = 0x1122334455667788;
  block.public_parent = 0x99aabbccddeeff00;
  block.priority = -3;
  block.frequency = 5;
  block.generation = 9;
  std::vector<std::byte> payload(SmallShape().payload_bytes());
  for (std::size_t i = 0; i < payload.size(); ++i) {
    payload[i] = static_cast<std::byte>(i * 7);
  }
  std::uint32_t size = 0;
  std::vector<std::byte> bytes = Encoded(block, payload);
  std::memcpy(&size, bytes.data() + 12, 4);
  bytes.resize(size);
  EXPECT_EQ(ToHexLines(bytes), ReadVector("stored_block_v1.hex"));
}

// A vector made from the page by another program.
TEST_F(StoredBlockTest, ASealedBlockIsThatOfItsPage) {
  constexpr std::size_t kRoomBytes = 608;
  const std::string text = ReadVector("sealed_block_v1.hex");
  std::vector<std::byte> bytes;
  std::string digits;
  std::ranges::copy_if(text, std::back_inserter(digits), [](char c) { return c != '\n'; });
  for (std::size_t i = 0; i + 1 < digits.size(); i += 2) {
    bytes.push_back(static_cast<std::byte>(std::stoi(digits.substr(i, 2), nullptr, 16)));
  }
  ASSERT_EQ(bytes.size(), kRoomBytes + SmallShape().payload_bytes());
  const std::span<std::byte> header = std::span(bytes).first(kRoomBytes);
  const std::span<std::byte> payload = std::span(bytes).subspan(kRoomBytes);
  const std::vector<std::byte> sealed(header.begin(), header.end());
  StoredBlock block;
  EXPECT_EQ(BlockSealer("a secret of another, as long....").OpenHeader(header, block),
            BlockFault::kHeader);
  std::ranges::copy(sealed, header.begin());
  const BlockSealer sealer("a secret of a test, 32 bytes ....");
  ASSERT_EQ(sealer.OpenHeader(header, block), BlockFault::kNone);
  EXPECT_EQ(block.generation, 9U);
  EXPECT_EQ(block.tokens, (std::vector<TokenId>{5, 6, 7, 8}));
  ASSERT_EQ(sealer.OpenPayload(header, block, payload), BlockFault::kNone);
  for (std::size_t i = 0; i < payload.size(); ++i) {
    ASSERT_EQ(payload[i], static_cast<std::byte>(i * 7));
  }
  EXPECT_EQ(CheckPayload(block, payload), BlockFault::kNone);
}

TEST_F(StoredBlockTest, WhatDoesNotFitIsNotWritten) {
  block_.checksums.resize(block_.shape.slice_count());
  std::vector<std::byte> small(200);
  EXPECT_FALSE(EncodeHeader(block_, small));
}

TEST_F(StoredBlockTest, CopiesAndTheirSumsAreThoseOfTheBytes) {
  std::vector<std::byte> copy(payload_.size());
  std::vector<std::uint32_t> sums(SmallShape().slice_count());
  std::vector<std::uint32_t> expected(SmallShape().slice_count());
  CopyAndSum(SmallShape(), payload_, copy, sums);
  SumSlices(SmallShape(), payload_, expected);
  EXPECT_EQ(copy, payload_);
  EXPECT_EQ(sums, expected);
}

}  // namespace
}  // namespace pixii::kv
