#include "text/tokenizer/unigram.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/utf8.h"
#include "text/tokenizer/text_range.h"

namespace pixii::text {

namespace {

constexpr double kUnknownPenalty = 10.0;  // below the worst piece

std::vector<std::string> Pieces(const Vocabulary& vocabulary) {
  std::vector<std::string> pieces;
  for (TokenId id = 0; id < vocabulary.id_end(); ++id) {
    pieces.emplace_back(vocabulary.Piece(id));
  }
  return pieces;
}

}  // namespace

Unigram::Unigram(const Vocabulary& vocabulary, UnigramOptions options)
    : vocabulary_(&vocabulary), options_(std::move(options)), pieces_(Pieces(vocabulary)) {
  double worst = std::numeric_limits<double>::infinity();
  for (double score : options_.scores) {
    worst = std::min(worst, score);
  }
  unknown_score_ = worst - kUnknownPenalty;
}

Result<std::unique_ptr<const Unigram>> Unigram::Create(const Vocabulary& vocabulary,
                                                       UnigramOptions options) {
  if (options.unknown && !vocabulary.Has(*options.unknown)) {
    return Fail(Code::kDataCorrupt, fmt::format("unk_id {} has no piece", *options.unknown));
  }
  for (TokenId id = 0; id < vocabulary.id_end(); ++id) {
    if (vocabulary.Piece(id).size() > kUnigramPieceBytesMax) {
      return Fail(Code::kTooLarge, fmt::format("piece {} has {} bytes, at most {} are allowed", id,
                                               vocabulary.Piece(id).size(), kUnigramPieceBytesMax));
    }
  }
  return std::unique_ptr<const Unigram>(
      new Unigram(vocabulary, std::move(options)));  // tidy: new private constructor
}

// Fills scratch.cuts: for each byte offset that a cut may end at, the best last piece and where it
// begins.
void Unigram::FindBestCut(std::string_view word, ModelScratch& scratch) const {
  std::vector<UnigramCut>& cuts = scratch.cuts;
  cuts.assign(word.size() + 1, UnigramCut{});
  auto offer = [&](std::size_t begin, std::size_t end, TokenId id, double score) {
    UnigramCut& cut = cuts[end];
    if (cut.begin == UnigramCut::kNone || score > cut.score) {
      cut = {score, static_cast<std::uint32_t>(begin), id};
    }
  };
  for (std::size_t begin = 0; begin < word.size();) {
    std::size_t char_bytes = std::max<std::size_t>(1, Utf8SequenceLength(word.substr(begin)));
    double before = cuts[begin].score;
    bool has_char = false;
    AhoCorasick::State state = AhoCorasick::kRoot;
    for (std::size_t end = begin; end < word.size();) {
      state = pieces_.Step(state, static_cast<unsigned char>(word[end++]));
      ++scratch.steps;
      if (state == AhoCorasick::kNone) {
        break;
      }
      std::uint32_t id = pieces_.PatternAt(state);
      if (id != AhoCorasick::kNone && !IsForbidden(scratch.forbidden, static_cast<TokenId>(id))) {
        offer(begin, end, static_cast<TokenId>(id), options_.scores[id] + before);
        has_char = has_char || end == begin + char_bytes;
      }
    }
    if (!has_char) {
      offer(begin, begin + char_bytes, UnigramCut::kUnknown, unknown_score_ + before);
    }
    begin += char_bytes;
  }
}

void Unigram::AppendUnknown(std::string_view text, const ModelScratch& scratch,
                            std::vector<TokenId>& out) const {
  auto piece = vocabulary_->IdOf(text);
  if (piece && !IsForbidden(scratch.forbidden, *piece)) {
    out.push_back(*piece);
    return;
  }
  if (options_.byte_fallback) {
    std::size_t start = out.size();
    for (char byte : text) {
      auto id = vocabulary_->IdOf(fmt::format("<0x{:02X}>", static_cast<unsigned char>(byte)));
      if (!id) {
        out.resize(start);
        break;
      }
      out.push_back(*id);
    }
    if (out.size() > start) {
      return;
    }
  }
  if (options_.unknown) {
    out.push_back(*options_.unknown);
  }
}

void Unigram::Tokenize(std::string_view word, ModelScratch& scratch,
                       std::vector<TokenId>& out) const {
  FindBestCut(word, scratch);
  // Backwards along the best cuts; neighbouring unknown characters are one.
  std::vector<TextRange> unknowns;
  std::vector<TokenId> reversed;
  for (std::size_t end = word.size(); end > 0;) {
    const UnigramCut& cut = scratch.cuts[end];
    bool unknown = cut.id == UnigramCut::kUnknown || cut.id == options_.unknown;
    if (unknown && !reversed.empty() && reversed.back() == UnigramCut::kUnknown) {
      unknowns.back().begin = cut.begin;
    } else if (unknown) {
      reversed.push_back(UnigramCut::kUnknown);
      unknowns.push_back({cut.begin, end});
    } else {
      reversed.push_back(cut.id);
    }
    end = cut.begin;
  }
  for (; !reversed.empty(); reversed.pop_back()) {
    if (reversed.back() != UnigramCut::kUnknown) {
      out.push_back(reversed.back());
      continue;
    }
    TextRange range = unknowns.back();
    unknowns.pop_back();
    AppendUnknown(word.substr(range.begin, range.end - range.begin), scratch, out);
  }
}

}  // namespace pixii::text
