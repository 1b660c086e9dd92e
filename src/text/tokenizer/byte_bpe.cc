#include "text/tokenizer/byte_bpe.h"

#include <algorithm>

#include "text/tokenizer/byte_alphabet.h"

namespace pixii::text {

std::unique_ptr<const ByteBpe> ByteBpe::Create(const Vocabulary& vocabulary,
                                               const MergeTable& merges, const Options& options) {
  std::unique_ptr<ByteBpe> out(new ByteBpe);  // tidy: new private constructor
  if (vocabulary.id_end() > kIdEnd) {
    return nullptr;
  }
  for (std::size_t byte = 0; byte < 256; ++byte) {
    std::string piece;
    AppendInByteAlphabet(piece, std::string(1, static_cast<char>(byte)));
    auto id = vocabulary.IdOf(piece);
    if (!id) {
      return nullptr;
    }
    out->byte_ids_[byte] = *id;
  }
  std::uint32_t rank_end = 0;
  merges.ForEach(
      [&](const MergeTable::Entry& entry) { rank_end = std::max(rank_end, entry.rank + 1); });
  if (rank_end > kRankEnd) {
    return nullptr;
  }
  out->merged_.resize(rank_end);
  out->ranks_.Reserve(merges.size());
  merges.ForEach([&](const MergeTable::Entry& entry) {
    out->merged_[entry.rank] = entry.merged;
    out->ranks_.Add(entry.left, entry.right, entry.rank);
  });
  out->byte_pair_ranks_.resize(256 * 256);
  for (std::size_t pair = 0; pair < out->byte_pair_ranks_.size(); ++pair) {
    out->byte_pair_ranks_[pair] =
        out->ranks_.Find(out->byte_ids_[pair >> 8], out->byte_ids_[pair & 255]);
  }
  out->AddWords(vocabulary, options.ignore_merges);
  return out;
}

// Pieces that are tokenized to themselves: those that merging makes, or all.
void ByteBpe::AddWords(const Vocabulary& vocabulary, bool ignore_merges) {
  words_.Reserve(vocabulary.count());
  std::array<TokenId, kBytesMax> ids;
  std::string bytes;
  for (TokenId id = 0; id < vocabulary.id_end(); ++id) {
    bytes.clear();
    if (!vocabulary.Has(id) || !AppendFromByteAlphabet(bytes, vocabulary.Piece(id)) ||
        bytes.empty()) {
      continue;
    }
    if (ignore_merges) {
      words_.Add(bytes, id);
    } else if (bytes.size() <= WordTable::kShortBytesMax &&
               Merge(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
                     ids.data()) == 1 &&
               ids[0] == id) {
      words_.Add(bytes, id);
    }
  }
}

bool ByteBpe::MayMake(const std::vector<bool>& ids) const {
  auto named = [&](TokenId id) {
    auto index = static_cast<std::size_t>(id);
    return index < ids.size() && ids[index];
  };
  return std::any_of(byte_ids_.begin(), byte_ids_.end(), named) ||
         std::any_of(merged_.begin(), merged_.end(), named) || words_.HoldsAny(named);
}

bool ByteBpe::Tokenize(const char* at, const char* end, const char* readable_end,
                       std::vector<TokenId>& out) const {
  auto size = static_cast<std::size_t>(end - at);
  TokenId whole = words_.Find(at, size, readable_end);
  if (whole >= 0) {
    out.push_back(whole);
    return true;
  }
  if (size > kBytesMax) {
    return false;
  }
  std::array<TokenId, kBytesMax> ids;
  std::size_t count = Merge(reinterpret_cast<const unsigned char*>(at), size, ids.data());
  out.insert(out.end(), ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(count));
  return true;
}

// The merge of two neighbours, the left one at `at`, as rank * 256 + at: the least is the next.
std::int32_t ByteBpe::PendingMerge(TokenId left, TokenId right, std::size_t at) const {
  std::uint32_t rank = ranks_.Find(left, right);
  return rank == RankTable::kNoRank ? kNoMerge : static_cast<std::int32_t>(rank << 8 | at);
}

// Writes the ids of the word (1 to kBytesMax bytes) to `ids`, returns how many. A symbol stays at
// the place of its first byte.
std::size_t ByteBpe::Merge(const unsigned char* word, std::size_t bytes, TokenId* ids) const {
  std::array<std::int32_t, kBytesMax + 1> pending;  // by place, padded to whole blocks
  std::array<std::uint8_t, kBytesMax + 1> next;
  std::array<std::uint8_t, kBytesMax + 1> previous;
  std::array<std::int32_t, (kBytesMax + kBlock) / kBlock> least;  // of each block
  const std::size_t blocks = (bytes + kBlock - 1) / kBlock;
  for (std::size_t i = 0; i + 1 < bytes; ++i) {
    std::uint32_t rank = byte_pair_ranks_[static_cast<std::size_t>(word[i]) << 8 | word[i + 1]];
    pending[i] = rank == RankTable::kNoRank ? kNoMerge : static_cast<std::int32_t>(rank << 8 | i);
  }
  for (std::size_t i = bytes - 1; i < blocks * kBlock; ++i) {
    pending[i] = kNoMerge;
  }
  for (std::size_t i = 0; i < bytes; ++i) {
    ids[i] = byte_ids_[word[i]];
    next[i] = static_cast<std::uint8_t>(i + 1);
    previous[i] = static_cast<std::uint8_t>(i - 1);
  }
  auto refresh = [&](std::size_t block) {
    std::int32_t value = kNoMerge;
    for (std::size_t i = 0; i < kBlock; ++i) {
      value = std::min(value, pending[block * kBlock + i]);
    }
    least[block] = value;
  };
  for (std::size_t block = 0; block < blocks; ++block) {
    refresh(block);
  }
  for (;;) {
    std::int32_t best = least[0];
    for (std::size_t block = 1; block < blocks; ++block) {
      best = std::min(best, least[block]);
    }
    if (best == kNoMerge) {
      break;
    }
    auto at = static_cast<std::size_t>(best & 255);
    std::size_t gone = next[at];
    std::size_t after = next[gone];
    ids[at] = merged_[static_cast<std::size_t>(best >> 8)];
    next[at] = static_cast<std::uint8_t>(after);
    pending[gone] = kNoMerge;
    pending[at] = kNoMerge;
    if (after < bytes) {
      previous[after] = static_cast<std::uint8_t>(at);
      pending[at] = PendingMerge(ids[at], ids[after], at);
    }
    if (at > 0) {
      std::size_t before = previous[at];
      pending[before] = PendingMerge(ids[before], ids[at], before);
      if (before / kBlock != at / kBlock) {
        refresh(before / kBlock);
      }
    }
    refresh(at / kBlock);
    if (gone / kBlock != at / kBlock) {
      refresh(gone / kBlock);
    }
  }
  std::size_t count = 0;
  for (std::size_t i = 0; i < bytes; i = next[i]) {
    ids[count++] = ids[i];
  }
  return count;
}

}  // namespace pixii::text
