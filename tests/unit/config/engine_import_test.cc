#include "config/engine_import.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "config/engine_args.h"

namespace pixii::config {
namespace {

constexpr const char* kFile =
    "# from another server\n"
    "max_batch_size: 64\n"
    "tensor_parallel_size: 2\n"
    "kv_cache_config:\n"
    "  dtype: fp8\n"
    "  use_uvm: true\n"
    "  enable_block_reuse: false\n"
    "trust_remote_code: true\n"
    "no_such_key: 7\n"
    "tokenizer: \"a: b\"\n";

TEST(EngineImportTest, EachKeyIsSaidAndWhatIsRefusedHidesNothing) {
  const Result<ImportedEngineArgs> imported = ImportEngineArgs(kFile, "e.yaml");
  ASSERT_TRUE(imported) << imported.error().detail();
  std::map<std::string, ImportedKey> keys;
  for (const ImportedKey& key : imported->keys) {
    keys[key.key] = key;
  }
  ASSERT_EQ(keys.size(), 8U);
  EXPECT_EQ(keys["tensor_parallel_size"].outcome, Imported::kTaken);
  EXPECT_EQ(keys["max_batch_size"].outcome, Imported::kRenamed);
  EXPECT_EQ(keys["max_batch_size"].said, "--max-batch 64");
  EXPECT_EQ(keys["kv_cache_config.dtype"].said, "--kv-dtype fp8");
  EXPECT_EQ(keys["kv_cache_config.dtype"].line, 5U);
  EXPECT_EQ(keys["trust_remote_code"].outcome, Imported::kNoEffect);
  EXPECT_EQ(keys["kv_cache_config.use_uvm"].outcome, Imported::kRefused);
  EXPECT_TRUE(keys["kv_cache_config.use_uvm"].said.starts_with("e.yaml:6"))
      << keys["kv_cache_config.use_uvm"].said;
  EXPECT_EQ(keys["no_such_key"].outcome, Imported::kRefused);
  EXPECT_TRUE(keys["no_such_key"].said.starts_with("e.yaml:9")) << keys["no_such_key"].said;
}

TEST(EngineImportTest, WhatIsWrittenIsReadAsItWas) {
  const Result<ImportedEngineArgs> imported = ImportEngineArgs(kFile, "e.yaml");
  ASSERT_TRUE(imported);
  const Result<EngineSettings> read = ReadEngineArgs(
      {.file = EngineArgsFile{.text = imported->text, .path = "new"}, .json = {}, .dotted = {}});
  ASSERT_TRUE(read) << read.error().detail() << imported->text;
  std::map<std::string, std::string> options;
  for (const EngineSetting& setting : read->settings) {
    options[setting.option] = setting.value;
  }
  EXPECT_EQ(options, (std::map<std::string, std::string>{{"max-batch", "64"},
                                                         {"tensor-parallel-size", "2"},
                                                         {"kv-dtype", "fp8"},
                                                         {"prefix-cache", "false"},
                                                         {"tokenizer", "a: b"}}));
  const Result<ImportedEngineArgs> again = ImportEngineArgs(imported->text, "new");
  ASSERT_TRUE(again);
  EXPECT_EQ(again->text, imported->text);
}

TEST(EngineImportTest, KeysOfAGroupAreJudgedBesideTheOneThatTheyNeed) {
  const Result<ImportedEngineArgs> imported = ImportEngineArgs(
      "speculative_config:\n  max_draft_len: 4\n  decoding_type: NGram\n  no_such: 1\n", "e.yaml");
  ASSERT_TRUE(imported);
  ASSERT_EQ(imported->keys.size(), 3U);
  EXPECT_EQ(imported->keys[0].said, "--draft-tokens 4");
  EXPECT_EQ(imported->keys[1].said, "--speculation lookup");
  EXPECT_EQ(imported->keys[2].outcome, Imported::kRefused);
  EXPECT_TRUE(imported->keys[2].said.starts_with("e.yaml:4")) << imported->keys[2].said;
}

TEST(EngineImportTest, WhatIsNoMappingIsAnError) {
  EXPECT_FALSE(ImportEngineArgs("- a\n", "e.yaml"));
  EXPECT_FALSE(ImportEngineArgs("a: [\n", "e.yaml"));
}

}  // namespace
}  // namespace pixii::config
