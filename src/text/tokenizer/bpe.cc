#include "text/tokenizer/bpe.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/tokenizer/byte_bpe.h"
#include "text/tokenizer/unicode.h"

namespace pixii::text {

namespace {

constexpr std::uint32_t kNoMerge = 0xFFFFFFFF;
// Up to here looking for the best pair by walking beats lists of pending merges.
constexpr std::size_t kShortSymbolsMax = 48;

}  // namespace

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
  boundaries_ =
      MergeBoundaries(merges_, vocabulary.id_end(), [this](TokenId id) { return IsSymbol(id); });
}

Result<std::unique_ptr<const Bpe>> Bpe::Create(const Vocabulary& vocabulary, MergeTable merges,
                                               BpeOptions options) {
  std::unique_ptr<const Bpe> bpe(
      new Bpe(vocabulary, std::move(merges), std::move(options)));  // tidy: new private constructor
  if (!bpe->options_.unknown.empty() && !bpe->unknown_) {
    return Fail(Code::kDataCorrupt, fmt::format("unk_token \"{:.60}\" is not in the vocabulary",
                                                bpe->options_.unknown));
  }
  return bpe;
}

bool Bpe::IsSymbol(TokenId id) const {
  std::string_view piece = vocabulary_->Piece(id);
  if (id == unknown_ || (piece.size() == 6 && piece.starts_with("<0x"))) {
    return true;
  }
  // One character, alone or with prefix, suffix or both.
  auto is_char = [](std::string_view text) {
    return !text.empty() && text.size() <= 4 && Utf8SequenceLength(text) == text.size();
  };
  std::string_view bare = piece;
  if (bare.starts_with(options_.continuing_subword_prefix)) {
    bare.remove_prefix(options_.continuing_subword_prefix.size());
  }
  std::size_t suffix = options_.end_of_word_suffix.size();
  return is_char(piece) || is_char(bare) ||
         (suffix > 0 && piece.ends_with(options_.end_of_word_suffix) &&
          (is_char(piece.substr(0, piece.size() - suffix)) ||
           (bare.size() > suffix && is_char(bare.substr(0, bare.size() - suffix)))));
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

bool Bpe::AddBytes(std::string_view bytes, std::vector<BpeSymbol>& symbols) const {
  for (char byte : bytes) {
    if (byte_ids_[static_cast<unsigned char>(byte)] < 0) {
      return false;
    }
  }
  for (char byte : bytes) {
    symbols.push_back({byte_ids_[static_cast<unsigned char>(byte)]});
  }
  return true;
}

void Bpe::AddSymbols(std::string_view word, std::vector<BpeSymbol>& symbols) const {
  symbols.clear();
  symbols.reserve(word.size());
  bool pending_unknown = false;  // one not yet added, to be fused with the next
  auto add_unknown = [&] {
    if (pending_unknown) {
      symbols.push_back({*unknown_});
      pending_unknown = false;
    }
  };
  const char* end = word.data() + word.size();
  ForEachChar(word, [&](char32_t, std::string_view bytes) {
    bool last = bytes.data() + bytes.size() == end;
    if (auto id = CharId(bytes, bytes.data() == word.data(), last)) {
      add_unknown();
      symbols.push_back({*id});
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
    auto id = vocabulary_->IdOf(word);
    if (id && !IsForbidden(scratch.forbidden, *id)) {
      out.push_back(*id);
      return;
    }
  }
  AddSymbols(word, scratch.symbols);
  std::span<BpeSymbol> symbols = scratch.symbols;
  scratch.steps += symbols.size();
  if (symbols.size() <= kShortSymbolsMax) {
    MergeShort(symbols, scratch, out);
    return;
  }
  for (std::size_t begin = 0; begin < symbols.size();) {
    std::size_t end = begin + 1;
    while (end < symbols.size() && boundaries_.MayJoin(symbols[end - 1].id, symbols[end].id)) {
      ++end;
    }
    std::span<BpeSymbol> part = symbols.subspan(begin, end - begin);
    if (part.size() <= kShortSymbolsMax) {
      MergeShort(part, scratch, out);
    } else {
      scratch.long_word.Merge(merges_, part, scratch.forbidden, scratch.steps, out);
    }
    begin = end;
  }
}

std::unique_ptr<const ByteBpe> TokenModel::FromBytes() const { return nullptr; }

std::unique_ptr<const ByteBpe> Bpe::FromBytes() const {
  bool plain = options_.continuing_subword_prefix.empty() && options_.end_of_word_suffix.empty();
  return plain ? ByteBpe::Create(*vocabulary_, merges_, {.ignore_merges = options_.ignore_merges})
               : nullptr;
}

void Bpe::MergeShort(std::span<BpeSymbol> symbols, ModelScratch& scratch,
                     std::vector<TokenId>& out) const {
  std::size_t count = symbols.size();
  auto rank = [&](std::size_t i) {
    if (i + 1 >= count) {
      return kNoMerge;
    }
    const MergeTable::Entry* entry = merges_.Find(symbols[i].id, symbols[i + 1].id);
    return entry == nullptr || IsForbidden(scratch.forbidden, entry->merged) ? kNoMerge
                                                                             : entry->rank;
  };
  for (std::size_t i = 0; i < count; ++i) {
    symbols[i].rank = rank(i);
  }
  while (count > 1) {
    scratch.steps += count;
    std::size_t best = 0;
    for (std::size_t i = 1; i < count; ++i) {
      if (symbols[i].rank < symbols[best].rank) {
        best = i;
      }
    }
    if (symbols[best].rank == kNoMerge) {
      break;
    }
    symbols[best].id = merges_.Find(symbols[best].id, symbols[best + 1].id)->merged;
    std::copy(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 2,
              symbols.begin() + static_cast<std::ptrdiff_t>(count),
              symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    --count;
    symbols[best].rank = rank(best);
    if (best > 0) {
      symbols[best - 1].rank = rank(best - 1);
    }
  }
  for (std::size_t i = 0; i < count; ++i) {
    out.push_back(symbols[i].id);
  }
}

}  // namespace pixii::text
