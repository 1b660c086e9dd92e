#include "text/tokenizer/decoder.h"

#include <fmt/format.h>

#include <charconv>

#include "text/tokenizer/byte_alphabet.h"
#include "text/tokenizer/decode_step.h"
#include "text/tokenizer/regex.h"
#include "text/tokenizer/unicode.h"

namespace pixii::text {

namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

std::string ReplacedAll(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  for (std::size_t found; (found = text.find(from)) != std::string_view::npos;) {
    out.append(text.substr(0, found)).append(to);
    text.remove_prefix(found + from.size());
  }
  return out.append(text);
}

// Tokens in the byte alphabet become bytes, the bytes of all tokens one text.
class ByteLevelStep final : public DecodeStep {
 public:
  void Push(std::string_view token, DecodeStepState& state, DecodeSink& next) const override {
    AppendFromByteAlphabet(state.held, token);
    std::size_t whole = state.held.size() - Utf8IncompleteTail(state.held);
    if (whole == 0) {
      return;
    }
    std::string_view text = std::string_view(state.held).substr(0, whole);
    if (IsValidUtf8(text)) {
      next.Take(text);
    } else {
      next.Take(ReplaceIllFormed(text));
    }
    state.held.erase(0, whole);
  }

  void Finish(DecodeStepState& state, DecodeSink& next) const override {
    if (!state.held.empty()) {
      next.Take(ReplaceIllFormed(state.held));
      state.held.clear();
    }
  }

  // A character that is not whole has at most 3 bytes.
  std::size_t MemoryTokens() const override { return 4; }

  std::string PieceBytes(std::string piece) const override {
    std::string out;
    AppendFromByteAlphabet(out, piece);
    return out;
  }
};

// <0xNN> tokens become bytes. A run of them is one text if it is valid, else one U+FFFD for each:
// nothing of it is final before the run ends.
class ByteFallbackStep final : public DecodeStep {
 public:
  void Push(std::string_view token, DecodeStepState& state, DecodeSink& next) const override {
    int byte = ByteOf(token);
    if (byte >= 0) {
      state.held += static_cast<char>(byte);
      return;
    }
    Finish(state, next);
    next.Take(token);
  }

  void Finish(DecodeStepState& state, DecodeSink& next) const override {
    if (state.held.empty()) {
      return;
    }
    if (IsValidUtf8(state.held)) {
      next.Take(state.held);
    } else {
      for (std::size_t i = 0; i < state.held.size(); ++i) {
        next.Take(kReplacement);
      }
    }
    state.held.clear();
  }

  void DropHeldPrompt(DecodeStepState& state) const override {
    std::size_t tail = Utf8IncompleteTail(state.held);
    state.held.erase(0, state.held.size() - tail);
  }

  std::string PieceBytes(std::string piece) const override {
    int byte = ByteOf(piece);
    return byte >= 0 ? std::string(1, static_cast<char>(byte)) : piece;
  }

 private:
  // The byte that "<0xNN>" names, -1 for all else.
  static int ByteOf(std::string_view token) {
    if (token.size() != 6 || !token.starts_with("<0x") || !token.ends_with('>')) {
      return -1;
    }
    int byte = 0;
    auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, byte, 16);
    return error == std::errc{} && end == token.data() + 5 && byte >= 0 ? byte : -1;
  }
};

// All tokens become one. Later steps know: they are loaded as fused.
class FuseStep final : public DecodeStep {
 public:
  void Push(std::string_view token, DecodeStepState& /*state*/, DecodeSink& next) const override {
    next.Take(token);
  }
};

class ReplaceStep final : public DecodeStep {
 public:
  ReplaceStep(std::string pattern, std::string content, bool fused)
      : pattern_(std::move(pattern)), content_(std::move(content)), fused_(fused) {}

  void Push(std::string_view token, DecodeStepState& state, DecodeSink& next) const override {
    if (!fused_) {
      next.Take(token.find(pattern_) == std::string_view::npos
                    ? std::string(token)
                    : ReplacedAll(token, pattern_, content_));
      return;
    }
    state.held.append(token);
    std::string out;
    std::size_t done = 0;
    for (std::size_t found; (found = state.held.find(pattern_, done)) != std::string::npos;) {
      out.append(state.held, done, found - done).append(content_);
      done = found + pattern_.size();
    }
    std::size_t keep = LongestBeginning(std::string_view(state.held).substr(done));
    out.append(state.held, done, state.held.size() - keep - done);
    state.held.erase(0, state.held.size() - keep);
    if (!out.empty()) {
      next.Take(out);
    }
  }

  void Finish(DecodeStepState& state, DecodeSink& next) const override {
    if (!state.held.empty()) {
      next.Take(state.held);
      state.held.clear();
    }
  }

