#include "text/grammar/grammar_matcher.h"

#include <algorithm>
#include <list>
#include <unordered_map>

#include "base/assert.h"
#include "text/grammar/interner.h"
#include "text/grammar/mask_builder.h"

namespace pixii::text::grammar {

namespace {

constexpr std::uint64_t kStepsOfCall = 400'000;  // elementary operations of one mask or token
constexpr std::uint64_t kStepsOfGuess = 50'000;  // likewise

struct StateHash {
  std::size_t operator()(const State& state) const {
    std::uint64_t hash = MixHash((static_cast<std::uint64_t>(state.frame) << 32) | state.a,
                                 (static_cast<std::uint64_t>(state.b) << 32) | state.c);
    hash = MixHash(hash, (static_cast<std::uint64_t>(state.text) << 32) | state.phase);
    return MixHash(hash, state.outer);
  }
};

bool IsWhite(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

// The white space that followed the last byte of `text` where it stood before.
std::string_view WhiteAsBefore(std::string_view text) {
  constexpr std::string_view kSeparators = ":,{[";
  if (text.empty() || kSeparators.find(text.back()) == std::string_view::npos) {
    return {};
  }
  std::size_t at = text.size() - 1;
  while (at > 0) {
    at = text.rfind(text.back(), at - 1);
    if (at == std::string_view::npos) {
      return {};
    }
    // A colon within a string says nothing.
    if (text.back() != ':' || (at > 0 && text[at - 1] == '"')) {
      std::size_t end = at + 1;
      while (end < text.size() && IsWhite(text[end])) {
        ++end;
      }
      return text.substr(at + 1, end - at - 1);
    }
  }
  return {};
}

}  // namespace

// Least recently used goes first.
class GrammarRuntime::MaskCache final {
 public:
  MaskCache(std::size_t words, std::size_t bytes_max)
      : words_(words), entries_max_(std::max<std::size_t>(bytes_max / (words * 4 + 96), 4)) {}

  bool Find(const State& state, std::span<std::uint32_t> mask) {
    auto found = by_state_.find(state);
    if (found == by_state_.end()) {
      return false;
    }
    order_.splice(order_.begin(), order_, found->second);
    std::copy(found->second->mask.begin(), found->second->mask.end(), mask.begin());
    return true;
  }

  void Put(const State& state, std::span<const std::uint32_t> mask) {
    if (order_.size() >= entries_max_) {
      // The oldest entry's memory serves the new one.
      by_state_.erase(order_.back().state);
      order_.splice(order_.begin(), order_, std::prev(order_.end()));
    } else {
      order_.emplace_front();
    }
    order_.front().state = state;
    order_.front().mask.assign(mask.begin(), mask.end());
    by_state_[state] = order_.begin();
  }

  std::size_t size_bytes() const { return order_.size() * (words_ * 4 + 96); }

 private:
  struct Entry {
    State state;
    std::vector<std::uint32_t> mask;
  };

