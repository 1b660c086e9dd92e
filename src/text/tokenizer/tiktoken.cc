#include "text/tokenizer/tiktoken.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <vector>

#include "text/tokenizer/byte_alphabet.h"
#include "text/tokenizer/known_patterns.h"
#include "text/tokenizer/vocabulary.h"
#include "wire/base64.h"

namespace pixii::text {

namespace {

constexpr std::size_t kTokenBytesMax = 4'096;  // bytes of one token; its cuts are all tried

struct Family {
  std::string_view file_stem;
  std::string_view tokenizer_class;
  std::size_t ranks;  // 0: tells nothing
  std::string_view pattern;
};

constexpr std::array kFamilies = {
    Family{"cl100k_base", "", 100'256, kLlama3Pattern},
    Family{"o200k_base", "", 199'998, kO200kPattern},
    Family{"r50k_base", "GPT2Tokenizer", 50'256, kGpt2Pattern},
    Family{"p50k_base", "", 50'280, kGpt2Pattern},
    Family{"gpt2", "", 50'256, kGpt2Pattern},
    Family{"qwen", "QWenTokenizer", 151'643, kQwen2Pattern},
    Family{"", "TikTokenTokenizer", 163'584, kKimiPattern},
    Family{"", "", 128'000, kLlama3Pattern},  // Llama 3's tokenizer.model
};

Result<std::string_view> PatternOf(std::size_t ranks, const TokenizerConfig& config,
                                   const JsonPlace& place) {
  if (!config.pattern.empty()) {
    return std::string_view(config.pattern);
  }
  std::string_view stem = std::string_view(place.file).substr(place.file.rfind('/') + 1);
  stem = stem.substr(0, stem.find('.'));
  for (const Family& family : kFamilies) {
    if (!family.file_stem.empty() && family.file_stem == stem) {
      return family.pattern;
    }
  }
  for (const Family& family : kFamilies) {
    if (!family.tokenizer_class.empty() && family.tokenizer_class == config.tokenizer_class) {
      return family.pattern;
    }
  }
  for (const Family& family : kFamilies) {
    if (family.ranks == ranks) {
      return family.pattern;
    }
  }
  return place.Unsupported(fmt::format(
      "a vocabulary of {} ranks without a pattern (tokenizer_config.json: \"pat_str\")", ranks));
}

struct Token {
  std::string piece;  // in the byte alphabet
  std::string bytes;
};

// One line: base64, a space, the rank.
Result<std::pair<std::string, TokenId>> ReadLine(std::string_view line, std::size_t number,
                                                 const JsonPlace& place) {
  std::size_t space = line.find(' ');
  TokenId rank = -1;
  std::optional<std::string> bytes;
  if (space != std::string_view::npos) {
    bytes = wire::DecodeBase64(line.substr(0, space));
    std::string_view digits = line.substr(space + 1);
    auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), rank);
    rank = error == std::errc{} && end == digits.data() + digits.size() ? rank : -1;
  }
  if (!bytes || bytes->empty() || bytes->size() > kTokenBytesMax || rank < 0 ||
      rank > kTokenIdMax) {
    return place.Refuse(fmt::format("line {} must be base64 of 1 to {} bytes, a space and a rank",
                                    number, kTokenBytesMax));
  }
  return std::pair(std::move(*bytes), rank);
}

struct Split {
  TokenId left;
  TokenId right;
};

// All ways to join two tokens to a third, by the rank of the third.
std::string MergesOf(const Vocabulary& bytes, const Vocabulary& pieces) {
  std::string out = "[";
  std::vector<Split> splits;
  for (TokenId id = 0; id < bytes.id_end(); ++id) {
    std::string_view token = bytes.Piece(id);
    splits.clear();
    for (std::size_t cut = 1; cut < token.size(); ++cut) {
      auto left = bytes.IdOf(token.substr(0, cut));
      auto right = left ? bytes.IdOf(token.substr(cut)) : std::nullopt;
      if (right) {
        splits.push_back({*left, *right});
      }
    }
    std::sort(splits.begin(), splits.end(), [](const Split& a, const Split& b) {
      return std::pair(a.left, a.right) < std::pair(b.left, b.right);
    });
    for (const Split& split : splits) {
      out += out.size() == 1 ? "[" : ",[";
      wire::AppendJsonString(out, pieces.Piece(split.left));
      out += ',';
      wire::AppendJsonString(out, pieces.Piece(split.right));
      out += ']';
    }
  }
  return out + "]";
}

}  // namespace

bool LooksLikeTiktoken(std::string_view text) {
  return ReadLine(text.substr(0, text.find('\n')), 1, {}).has_value();
}

Result<std::string> TiktokenToJson(std::string_view text, const TokenizerConfig& config,
                                   std::string_view file) {
  JsonPlace place{std::string(file), {}};
  Vocabulary bytes;
  Vocabulary pieces;
  std::string vocab;
  for (std::size_t number = 1; !text.empty(); ++number) {
    std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) {
      line.remove_suffix(1);
    }
    if (line.empty()) {
      continue;
    }
    PX_TRY(auto token, ReadLine(line, number, place));
    std::string piece;
    AppendInByteAlphabet(piece, token.first);
    if (bytes.Add(token.first, token.second) != Vocabulary::Added::kYes ||
        pieces.Add(piece, token.second) != Vocabulary::Added::kYes) {
      return place.Refuse(fmt::format("line {} has a token or a rank for the second time", number));
    }
    vocab += vocab.empty() ? "" : ",";
    wire::AppendJsonString(vocab, piece);
    fmt::format_to(std::back_inserter(vocab), ":{}", token.second);
  }
  PX_TRY(std::string_view pattern, PatternOf(bytes.count(), config, place));
  std::string quoted;
  wire::AppendJsonString(quoted, pattern);
  auto end_token = [&](const std::optional<bool>& add,
                       std::string_view content) -> std::optional<AddedToken> {
    for (const AddedToken& token : config.added) {
      if (add.value_or(false) && token.content == content) {
        return token;
      }
    }
    return std::nullopt;
  };
  return fmt::format(
      R"({{"version":"1.0","added_tokens":{},"normalizer":null,"pre_tokenizer":{{"type":"Sequence",)"
      R"("pretokenizers":[{{"type":"Split","pattern":{{"Regex":{}}},"behavior":"Isolated",)"
      R"("invert":false}},{{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}}]}},)"
      R"("post_processor":{},"decoder":{{"type":"ByteLevel"}},"model":{{"type":"BPE",)"
      R"("ignore_merges":true,"vocab":{{{}}},"merges":{}}}}})",
      AddedTokensToJson(config.added), quoted,
      PostProcessorToJson(end_token(config.add_bos_token, config.bos_token),
                          end_token(config.add_eos_token, config.eos_token)),
      vocab, MergesOf(bytes, pieces));
}

}  // namespace pixii::text