  void DropHeldPrompt(DecodeStepState& state) const override { state.held.clear(); }

  std::string PieceBytes(std::string piece) const override {
    return ReplacedAll(piece, pattern_, content_);
  }

  std::size_t Growth() const override { return content_.size() / pattern_.size() + 1; }

 private:
  // Bytes at the end of `text` that begin the pattern.
  std::size_t LongestBeginning(std::string_view text) const {
    for (std::size_t n = std::min(pattern_.size() - 1, text.size()); n > 0; --n) {
      if (text.ends_with(std::string_view(pattern_).substr(0, n))) {
        return n;
      }
    }
    return 0;
  }

  std::string pattern_;
  std::string content_;
  bool fused_;
};

class ReplaceRegexStep final : public DecodeStep {
 public:
  ReplaceRegexStep(Regex pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}

  void Push(std::string_view token, DecodeStepState& /*state*/, DecodeSink& next) const override {
    next.Take(Replaced(token));
  }

  std::string PieceBytes(std::string piece) const override { return Replaced(piece); }

  std::size_t Growth() const override { return content_.size() + 1; }

 private:
  // A pattern that backtracks past its budget leaves the rest of the token as it is.
  std::string Replaced(std::string_view text) const {
    RegexScan scan(pattern_);
    std::string safe = IsValidUtf8(text) ? std::string(text) : ReplaceIllFormed(text);
    scan.Reset(safe);
    std::string out;
    std::size_t copied = 0;
    TextRange match{};
    for (auto found = scan.Next(match); found && *found; found = scan.Next(match)) {
      out.append(safe, copied, match.begin - copied).append(content_);
      copied = match.end;
    }
    return out.append(safe, copied);
  }

  Regex pattern_;
  std::string content_;
};

// Takes up to `start` of one character from the front and up to `stop` from the back of each token.
class StripStep final : public DecodeStep {
 public:
  StripStep(std::string content, std::size_t start, std::size_t stop, bool fused)
      : content_(std::move(content)), start_(start), stop_(stop), fused_(fused) {}

  void Push(std::string_view token, DecodeStepState& state, DecodeSink& next) const override {
    if (!fused_) {
      std::uint64_t taken = 0;
      token = WithoutStart(token, taken);
      next.Take(token.substr(0, token.size() - TailBytes(token)));
      return;
    }
    token = WithoutStart(token, state.count);
    if (token.empty()) {
      return;
    }
    state.held.append(token);
    std::size_t keep = TailBytes(state.held);
    if (keep < state.held.size()) {
      next.Take(std::string_view(state.held).substr(0, state.held.size() - keep));
      state.held.erase(0, state.held.size() - keep);
    }
  }

  void Finish(DecodeStepState& state, DecodeSink& /*next*/) const override { state.held.clear(); }

  void DropHeldPrompt(DecodeStepState& state) const override { state.held.clear(); }

 private:
  // Removes characters from the front while `taken` < start; another character ends that for good.
  std::string_view WithoutStart(std::string_view token, std::uint64_t& taken) const {
    while (taken < start_ && !token.empty()) {
      if (!token.starts_with(content_)) {
        taken = start_;
        break;
      }
      token.remove_prefix(content_.size());
      ++taken;
    }
    return token;
  }

  // Bytes of up to `stop` of the characters at the end.
  std::size_t TailBytes(std::string_view token) const {
    std::size_t bytes = 0;
    for (std::size_t n = 0; n < stop_ && token.ends_with(content_); ++n) {
      token.remove_suffix(content_.size());
      bytes += content_.size();
    }
    return bytes;
  }

  std::string content_;
  std::size_t start_;
  std::size_t stop_;
  bool fused_;
};

class MetaspaceStep final : public DecodeStep {
 public:
  MetaspaceStep(std::string replacement, bool prepends, bool fused)
      : replacement_(std::move(replacement)), prepends_(prepends), fused_(fused) {}

  void Push(std::string_view token, DecodeStepState& state, DecodeSink& next) const override {
    bool first = prepends_ && (fused_ || state.count == 0);
    ++state.count;
    next.Take(ReplacedAll(token, replacement_, first ? "" : " "));
  }

  std::string PieceBytes(std::string piece) const override {
    return ReplacedAll(piece, replacement_, " ");
  }

 private:
  std::string replacement_;
  bool prepends_;
  bool fused_;
};

class WordPieceStep final : public DecodeStep {
 public:
  WordPieceStep(std::string prefix, bool cleanup) : prefix_(std::move(prefix)), cleanup_(cleanup) {}

  void Push(std::string_view token, DecodeStepState& state, DecodeSink& next) const override {
    next.Take(Decoded(token, state.count == 0));
    ++state.count;
  }

  std::string PieceBytes(std::string piece) const override { return Decoded(piece, false); }

