#include "kv/handover_record.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "support/golden.h"
#include "wire/messages/codec.h"

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

/// Line `name` of the vectors of docs/formats/handover.md.
std::string VectorOfPage(const std::string& name) {
  const std::string page =
      testing::ReadFileOrFail(testing::SourceDir() + "/docs/formats/handover.md");
  const std::size_t at = page.find("\n" + name + " ");
  EXPECT_NE(at, std::string::npos);
  const std::size_t begin = at + name.size() + 2;
  return page.substr(begin, page.find('\n', begin) - begin);
}

std::string Hex(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    constexpr char kDigits[] = "0123456789abcdef";
    out += kDigits[static_cast<unsigned char>(c) >> 4U];
    out += kDigits[static_cast<unsigned char>(c) & 15U];
  }
  return out;
}

TEST(HandoverRecord, TheVectorsOfThePageAreWhatWeSay) {
  const HashKey key("a key for tests, 32 bytes long ..");
  wire::HandoverRecord record = Record();
  record.instance_high = 1;
  record.instance_low = 2;
  record.transfer_low = 8;
  record.last_high = 6;
  record.chain = std::string(32, 'c');
  const std::string vector = VectorOfPage("record");
  EXPECT_EQ(Hex(EncodeHandover(record, key)), vector);
  std::string bytes;
  for (std::size_t i = 0; i + 1 < vector.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(vector.substr(i, 2), nullptr, 16));
  }
  const Result<wire::HandoverRecord> read = DecodeHandover(bytes, key);
  ASSERT_TRUE(read) << read.error().ToString();
  EXPECT_EQ(PackedBlock(*read, 1), PackedBlock(record, 1));
  wire::HandoverNote note;
  note.claim = {.transfer_high = 7, .transfer_low = 8};
  EXPECT_EQ(Hex(wire::Encode(note)), VectorOfPage("claim"));
  note.claim.reset();
  note.release = {.transfer_high = 7, .transfer_low = 8, .done = true};
  EXPECT_EQ(Hex(wire::Encode(note)), VectorOfPage("release"));
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
