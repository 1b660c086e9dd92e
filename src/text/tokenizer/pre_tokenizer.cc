#include "text/tokenizer/pre_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/tokenizer/byte_alphabet.h"
#include "text/tokenizer/known_patterns.h"
#include "text/tokenizer/regex.h"
#include "text/tokenizer/split_behavior.h"
#include "text/tokenizer/unicode.h"

namespace pixii::text {

void Words::Reset(std::string_view text, bool first) {
  text_ = text;
  words_.clear();
  if (!text.empty()) {
    words_.push_back({0, static_cast<std::uint32_t>(text.size()), first});
  }
}

bool PreTokenizer::AppendScanners(std::vector<NextWord>& /*scanners*/, bool& /*bytes*/) const {
  return false;
}

namespace {

using PreTokenizerPtr = std::unique_ptr<const PreTokenizer>;

class Sequence final : public PreTokenizer {
 public:
  explicit Sequence(std::vector<PreTokenizerPtr> steps) : steps_(std::move(steps)) {}

  Result<void> Apply(Words& words) const override {
    for (const PreTokenizerPtr& step : steps_) {
      PX_CHECK_OK(step->Apply(words));
    }
    return {};
  }

  bool AppendScanners(std::vector<NextWord>& scanners, bool& bytes) const override {
    return std::all_of(steps_.begin(), steps_.end(), [&](const PreTokenizerPtr& step) {
      return !bytes && step->AppendScanners(scanners, bytes);
    });
  }

 private:
  std::vector<PreTokenizerPtr> steps_;
};

class SplitScan final : public PreTokenizer {
 public:
  explicit SplitScan(NextWord next) : next_(next) {}

  Result<void> Apply(Words& words) const override {
    return words.Split([&](const Word& word, std::vector<Word>& out) -> Result<void> {
      std::string_view text = words.TextOf(word);
      const char* end = text.data() + text.size();
      std::uint32_t begin = word.begin;
      for (const char* at = text.data(); at != end;) {
        const char* after = next_(at, end);
        std::uint32_t stop = begin + static_cast<std::uint32_t>(after - at);
        out.push_back({begin, stop, word.first && begin == word.begin});
        begin = stop;
        at = after;
      }
      return {};
    });
  }

  bool AppendScanners(std::vector<NextWord>& scanners, bool& /*bytes*/) const override {
    scanners.push_back(next_);
    return true;
  }

 private:
  NextWord next_;
};

struct SplitOptions {
  SplitBehavior behavior;
  bool invert;
};

class SplitRegex final : public PreTokenizer {
 public:
  SplitRegex(Regex pattern, SplitOptions options)
      : pattern_(std::move(pattern)), options_(options) {}

  Result<void> Apply(Words& words) const override {
    RegexScan scan(pattern_);
    std::vector<Stretch> stretches;
    return words.Split([&](const Word& word, std::vector<Word>& out) -> Result<void> {
      scan.Reset(words.TextOf(word));
      stretches.clear();
      std::uint32_t at = word.begin;
      for (TextRange match;;) {
        PX_TRY(bool found, scan.Next(match));
        if (!found) {
          break;
        }
        auto begin = word.begin + static_cast<std::uint32_t>(match.begin);
        auto end = word.begin + static_cast<std::uint32_t>(match.end);
        if (at != begin) {
          stretches.push_back({at, begin, options_.invert});
        }
        stretches.push_back({begin, end, !options_.invert});
        at = end;
      }
      if (at != word.end) {
        stretches.push_back({at, word.end, options_.invert});
      }
      AppendSplit(word, stretches, options_.behavior, out);
      return {};
    });
  }

 private:
  Regex pattern_;
  SplitOptions options_;
};

class SplitString final : public PreTokenizer {
 public:
  SplitString(std::string pattern, SplitOptions options)
      : pattern_(std::move(pattern)), options_(options) {}

