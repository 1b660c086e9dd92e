#include "text/bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "text/unicode.h"

namespace pixii::text {

namespace {

using Symbol = ModelScratch::Symbol;
using Merge = ModelScratch::Merge;

constexpr std::uint32_t kNoNeighbour = 0xFFFFFFFF;
constexpr std::uint32_t kNoMerge = 0xFFFFFFFF;
// Up to here looking for the best pair by walking beats a heap.
constexpr std::size_t kShortSymbolsMax = 48;

// Heap order: the best rank first, of equal ranks the leftmost.
bool After(const Merge& a, const Merge& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
}

std::uint64_t MixPair(TokenId left, TokenId right) {
  std::uint64_t x = static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
                    static_cast<std::uint32_t>(right);
  x ^= x >> 31;
  x *= 0x9E3779B97F4A7C15;
  x ^= x >> 29;
  x *= 0xBF58476D1CE4E5B9;
  return x ^ (x >> 32);
}

}  // namespace

std::size_t MergeTable::Slot(TokenId left, TokenId right) const {
  std::size_t mask = slots_.size() - 1;
  std::size_t at = MixPair(left, right) & mask;
  while (slots_[at].left != -1 && (slots_[at].left != left || slots_[at].right != right)) {
    at = (at + 1) & mask;
  }
  return at;
}

void MergeTable::Resize(std::size_t slots) {
  std::vector<Entry> old = std::move(slots_);
  slots_.assign(slots, Entry{});
  for (const Entry& entry : old) {
    if (entry.left != -1) {
      slots_[Slot(entry.left, entry.right)] = entry;
    }
  }
}

void MergeTable::Reserve(std::size_t merges) {
  std::size_t slots = std::bit_ceil(std::max<std::size_t>(merges * 2, 16));
  if (slots > slots_.size()) {
    Resize(slots);
  }
}

void MergeTable::Add(const Entry& entry) {
  if ((size_ + 1) * 2 > slots_.size()) {
    Reserve(size_ + 1);
  }
  Entry& slot = slots_[Slot(entry.left, entry.right)];
  size_ += slot.left == -1 ? 1 : 0;
  slot = entry;
}

const MergeTable::Entry* MergeTable::Find(TokenId left, TokenId right) const {
  if (slots_.empty()) {
    return nullptr;
  }
  const Entry& slot = slots_[Slot(left, right)];
  return slot.left == -1 ? nullptr : &slot;
}

Bpe::Bpe(const Vocabulary& vocabulary, MergeTable merges, BpeOptions options)
    : vocabulary_(&vocabulary), merges_(std::move(merges)), options_(std::move(options)) {
  if (!options_.unknown.empty()) {
    unknown_ = vocabulary.IdOf(options_.unknown);
  }
  for (char32_t c = 0; c < kCharTableEnd; ++c) {
    std::string piece;
    AppendUtf8(piece, c);
    char_ids_[c] = vocabulary.IdOf(piece).value_or(-1);
  }
  for (unsigned byte = 0; byte < 256; ++byte) {
    byte_ids_[byte] = vocabulary.IdOf(fmt::format("<0x{:02X}>", byte)).value_or(-1);
  }
}

Result<std::unique_ptr<const Bpe>> Bpe::Create(const Vocabulary& vocabulary, MergeTable merges,
                                               BpeOptions options) {
  std::unique_ptr<const Bpe> bpe(new Bpe(vocabulary, std::move(merges), std::move(options)));
  if (!bpe->options_.unknown.empty() && !bpe->unknown_) {
    return Fail(Code::kDataCorrupt, fmt::format("unk_token \"{:.60}\" is not in the vocabulary",
                                                bpe->options_.unknown));
  }
  return bpe;
}

std::optional<TokenId> Bpe::CharId(std::string_view bytes, bool first, bool last) const {
  bool prefixed = !first && !options_.continuing_subword_prefix.empty();
  bool suffixed = last && !options_.end_of_word_suffix.empty();
  if (prefixed || suffixed) {
    std::string piece;
    if (prefixed) {
      piece += options_.continuing_subword_prefix;
    }
    piece.append(bytes);
    if (suffixed) {
      piece += options_.end_of_word_suffix;
    }
    return vocabulary_->IdOf(piece);
  }
  if (bytes.size() <= 2) {
    char32_t c = bytes.size() == 1 ? static_cast<unsigned char>(bytes[0]) : DecodeUtf8(bytes);
    if (c < kCharTableEnd) {
      return char_ids_[c] < 0 ? std::nullopt : std::optional(char_ids_[c]);
    }
  }
  return vocabulary_->IdOf(bytes);
}

bool Bpe::AddBytes(std::string_view bytes, std::vector<Symbol>& symbols) const {
  for (char byte : bytes) {
    if (byte_ids_[static_cast<unsigned char>(byte)] < 0) {
      return false;
    }
  }
  for (char byte : bytes) {
    symbols.push_back({byte_ids_[static_cast<unsigned char>(byte)], 0, 0, 0});
  }
  return true;
}

void Bpe::AddSymbols(std::string_view word, std::vector<Symbol>& symbols) const {
  symbols.clear();
  bool pending_unknown = false;  // one not yet added, to be fused with the next
  auto add_unknown = [&] {
    if (pending_unknown) {
      symbols.push_back({*unknown_, 0, 0, 0});
      pending_unknown = false;
    }
  };
  const char* end = word.data() + word.size();
  ForEachChar(word, [&](char32_t, std::string_view bytes) {
    bool last = bytes.data() + bytes.size() == end;
    if (auto id = CharId(bytes, bytes.data() == word.data(), last)) {
      add_unknown();
      symbols.push_back({*id, 0, 0, 0});
      return;
    }
    if (options_.byte_fallback) {
      // The suffix falls back with its character, as in the reference.
      bool done = last && !options_.end_of_word_suffix.empty()
                      ? AddBytes(std::string(bytes) + options_.end_of_word_suffix, symbols)
                      : AddBytes(bytes, symbols);
      if (done) {
        return;
      }
    }
    if (unknown_) {
      if (!options_.fuse_unknown) {
        add_unknown();
      }
      pending_unknown = true;
    }
  });
  add_unknown();
}

void Bpe::Tokenize(std::string_view word, ModelScratch& scratch, std::vector<TokenId>& out) const {
  if (options_.ignore_merges) {
    if (auto id = vocabulary_->IdOf(word)) {
      out.push_back(*id);
      return;
    }
  }
  AddSymbols(word, scratch.symbols);
  scratch.steps += scratch.symbols.size();
  if (scratch.symbols.size() <= kShortSymbolsMax) {
    MergeShort(scratch, out);
  } else {
    MergeLong(scratch, out);
  }
}

void Bpe::MergeShort(ModelScratch& scratch, std::vector<TokenId>& out) const {
  std::vector<Symbol>& symbols = scratch.symbols;
  auto rank = [&](std::size_t i) {
    if (i + 1 >= symbols.size()) {
      return kNoMerge;
    }
    const MergeTable::Entry* entry = merges_.Find(symbols[i].id, symbols[i + 1].id);
    return entry == nullptr ? kNoMerge : entry->rank;
  };
  for (std::size_t i = 0; i < symbols.size(); ++i) {
    symbols[i].rank = rank(i);
  }
  while (symbols.size() > 1) {
    scratch.steps += symbols.size();
    auto best = std::min_element(symbols.begin(), symbols.end(),
                                 [](const Symbol& a, const Symbol& b) { return a.rank < b.rank; });
    if (best->rank == kNoMerge) {
      break;
    }
    auto at = static_cast<std::size_t>(best - symbols.begin());
    best->id = merges_.Find(best->id, symbols[at + 1].id)->merged;
    symbols.erase(best + 1);
    symbols[at].rank = rank(at);
    if (at > 0) {
      symbols[at - 1].rank = rank(at - 1);
    }
  }
  for (const Symbol& symbol : symbols) {
    out.push_back(symbol.id);
  }
}

void Bpe::MergeLong(ModelScratch& scratch, std::vector<TokenId>& out) const {
  std::vector<Symbol>& symbols = scratch.symbols;
  std::vector<Merge>& heap = scratch.heap;
  heap.clear();
  auto consider = [&](std::uint32_t at) {
    const MergeTable::Entry* entry = merges_.Find(symbols[at].id, symbols[symbols[at].next].id);
    if (entry != nullptr) {
      heap.push_back({entry->rank, at, entry->merged});
      return true;
    }
    return false;
  };
  auto push = [&](std::uint32_t at) {
    if (consider(at)) {
      std::push_heap(heap.begin(), heap.end(), After);
    }
  };
  auto count = static_cast<std::uint32_t>(symbols.size());
  for (std::uint32_t i = 0; i < count; ++i) {
    symbols[i].previous = i == 0 ? kNoNeighbour : i - 1;
    symbols[i].next = i + 1 == count ? kNoNeighbour : i + 1;
    symbols[i].rank = 0;  // 1: merged into its left neighbour
  }
  for (std::uint32_t i = 0; i + 1 < count; ++i) {
    consider(i);
  }
  std::make_heap(heap.begin(), heap.end(), After);
  while (!heap.empty()) {
    ++scratch.steps;
    std::pop_heap(heap.begin(), heap.end(), After);
    Merge merge = heap.back();
    heap.pop_back();
    Symbol& left = symbols[merge.position];
    if (left.rank != 0 || left.next == kNoNeighbour) {
      continue;
    }
    Symbol& right = symbols[left.next];
    const MergeTable::Entry* entry = merges_.Find(left.id, right.id);
    if (entry == nullptr || entry->merged != merge.merged) {
      continue;  // a neighbour has changed since
    }
    left.id = merge.merged;
    left.next = right.next;
    right.rank = 1;
    if (left.next != kNoNeighbour) {
      symbols[left.next].previous = merge.position;
      push(merge.position);
    }
    if (left.previous != kNoNeighbour) {
      push(left.previous);
    }
  }
  for (std::uint32_t i = 0; i != kNoNeighbour; i = symbols[i].next) {
    out.push_back(symbols[i].id);
  }
}

}  // namespace pixii::text
