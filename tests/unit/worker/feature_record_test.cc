#include "worker/feature_record.h"

#include <gtest/gtest.h>

#include <string>

namespace pixii::worker {
namespace {

wire::FeatureRecord MakeRecord() {
  return {.agent = "somebody",
          .region = 7,
          .generation = 1,
          .digest = std::string(32, 'd'),
          .rows = 3,
          .row_size = 2,
          .model_fingerprint = "weights",
          .numerics_id = "bits",
          .sum_high = 5,
          .sum_low = 6};
}

TEST(FeatureRecord, ComesBackAsItWas) {
  const HashKey key("secret");
  const Result<wire::FeatureRecord> back =
      DecodeFeatureRecord(EncodeFeatureRecord(MakeRecord(), key), key);
  ASSERT_TRUE(back) << back.error().ToString();
  EXPECT_EQ(EncodeFeatureRecord(*back, key), EncodeFeatureRecord(MakeRecord(), key));
  EXPECT_EQ(back->region, 7U);
  EXPECT_EQ(back->sum_low, 6U);
}

TEST(FeatureRecord, AnyChangedByteAndAnyOtherKeyAreRefused) {
  const HashKey key("secret");
  const std::string bytes = EncodeFeatureRecord(MakeRecord(), key);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    std::string changed = bytes;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    EXPECT_FALSE(DecodeFeatureRecord(changed, key)) << i;
    EXPECT_FALSE(DecodeFeatureRecord(bytes.substr(0, i), key)) << i;
  }
  EXPECT_FALSE(DecodeFeatureRecord(bytes, HashKey("another")));
  EXPECT_EQ(DecodeFeatureRecord(std::string(kFeatureRecordBytesMax + 1, 'x'), key).error().code(),
            Code::kTooLarge);
}

TEST(FeatureRecord, WhatDiffersIsNamed) {
  const FeatureTerms own{.model_fingerprint = "weights", .numerics_id = "bits", .row_size = 2};
  wire::MediaItem item;
  item.count = 3;
  item.digest = std::string(32, 'd');
  EXPECT_TRUE(CheckFeatureRecord(MakeRecord(), item, own));
  const auto refused = [&](auto change) {
    wire::FeatureRecord record = MakeRecord();
    change(record);
    const Result<void> checked = CheckFeatureRecord(record, item, own);
    return checked ? std::string("taken") : checked.error().param();
  };
  EXPECT_EQ(refused([](auto& record) { record.digest[0] = 'e'; }), "digest");
  EXPECT_EQ(refused([](auto& record) { record.model_fingerprint = "w"; }), "model");
  EXPECT_EQ(refused([](auto& record) { record.numerics_id = "b"; }), "numerics_id");
  EXPECT_EQ(refused([](auto& record) { record.row_size = 4; }), "size of a row");
  EXPECT_EQ(refused([](auto& record) { record.rows = 4; }), "number of rows");
}

TEST(FeatureRecord, TheProofIsOfOneItemsBytes) {
  const HashKey key("secret");
  const std::string bytes = "bytes";
  const auto span = std::as_bytes(std::span<const char>(bytes));
  EXPECT_EQ(FeatureSum("a", span, key), FeatureSum("a", span, key));
  EXPECT_NE(FeatureSum("a", span, key), FeatureSum("b", span, key));
  EXPECT_NE(FeatureSum("a", span, key), FeatureSum("a", span.first(4), key));
}

}  // namespace
}  // namespace pixii::worker