 private:
  std::string Decoded(std::string_view token, bool first) const {
    std::string out;
    if (!first && token.starts_with(prefix_)) {
      out = token.substr(prefix_.size());
    } else {
      out = first ? std::string(token) : " " + std::string(token);
    }
    if (!cleanup_) {
      return out;
    }
    static constexpr std::pair<std::string_view, std::string_view> kCleanups[] = {
        {" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
        {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
        {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    for (auto [from, to] : kCleanups) {
      out = ReplacedAll(out, from, to);
    }
    return out;
  }

  std::string prefix_;
  bool cleanup_;
};

// A suffix that ends words becomes a space, but nothing on the last token: that one is held.
class BpeSuffixStep final : public DecodeStep {
 public:
  explicit BpeSuffixStep(std::string suffix) : suffix_(std::move(suffix)) {}

  void Push(std::string_view token, DecodeStepState& state, DecodeSink& next) const override {
    if (state.count > 0) {
      next.Take(ReplacedAll(state.held, suffix_, " "));
    }
    state.held = token;
    state.count = 1;
  }

  void Finish(DecodeStepState& state, DecodeSink& next) const override {
    if (state.count > 0) {
      next.Take(ReplacedAll(state.held, suffix_, ""));
    }
    state = {};
  }

  std::string PieceBytes(std::string piece) const override {
    return ReplacedAll(piece, suffix_, " ");
  }

 private:
  std::string suffix_;
};

// Without a decoder tokens are joined by spaces.
class JoinStep final : public DecodeStep {
 public:
  void Push(std::string_view token, DecodeStepState& state, DecodeSink& next) const override {
    if (state.count > 0) {
      next.Take(" ");
    }
    state.count = 1;
    next.Take(token);
  }
};

Result<std::string> CharField(const wire::Json& json, std::string_view key,
                              std::string_view fallback, const JsonPlace& place) {
  PX_TRY(std::string c, StringField(json, key, fallback, place));
  if (c.empty() || Utf8SequenceLength(c) != c.size()) {
    return place.Member(key).Refuse("must be one character");
  }
  return c;
}

using StepPtr = std::unique_ptr<const DecodeStep>;

Result<StepPtr> MakeReplace(const wire::Json& json, const JsonPlace& place, bool fused) {
  PX_TRY(PatternJson pattern, PatternField(json, "pattern", place));
  PX_TRY(std::string content, StringField(json, "content", "", place));
  if (!pattern.is_regex) {
    return StepPtr(
        std::make_unique<ReplaceStep>(std::move(pattern.text), std::move(content), fused));
  }
  if (fused) {
    return place.Unsupported("a Regex replacement after the tokens are fused");
  }
  auto regex = Regex::Compile(pattern.text);
  if (!regex) {
    return place.Member("pattern").Refuse(regex.error().detail(), regex.error().code());
  }
  return StepPtr(std::make_unique<ReplaceRegexStep>(std::move(*regex), std::move(content)));
}

Result<StepPtr> MakeStrip(const wire::Json& json, const JsonPlace& place, bool fused) {
  constexpr std::int64_t kStripMax = 1'024;  // characters
  PX_TRY(std::string content, CharField(json, "content", " ", place));
  PX_TRY(std::int64_t start, IntField(json, "start", 0, 0, kStripMax, place));
  PX_TRY(std::int64_t stop, IntField(json, "stop", 0, 0, kStripMax, place));
  return StepPtr(std::make_unique<StripStep>(std::move(content), static_cast<std::size_t>(start),
                                             static_cast<std::size_t>(stop), fused));
}

Result<StepPtr> MakeMetaspace(const wire::Json& json, const JsonPlace& place, bool fused) {
  PX_TRY(std::string replacement, CharField(json, "replacement", "\xE2\x96\x81", place));
  PX_TRY(bool add_prefix_space, BoolField(json, "add_prefix_space", true, place));
  PX_TRY(std::string scheme,
         StringField(json, "prepend_scheme", add_prefix_space ? "always" : "never", place));
  return StepPtr(std::make_unique<MetaspaceStep>(std::move(replacement), scheme != "never", fused));
}

Result<StepPtr> MakeStep(std::string_view type, const wire::Json& json, const JsonPlace& place,
                         bool fused) {
  bool needs_tokens =
      type == "ByteFallback" || type == "WordPiece" || type == "BPEDecoder" || type == "ByteLevel";
  if (fused && needs_tokens) {
    return place.Unsupported(fmt::format("decoder \"{}\" after the tokens are fused", type));
  }
  if (type == "ByteLevel") {
    return StepPtr(std::make_unique<ByteLevelStep>());
  }
  if (type == "ByteFallback") {
    return StepPtr(std::make_unique<ByteFallbackStep>());
  }
  if (type == "Fuse") {
    return StepPtr(std::make_unique<FuseStep>());
  }
  if (type == "Replace") {
    return MakeReplace(json, place, fused);
  }
  if (type == "Strip") {
    return MakeStrip(json, place, fused);
  }
  if (type == "Metaspace") {
    return MakeMetaspace(json, place, fused);
  }
  if (type == "WordPiece") {
    PX_TRY(std::string prefix, StringField(json, "prefix", "##", place));
    PX_TRY(bool cleanup, BoolField(json, "cleanup", true, place));
    return StepPtr(std::make_unique<WordPieceStep>(std::move(prefix), cleanup));
  }
  if (type == "BPEDecoder") {
    PX_TRY(std::string suffix, StringField(json, "suffix", "</w>", place));
    if (suffix.empty()) {
      return place.Member("suffix").Refuse("must not be empty");
    }
    return StepPtr(std::make_unique<BpeSuffixStep>(std::move(suffix)));
  }
  return place.Unsupported(fmt::format("decoder \"{:.60}\"", type));
}

}  // namespace

Decoder::Decoder() = default;
Decoder::Decoder(Decoder&&) noexcept = default;
Decoder& Decoder::operator=(Decoder&&) noexcept = default;
Decoder::~Decoder() = default;

Result<Decoder> Decoder::FromJson(const wire::Json& json, const JsonPlace& place) {
  Decoder out;
  if (json.is_null()) {
    out.steps_.push_back(std::make_unique<JoinStep>());
    return out;
  }
  PX_CHECK_OK(out.Append(json, place));
  return out;
}

Result<void> Decoder::Append(const wire::Json& json, const JsonPlace& place) {
  constexpr std::size_t kStepsMax = 64;       // steps of one decoder
  constexpr std::size_t kGrowthMax = 65'536;  // all replacements together
  PX_TRY(std::string type, ComponentType(json, place));
  if (type == "Sequence") {
    PX_TRY(const wire::Json::Array* items, ArrayField(json, "decoders", place));
    for (std::size_t i = 0; i < items->size(); ++i) {
      PX_CHECK_OK(Append((*items)[i], place.Member("decoders").Item(i)));
    }
    return {};
  }
  PX_TRY(std::unique_ptr<const DecodeStep> step, MakeStep(type, json, place, fused_));
  steps_.push_back(std::move(step));
  growth_ *= steps_.back()->Growth();
  if (growth_ > kGrowthMax) {
    return place.Refuse(
        fmt::format("replacements that let a token grow more than {} times", kGrowthMax),
        Code::kTooLarge);
  }
  if (steps_.size() > kStepsMax) {
    return place.Refuse(fmt::format("more than {} steps", kStepsMax), Code::kTooLarge);
  }
  fused_ = fused_ || type == "Fuse" || type == "ByteLevel";
  return {};
}

DecodeState Decoder::Start() const { return {std::vector<DecodeStepState>(steps_.size())}; }

namespace {

// Hands what step i passes on to step i + 1, at the end to the text.
template <class Next>
class Chain final : public DecodeSink {
 public:
  explicit Chain(Next next) : next_(next) {}

  void Take(std::string_view token) override { next_(token); }

 private:
  Next next_;
};

}  // namespace

void Decoder::PushFrom(std::size_t step, std::string_view piece, DecodeState& state,
                       std::string& out) const {
  if (step == steps_.size()) {
    out.append(piece);
    return;
  }
  Chain sink([&](std::string_view token) { PushFrom(step + 1, token, state, out); });
  steps_[step]->Push(piece, state.steps[step], sink);
}

void Decoder::Push(std::string_view piece, DecodeState& state, std::string& out) const {
  PushFrom(0, piece, state, out);
}

void Decoder::Finish(DecodeState& state, std::string& out) const {
  for (std::size_t step = 0; step < steps_.size(); ++step) {
    Chain sink([&](std::string_view token) { PushFrom(step + 1, token, state, out); });
    steps_[step]->Finish(state.steps[step], sink);
  }
  for (DecodeStepState& step : state.steps) {
    step = {};
  }
}

void Decoder::DropHeldPrompt(DecodeState& state) const {
  for (std::size_t step = 0; step < steps_.size(); ++step) {
    steps_[step]->DropHeldPrompt(state.steps[step]);
  }
}

// What a step passes on may come from many of its tokens: only a single one can tell.
std::size_t Decoder::MemoryTokens() const {
  return steps_.size() == 1 ? steps_[0]->MemoryTokens() : 0;
}

std::string Decoder::PieceBytes(std::string_view piece) const {
  std::string bytes(piece);
  for (const auto& step : steps_) {
    bytes = step->PieceBytes(std::move(bytes));
  }
  return bytes;
}

}  // namespace pixii::text