  Result<void> Apply(Words& words) const override {
    std::vector<Stretch> stretches;
    return words.Split([&](const Word& word, std::vector<Word>& out) -> Result<void> {
      std::string_view text = words.TextOf(word);
      stretches.clear();
      std::size_t at = 0;
      auto push = [&](std::size_t begin, std::size_t end, bool match) {
        stretches.push_back({word.begin + static_cast<std::uint32_t>(begin),
                             word.begin + static_cast<std::uint32_t>(end),
                             match != options_.invert});
      };
      for (std::size_t found; (found = text.find(pattern_, at)) != std::string_view::npos;) {
        if (at != found) {
          push(at, found, false);
        }
        at = found + pattern_.size();
        push(found, at, true);
      }
      if (at != text.size()) {
        push(at, text.size(), false);
      }
      AppendSplit(word, stretches, options_.behavior, out);
      return {};
    });
  }

 private:
  std::string pattern_;
  SplitOptions options_;
};

// Each character that `is_delimiter` names is a delimiter of its own.
Result<void> SplitAtChars(Words& words, bool (*is_delimiter)(char32_t), SplitBehavior behavior) {
  std::vector<Stretch> stretches;
  return words.Split([&](const Word& word, std::vector<Word>& out) -> Result<void> {
    stretches.clear();
    std::uint32_t at = word.begin;
    ForEachChar(words.TextOf(word), [&](char32_t c, std::string_view bytes) {
      std::uint32_t end = at + static_cast<std::uint32_t>(bytes.size());
      if (is_delimiter(c)) {
        stretches.push_back({at, end, true});
      } else if (!stretches.empty() && !stretches.back().delimiter) {
        stretches.back().end = end;
      } else {
        stretches.push_back({at, end, false});
      }
      at = end;
    });
    AppendSplit(word, stretches, behavior, out);
    return {};
  });
}

bool IsAsciiPunctuation(char32_t c) {
  return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
         (c >= '{' && c <= '~');
}

bool IsPunctuationDelimiter(char32_t c) {
  return IsAsciiPunctuation(c) || (c >= 0x80 && IsPunctuation(c));
}

class CharSplit final : public PreTokenizer {
 public:
  CharSplit(bool (*is_delimiter)(char32_t), SplitBehavior behavior)
      : is_delimiter_(is_delimiter), behavior_(behavior) {}

  Result<void> Apply(Words& words) const override {
    return SplitAtChars(words, is_delimiter_, behavior_);
  }

 private:
  bool (*is_delimiter_)(char32_t);
  SplitBehavior behavior_;
};

class ByteLevel final : public PreTokenizer {
 public:
  ByteLevel(bool add_prefix_space, PreTokenizerPtr split)
      : add_prefix_space_(add_prefix_space), split_(std::move(split)) {}

  Result<void> Apply(Words& words) const override {
    if (add_prefix_space_) {
      PX_CHECK_OK(words.Rewrite([&](const Word& word, std::string& out) {
        std::string_view text = words.TextOf(word);
        if (!text.starts_with(' ')) {
          out += ' ';
        }
        out.append(text);
      }));
    }
    if (split_ != nullptr) {
      PX_CHECK_OK(split_->Apply(words));
    }
    return words.Rewrite(
        [&](const Word& word, std::string& out) { AppendInByteAlphabet(out, words.TextOf(word)); });
  }

  bool AppendScanners(std::vector<NextWord>& scanners, bool& bytes) const override {
    bool cut = split_ == nullptr || split_->AppendScanners(scanners, bytes);
    bytes = true;
    return cut && !add_prefix_space_;
  }

 private:
  bool add_prefix_space_;
  PreTokenizerPtr split_;
};

class FixedLength final : public PreTokenizer {
 public:
  explicit FixedLength(std::int64_t chars) : chars_(chars) {}

  Result<void> Apply(Words& words) const override {
    return words.Split([&](const Word& word, std::vector<Word>& out) -> Result<void> {
      std::uint32_t at = word.begin;
      std::int64_t count = 0;
      ForEachChar(words.TextOf(word), [&](char32_t, std::string_view bytes) {
        if (count % chars_ == 0) {
          out.push_back({at, at, word.first && at == word.begin});
        }
        ++count;
        at += static_cast<std::uint32_t>(bytes.size());
        out.back().end = at;
      });
      return {};
    });
  }

