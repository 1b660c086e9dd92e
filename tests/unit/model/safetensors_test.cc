#include "model/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>

#include "unit/model/checkpoint_writer.h"

namespace pixii::model {
namespace {

using ::testing::HasSubstr;
using testing::RawSafetensors;

Result<SafetensorsHeader> Parse(const std::string& file) {
  return ParseSafetensorsHeader(std::as_bytes(std::span(file)), file.size(), "x.safetensors");
}

std::string ValidFile() {
  return testing::Safetensors({{"a", "F32", {2, 3}, std::string(24, 'a')},
                               {"b", "BF16", {5}, std::string(10, 'b')},
                               {"c", "I64", {}, std::string(8, 'c')}});
}

TEST(Safetensors, ReadsNamesTypesShapesAndPlaces) {
  const std::string file = ValidFile();
  const auto header = Parse(file);
  ASSERT_TRUE(header.has_value()) << header.error().ToString();
  ASSERT_EQ(header->tensors.size(), 3U);
  EXPECT_EQ(header->tensors[0].name, "a");
  EXPECT_EQ(header->tensors[0].shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(file.substr(header->tensors[1].file_offset, header->tensors[1].size_bytes),
            std::string(10, 'b'));
  EXPECT_EQ(header->tensors[2].type, StoredType::kI64);
  EXPECT_EQ(header->tensors[2].size_bytes, 8U);
}

TEST(Safetensors, ReadsMetadataAndEmptyTensors) {
  const auto header = Parse(RawSafetensors(
      R"({"__metadata__":{"format":"pt"},"e":{"dtype":"F32","shape":[0,4],"data_offsets":[0,0]},)"
      R"("f":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
      "x"));
  ASSERT_TRUE(header.has_value()) << header.error().ToString();
  EXPECT_EQ(header->metadata, (std::vector<std::pair<std::string, std::string>>{{"format", "pt"}}));
  EXPECT_EQ(header->tensors.size(), 2U);
}

struct BrokenHeader {
  std::string what;  // part of the error
  std::string header;
  std::string data;
  Code code = Code::kDataCorrupt;
};

TEST(Safetensors, RefusesBrokenHeadersNamingFileAndOffset) {
  const std::string huge = "9223372036854775807";
  const std::vector<BrokenHeader> cases = {
      {"leave the 4 bytes", R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", "1234"},
      {"leave the 4 bytes", R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", "1234"},
      {"leave the 4 bytes", R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,)" + huge + "]}}",
       "1234"},
      {"is not an offset", R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}})", "1234"},
      {"is not an offset",
       R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,99999999999999999999]}})", "1234"},
      {"is not an offset", R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4.0]}})", "1234"},
      {"data_offsets is not a pair", R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})",
       "1234"},
      {"data_offsets is not a pair", R"({"a":{"dtype":"F32","shape":[1]}})", "1234"},
      {"ask for 8 bytes", R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", "1234"},
      {"overflows",
       R"({"a":{"dtype":"F32","shape":[)" + huge + "," + huge + R"(],"data_offsets":[0,4]}})",
       "1234"},
      {"overflows", R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,4]}})",
       "1234"},
      {"is not a size", R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", "1234"},
      {"is not a size", R"({"a":{"dtype":"F32","shape":["1"],"data_offsets":[0,4]}})", "1234"},
      {"dimensions, the limit is 8",
       R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}})", "1234"},
      {"overlaps",
       R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})",
       "1234"},
      {"belong to no tensor",
       R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[3,4]}})",
       "1234"},
      {"after the last tensor", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "1234"},
      {"not JSON",
       R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
       "12"},
      {"not JSON", R"({"a":)", "1234"},
      {"does not begin", R"( {"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", "1234"},
      {"does not begin", "[]", ""},
      {"unknown key", R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4],"x":1}})", "1234"},
      {"name of 0 bytes", R"({"":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", "1234"},
      {"__metadata__", R"({"__metadata__":{"a":1}})", ""},
      {"has dtype \"F4\"", R"({"a":{"dtype":"F4","shape":[4],"data_offsets":[0,4]}})", "1234",
       Code::kUnsupported},
  };
  for (const BrokenHeader& broken : cases) {
    const auto header = Parse(RawSafetensors(broken.header, broken.data));
    ASSERT_FALSE(header.has_value()) << broken.header;
    EXPECT_EQ(header.error().code(), broken.code) << broken.header;
    EXPECT_THAT(header.error().detail(), HasSubstr(broken.what)) << broken.header;
    EXPECT_THAT(header.error().detail(), HasSubstr("x.safetensors: ")) << broken.header;
    if (broken.code == Code::kDataCorrupt) {
      EXPECT_THAT(header.error().detail(), HasSubstr("offset ")) << broken.header;
    }
  }
}

TEST(Safetensors, RefusesHeaderSizesThatLie) {
  const std::string file = ValidFile();
  for (const std::uint64_t size :
       {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{file.size()},
        std::uint64_t{file.size() - 7}, kSafetensorsHeaderSizeMax, kSafetensorsHeaderSizeMax + 1,
        std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    std::string lying = file;
    std::memcpy(lying.data(), &size, sizeof(size));
    const auto header = Parse(lying);
    ASSERT_FALSE(header.has_value()) << size;
    EXPECT_EQ(header.error().code(), Code::kDataCorrupt);
    EXPECT_THAT(header.error().detail(), HasSubstr("x.safetensors: offset 0: ")) << size;
  }
}

TEST(Safetensors, RefusesAFileCutAtAnyByte) {
  const std::string file = ValidFile();
  for (std::size_t size = 0; size < file.size(); ++size) {
    const auto header = Parse(file.substr(0, size));
    ASSERT_FALSE(header.has_value()) << "cut at " << size;
    EXPECT_EQ(header.error().code(), Code::kDataCorrupt) << "cut at " << size;
  }
}

TEST(Safetensors, SurvivesAnyByteChanged) {
  const std::string file = ValidFile();
  const std::uint64_t seed = 7;
  std::mt19937_64 random(seed);
  for (int round = 0; round < 20000; ++round) {
    std::string changed = file;
    for (std::uint64_t i = 0; i <= random() % 3; ++i) {
      changed[random() % changed.size()] = static_cast<char>(random());
    }
    const auto header = Parse(changed);
    if (!header) {
      continue;
    }
    std::uint64_t end = 0;
    for (const StoredTensor& tensor : header->tensors) {
      ASSERT_LE(tensor.file_offset + tensor.size_bytes, changed.size())
          << "seed " << seed << " round " << round;
      ASSERT_GE(tensor.file_offset, end);
      end = tensor.file_offset + tensor.size_bytes;
    }
  }
}

}  // namespace
}  // namespace pixii::model
