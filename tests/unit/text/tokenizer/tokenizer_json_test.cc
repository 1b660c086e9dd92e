// The loader does not trust its file: every refusal is typed and names the file and the place.
#include "text/tokenizer/tokenizer.h"

#include <gtest/gtest.h>

#include "unit/text/tokenizer/small_tokenizer.h"

namespace pixii::text {
namespace {

Error Refusal(const std::string& json) {
  auto tokenizer = Tokenizer::FromJson(json, "some/tokenizer.json");
  EXPECT_FALSE(tokenizer.has_value()) << "loaded: " << json.substr(0, 200);
  Error error = tokenizer ? Error(Code::kInternal, "loaded") : tokenizer.error();
  EXPECT_TRUE(error.detail().starts_with("some/tokenizer.json: ")) << error.detail();
  return error;
}

void ExpectRefusal(const std::string& json, Code code, const std::string& part) {
  Error error = Refusal(json);
  EXPECT_EQ(error.code(), code) << error.ToString();
  EXPECT_NE(error.detail().find(part), std::string::npos) << error.ToString();
}

wire::Json Component(std::string_view type) { return wire::Json::Object{{"type", type}}; }

TEST(TokenizerJsonTest, LoadsASmallByteLevelTokenizer) {
  SmallTokenizer small;
  auto tokenizer = Tokenizer::FromJson(small.Dump(), "t");
  ASSERT_TRUE(tokenizer.has_value()) << tokenizer.error().ToString();
  EXPECT_EQ((*tokenizer)->Encode("hello").value(), (std::vector<TokenId>{259}));
  EXPECT_EQ((*tokenizer)->vocab_size(), 260);
}

TEST(TokenizerJsonTest, RefusesWhatIsNotOneJsonObject) {
  for (const char* text :
       {"", "null", "[]", "{", "{\"model\":{}", "{\"model\":{\"vocab\":{\"a\":0}} ", "\x00\xFF"}) {
    EXPECT_EQ(Refusal(text).code(), Code::kDataCorrupt) << text;
  }
  ExpectRefusal(SmallTokenizer().Dump() + "x", Code::kDataCorrupt, "at byte");
  ExpectRefusal("{}", Code::kDataCorrupt, "model");
}

TEST(TokenizerJsonTest, RefusesATokenIdPastTheBound) {
  SmallTokenizer small;
  small.vocab.emplace_back("huge", std::int64_t{2147483647});
  ExpectRefusal(small.Dump(), Code::kDataCorrupt, "2147483647");
  SmallTokenizer negative;
  negative.vocab.emplace_back("less", -1);
  ExpectRefusal(negative.Dump(), Code::kDataCorrupt, "model.vocab");
  SmallTokenizer added;
  added.AddToken("<x>", true, {{"id", std::int64_t{2147483647}}});
  ExpectRefusal(added.Dump(), Code::kDataCorrupt, "added_tokens[0].id");
}

TEST(TokenizerJsonTest, RefusesAnEmptyVocabulary) {
  SmallTokenizer small({});
  small.vocab.clear();
  ExpectRefusal(small.Dump(), Code::kDataCorrupt, "model.vocab");
}

TEST(TokenizerJsonTest, RefusesDuplicateIdsAndPieces) {
  SmallTokenizer ids;
  ids.vocab.emplace_back("again", 7);
  ExpectRefusal(ids.Dump(), Code::kDataCorrupt, "id 7");
  SmallTokenizer pieces;
  pieces.vocab.emplace_back("hello", 999);
  ExpectRefusal(pieces.Dump(), Code::kDataCorrupt, "\"hello\"");
  SmallTokenizer added;
  added.AddToken("<a>", true, {{"id", 300}});
  added.AddToken("<b>", true, {{"id", 300}});
  ExpectRefusal(added.Dump(), Code::kDataCorrupt, "added_tokens[1]");
  SmallTokenizer taken;
  taken.AddToken("<a>", true, {{"id", 5}});
  ExpectRefusal(taken.Dump(), Code::kDataCorrupt, "id 5");
}

TEST(TokenizerJsonTest, RefusesAMergeOfPiecesThatDoNotExist) {
  SmallTokenizer small;
  small.merges.emplace_back("h zzz");
  ExpectRefusal(small.Dump(), Code::kDataCorrupt, "model.merges[4]");
  for (wire::Json merge :
       {wire::Json("one"), wire::Json("a b c"), wire::Json(wire::Json::Array{"a"}),
        wire::Json(wire::Json::Array{"a", "b", "c"}), wire::Json(3)}) {
    SmallTokenizer odd;
    odd.merges.push_back(merge);
    ExpectRefusal(odd.Dump(), Code::kDataCorrupt, "model.merges");
  }
}

TEST(TokenizerJsonTest, NamesTheComponentThatIsNotBuilt) {
  SmallTokenizer normalizer;
  normalizer.normalizer = wire::Json::Object{
      {"type", "Sequence"},
      {"normalizers", wire::Json::Array{Component("NFC"), Component("Frobnicate")}}};
  ExpectRefusal(normalizer.Dump(), Code::kUnsupported,
                "normalizer.normalizers[1]: normalizer \"Frobnicate\"");
  SmallTokenizer pre;
  pre.pre_tokenizer = Component("UnicodeScripts");
  ExpectRefusal(pre.Dump(), Code::kUnsupported, "pre-tokenizer \"UnicodeScripts\"");
  SmallTokenizer post;
  post.post_processor = Component("Rot13");
  ExpectRefusal(post.Dump(), Code::kUnsupported, "post-processor \"Rot13\"");
  SmallTokenizer decoder;
  decoder.decoder = Component("CTC");
  ExpectRefusal(decoder.Dump(), Code::kUnsupported, "decoder \"CTC\"");
  SmallTokenizer dropout;
  dropout.model_options = {{"dropout", 0.5}};
  ExpectRefusal(dropout.Dump(), Code::kUnsupported, "dropout");
  ExpectRefusal(R"({"model":{"type":"Quipu","vocab":{"a":0}}})", Code::kUnsupported, "\"Quipu\"");
}

TEST(TokenizerJsonTest, RefusesAPatternThatDoesNotCompile) {
  SmallTokenizer small;
  small.pre_tokenizer = wire::Json::Object{{"type", "Split"},
                                           {"pattern", wire::Json::Object{{"Regex", "(a"}}},
                                           {"behavior", "Isolated"}};
  ExpectRefusal(small.Dump(), Code::kDataCorrupt, "pre_tokenizer.pattern");
}

TEST(TokenizerJsonTest, RefusesATemplateThatNamesWhatDoesNotExist) {
  SmallTokenizer small;
  small.post_processor = wire::Json::Object{{"type", "RobertaProcessing"},
                                            {"cls", wire::Json::Array{"<s>", 4000}},
                                            {"sep", wire::Json::Array{"</s>", 1}}};
  ExpectRefusal(small.Dump(), Code::kDataCorrupt, "token id 4000");
}

TEST(TokenizerJsonTest, RefusesDeepNesting) {
  std::string deep(100'000, '[');
  ExpectRefusal("{\"normalizer\":" + deep, Code::kDataCorrupt, "nested");
  std::string objects;
  for (int i = 0; i < 100'000; ++i) {
    objects += "{\"type\":\"Sequence\",\"normalizers\":[";
  }
  ExpectRefusal("{\"normalizer\":" + objects, Code::kDataCorrupt, "nested");
}

TEST(TokenizerJsonTest, RefusesTextThatGrowsWithoutBound) {
  SmallTokenizer small;
  wire::Json::Array steps;
  for (int i = 0; i < 40; ++i) {
    steps.push_back(wire::Json::Object{
        {"type", "Replace"}, {"pattern", wire::Json::Object{{"String", "a"}}}, {"content", "aa"}});
  }
  small.normalizer = wire::Json::Object{{"type", "Sequence"}, {"normalizers", steps}};
  auto tokenizer = Tokenizer::FromJson(small.Dump(), "t");
  ASSERT_TRUE(tokenizer.has_value()) << tokenizer.error().ToString();
  auto ids = (*tokenizer)->Encode("aaaa");
  ASSERT_FALSE(ids.has_value());
  EXPECT_EQ(ids.error().code(), Code::kTooLarge);
  SmallTokenizer decoding;
  decoding.decoder = wire::Json::Object{{"type", "Sequence"}, {"decoders", steps}};
  ExpectRefusal(decoding.Dump(), Code::kTooLarge, "decoder");
}

TEST(TokenizerJsonTest, EveryTruncationIsRefusedAndNothingElseHappens) {
  SmallTokenizer small;
  small.AddToken("<|end|>", true);
  std::string json = small.Dump();
  for (std::size_t size = 0; size < json.size(); size += 7) {
    EXPECT_EQ(Refusal(json.substr(0, size)).code(), Code::kDataCorrupt);
  }
}

TEST(TokenizerJsonTest, AnEscapedPieceIsReadAsItsCharacters) {
  auto tokenizer = Tokenizer::FromJson(
      R"({"decoder":{"type":"Fuse"},"model":{"type":"BPE","vocab":{"\u0061":0,"\ud83d\ude00":1,"\"":2,"\n":3},"merges":[]}})",
      "t");
  ASSERT_TRUE(tokenizer.has_value()) << tokenizer.error().ToString();
  EXPECT_EQ((*tokenizer)->TokenText(0), "a");
  EXPECT_EQ((*tokenizer)->TokenText(1), "\xF0\x9F\x98\x80");
  EXPECT_EQ((*tokenizer)->Encode("\"\na").value(), (std::vector<TokenId>{2, 3, 0}));
  ExpectRefusal(R"({"model":{"vocab":{"\ud83d":0}}})", Code::kDataCorrupt, "surrogate");
}

}  // namespace
}  // namespace pixii::text
