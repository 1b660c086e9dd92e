#include "text/tokenizer/byte_bpe.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "text/tokenizer/bpe.h"
#include "text/tokenizer/byte_alphabet.h"
#include "text/tokenizer/tokenizer.h"
#include "unit/text/tokenizer/golden_tokenizers.h"
#include "unit/text/tokenizer/small_tokenizer.h"

namespace pixii::text {
namespace {

struct RandomModel {
  Vocabulary vocabulary;
  MergeTable merges;

  // Pieces grow from pieces; in odd rounds the ranks are in no order that training would give.
  RandomModel(std::mt19937& random, bool shuffled) {
    std::vector<std::string> pieces;
    for (int byte = 0; byte < 256; ++byte) {
      pieces.emplace_back();
      AppendInByteAlphabet(pieces.back(), std::string(1, static_cast<char>(byte)));
      vocabulary.Add(pieces.back(), byte);
    }
    std::vector<std::uint32_t> ranks(200);
    for (std::uint32_t i = 0; i < ranks.size(); ++i) {
      ranks[i] = i;
    }
    if (shuffled) {
      std::shuffle(ranks.begin(), ranks.end(), random);
    }
    for (std::uint32_t rank : ranks) {
      auto pick = [&] {
        return pieces.size() > 256 && random() % 2 == 0 ? 256 + random() % (pieces.size() - 256)
                                                        : 'a' + random() % 4;
      };
      std::size_t left = pick();
      std::size_t right = pick();
      if (merges.Find(static_cast<TokenId>(left), static_cast<TokenId>(right)) != nullptr) {
        continue;
      }
      std::string merged = pieces[left] + pieces[right];
      auto id = vocabulary.IdOf(merged);
      if (!id) {
        id = static_cast<TokenId>(pieces.size());
        vocabulary.Add(merged, *id);
        pieces.push_back(merged);
      }
      merges.Add({static_cast<TokenId>(left), static_cast<TokenId>(right), rank, *id});
    }
  }
};

TEST(ByteBpeTest, BytesGiveTheIdsThatTheirAlphabetGives) {
  auto seed = std::random_device{}();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 40; ++round) {
    RandomModel model(random, round % 2 == 1);
    const BpeOptions options{.unknown = "",
                             .continuing_subword_prefix = "",
                             .end_of_word_suffix = "",
                             .ignore_merges = round % 3 == 0};
    auto bpe = Bpe::Create(model.vocabulary, model.merges, options).value();
    auto bytes = bpe->FromBytes();
    ASSERT_NE(bytes, nullptr);
    for (std::size_t size = 1; size <= ByteBpe::kBytesMax; size += 1 + size / 16) {
      std::string word;
      while (word.size() < size) {
        word += static_cast<char>(random() % 50 == 0 ? random() % 256 : 'a' + random() % 4);
      }
      std::string alphabet;
      AppendInByteAlphabet(alphabet, word);
      ModelScratch scratch;
      std::vector<TokenId> expected;
      bpe->Tokenize(alphabet, scratch, expected);
      for (std::size_t spare : {0U, 40U}) {  // the bytes behind the word must not matter
        std::string text = word + std::string(spare, 'a');
        std::vector<TokenId> ids;
        ASSERT_TRUE(
            bytes->Tokenize(text.data(), text.data() + size, text.data() + text.size(), ids));
        ASSERT_EQ(ids, expected) << word;
      }
    }
  }
}

TEST(ByteBpeTest, ALongerWordIsLeftToTheModel) {
  std::mt19937 random(1);
  RandomModel model(random, false);
  auto bpe = Bpe::Create(model.vocabulary, model.merges, {}).value();
  auto bytes = bpe->FromBytes();
  std::string word(ByteBpe::kBytesMax + 1, 'x');
  std::vector<TokenId> ids;
  EXPECT_FALSE(
      bytes->Tokenize(word.data(), word.data() + word.size(), word.data() + word.size(), ids));
  EXPECT_TRUE(ids.empty());
}

TEST(ByteBpeTest, AVocabularyWithoutAllBytesHasNone) {
  Vocabulary vocabulary;
  vocabulary.Add("a", 0);
  auto bpe = Bpe::Create(vocabulary, {}, {}).value();
  EXPECT_EQ(bpe->FromBytes(), nullptr);
}

TEST(ByteBpeTest, KnowsWhichTokensItCanMake) {
  std::mt19937 random(1);
  RandomModel model(random, false);
  auto bytes = Bpe::Create(model.vocabulary, model.merges, {}).value()->FromBytes();
  std::vector<bool> none(static_cast<std::size_t>(model.vocabulary.id_end()) + 5);
  none[static_cast<std::size_t>(model.vocabulary.id_end()) + 1] = true;
  EXPECT_FALSE(bytes->MayMake(none));
  std::vector<bool> merged(none.size());
  merged[256] = true;
  EXPECT_TRUE(bytes->MayMake(merged));
}

// The short way and the long way through a whole tokenizer: texts marked untrusted take the long
// one where a control token stands in the vocabulary.
TEST(ByteBpeTest, WordsOfAnyLengthComeOutTheSameEitherWay) {
  SmallTokenizer fast({"a a", "aa aa", "b a", "aaaa b"});
  SmallTokenizer slow = fast;
  slow.AddToken("aa", true);  // a control token that merges make
  auto short_way = Tokenizer::FromJson(fast.Dump(), "fast").value();
  auto long_way = Tokenizer::FromJson(slow.Dump(), "slow").value();
  std::mt19937 random(2);
  for (std::size_t size : {3U, 20U, 255U, 256U, 257U, 5'000U}) {
    std::string text;
    while (text.size() < size) {
      text += "bcb \n"[random() % 5];
    }
    EXPECT_EQ(short_way->Encode(text).value(),
              long_way->Encode(text, {.parse_special = false}).value());
  }
}

}  // namespace
}  // namespace pixii::text
