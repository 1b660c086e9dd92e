#include "frontend/pooling_profile.h"

#include <gtest/gtest.h>

namespace pixii::frontend {
namespace {

TEST(PoolingProfileTest, TravelsWhole) {
  PoolingProfile profile;
  EXPECT_EQ(ReadPoolingProfile(PoolingProfileText(profile)), profile);
  profile = {.prompts = {{"query", "Query: \"é\" "}, {"document", ""}},
             .default_prompt = "query",
             .skip_prompt = true,
             .similarity = Similarity::kManhattan,
             .activation = ClassActivation::kIdentity,
             .labels = {"no", "yes"},
             .matryoshka = true,
             .dimensions = {64, 4'000'000'000},
             .tokens_max = 512,
             .score = ScorePair{.yes = 7, .no = -1},
             .pairs_are_prompts = true};
  const Result<PoolingProfile> read = ReadPoolingProfile(PoolingProfileText(profile));
  ASSERT_TRUE(read) << read.error().ToString();
  EXPECT_EQ(*read, profile);
}

TEST(PoolingProfileTest, ALaterVersionIsRead) {
  EXPECT_EQ(ReadPoolingProfile(R"({"tokens_max": 9, "later": [1, {"x": 2}]})"),
            (PoolingProfile{.tokens_max = 9}));
  EXPECT_EQ(ReadPoolingProfile("{}"), PoolingProfile());
}

TEST(PoolingProfileTest, WhatAWorkerSaysWrongIsRefused) {
  for (const char* text :
       {"", "[]", "{", R"({"prompts": 1})", R"({"prompts": {"a": 1}})", R"({"labels": {}})",
        R"({"labels": [1]})", R"({"dimensions": ["1"]})", R"({"dimensions": [1e3000]})",
        R"({"similarity": 4})", R"({"activation": 3})", R"({"score": 1})",
        R"({"score": {"yes": 4294967296}})", R"({"tokens_max": 1.5})", R"({"tokens_max": null})",
        R"({"default_prompt": 1})", R"({"matryoshka": 1})"}) {
    const Result<PoolingProfile> read = ReadPoolingProfile(text);
    ASSERT_FALSE(read) << text;
    EXPECT_EQ(read.error().code(), Code::kDataCorrupt) << text;
  }
}

}  // namespace
}  // namespace pixii::frontend
