#include "engine/draft_head.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>

namespace pixii::engine {
namespace {

constexpr std::uint32_t kVocab = 97;
constexpr std::uint32_t kBlockTokens = 4;
constexpr std::uint32_t kHidden = 2;

/// What the model's state of a token is here: any number that says which token of which text.
float StateOf(std::span<const TokenId> text, std::size_t position) {
  float state = 1;
  for (std::size_t i = 0; i <= position; ++i) {
    state = std::fmod(state * 31 + static_cast<float>(text[i]), 1021.0F);
  }
  return state;
}

/// What an entry of the head's cache is.
struct Entry {
  TokenId token = -1;
  float state = 0;
};

std::uint64_t Mix(std::uint64_t hash, const Entry& entry) {
  hash = hash * 0x9E3779B97F4A7C15ULL + static_cast<std::uint64_t>(entry.token);
  return (hash ^ (hash >> 29U)) + static_cast<std::uint64_t>(entry.state);
}

/// A head whose guess and next state hash the whole context that its block table names.
class FakeHead final : public StepExecutor {
 public:
  explicit FakeHead(std::uint32_t block_count) : cache_(block_count * kBlockTokens) {
    limits_ = {.vocab_size = kVocab,
               .context_tokens_max = 200,
               .block_tokens = kBlockTokens,
               .block_count = block_count,
               .step_tokens_max = 70,
               .step_logit_rows_max = 8,
               .hidden_size = kHidden};
  }

  ExecutorLimits limits() const override { return limits_; }

  Result<void> Execute(const kernels::StepBatch& batch, std::span<float> logits) override {
    ++calls;
    if (fail) {
      return Fail(Code::kModelFault, "told to");
    }
    EXPECT_EQ(batch.hidden_rows.size(), batch.token_ids.size() * kHidden);
    EXPECT_LE(batch.token_ids.size(), limits_.step_tokens_max);
    states_.assign(batch.hidden_rows.size(), 0);
    std::fill(logits.begin(), logits.end(), 0.0F);
    for (std::size_t i = 0; i < batch.token_ids.size(); ++i) {
      cache_[static_cast<std::size_t>(batch.slots[i])] = {batch.token_ids[i],
                                                          batch.hidden_rows[i * kHidden]};
    }
    for (const kernels::StepSequence& sequence : batch.sequences) {
      std::uint64_t hash = 7;
      for (std::int32_t position = 0; position < sequence.context_tokens; ++position) {
        const std::int32_t block =
            batch.block_table[static_cast<std::size_t>(sequence.block_begin + position / 4)];
        hash = Mix(hash, cache_[static_cast<std::size_t>(block * 4 + position % 4)]);
      }
      const auto last = static_cast<std::size_t>(sequence.token_begin + sequence.token_count - 1);
      states_[last * kHidden] = static_cast<float>(hash % 1013);
      for (std::size_t row = 0; row < batch.logit_rows.size(); ++row) {
        if (static_cast<std::size_t>(batch.logit_rows[row]) == last) {
          logits[row * kVocab + hash % kVocab] = 9;
        }
      }
    }
    return {};
  }

  std::span<const float> hidden_rows() const override { return states_; }

  int calls = 0;
  bool fail = false;

 private:
  ExecutorLimits limits_;
  std::vector<Entry> cache_;
  std::vector<float> states_;
};

/// What the head must guess behind `text` if it saw everything from `base` on.
std::vector<TokenId> Oracle(std::span<const TokenId> text, std::size_t base, std::uint32_t count) {
  std::uint64_t hash = 7;
  for (std::size_t i = base; i + 1 < text.size(); ++i) {
    hash = Mix(hash, {text[i + 1], StateOf(text, i)});
  }
  std::vector<TokenId> out;
  while (out.size() < count) {
    out.push_back(static_cast<TokenId>(hash % kVocab));
    hash = Mix(hash, {out.back(), static_cast<float>(hash % 1013)});
  }
  return out;
}

struct Guesser {
  explicit Guesser(std::uint32_t block_count = 64) {
    auto made = std::make_unique<FakeHead>(block_count);
    head = made.get();
    drafter = std::move(*DraftHead::Create(std::move(made), kVocab));
  }

