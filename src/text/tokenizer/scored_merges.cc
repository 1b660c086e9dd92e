#include "text/tokenizer/scored_merges.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <tuple>
#include <unordered_map>

#include "wire/json.h"

namespace pixii::text {

namespace {

std::size_t CharacterCount(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

}  // namespace

Result<std::vector<ScoredMerge>> MergesOfScores(const ScoredPieces& vocabulary) {
  std::unordered_map<std::string_view, std::size_t> ids;
  for (std::size_t id = 0; id < vocabulary.pieces.size(); ++id) {
    if (vocabulary.may_be_part(id)) {
      ids.emplace(vocabulary.pieces[id], id);
    }
  }
  std::vector<ScoredMerge> out;
  for (std::size_t id = 0; id < vocabulary.pieces.size(); ++id) {
    const std::string_view piece = vocabulary.pieces[id];
    if (!vocabulary.may_be_made(id)) {
      continue;
    }
    if (piece.size() > kScoredPieceBytesMax) {
      return Fail(Code::kDataCorrupt, fmt::format("has a token {} of {} bytes, the limit is {}", id,
                                                  piece.size(), kScoredPieceBytesMax));
    }
    if (!std::isfinite(vocabulary.scores[id])) {
      return Fail(Code::kDataCorrupt, fmt::format("has no finite score for token {}", id));
    }
    const auto first = static_cast<std::ptrdiff_t>(out.size());
    for (std::size_t cut = 1; cut < piece.size(); ++cut) {
      if ((static_cast<unsigned char>(piece[cut]) & 0xC0) == 0x80) {
        continue;
      }
      const auto left = ids.find(piece.substr(0, cut));
      const auto right = left == ids.end() ? ids.end() : ids.find(piece.substr(cut));
      if (right != ids.end()) {
        out.push_back({vocabulary.scores[id], left->second, right->second,
                       CharacterCount(left->first), CharacterCount(right->first)});
      }
    }
    std::sort(out.begin() + first, out.end(), [](const ScoredMerge& a, const ScoredMerge& b) {
      return std::pair(a.left, a.right) < std::pair(b.left, b.right);
    });
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i].order = i;
  }
  std::sort(out.begin(), out.end(), [](const ScoredMerge& a, const ScoredMerge& b) {
    return std::tuple(a.score, a.left_characters, a.right_characters, b.order) >
           std::tuple(b.score, b.left_characters, b.right_characters, a.order);
  });
  return out;
}

std::string MergesJson(std::span<const std::string_view> pieces,
                       std::span<const ScoredMerge> merges) {
  std::string out = "[";
  for (const ScoredMerge& merge : merges) {
    out += out.size() == 1 ? "[" : ",[";
    wire::AppendJsonString(out, pieces[merge.left]);
    out += ',';
    wire::AppendJsonString(out, pieces[merge.right]);
    out += ']';
  }
  return out + "]";
}

}  // namespace pixii::text
