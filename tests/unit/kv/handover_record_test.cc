#include "kv/handover_record.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace pixii::kv {
namespace {

wire::HandoverRecord Record() {
  wire::HandoverRecord record;
  record.abi = kHandoverAbi;
  record.transfer_high = 7;
  record.agent = "tcp 127.0.0.1:9";
  record.layout = {.block_tokens = 16, .block_bytes = 4096, .dtype = "bf16"};
  record.model_fingerprint = "model";
  record.numerics_id = "k1-avx2";
  record.last_low = 5;
  record.region = 11;
  record.blocks = PackBlocks(std::vector<HandoverBlock>{
      {.block = 3, .generation = 2, .sum = {.low = 1, .high = ~0ULL}},
      {.block = 0xFFFFFFFFU, .generation = 9, .sum = {.low = 8, .high = 4}}});
  return record;
}

TEST(HandoverRecord, ComesBackAsItWasMade) {
  const HashKey key("a cluster's key");
  const Result<wire::HandoverRecord> read = DecodeHandover(EncodeHandover(Record(), key), key);
  ASSERT_TRUE(read) << read.error().ToString();
  EXPECT_EQ(read->agent, Record().agent);
  EXPECT_EQ(read->layout.block_bytes, 4096U);
  ASSERT_EQ(PackedBlockCount(*read), 2U);
  EXPECT_EQ(PackedBlock(*read, 1), PackedBlock(Record(), 1));
  EXPECT_EQ(PackedBlock(*read, 0).sum.high, ~0ULL);
}

TEST(HandoverRecord, OfAnotherKeyIsNone) {
  const std::string bytes = EncodeHandover(Record(), HashKey("one key"));
  const Result<wire::HandoverRecord> read = DecodeHandover(bytes, HashKey("another key"));
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code(), Code::kDataCorrupt);
}

TEST(HandoverRecord, OfAnotherVersionIsNamed) {
  std::string bytes = EncodeHandover(Record(), HashKey("key"));
  bytes[4] = 9;
  const Result<wire::HandoverRecord> read = DecodeHandover(bytes, HashKey("key"));
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code(), Code::kUnsupported);
  EXPECT_NE(read.error().detail().find("version 9"), std::string::npos);
}

// Row A2.9: a changed record is a clean error, whatever was changed.
TEST(HandoverRecord, ChangedBytesAreRefused) {
  const HashKey key("key");
  const std::string bytes = EncodeHandover(Record(), key);
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string changed = bytes;
    changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << (bit % 8)));
    ASSERT_FALSE(DecodeHandover(changed, key)) << "bit " << bit;
  }
  std::mt19937_64 random(3);
  for (int round = 0; round < 10'000; ++round) {
    std::string changed = bytes;
    for (std::uint64_t count = 1 + random() % 8; count > 0; --count) {
      changed[random() % changed.size()] = static_cast<char>(random());
    }
    changed.resize(random() % 4 == 0 ? random() % bytes.size() : bytes.size());
    if (changed != bytes) {
      ASSERT_FALSE(DecodeHandover(changed, key));
    }
  }
}

TEST(HandoverRecord, WhatDiffersIsNamedWithBothValues) {
  wire::HandoverRecord ours = Record();
  EXPECT_TRUE(CheckHandover(Record(), ours));
  ours.layout.dtype = "fp16";
  const Result<void> checked = CheckHandover(Record(), ours);
  ASSERT_FALSE(checked);
  EXPECT_NE(checked.error().detail().find("bf16"), std::string::npos);
  EXPECT_NE(checked.error().detail().find("fp16"), std::string::npos);
}

}  // namespace
}  // namespace pixii::kv
