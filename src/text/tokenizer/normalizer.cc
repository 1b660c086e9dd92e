#include "text/tokenizer/normalizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "text/tokenizer/byte_alphabet.h"
#include "text/tokenizer/charsmap_normalizer.h"
#include "text/tokenizer/regex.h"
#include "text/tokenizer/unicode.h"

namespace pixii::text {

namespace {

using NormalizerPtr = std::unique_ptr<const Normalizer>;

Result<void> CheckSize(std::size_t bytes, std::size_t bytes_max) {
  if (bytes > bytes_max) {
    return Fail(Code::kTooLarge,
                fmt::format("the normalized text has more than {} bytes", bytes_max));
  }
  return {};
}

class Sequence final : public Normalizer {
 public:
  explicit Sequence(std::vector<NormalizerPtr> steps) : steps_(std::move(steps)) {}

  Result<void> Apply(std::string& text, std::size_t bytes_max) const override {
    for (const NormalizerPtr& step : steps_) {
      PX_CHECK_OK(step->Apply(text, bytes_max));
    }
    return {};
  }

 private:
  std::vector<NormalizerPtr> steps_;
};

class UnicodeForm final : public Normalizer {
 public:
  explicit UnicodeForm(NormalForm form) : form_(form) {}

  Result<void> Apply(std::string& text, std::size_t /*bytes_max*/) const override {
    Normalize(text, form_);
    return {};
  }

 private:
  NormalForm form_;
};

class Prepend final : public Normalizer {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}

  Result<void> Apply(std::string& text, std::size_t bytes_max) const override {
    if (!text.empty()) {
      PX_CHECK_OK(CheckSize(text.size() + prefix_.size(), bytes_max));
      text.insert(0, prefix_);
    }
    return {};
  }

 private:
  std::string prefix_;
};

class ReplaceString final : public Normalizer {
 public:
  ReplaceString(std::string pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}

  Result<void> Apply(std::string& text, std::size_t bytes_max) const override {
    std::size_t found = text.find(pattern_);
    if (found == std::string::npos) {
      return {};
    }
    std::string out;
    out.reserve(text.size());
    std::size_t copied = 0;
    for (; found != std::string::npos; found = text.find(pattern_, copied)) {
      out.append(text, copied, found - copied).append(content_);
      copied = found + pattern_.size();
      PX_CHECK_OK(CheckSize(out.size(), bytes_max));
    }
    out.append(text, copied);
    text = std::move(out);
    return {};
  }

 private:
  std::string pattern_;
  std::string content_;
};

class ReplaceRegex final : public Normalizer {
 public:
  ReplaceRegex(Regex pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}

  Result<void> Apply(std::string& text, std::size_t bytes_max) const override {
    RegexScan scan(pattern_);
    scan.Reset(text);
    std::string out;
    std::size_t copied = 0;
    for (TextRange match;;) {
      PX_TRY(bool found, scan.Next(match));
      if (!found) {
        break;
      }
      out.append(text, copied, match.begin - copied).append(content_);
      copied = match.end;
      PX_CHECK_OK(CheckSize(out.size(), bytes_max));
    }
    out.append(text, copied);
    text = std::move(out);
    return {};
  }

 private:
  Regex pattern_;
  std::string content_;
};

class Lowercase final : public Normalizer {
 public:
  Result<void> Apply(std::string& text, std::size_t /*bytes_max*/) const override {
    std::string out;
    out.reserve(text.size());
    ForEachChar(text, [&](char32_t c, std::string_view) { AppendLower(out, c); });
    text = std::move(out);
    return {};
  }
};

class Strip final : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}

  Result<void> Apply(std::string& text, std::size_t /*bytes_max*/) const override {
    std::size_t first = text.size();  // of the first and past the last character that stays
    std::size_t last = 0;
    std::size_t at = 0;
    ForEachChar(text, [&](char32_t c, std::string_view bytes) {
      if (!IsWhitespace(c)) {
        first = std::min(first, at);
        last = at + bytes.size();
      }
      at += bytes.size();
    });
    if (right_) {
      text.resize(last);
    }
    if (left_) {
      text.erase(0, std::min(first, text.size()));
    }
    return {};
  }

 private:
  bool left_;
  bool right_;
};

class StripAccents final : public Normalizer {
 public:
  Result<void> Apply(std::string& text, std::size_t /*bytes_max*/) const override {
    std::string out;
    out.reserve(text.size());
    ForEachChar(text, [&](char32_t c, std::string_view bytes) {
      if (c < 0x80 || !IsMark(c)) {
        out.append(bytes);
      }
    });
    text = std::move(out);
    return {};
  }
};

// Of SentencePiece's rules for translation: control characters go, breaks and marks become spaces.
class Nmt final : public Normalizer {
 public:
  Result<void> Apply(std::string& text, std::size_t /*bytes_max*/) const override {
    std::string out;
    out.reserve(text.size());
    ForEachChar(text, [&](char32_t c, std::string_view bytes) {
      if (IsBreak(c)) {
        out += ' ';
      } else if (!IsControl(c)) {
        out.append(bytes);
      }
    });
    text = std::move(out);
    return {};
  }

 private:
  static bool IsBreak(char32_t c) {
    return c == 0x09 || c == 0x0A || c == 0x0C || c == 0x0D || c == 0x1680 ||
           (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
           c == 0xFEFF || c == 0xFFFD;
  }

  static bool IsControl(char32_t c) {
    return (c >= 0x01 && c <= 0x08) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F ||
           c == 0x8F || c == 0x9F;
  }
};

class ByteLevel final : public Normalizer {
 public:
  Result<void> Apply(std::string& text, std::size_t /*bytes_max*/) const override {
    std::string out;
    out.reserve(text.size() * 2);
    AppendInByteAlphabet(out, text);
    text = std::move(out);
    return {};
  }
};

struct BertOptions {
  bool clean_text;
  bool handle_chinese_chars;
  bool strip_accents;
  bool lowercase;
};

class Bert final : public Normalizer {
 public:
  explicit Bert(const BertOptions& options) : options_(options) {}

