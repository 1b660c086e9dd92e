#include "model/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "unit/model/checkpoint_writer.h"

namespace pixii::model {
namespace {

using ::testing::HasSubstr;
using testing::Safetensors;
using testing::TemporaryFolder;

Result<Checkpoint> Open(const TemporaryFolder& temporary) {
  PX_TRY(const auto folder, CheckpointFolder::Open(temporary.path()));
  return Checkpoint::Open(folder);
}

testing::WrittenTensor Bytes(const std::string& name, char value) {
  return {name, "U8", {4}, std::string(4, value)};
}

std::string ShardIndex(const std::string& map) {
  return R"({"metadata":{"total_size":8},"weight_map":)" + map + "}";
}

TEST(Checkpoint, FindsTensorsOfAWholeFile) {
  const TemporaryFolder temporary;
  temporary.Write("model.safetensors", Safetensors({Bytes("b", 'b'), Bytes("a", 'a')}));
  const auto checkpoint = Open(temporary);
  ASSERT_TRUE(checkpoint.has_value()) << checkpoint.error().ToString();
  ASSERT_NE(checkpoint->Find("a"), nullptr);
  EXPECT_EQ(checkpoint->Find("a")->bytes[0], std::byte{'a'});
  EXPECT_EQ(checkpoint->Find("c"), nullptr);
  EXPECT_EQ(checkpoint->tensors()[0].stored.name, "a");
}

TEST(Checkpoint, JoinsTheShardsOfAnIndex) {
  const TemporaryFolder temporary;
  temporary.Write("s1.safetensors", Safetensors({Bytes("a", 'a')}));
  temporary.Write("s2.safetensors", Safetensors({Bytes("b", 'b')}));
  temporary.Write("model.safetensors.index.json",
                  ShardIndex(R"({"a":"s1.safetensors","b":"s2.safetensors"})"));
  const auto checkpoint = Open(temporary);
  ASSERT_TRUE(checkpoint.has_value()) << checkpoint.error().ToString();
  EXPECT_EQ(checkpoint->file_names().size(), 2U);
  EXPECT_EQ(checkpoint->Find("b")->bytes[3], std::byte{'b'});
}

struct BadIndexCase {
  std::string map;
  std::string what;
  Code code;
};

TEST(Checkpoint, RefusesAnIndexThatLies) {
  const std::string long_name(5000, 'x');
  const std::vector<BadIndexCase> cases = {
      {R"({"a":"s1.safetensors","b":"s3.safetensors"})", "\"s3.safetensors\" does not exist",
       Code::kNotFound},
      {R"({"a":"../s1.safetensors"})", "is not the name of a file", Code::kDataCorrupt},
      {R"({"a":"/etc/passwd"})", "is not the name of a file", Code::kDataCorrupt},
      {R"({"a":"link.safetensors"})", "leaves the folder", Code::kDataCorrupt},
      {R"({"a":""})", "is not the name of a file", Code::kDataCorrupt},
      {R"({"a":5})", "is not a string", Code::kDataCorrupt},
      {R"(["s1.safetensors"])", "is not an object", Code::kDataCorrupt},
      {R"({"missing":"s1.safetensors"})", "\"missing\" is not in", Code::kDataCorrupt},
      {R"({"a":"s2.safetensors","b":"s1.safetensors"})", "is not in", Code::kDataCorrupt},
      {R"({"a":"s1.safetensors","b":"twin.safetensors"})", "occurs twice", Code::kDataCorrupt},
      {R"({"a":")" + long_name + R"("})", "", Code::kNotFound},
  };
  const TemporaryFolder outside;
  outside.Write("real.safetensors", Safetensors({Bytes("a", 'a')}));
  for (const BadIndexCase& bad : cases) {
    const TemporaryFolder temporary;
    temporary.Write("s1.safetensors", Safetensors({Bytes("a", 'a')}));
    temporary.Write("s2.safetensors", Safetensors({Bytes("b", 'b')}));
    temporary.Write("twin.safetensors", Safetensors({Bytes("a", 'a'), Bytes("b", 'b')}));
    std::filesystem::create_symlink(outside.path() + "/real.safetensors",
                                    temporary.path() + "/link.safetensors");
    temporary.Write("model.safetensors.index.json", ShardIndex(bad.map));
    const auto checkpoint = Open(temporary);
    ASSERT_FALSE(checkpoint.has_value()) << bad.map;
    EXPECT_EQ(checkpoint.error().code(), bad.code)
        << bad.map << ": " << checkpoint.error().ToString();
    EXPECT_THAT(checkpoint.error().detail(), HasSubstr(bad.what)) << bad.map;
  }
}

TEST(Checkpoint, RefusesABrokenIndex) {
  for (const char* text : {"", "{", "[]", "null", R"({"metadata":{}})"}) {
    const TemporaryFolder temporary;
    temporary.Write("model.safetensors.index.json", text);
    const auto checkpoint = Open(temporary);
    ASSERT_FALSE(checkpoint.has_value()) << text;
    EXPECT_EQ(checkpoint.error().code(), Code::kDataCorrupt) << text;
    EXPECT_THAT(checkpoint.error().detail(), HasSubstr("model.safetensors.index.json"));
  }
}

TEST(Checkpoint, NamesFormatsItDoesNotRead) {
  const TemporaryFolder temporary;
  temporary.Write("pytorch_model.bin", "x");
  const auto checkpoint = Open(temporary);
  ASSERT_FALSE(checkpoint.has_value());
  EXPECT_EQ(checkpoint.error().code(), Code::kUnsupported);
  EXPECT_THAT(checkpoint.error().detail(), HasSubstr("pytorch_model.bin"));
}

TEST(Checkpoint, RefusesAFolderWithoutWeights) {
  const TemporaryFolder temporary;
  EXPECT_EQ(Open(temporary).error().code(), Code::kNotFound);
}

}  // namespace
}  // namespace pixii::model
