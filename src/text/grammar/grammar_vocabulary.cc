#include "text/grammar/grammar_vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/utf8.h"
#include "wire/messages/constraint.h"

namespace pixii::text::grammar {

namespace {

constexpr std::array kWideSpaces = std::to_array<Interval>({{0x85, 0x85},
                                                            {0xA0, 0xA0},
                                                            {0x1680, 0x1680},
                                                            {0x2000, 0x200A},
                                                            {0x2028, 0x2029},
                                                            {0x202F, 0x202F},
                                                            {0x205F, 0x205F},
                                                            {0x3000, 0x3000},
                                                            {0xFEFF, 0xFEFF}});

bool IsWideSpace(char32_t c) {
  return std::any_of(kWideSpaces.begin(), kWideSpaces.end(),
                     [&](const Interval& part) { return c >= part.low && c <= part.high; });
}

// Appends the kinds of each byte of a token.
void AppendKinds(std::string_view text, std::vector<std::uint32_t>& out) {
  std::size_t partial = Utf8IncompleteTail(text);
  const std::size_t end = out.size() + text.size();
  text.remove_suffix(partial);
  while (!text.empty()) {
    auto byte = static_cast<std::uint8_t>(text[0]);
    if (byte < 0x80) {
      out.push_back(ClassOfAscii(byte));
      text.remove_prefix(1);
      continue;
    }
    std::size_t size = Utf8SequenceLength(text);
    std::uint32_t kind = size == 0                       ? kBroken
                         : IsWideSpace(DecodeUtf8(text)) ? kWideSpace
                                                         : kNonAscii;
    out.insert(out.end(), std::max<std::size_t>(size, 1), kind);
    text.remove_prefix(std::max<std::size_t>(size, 1));
  }
  out.resize(end, kPartial);
}

constexpr std::uint32_t kLower = kLowerHex | kLowerRest;
constexpr std::uint32_t kUpper = kUpperHex | kUpperRest;
constexpr std::uint32_t kLetters = kLower | kUpper;
constexpr std::uint32_t kName = kLetters | kDigit | kUnderscore;
constexpr std::uint32_t kSomeWide = kPlainClasses & ~(kWideSpace | kPartial);
constexpr std::uint32_t kAsciiPlain = kSomeWide & ~kNonAscii;

// What patterns loop on, as far as it is common.
constexpr std::array kSlices = std::to_array<std::uint32_t>({
    kPlainClasses,
    kSomeWide,
    kSomeWide & ~kSpace,
    kSomeWide & ~kSlash,
    kSomeWide & ~(kSpace | kSlash),
    kSomeWide & ~kColon,
    kSomeWide & ~kDot,
    kSomeWide & ~(kSpace | kDot),
    kAsciiPlain,
    kAsciiPlain & ~kSpace,
    kPlainClasses & ~kSlash,
    kAsciiPlain & ~kSlash,
    kAsciiPlain & ~(kSlash | kSpace),
    kPlainClasses & ~kDigit,
    kName | kSpace | kHyphen | kDot,
    kName | kHyphen | kDot | kSlash | kColon,
    kName | kHyphen | kDot | kSlash,
    kName | kHyphen | kDot,
    kName | kHyphen | kNonAscii,
    kName | kHyphen,
    kName,
    kLetters | kDigit | kHyphen,
    kLetters | kDigit,
    kLetters | kSpace,
    kLetters,
    kLower | kDigit | kUnderscore | kHyphen,
    kLower | kDigit | kUnderscore,
    kLower | kDigit | kHyphen,
    kLower | kDigit,
    kLower,
    kUpper | kDigit | kUnderscore,
    kUpper,
    kLowerHex | kUpperHex | kDigit,
    kLowerHex | kDigit,
    kDigit,
});
static_assert(kSlices.size() == kSliceCount);

bool StartsCharacter(char c) { return (static_cast<std::uint8_t>(c) & 0xC0) != 0x80; }

std::uint32_t CharsOf(std::string_view text) {
  return static_cast<std::uint32_t>(std::count_if(text.begin(), text.end(), StartsCharacter));
}

}  // namespace

std::span<const Interval> WideSpaces() { return kWideSpaces; }

std::span<const std::uint32_t> SliceClasses() { return kSlices; }

namespace {

constexpr std::uint32_t ClassOfAsciiNow(std::uint8_t byte) {
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

constexpr std::array<std::uint32_t, 128> kAsciiClasses = [] {
  std::array<std::uint32_t, 128> out{};
  for (std::uint8_t byte = 0; byte < 128; ++byte) {
    out[byte] = ClassOfAsciiNow(byte);
  }
  return out;
}();

}  // namespace

std::uint32_t ClassOfAscii(std::uint8_t byte) { return kAsciiClasses[byte & 0x7F]; }

struct GrammarVocabulary::Text {
  std::string_view bytes;
  const std::uint32_t* kinds;  // of each byte
  TokenId id;
  std::uint32_t all_kinds = 0;  // of its bytes
  std::uint32_t chars = 0;
};

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
  for (const AddedTokenInfo& added : tokenizer.AddedTokenList()) {
    if (added.special ||
        std::ranges::find(options.markers, added.content) != options.markers.end()) {
      bytes[static_cast<std::size_t>(added.id)] = wire::kTokenMark + std::string(added.content);
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
  std::size_t size = 0;
  for (const std::string& text : out->bytes_) {
    size += text.size() <= kGrammarTokenBytesMax ? text.size() : 0;
  }
  std::vector<std::uint32_t> kinds;
  kinds.reserve(size);  // pointers into it stay
  std::vector<Text> texts;
  texts.reserve(out->bytes_.size());
  for (std::size_t id = 0; id < out->bytes_.size(); ++id) {
    std::string_view text = out->bytes_[id];
    if (!text.empty() && text.size() <= kGrammarTokenBytesMax) {
      const std::size_t begin = kinds.size();
      AppendKinds(text, kinds);
      Text& added = texts.emplace_back();
      added = {text, kinds.data() + begin, static_cast<TokenId>(id), 0, CharsOf(text)};
      for (std::size_t at = begin; at < kinds.size(); ++at) {
        added.all_kinds |= kinds[at];
      }
    }
  }
  std::ranges::sort(texts, {}, &Text::bytes);
  out->trie_ = BuildTrie(texts);
  std::vector<Text> long_texts;
  for (const Text& text : texts) {
    out->longest_chars_ = std::max(out->longest_chars_, text.chars);
    if (text.chars > kSlicePrefixMax) {
      long_texts.push_back(text);
    }
  }
  out->long_tokens_ = BuildTrie(long_texts);
  for (std::uint32_t index = 0; index < kSliceCount; ++index) {
    out->slices_.push_back(out->BuildSlice(index, texts));
  }
  std::sort(out->slices_.begin(), out->slices_.end(), [](const Slice& a, const Slice& b) {
    return a.count != b.count ? a.count > b.count : a.classes < b.classes;
  });
  return std::shared_ptr<const GrammarVocabulary>(std::move(out));
}

GrammarVocabulary::Trie GrammarVocabulary::BuildTrie(std::span<const Text> texts) {
  Trie out;
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
  for (const Text& entry : texts) {
    const std::string_view text = entry.bytes;
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
    out.tokens.push_back(entry.id);
    std::uint32_t below = 0;
    std::uint32_t chars = 0;
    for (std::size_t depth = text.size(); depth > 0; --depth) {
      Node& parent = out.nodes[path[depth - 1]];
      // Bytes behind the middle of a sequence are whole only from its first one.
      below |= entry.kinds[depth - 1];
      chars += StartsCharacter(text[depth - 1]) ? 1 : 0;
      parent.classes |= below;
      parent.chars_below = static_cast<std::uint8_t>(
          std::max<std::uint32_t>(parent.chars_below, std::min(chars, 255U)));
    }
    before = text;
  }
  close(0);
  out.nodes[0].end = static_cast<std::uint32_t>(out.nodes.size());
  out.nodes[0].token_end = static_cast<std::uint32_t>(out.tokens.size());
  return out;
}

GrammarVocabulary::Slice GrammarVocabulary::BuildSlice(std::uint32_t index,
                                                       std::span<const Text> texts) const {
  Slice out;
  out.index = index;
  out.classes = kSlices[index];
  std::vector<std::uint32_t> none((bytes_.size() + 31) / 32, 0);
  out.masks.assign(kSlicePrefixMax + 2, none);
  for (std::uint8_t byte = 0x20; byte < 0x7F && out.sample == 0; ++byte) {
    out.sample = (ClassOfAscii(byte) & out.classes) != 0 ? byte : 0;
  }
  std::map<std::uint32_t, std::vector<Text>> mixed;
  std::vector<Text> tails;
  std::vector<Text> broken;
  for (const Text& text : texts) {
    const bool all = (text.all_kinds & ~out.classes) == 0;
    std::size_t pure = all ? text.bytes.size() : 0;
    while (pure < text.bytes.size() && (text.kinds[pure] & out.classes) != 0) {
      ++pure;
    }
    auto id = static_cast<std::size_t>(text.id);
    if (pure == text.bytes.size()) {
      ++out.count;
      std::size_t row = std::min<std::size_t>(text.chars, kSlicePrefixMax + 1);
      out.masks[row][id / 32] |= 1U << (id % 32);
    } else if (text.kinds[pure] == kBroken && text.bytes[0] != wire::kTokenMark) {
      continue;  // no text holds it; a marked token stands in scripts
    } else if (pure > 0) {
      bool far = CharsOf(text.bytes.substr(0, pure)) > kMixedPrefixMax;
      mixed[far ? 0 : text.kinds[pure]].push_back(text);
      tails.push_back({text.bytes.substr(pure), text.kinds + pure, text.id});
    } else if (static_cast<std::uint8_t>(text.bytes[0]) >= 0x80 && (out.classes & kNonAscii) != 0) {
      broken.push_back(text);
    }
  }
  for (std::size_t row = 1; row < out.masks.size(); ++row) {
    for (std::size_t word = 0; word < none.size(); ++word) {
      out.masks[row][word] |= out.masks[row - 1][word];
    }
  }
  std::ranges::sort(tails, {}, &Text::bytes);
  for (const auto& [kind, group] : mixed) {
    out.mixed.push_back({kind, BuildTrie(group)});
  }
  out.tails = BuildTrie(tails);
  out.broken = BuildTrie(broken);
  return out;
}

bool GrammarVocabulary::IsEos(TokenId id) const {
  return std::find(eos_ids_.begin(), eos_ids_.end(), id) != eos_ids_.end();
}

}  // namespace pixii::text::grammar