  Result<void> Apply(std::string& text, std::size_t bytes_max) const override {
    std::string out;
    out.reserve(text.size());
    ForEachChar(text, [&](char32_t c, std::string_view bytes) { Clean(c, bytes, out); });
    if (options_.strip_accents) {
      Normalize(out, NormalForm::kNfd);
      std::string plain;
      ForEachChar(out, [&](char32_t c, std::string_view bytes) {
        if (c < 0x80 || !IsNonspacingMark(c)) {
          plain.append(bytes);
        }
      });
      out = std::move(plain);
    }
    text = std::move(out);
    return options_.lowercase ? Lowercase().Apply(text, bytes_max) : Result<void>();
  }

 private:
  void Clean(char32_t c, std::string_view bytes, std::string& out) const {
    if (options_.clean_text) {
      bool blank = c == '\t' || c == '\n' || c == '\r' || IsWhitespace(c);
      if (c == 0 || c == 0xFFFD || (!blank && IsOther(c))) {
        return;
      }
      if (blank) {
        out += ' ';
        return;
      }
    }
    if (options_.handle_chinese_chars && IsCjkIdeograph(c)) {
      out.append(" ").append(bytes).append(" ");
      return;
    }
    out.append(bytes);
  }

  BertOptions options_;
};

template <class T, class... Args>
Result<NormalizerPtr> Make(Args&&... args) {
  return NormalizerPtr(std::make_unique<T>(std::forward<Args>(args)...));
}

Result<NormalizerPtr> MakeSequence(const wire::Json& json, const JsonPlace& place) {
  PX_TRY(const wire::Json::Array* items, ArrayField(json, "normalizers", place));
  std::vector<NormalizerPtr> steps;
  for (std::size_t i = 0; i < items->size(); ++i) {
    JsonPlace at = place.Member("normalizers").Item(i);
    PX_TRY(NormalizerPtr step, Normalizer::FromJson((*items)[i], at));
    if (step == nullptr) {
      return at.Refuse("must not be null");
    }
    steps.push_back(std::move(step));
  }
  return Make<Sequence>(std::move(steps));
}

Result<NormalizerPtr> MakeReplace(const wire::Json& json, const JsonPlace& place) {
  PX_TRY(PatternJson pattern, PatternField(json, "pattern", place));
  PX_TRY(std::string content, StringField(json, "content", "", place));
  if (!pattern.is_regex) {
    return Make<ReplaceString>(std::move(pattern.text), std::move(content));
  }
  auto regex = Regex::Compile(pattern.text);
  if (!regex) {
    return place.Member("pattern").Refuse(regex.error().detail(), regex.error().code());
  }
  return Make<ReplaceRegex>(std::move(*regex), std::move(content));
}

Result<NormalizerPtr> MakeStrip(const wire::Json& json, const JsonPlace& place) {
  PX_TRY(bool left, BoolField(json, "strip_left", true, place));
  PX_TRY(bool right, BoolField(json, "strip_right", true, place));
  return Make<Strip>(left, right);
}

Result<NormalizerPtr> MakeBert(const wire::Json& json, const JsonPlace& place) {
  BertOptions options{};
  PX_TRY(options.clean_text, BoolField(json, "clean_text", true, place));
  PX_TRY(options.handle_chinese_chars, BoolField(json, "handle_chinese_chars", true, place));
  PX_TRY(options.lowercase, BoolField(json, "lowercase", true, place));
  PX_TRY(options.strip_accents, BoolField(json, "strip_accents", options.lowercase, place));
  return Make<Bert>(options);
}

}  // namespace

Result<NormalizerPtr> Normalizer::FromJson(const wire::Json& json, const JsonPlace& place) {
  if (json.is_null()) {
    return NormalizerPtr();
  }
  PX_TRY(std::string type, ComponentType(json, place));
  if (type == "Sequence") {
    return MakeSequence(json, place);
  }
  if (type == "NFC") {
    return Make<UnicodeForm>(NormalForm::kNfc);
  }
  if (type == "NFD") {
    return Make<UnicodeForm>(NormalForm::kNfd);
  }
  if (type == "NFKC") {
    return Make<UnicodeForm>(NormalForm::kNfkc);
  }
  if (type == "NFKD") {
    return Make<UnicodeForm>(NormalForm::kNfkd);
  }
  if (type == "Prepend") {
    PX_TRY(std::string prefix, StringField(json, "prepend", "", place));
    return Make<Prepend>(std::move(prefix));
  }
  if (type == "Replace") {
    return MakeReplace(json, place);
  }
  if (type == "Lowercase") {
    return Make<Lowercase>();
  }
  if (type == "Strip") {
    return MakeStrip(json, place);
  }
  if (type == "Nmt") {
    return Make<Nmt>();
  }
  if (type == "StripAccents") {
    return Make<StripAccents>();
  }
  if (type == "BertNormalizer" || type == "Bert") {
    return MakeBert(json, place);
  }
  if (type == "ByteLevel") {
    return Make<ByteLevel>();
  }
  if (type == "Precompiled") {
    PX_TRY(std::string charsmap, StringField(json, "precompiled_charsmap", "", place));
    return CharsmapNormalizer::FromBase64(charsmap, place.Member("precompiled_charsmap"));
  }
  return place.Unsupported(fmt::format("normalizer \"{:.60}\"", type));
}

}  // namespace pixii::text
