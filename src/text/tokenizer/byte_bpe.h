// Byte-pair encoding straight from bytes: what byte-level vocabularies need, without writing the
// text in the byte alphabet first.
//
// Thread: immutable after construction; all working memory is on the stack of the call.
// Same ids as Bpe on the same word in the byte alphabet. Words that are one piece are found by
// their bytes; words of at most kBytesMax are merged with the pending merges in one array, whose
// minimum is kept per block; longer ones are left to Bpe.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "text/tokenizer/merge_table.h"
#include "text/tokenizer/rank_table.h"
#include "text/tokenizer/vocabulary.h"
#include "text/tokenizer/word_table.h"

namespace pixii::text {

class ByteBpe final {
 public:
  static constexpr std::size_t kBytesMax = 255;         // of a word that this merges
  static constexpr TokenId kIdEnd = RankTable::kIdEnd;  // ids are below
  static constexpr std::uint32_t kRankEnd = 1U << 23;   // ranks are below

  struct Options {
    bool ignore_merges = false;  // a word that is a piece is that piece
  };

  /// Null if the vocabulary does not have a piece for every byte, or has too many ids or merges.
  static std::unique_ptr<const ByteBpe> Create(const Vocabulary& vocabulary,
                                               const MergeTable& merges, const Options& options);

  /// Whether some text may become a token of `ids` (by id).
  bool MayMake(const std::vector<bool>& ids) const;

  /// Appends the ids of the word [at, end). False if the word is too long, `out` is unchanged then.
  /// Pre: at < end <= readable_end; memory up to `readable_end` may be read.
  bool Tokenize(const char* at, const char* end, const char* readable_end,
                std::vector<TokenId>& out) const;

 private:
  static constexpr std::int32_t kNoMerge = 0x7FFFFFFF;
  static constexpr std::size_t kBlock = 16;  // pairs whose least is kept

  ByteBpe() = default;

  void AddWords(const Vocabulary& vocabulary, bool ignore_merges);
  std::size_t Merge(const unsigned char* word, std::size_t bytes, TokenId* ids) const;
  std::int32_t PendingMerge(TokenId left, TokenId right, std::size_t at) const;

  std::array<TokenId, 256> byte_ids_{};
  std::vector<std::uint32_t> byte_pair_ranks_;  // by the two bytes; kNoRank: they do not merge
  RankTable ranks_;
  std::vector<TokenId> merged_;  // by rank
  WordTable words_;
};

}  // namespace pixii::text
