// Models beside BPE, each through a whole tokenizer.
#include "text/tokenizer/word_piece.h"

#include <gtest/gtest.h>

#include "text/tokenizer/tokenizer.h"

namespace pixii::text {
namespace {

std::unique_ptr<const Tokenizer> Load(std::string_view json) {
  auto tokenizer = Tokenizer::FromJson(json, "t");
  EXPECT_TRUE(tokenizer.has_value()) << tokenizer.error().ToString();
  return std::move(*tokenizer);
}

using Ids = std::vector<TokenId>;

TEST(WordPieceTest, TakesTheLongestPieceOrGivesTheWholeWordUp) {
  auto tokenizer = Load(R"({"pre_tokenizer":{"type":"BertPreTokenizer"},
      "decoder":{"type":"WordPiece","prefix":"##","cleanup":true},
      "post_processor":{"type":"BertProcessing","cls":["[CLS]",1],"sep":["[SEP]",2]},
      "model":{"type":"WordPiece","unk_token":"[UNK]","max_input_chars_per_word":12,
      "vocab":{"[UNK]":0,"[CLS]":1,"[SEP]":2,"un":3,"##aff":4,"##able":5,"a":6,"##a":7,",":8,"una":9}}})");
  EXPECT_EQ(tokenizer->Encode("unaffable, a unx").value(), (Ids{0, 8, 6, 0}));
  EXPECT_EQ(tokenizer->Encode("unable", {.add_special_tokens = true}).value(), (Ids{1, 0, 2}));
  EXPECT_EQ(tokenizer->Encode("aaffable").value(), (Ids{6, 4, 5}));
  EXPECT_EQ(tokenizer->Encode("aaaaaaaaaaaaa").value(), (Ids{0}));
  EXPECT_EQ(tokenizer->Decode(Ids{6, 4, 5, 8, 3}), "aaffable, un");
}

TEST(WordLevelTest, TakesWholeWords) {
  auto tokenizer = Load(R"({"pre_tokenizer":{"type":"WhitespaceSplit"},
      "model":{"type":"WordLevel","unk_token":"<unk>","vocab":{"<unk>":0,"hi":1,"you":2}}})");
  Ids ids = tokenizer->Encode("hi you there").value();
  EXPECT_EQ(ids, (Ids{1, 2, 0}));
  EXPECT_EQ(tokenizer->Decode(ids), "hi you <unk>");
}

TEST(UnigramTest, TakesTheCutWithTheBestSum) {
  auto tokenizer =
      Load(R"({"model":{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0],["a",0],["b",0],["c",0],
      ["d",0],["cd",1],["ab",2],["abc",5],["abcd",10]]}})");
  EXPECT_EQ(tokenizer->Encode("abcdacdxx").value(), (Ids{8, 1, 5, 0}));
}

TEST(UnigramTest, RefusesWhatItCannotUse) {
  for (const char* json : {R"({"model":{"type":"Unigram","unk_id":7,"vocab":[["a",0]]}})",
                           R"({"model":{"type":"Unigram","vocab":{"a":0}}})",
                           R"({"model":{"type":"Unigram","vocab":[["a",0],["a",1]]}})",
                           R"({"model":{"type":"Unigram","vocab":[["a"]]}})",
                           R"({"model":{"type":"WordPiece","vocab":{"a":0}}})"}) {
    auto tokenizer = Tokenizer::FromJson(json, "t");
    ASSERT_FALSE(tokenizer.has_value()) << json;
    EXPECT_EQ(tokenizer.error().code(), Code::kDataCorrupt) << tokenizer.error().ToString();
  }
}

}  // namespace
}  // namespace pixii::text
