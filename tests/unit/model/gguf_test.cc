#include "model/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "unit/model/gguf_writer.h"

namespace pixii::model {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::GgufWriter;
using ::testing::HasSubstr;

GgufWriter Small() {
  GgufWriter out;
  out.String("general.architecture", "llama")
      .U32("a.count", 7)
      .F32("a.ratio", 0.5F)
      .Bool("a.flag", true)
      .Strings("a.names", {"x", "", "yz"})
      .I32s("a.numbers", {1, -2})
      .Tensor("first", 0, {2, 3}, std::string(24, 'a'))
      .Tensor("second", 8, {1, 64}, std::string(68, 'b'));
  return out;
}

Result<GgufFile> Parse(const std::string& bytes) {
  return GgufFile::Parse(std::as_bytes(std::span(bytes)), "m.gguf");
}

TEST(Gguf, ReadsMetadataAndTensorsOfBothVersionsAndAnyAlignment) {
  for (const std::uint32_t version : {2U, 3U}) {
    for (const std::uint32_t alignment : {8U, 32U, 256U}) {
      const std::string bytes = Small().Bytes(version, alignment);
      const auto file = Parse(bytes);
      ASSERT_TRUE(file.has_value()) << file.error().ToString();
      EXPECT_EQ(*file->Int("a.count", 0, 10), 7);
      EXPECT_EQ(*file->Number("a.ratio"), 0.5);
      EXPECT_EQ(*file->Bool("a.flag"), true);
      EXPECT_EQ(*file->String("general.architecture"), "llama");
      EXPECT_THAT(*file->Strings("a.names"), ElementsAre("x", "", "yz"));
      EXPECT_THAT(*file->Numbers("a.numbers"), ElementsAre(1, -2));
      EXPECT_FALSE(file->Int("absent", 0, 1)->has_value());
      const GgufTensor* second = file->FindTensor("second");
      ASSERT_NE(second, nullptr);
      EXPECT_THAT(second->shape, ElementsAre(1, 64));
      EXPECT_EQ(second->file_offset % alignment, 0U);
      EXPECT_EQ(bytes.substr(second->file_offset, second->size_bytes), std::string(68, 'b'));
    }
  }
}

TEST(Gguf, RefusesAFileCutAtAnyByte) {
  const std::string whole = Small().Bytes();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const auto file = Parse(whole.substr(0, size));
    ASSERT_FALSE(file.has_value()) << size;
    EXPECT_EQ(file.error().code(), Code::kDataCorrupt);
    EXPECT_THAT(file.error().detail(), HasSubstr("m.gguf"));
  }
}

TEST(Gguf, SurvivesAnyByteChanged) {
  const std::string whole = Small().Bytes();
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (const char change : {'\x01', '\x80', '\xFF'}) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(bytes[at] ^ change);
      const auto file = Parse(bytes);
      for (const GgufTensor& tensor : file ? file->tensors() : std::vector<GgufTensor>()) {
        ASSERT_LE(tensor.file_offset + tensor.size_bytes, bytes.size());
      }
    }
  }
}

TEST(Gguf, RefusesLiesNamingFileAndOffset) {
  const auto detail = [](const std::string& bytes) {
    const auto file = Parse(bytes);
    return file ? std::string("accepted") : file.error().detail();
  };
  EXPECT_THAT(detail(Small().Bytes(1)), HasSubstr("offset 4: version 1"));
  EXPECT_THAT(detail("GGML" + std::string(40, '\0')), HasSubstr("does not begin with GGUF"));
  std::string counts = Small().Bytes();
  counts[15] = '\x7F';
  EXPECT_THAT(detail(counts), AllOf(HasSubstr("offset 8"), HasSubstr("tensors, the limit is")));
  counts = Small().Bytes();
  counts[23] = '\x7F';
  EXPECT_THAT(detail(counts), HasSubstr("offset 16"));
  EXPECT_THAT(detail(Small().U32("a.count", 8).Bytes()), HasSubstr("\"a.count\" stands twice"));
  EXPECT_THAT(detail(Small().Tensor("first", 0, {1}, "1234").Bytes()),
              HasSubstr("tensor \"first\" stands twice"));
  EXPECT_THAT(detail(GgufWriter().Tensor("t", 8, {2, 40}, std::string(85, 'a')).Bytes()),
              HasSubstr("rows of 40, no multiple of 32"));
  EXPECT_THAT(detail(GgufWriter().Tensor("t", 16, {1, 256}, std::string(66, 'a')).Bytes()),
              HasSubstr("has ggml type 16"));
  EXPECT_THAT(detail(GgufWriter().Tensor("t", 0, {0}, "").Bytes()), HasSubstr("dimension 0"));
  const std::int64_t huge = std::int64_t{1} << 40;
  EXPECT_THAT(detail(GgufWriter().Tensor("t", 0, {huge, huge}, "").Bytes()),
              HasSubstr("too many elements"));
  EXPECT_THAT(detail(GgufWriter().Tensor("t", 0, {huge}, "").Bytes()),
              HasSubstr("leaves the file"));
  EXPECT_THAT(detail(GgufWriter().U32("general.alignment", 24).Bytes()),
              HasSubstr("no power of two"));
}

TEST(Gguf, ValuesOfAnotherTypeAreRefusedByKey) {
  const std::string bytes = Small().F32("a.nan", std::nanf("")).Bytes();
  const auto file = Parse(bytes);
  ASSERT_TRUE(file.has_value());
  EXPECT_THAT(file->Int("a.ratio", 0, 1).error().detail(), HasSubstr("a.ratio is not an integer"));
  EXPECT_THAT(file->Int("a.count", 0, 5).error().detail(), HasSubstr("is 7, allowed 0 to 5"));
  EXPECT_THAT(file->Number("a.nan").error().detail(), HasSubstr("a.nan is nan"));
  EXPECT_THAT(file->String("a.names").error().detail(), HasSubstr("is not a string"));
  EXPECT_THAT(file->Strings("a.numbers").error().detail(), HasSubstr("not a list of strings"));
  EXPECT_THAT(file->Bool("a.count").error().detail(), HasSubstr("is not a bool"));
}

}  // namespace
}  // namespace pixii::model