  /// The model computed tokens begin to end - 1 of `text`; the one after them is known.
  void Compute(std::uint64_t key, const std::vector<TokenId>& text, std::size_t begin,
               std::size_t end) const {
    std::vector<float> states;
    for (std::size_t i = begin; i < end; ++i) {
      states.insert(states.end(), {StateOf(text, i), 0});
    }
    const ObservedRows rows{.key = DraftKey{key},
                            .begin = begin,
                            .after = std::span(text).subspan(begin + 1, end - begin),
                            .states = states};
    drafter->Observe({&rows, 1});
  }

  /// Guesses behind `text`, of which the first `prompt` tokens are the request's.
  std::vector<TokenId> Guess(std::uint64_t key, const std::vector<TokenId>& text,
                             std::size_t prompt, std::uint32_t count) const {
    wire::GenerateRequest request;
    request.prompt.assign(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(prompt));
    request.sampling.temperature = 0;
    request.stop.max_tokens = 1000;
    std::vector<TokenId> out;
    DraftRequest draft{.key = DraftKey{key},
                       .request = &request,
                       .generated = std::span(text).subspan(prompt),
                       .count_max = count,
                       .guesses = &out};
    drafter->Draft({&draft, 1});
    return out;
  }

  FakeHead* head = nullptr;
  std::unique_ptr<DraftHead> drafter;
};

std::vector<TokenId> Text(std::size_t size, std::uint32_t seed = 1) {
  std::mt19937 random(seed);
  std::vector<TokenId> out(size);
  for (TokenId& token : out) {
    token = static_cast<TokenId>(random() % kVocab);
  }
  return out;
}

std::vector<TokenId> First(const std::vector<TokenId>& text, std::size_t size) {
  return {text.begin(), text.begin() + static_cast<std::ptrdiff_t>(size)};
}

TEST(DraftHead, GuessesOnFromTheModelsStatesWhateverTheChunksAndTheGuessesTaken) {
  const std::vector<TokenId> text = Text(150);
  for (const std::size_t chunk : {1U, 3U, 100U}) {
    const Guesser guesser;
    for (std::size_t begin = 0; begin < 100; begin += chunk) {
      guesser.Compute(1, text, begin, std::min<std::size_t>(begin + chunk, 100));
    }
    for (std::size_t size = 101; size < 150; size += 1 + size % 4) {
      ASSERT_EQ(guesser.Guess(1, First(text, size), 101, 3), Oracle(First(text, size), 0, 3))
          << chunk << " at " << size;
      guesser.Compute(1, text, size - 1, size + size % 4);
    }
  }
}

TEST(DraftHead, AGuessCostsOneStep) {
  const Guesser guesser;
  const std::vector<TokenId> text = Text(20);
  guesser.Compute(1, text, 0, 12);
  guesser.Guess(1, First(text, 13), 13, 4);
  EXPECT_EQ(guesser.head->calls, 4);
  guesser.Compute(1, text, 12, 15);
  guesser.Guess(1, First(text, 16), 13, 2);
  EXPECT_EQ(guesser.head->calls, 6);
}

TEST(DraftHead, BeginsBehindAPrefixThatItNeverSaw) {
  const Guesser guesser;
  const std::vector<TokenId> text = Text(40);
  guesser.Compute(1, text, 16, 30);
  EXPECT_EQ(guesser.Guess(1, First(text, 31), 31, 2), Oracle(First(text, 31), 16, 2));
  guesser.Compute(1, text, 0, 30);  // preempted, and computed again from the start
  EXPECT_EQ(guesser.Guess(1, First(text, 31), 31, 2), Oracle(First(text, 31), 0, 2));
  guesser.Compute(1, text, 8, 32);  // again, from what was cached meanwhile
  EXPECT_EQ(guesser.Guess(1, First(text, 33), 31, 2), Oracle(First(text, 33), 0, 2));
  guesser.Compute(1, text, 34, 36);  // a step of which nobody heard
  EXPECT_EQ(guesser.Guess(1, First(text, 37), 31, 2), Oracle(First(text, 37), 34, 2));
}

TEST(DraftHead, GuessesNothingWithoutTheLastState) {
  const Guesser guesser;
  const std::vector<TokenId> text = Text(20);
  EXPECT_TRUE(guesser.Guess(1, text, 20, 2).empty());
  guesser.Compute(1, text, 0, 10);
  EXPECT_TRUE(guesser.Guess(1, First(text, 13), 13, 2).empty());
  EXPECT_EQ(guesser.Guess(1, First(text, 11), 11, 2).size(), 2U);
  guesser.drafter->Forget(DraftKey{1});
  EXPECT_TRUE(guesser.Guess(1, First(text, 11), 11, 2).empty());
}

TEST(DraftHead, ManySequencesInFewBlocksGuessFromTheirOwnStatesAlone) {
  const Guesser guesser(8);  // 32 entries
  std::mt19937 random(5);
  std::map<std::uint64_t, std::size_t> sizes;
  std::size_t right = 0;
  for (int i = 0; i < 400; ++i) {
    const std::uint64_t key = random() % 5;
    const std::vector<TokenId> text = Text(40, static_cast<std::uint32_t>(key) + 1);
    std::size_t& size = sizes[key];
    const std::size_t next = std::min<std::size_t>(size + 1 + random() % 6, 39);
    if (next == size) {
      guesser.drafter->Forget(DraftKey{key});
      size = 0;
      continue;
    }
    guesser.Compute(key, text, size, next);
    size = next;
    const std::vector<TokenId> so_far = First(text, size + 1);
    const std::vector<TokenId> guess = guesser.Guess(key, so_far, 1, 2);
    bool known = guess.empty();
    for (std::size_t base = 0; base < size && !known; ++base) {
      known = guess == Oracle(so_far, base, 2);  // it may have begun anew
    }
    ASSERT_TRUE(known) << i;
    right += guess.size();
  }
  EXPECT_GT(right, 200U);
}

TEST(DraftHead, AHeadThatFailsGuessesNothingAndBeginsAnew) {
  const Guesser guesser;
  const std::vector<TokenId> text = Text(30);
  guesser.Compute(1, text, 0, 10);
  guesser.head->fail = true;
  EXPECT_TRUE(guesser.Guess(1, First(text, 11), 11, 2).empty());
  EXPECT_EQ(guesser.drafter->fault_count(), 1U);
  guesser.head->fail = false;
  guesser.Compute(1, text, 10, 12);
  EXPECT_EQ(guesser.Guess(1, First(text, 13), 11, 2), Oracle(First(text, 13), 10, 2));
}

TEST(DraftHead, AContextPastItsOwnGuessesNothing) {
  const Guesser guesser;
  const std::vector<TokenId> text = Text(260);
  guesser.Compute(1, text, 0, 210);
  EXPECT_TRUE(guesser.Guess(1, First(text, 211), 211, 2).empty());
  guesser.Compute(1, text, 210, 220);
  EXPECT_EQ(guesser.Guess(1, First(text, 221), 211, 2), Oracle(First(text, 221), 210, 2));
}

TEST(DraftHead, RefusesAnotherVocabularyAndAnExecutorThatKeepsNoStates) {
  EXPECT_EQ(DraftHead::Create(std::make_unique<FakeHead>(8), kVocab + 1).error().param(),
            "draft-model");
}

}  // namespace
}  // namespace pixii::engine
