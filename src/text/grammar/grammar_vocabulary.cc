#include "text/grammar/grammar_vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "base/utf8.h"

namespace pixii::text::grammar {

namespace {

// Kinds of each byte of a token; broken where it is no part of a whole sequence.
std::vector<std::uint16_t> ClassesOf(std::string_view text) {
  std::vector<std::uint16_t> out;
  while (!text.empty()) {
    auto byte = static_cast<std::uint8_t>(text[0]);
    if (byte < 0x80) {
      out.push_back(ClassOfAscii(byte));
      text.remove_prefix(1);
      continue;
    }
    std::size_t size = Utf8SequenceLength(text);
    out.insert(out.end(), std::max<std::size_t>(size, 1), size == 0 ? kBroken : kNonAscii);
    text.remove_prefix(std::max<std::size_t>(size, 1));
  }
  return out;
}

bool StartsCharacter(char c) { return (static_cast<std::uint8_t>(c) & 0xC0) != 0x80; }

std::uint32_t CharsOf(std::string_view text) {
  return static_cast<std::uint32_t>(std::count_if(text.begin(), text.end(), StartsCharacter));
}

}  // namespace

std::uint16_t ClassOfAscii(std::uint8_t byte) {
  if (byte >= 'a' && byte <= 'z') {
    return byte <= 'f' ? kLowerHex : kLowerRest;
  }
  if (byte >= 'A' && byte <= 'Z') {
    return byte <= 'F' ? kUpperHex : kUpperRest;
  }
  if (byte >= '0' && byte <= '9') {
    return kDigit;
  }
  switch (byte) {
    case '_':
      return kUnderscore;
    case '-':
      return kHyphen;
    case '.':
      return kDot;
    case ' ':
      return kSpace;
    case '/':
      return kSlash;
    case ':':
      return kColon;
    case '"':
    case '\\':
      return kQuote;
    default:
      return byte < 0x20 ? kControl : kOtherPrintable;
  }
}

Result<std::shared_ptr<const GrammarVocabulary>> GrammarVocabulary::Build(
    const Tokenizer& tokenizer, const VocabularyOptions& options) {
  auto count = static_cast<std::uint32_t>(tokenizer.vocab_size());
  std::vector<std::string> bytes(std::max(count, options.vocab_size));
  for (std::uint32_t id = 0; id < count; ++id) {
    auto token = static_cast<TokenId>(id);
    if (!tokenizer.IsSpecial(token)) {
      bytes[id] = tokenizer.TokenBytes(token);
    }
  }
  return FromBytes(std::move(bytes), options);
}

Result<std::shared_ptr<const GrammarVocabulary>> GrammarVocabulary::FromBytes(
    std::vector<std::string> bytes, const VocabularyOptions& options) {
  if (bytes.size() > kGrammarVocabularyMax) {
    return Fail(Code::kTooLarge, fmt::format("a vocabulary of {} tokens, at most {}", bytes.size(),
                                             kGrammarVocabularyMax));
  }
  if (bytes.size() < options.vocab_size) {
    bytes.resize(options.vocab_size);
  }
  auto out = std::shared_ptr<GrammarVocabulary>(new GrammarVocabulary());  // tidy: new
  out->bytes_ = std::move(bytes);
  out->eos_ids_ = options.eos_ids;
  std::erase_if(out->eos_ids_, [&](TokenId id) {
    return id < 0 || static_cast<std::size_t>(id) >= out->bytes_.size();
  });
  for (TokenId eos : out->eos_ids_) {
    out->bytes_[static_cast<std::size_t>(eos)].clear();
  }
  std::vector<std::pair<std::string_view, TokenId>> texts;
  for (std::size_t id = 0; id < out->bytes_.size(); ++id) {
    std::string_view text = out->bytes_[id];
    if (!text.empty() && text.size() <= kGrammarTokenBytesMax) {
      texts.emplace_back(text, static_cast<TokenId>(id));
    }
  }
  out->trie_ = BuildTrie(std::move(texts));
  out->BuildPlain();
  return std::shared_ptr<const GrammarVocabulary>(std::move(out));
}

GrammarVocabulary::Tails GrammarVocabulary::BuildTrie(
    std::vector<std::pair<std::string_view, TokenId>> texts) {
  std::sort(texts.begin(), texts.end());
  Tails out;
  out.nodes.push_back({});
  std::vector<std::uint32_t> path = {0};  // nodes of the text before, root first
  auto close = [&](std::size_t depth) {
    while (path.size() > depth + 1) {
      std::uint32_t node = path.back();
      path.pop_back();
      out.nodes[node].end = static_cast<std::uint32_t>(out.nodes.size());
      out.nodes[node].token_end = static_cast<std::uint32_t>(out.tokens.size());
    }
  };
  std::string_view before;
  for (const auto& [text, id] : texts) {
    std::size_t common = 0;
    while (common < std::min(before.size(), text.size()) && before[common] == text[common]) {
      ++common;
    }
    close(common);
    for (std::size_t depth = common; depth < text.size(); ++depth) {
      Node node{};
      node.byte = static_cast<std::uint8_t>(text[depth]);
      node.depth = static_cast<std::uint16_t>(depth + 1);
      node.token_begin = static_cast<std::uint32_t>(out.tokens.size());
      path.push_back(static_cast<std::uint32_t>(out.nodes.size()));
      out.nodes.push_back(node);
    }
    Node& last = out.nodes[path.back()];
    ++last.own_tokens;
    out.tokens.push_back(id);
    std::vector<std::uint16_t> classes = ClassesOf(text);
    std::uint16_t below = 0;
    std::uint32_t chars = 0;
    for (std::size_t depth = text.size(); depth > 0; --depth) {
      Node& parent = out.nodes[path[depth - 1]];
      // Bytes behind the middle of a sequence are whole only from its first one.
      below |= classes[depth - 1];
      chars += StartsCharacter(text[depth - 1]) ? 1 : 0;
      parent.classes |= below;
      parent.chars_below =
          static_cast<std::uint8_t>(std::max<std::uint32_t>(parent.chars_below, std::min(chars, 255U)));
    }
    before = text;
  }
  close(0);
  out.nodes[0].end = static_cast<std::uint32_t>(out.nodes.size());
  out.nodes[0].token_end = static_cast<std::uint32_t>(out.tokens.size());
  return out;
}

void GrammarVocabulary::BuildPlain() {
  std::vector<std::vector<TokenId>> plain;
  std::vector<std::vector<std::pair<std::string_view, TokenId>>> tails(kSafePrefixMax + 3);
  for (std::size_t id = 0; id < bytes_.size(); ++id) {
    std::string_view text = bytes_[id];
    if (text.empty() || text.size() > kGrammarTokenBytesMax) {
      continue;
    }
    std::vector<std::uint16_t> classes = ClassesOf(text);
    auto unsafe = std::find_if(classes.begin(), classes.end(),
                               [](std::uint16_t kind) { return (kind & kPlainClasses) == 0; });
    auto at = static_cast<std::size_t>(unsafe - classes.begin());
    std::uint32_t chars = CharsOf(text.substr(0, at));
    auto token = static_cast<TokenId>(id);
    if (unsafe == classes.end()) {
      plain.resize(std::max<std::size_t>(plain.size(), chars + 1));
      plain[chars].push_back(token);
      continue;
    }
    tails[std::min<std::size_t>(chars, kSafePrefixMax + 1)].emplace_back(
        chars > kSafePrefixMax ? text : text.substr(at), token);
    tails[kSafePrefixMax + 2].emplace_back(text.substr(at), token);
  }
  std::vector<std::uint32_t> mask(mask_words(), 0);
  plain_.clear();
  for (const std::vector<TokenId>& tokens : plain) {
    for (TokenId token : tokens) {
      mask[static_cast<std::size_t>(token) / 32] |= 1U << (token % 32);
    }
    plain_.push_back(mask);
  }
  if (plain_.empty()) {
    plain_.push_back(mask);
  }
  for (auto& group : tails) {
    tails_.push_back(BuildTrie(std::move(group)));
  }
}

bool GrammarVocabulary::IsEos(TokenId id) const {
  return std::find(eos_ids_.begin(), eos_ids_.end(), id) != eos_ids_.end();
}

}  // namespace pixii::text::grammar