 private:
  std::int64_t chars_;
};

enum class PrependScheme : std::uint8_t { kAlways, kFirst, kNever };

class Metaspace final : public PreTokenizer {
 public:
  Metaspace(std::string replacement, PrependScheme scheme, bool split)
      : replacement_(std::move(replacement)),
        scheme_(scheme),
        split_(replacement_, {SplitBehavior::kMergedWithNext, false}),
        splits_(split) {}

  Result<void> Apply(Words& words) const override {
    PX_CHECK_OK(words.Rewrite([&](const Word& word, std::string& out) {
      std::string_view text = words.TextOf(word);
      bool prepend =
          scheme_ == PrependScheme::kAlways || (scheme_ == PrependScheme::kFirst && word.first);
      if (prepend && !text.starts_with(' ') && !text.starts_with(replacement_)) {
        out += replacement_;
      }
      for (char c : text) {
        if (c == ' ') {
          out += replacement_;
        } else {
          out += c;
        }
      }
    }));
    return splits_ ? split_.Apply(words) : Result<void>();
  }

 private:
  std::string replacement_;
  PrependScheme scheme_;
  SplitString split_;
  bool splits_;
};

template <class T, class... Args>
Result<PreTokenizerPtr> Make(Args&&... args) {
  return PreTokenizerPtr(std::make_unique<T>(std::forward<Args>(args)...));
}

Result<PreTokenizerPtr> MakeRegexSplit(std::string_view pattern, SplitOptions options,
                                       const JsonPlace& place) {
  const WordScanner scanner = ScannerOf(pattern);
  // Where all text is matched, only what becomes of matches counts.
  bool isolates = options.behavior == SplitBehavior::kIsolated && !options.invert;
  bool keeps_matches = options.behavior == SplitBehavior::kRemoved && options.invert;
  if (scanner.next != nullptr && (isolates || (scanner.covers && keeps_matches))) {
    return Make<SplitScan>(scanner.next);
  }
  auto regex = Regex::Compile(pattern);
  if (!regex) {
    return place.Refuse(regex.error().detail(), regex.error().code());
  }
  return Make<SplitRegex>(std::move(*regex), options);
}

Result<PreTokenizerPtr> MakeSequence(const wire::Json& json, const JsonPlace& place) {
  PX_TRY(const wire::Json::Array* items, ArrayField(json, "pretokenizers", place));
  std::vector<PreTokenizerPtr> steps;
  for (std::size_t i = 0; i < items->size(); ++i) {
    JsonPlace at = place.Member("pretokenizers").Item(i);
    PX_TRY(PreTokenizerPtr step, PreTokenizer::FromJson((*items)[i], at));
    if (step == nullptr) {
      return at.Refuse("must not be null");
    }
    steps.push_back(std::move(step));
  }
  return Make<Sequence>(std::move(steps));
}

Result<SplitBehavior> BehaviorField(const wire::Json& json, std::string_view fallback,
                                    const JsonPlace& place) {
  PX_TRY(std::string name, StringField(json, "behavior", fallback, place));
  auto behavior = SplitBehaviorOf(name);
  if (!behavior) {
    return place.Member("behavior")
        .Refuse(fmt::format("is \"{:.40}\", must be Removed, Isolated, MergedWithPrevious, "
                            "MergedWithNext or Contiguous",
                            name));
  }
  return *behavior;
}

Result<PreTokenizerPtr> MakeSplit(const wire::Json& json, const JsonPlace& place) {
  PX_TRY(PatternJson pattern, PatternField(json, "pattern", place));
  PX_TRY(SplitBehavior behavior, BehaviorField(json, "", place));
  PX_TRY(bool invert, BoolField(json, "invert", false, place));
  SplitOptions options{behavior, invert};
  if (pattern.is_regex) {
    return MakeRegexSplit(pattern.text, options, place.Member("pattern"));
  }
  return Make<SplitString>(std::move(pattern.text), options);
}

Result<PreTokenizerPtr> MakeByteLevel(const wire::Json& json, const JsonPlace& place) {
  PX_TRY(bool add_prefix_space, BoolField(json, "add_prefix_space", true, place));
  PX_TRY(bool use_regex, BoolField(json, "use_regex", true, place));
  PreTokenizerPtr split;
  if (use_regex) {
    PX_TRY(split, MakeRegexSplit(kGpt2Pattern, {SplitBehavior::kIsolated, false}, place));
  }
  return Make<ByteLevel>(add_prefix_space, std::move(split));
}

Result<PreTokenizerPtr> MakeMetaspace(const wire::Json& json, const JsonPlace& place) {
  PX_TRY(std::string replacement, StringField(json, "replacement", "\xE2\x96\x81", place));
  if (replacement.empty() || Utf8SequenceLength(replacement) != replacement.size()) {
    return place.Member("replacement").Refuse("must be one character");
  }
  PX_TRY(bool add_prefix_space, BoolField(json, "add_prefix_space", true, place));
  PX_TRY(std::string scheme,
         StringField(json, "prepend_scheme", add_prefix_space ? "always" : "never", place));
  PX_TRY(bool split, BoolField(json, "split", true, place));
  PrependScheme prepend;
  if (scheme == "always") {
    prepend = PrependScheme::kAlways;
  } else if (scheme == "first") {
    prepend = PrependScheme::kFirst;
  } else if (scheme == "never") {
    prepend = PrependScheme::kNever;
  } else {
    return place.Member("prepend_scheme").Refuse("must be \"always\", \"first\" or \"never\"");
  }
  return Make<Metaspace>(std::move(replacement), prepend, split);
}

Result<PreTokenizerPtr> MakeDigits(const wire::Json& json, const JsonPlace& place) {
  PX_TRY(bool individual, BoolField(json, "individual_digits", false, place));
  return Make<SplitScan>(NumberScanner(individual).next);
}

Result<PreTokenizerPtr> MakeFixedLength(const wire::Json& json, const JsonPlace& place) {
  PX_TRY(std::int64_t length, IntField(json, "length", 5, 1, 1 << 20, place));
  return Make<FixedLength>(length);
}

Result<PreTokenizerPtr> MakeCharDelimiterSplit(const wire::Json& json, const JsonPlace& place) {
  PX_TRY(std::string delimiter, StringField(json, "delimiter", "", place));
  if (delimiter.empty() || Utf8SequenceLength(delimiter) != delimiter.size()) {
    return place.Member("delimiter").Refuse("must be one character");
  }
  return Make<SplitString>(std::move(delimiter), SplitOptions{SplitBehavior::kRemoved, false});
}

Result<PreTokenizerPtr> MakeBert() {
  std::vector<PreTokenizerPtr> steps;
  steps.push_back(std::make_unique<CharSplit>(IsWhitespace, SplitBehavior::kRemoved));
  steps.push_back(std::make_unique<CharSplit>(IsPunctuationDelimiter, SplitBehavior::kIsolated));
  return Make<Sequence>(std::move(steps));
}

}  // namespace

Result<PreTokenizerPtr> PreTokenizer::FromJson(const wire::Json& json, const JsonPlace& place) {
  if (json.is_null()) {
    return PreTokenizerPtr();
  }
  PX_TRY(std::string type, ComponentType(json, place));
  if (type == "Sequence") {
    return MakeSequence(json, place);
  }
  if (type == "ByteLevel") {
    return MakeByteLevel(json, place);
  }
  if (type == "Split") {
    return MakeSplit(json, place);
  }
  if (type == "Digits") {
    return MakeDigits(json, place);
  }
  if (type == "Metaspace") {
    return MakeMetaspace(json, place);
  }
  if (type == "Whitespace") {
    return MakeRegexSplit(R"(\w+|[^\w\s]+)", {SplitBehavior::kRemoved, true}, place);
  }
  if (type == "WhitespaceSplit") {
    return Make<CharSplit>(IsWhitespace, SplitBehavior::kRemoved);
  }
  if (type == "Punctuation") {
    PX_TRY(SplitBehavior behavior, BehaviorField(json, "Isolated", place));
    return Make<CharSplit>(IsPunctuationDelimiter, behavior);
  }
  if (type == "FixedLength") {
    return MakeFixedLength(json, place);
  }
  if (type == "CharDelimiterSplit") {
    return MakeCharDelimiterSplit(json, place);
  }
  if (type == "BertPreTokenizer") {
    return MakeBert();
  }
  return place.Unsupported(fmt::format("pre-tokenizer \"{:.60}\"", type));
}

}  // namespace pixii::text