  std::size_t words_;
  std::size_t entries_max_;
  std::list<Entry> order_;
  std::unordered_map<State, std::list<Entry>::iterator, StateHash> by_state_;
};

GrammarRuntime::GrammarRuntime(std::shared_ptr<const Grammar> grammar,
                               std::shared_ptr<const GrammarVocabulary> vocabulary,
                               const RuntimeOptions& options)
    : grammar_(std::move(grammar)),
      vocabulary_(std::move(vocabulary)),
      machine_(grammar_->machine().Clone()),
      first_size_bytes_(machine_->size_bytes()),
      cache_(std::make_unique<MaskCache>(vocabulary_->mask_words(), options.mask_cache_bytes_max)) {
}

GrammarRuntime::~GrammarRuntime() = default;

std::shared_ptr<GrammarRuntime> GrammarRuntime::Fresh(const RuntimeOptions& options) const {
  return std::make_shared<GrammarRuntime>(grammar_, vocabulary_, options);
}

bool GrammarRuntime::FillMask(const State& state, std::span<std::uint32_t> mask,
                              std::uint64_t steps_max) {
  const std::uint64_t spent = machine_->fuel().spent;
  return FillBefore(state, mask, steps_max < kNoStop - spent ? spent + steps_max : kNoStop);
}

bool GrammarRuntime::FillBefore(const State& state, std::span<std::uint32_t> mask,
                                std::uint64_t stop) {
  const bool remembers = state.text != 0 && state.text != kFreshText;
  if (!remembers && cache_->Find(state, mask)) {
    return true;
  }
  std::size_t mark = machine_->Mark();
  Fuel& fuel = machine_->fuel();
  fuel.steps = kStepsOfCall;
  Free free;
  bool loose = machine_->Loosen(state, free);
  bool done = true;
  if (loose) {
    done = FillBefore(free.state, mask, stop);
    fuel.steps = kStepsOfCall;
    if (done && free.chars_max < vocabulary_->longest_chars()) {
      done = CorrectLongTokens(*machine_, *vocabulary_, state, stop, mask);
    }
    if (done && free.by_text) {
      done = CorrectMask(*machine_, *vocabulary_, state, stop, mask);
    }
  } else {
    done = BuildMask(*machine_, *vocabulary_, state, stop, mask);
  }
  if (done && machine_->CanEnd(state)) {
    for (TokenId eos : vocabulary_->eos_ids()) {
      mask[static_cast<std::size_t>(eos) / 32] |= 1U << (eos % 32);
    }
  }
  machine_->Release(mark);
  if (fuel.exhausted) {
    std::fill(mask.begin(), mask.end(), 0);
    return true;
  }
  if (done && !remembers && (!loose || free.by_text)) {
    cache_->Put(state, mask);
  }
  return done;
}

std::size_t GrammarRuntime::size_bytes() const {
  return machine_->size_bytes() + cache_->size_bytes();
}

GrammarMatcher::GrammarMatcher(std::shared_ptr<GrammarRuntime> runtime)
    : runtime_(std::move(runtime)), state_(runtime_->machine().Start()) {}

GrammarMatcher::GrammarMatcher(std::shared_ptr<const Grammar> grammar,
                               std::shared_ptr<const GrammarVocabulary> vocabulary)
    : GrammarMatcher(std::make_shared<GrammarRuntime>(std::move(grammar), std::move(vocabulary))) {}

bool GrammarMatcher::Accept(TokenId token) {
  const GrammarVocabulary& vocabulary = runtime_->vocabulary();
  if (ended_ || token < 0 || static_cast<std::uint32_t>(token) >= vocabulary.vocab_size()) {
    return false;
  }
  if (vocabulary.IsEos(token)) {
    if (!CanEnd()) {
      return false;
    }
    history_.push_back(state_);
    ended_ = true;
    return true;
  }
  std::string_view bytes = vocabulary.Bytes(token);
  return !bytes.empty() && bytes.size() <= kGrammarTokenBytesMax && AcceptBytes(bytes);
}

bool GrammarMatcher::AcceptBytes(std::string_view bytes) {
  Machine& machine = runtime_->machine();
  if (ended_ || exhausted()) {
    return false;
  }
  machine.fuel().steps = kStepsOfCall;
  State next = state_;
  std::size_t mark = machine.Mark();
  for (char c : bytes) {
    if (!machine.Step(next, static_cast<std::uint8_t>(c)) || machine.fuel().exhausted) {
      machine.Release(mark);
      return false;
    }
  }
  history_.push_back(state_);
  state_ = next;
  return true;
}

bool GrammarMatcher::FillMask(std::span<std::uint32_t> mask, std::uint64_t steps_max) {
  std::size_t words = runtime_->vocabulary().mask_words();
  PX_ASSERT(mask.size() >= words);
  std::fill(mask.begin() + static_cast<std::ptrdiff_t>(words), mask.end(), 0);
  if (ended_ || exhausted()) {
    std::fill(mask.begin(), mask.end(), 0);
    return true;
  }
  return runtime_->FillMask(state_, mask.first(words), steps_max);
}

std::string GrammarMatcher::Forced(std::size_t bytes_max) {
  Machine& machine = runtime_->machine();
  std::string out;
  State at = state_;
  std::size_t mark = machine.Mark();
  while (!ended_ && out.size() < bytes_max) {
    machine.fuel().steps = kStepsOfCall;
    if (machine.fuel().exhausted || machine.CanEnd(at)) {
      break;
    }
    State only;
    int ways = 0;
    std::uint8_t byte = 0;
    for (unsigned candidate = 0; candidate < 256 && ways < 2; ++candidate) {
      State next = at;
      if (machine.Step(next, static_cast<std::uint8_t>(candidate))) {
        ++ways;
        only = next;
        byte = static_cast<std::uint8_t>(candidate);
      }
    }
    if (ways != 1 || machine.fuel().exhausted) {
      break;
    }
    out += static_cast<char>(byte);
    at = only;
  }
  machine.Release(mark);
  return out;
}

bool GrammarMatcher::StepAll(State& state, std::string_view bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [&](char c) {
    return runtime_->machine().Step(state, static_cast<std::uint8_t>(c));
  });
}

std::string GrammarMatcher::Likely(std::string_view before, std::size_t bytes_max) {
  Machine& machine = runtime_->machine();
  std::string text(before);
  State at = state_;
  std::size_t mark = machine.Mark();
  machine.fuel().steps = kStepsOfCall;
  const std::uint64_t stop = machine.fuel().spent + kStepsOfGuess;
  while (!ended_ && text.size() < before.size() + bytes_max && !exhausted() &&
         machine.fuel().spent < stop && !machine.CanEnd(at)) {
    // Where a line may end, white space has no meaning.
    State line = at;
    const bool white = machine.Step(line, '\n');
    int ways = 0;
    char only = 0;
    for (unsigned candidate = 0; candidate < 256 && ways < 2; ++candidate) {
      auto byte = static_cast<char>(candidate);
      State next = at;
      if (byte != '\\' && !(white && IsWhite(byte)) &&
          machine.Step(next, static_cast<std::uint8_t>(byte))) {
        ++ways;
        only = byte;
      }
    }
    if (ways != 1) {
      break;
    }
    State next = at;
    std::string step = white ? std::string(WhiteAsBefore(text)) : std::string();
    step += only;
    if (!StepAll(next, step)) {
      next = at;
      step.assign(1, only);
      StepAll(next, step);
    }
    at = next;
    text += step;
  }
  machine.Release(mark);
  return text.substr(before.size(), bytes_max);
}

bool GrammarMatcher::CanEnd() {
  Machine& machine = runtime_->machine();
  machine.fuel().steps = kStepsOfCall;
  return ended_ || (!exhausted() && machine.CanEnd(state_));
}

bool GrammarMatcher::exhausted() const { return runtime_->exhausted(); }

void GrammarMatcher::Rollback(std::size_t tokens) {
  PX_ASSERT(tokens <= history_.size());
  if (tokens == 0) {
    return;
  }
  state_ = history_[history_.size() - tokens];
  history_.resize(history_.size() - tokens);
  ended_ = false;
}

}  // namespace pixii::text::grammar
