#include "frontend/beam_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "frontend/beam_runner.h"
#include "unit/frontend/frontend_fixture.h"

namespace pixii::frontend {
namespace {

constexpr TokenId kVocab = 6;
constexpr TokenId kEnd = 5;

using Tokens = std::vector<TokenId>;

// A language model of six tokens: logprobs behind `text`, a function of it and `seed` alone.
std::vector<float> Model(std::uint64_t seed, const Tokens& text) {
  std::uint64_t hash = seed * 0x9E3779B97F4A7C15;
  for (TokenId token : text) {
    hash = (hash ^ static_cast<std::uint64_t>(token + 1)) * 0xBF58476D1CE4E5B9;
    hash ^= hash >> 29;
  }
  std::vector<double> logits;
  double total = 0;
  for (TokenId token = 0; token < kVocab; ++token) {
    std::uint64_t x = (hash + static_cast<std::uint64_t>(token)) * 0x94D049BB133111EB;
    logits.push_back(static_cast<double>((x ^ (x >> 31)) % 1000) / 200.0);
    total += std::exp(logits.back());
  }
  std::vector<float> out;
  for (double logit : logits) {
    out.push_back(static_cast<float>(logit - std::log(total)));
  }
  return out;
}

BeamOffer OfferOf(std::uint64_t seed, const Tokens& text, std::size_t count) {
  std::vector<float> logprobs = Model(seed, text);
  BeamOffer offer;
  for (TokenId token = 0; token < kVocab; ++token) {
    offer.top.emplace_back(token, logprobs[static_cast<std::size_t>(token)]);
  }
  std::ranges::sort(offer.top, {}, [](const auto& e) { return std::pair(-e.second, e.first); });
  offer.top.resize(std::min(count, offer.top.size()));
  return offer;
}

std::vector<Beam> Search(std::uint64_t seed, const BeamOptions& options, std::size_t count) {
  BeamSearch search(options);
  while (!search.done()) {
    std::vector<BeamOffer> offers;
    for (const Beam& beam : search.live()) {
      offers.push_back(OfferOf(seed, beam.tokens, 2 * options.width));
    }
    search.Advance(offers);
  }
  return search.TakeBest(count);
}

double ScoreOf(double sum, std::size_t length, double penalty) {
  return sum / std::pow(std::max<double>(1, static_cast<double>(length)), penalty);
}

// Every text there is, with its score.
void Enumerate(std::uint64_t seed, const BeamOptions& options, Tokens& text, double sum,
               std::vector<std::pair<double, Tokens>>& out) {
  std::vector<float> logprobs = Model(seed, text);
  for (TokenId token = 0; token < kVocab; ++token) {
    double next = sum + double{logprobs[static_cast<std::size_t>(token)]};
    if (token == kEnd) {
      if (text.size() >= options.min_tokens) {
        out.emplace_back(ScoreOf(next, text.size(), options.length_penalty), text);
      }
      continue;
    }
    text.push_back(token);
    if (text.size() == options.max_tokens) {
      out.emplace_back(ScoreOf(next, text.size(), options.length_penalty), text);
    } else {
      Enumerate(seed, options, text, next, out);
    }
    text.pop_back();
  }
}

TEST(BeamSearch, AsWideAsAllTextsItFindsTheBestOfAll) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    BeamOptions options{.width = 1000,
                        .length_penalty = 0.25 * static_cast<double>(seed % 9),
                        .max_tokens = 4,
                        .min_tokens = static_cast<std::uint32_t>(seed % 3),
                        .end_ids = {kEnd}};
    std::vector<std::pair<double, Tokens>> all;
    Tokens text;
    Enumerate(seed, options, text, 0, all);
    std::ranges::sort(all, {}, [](const auto& e) { return -e.first; });
    std::vector<Beam> found = Search(seed, options, 3);
    ASSERT_EQ(found.size(), 3U);
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(found[i].tokens, all[i].second) << seed << " " << i;
    }
  }
}

// Beam search said plainly: maps of texts, everything sorted each round, never stopped early.
std::vector<Tokens> PlainSearch(std::uint64_t seed, const BeamOptions& options) {
  std::vector<std::pair<double, Tokens>> live = {{0.0, {}}};
  std::vector<std::pair<double, Tokens>> finished;
  for (std::uint32_t length = 0; length < options.max_tokens; ++length) {
    std::vector<std::tuple<double, std::size_t, TokenId>> children;
    for (std::size_t i = 0; i < live.size(); ++i) {
      std::vector<float> logprobs = Model(seed, live[i].second);
      for (TokenId token = 0; token < kVocab; ++token) {
        children.emplace_back(-(live[i].first + double{logprobs[static_cast<std::size_t>(token)]}),
                              i, token);
      }
    }
    std::ranges::sort(children);
    std::vector<std::pair<double, Tokens>> next;
    for (auto [negative, parent, token] : children) {
      if (next.size() == options.width) {
        break;
      }
      Tokens text = live[parent].second;
      if (token == kEnd) {
        finished.emplace_back(ScoreOf(-negative, text.size(), options.length_penalty), text);
        continue;
      }
      text.push_back(token);
      next.emplace_back(-negative, text);
    }
    live = next;
  }
  for (auto& [sum, text] : live) {
    finished.emplace_back(ScoreOf(sum, text.size(), options.length_penalty), text);
  }
  std::ranges::sort(finished, {}, [](const auto& e) { return -e.first; });
  std::vector<Tokens> out;
  for (const auto& [score, text] : finished) {
    out.push_back(text);
  }
  out.resize(std::min<std::size_t>(out.size(), options.width));
  return out;
}

TEST(BeamSearch, AgreesWithAPlainOneThatNeverStopsEarly) {
  int shorter = 0;
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    BeamOptions options{.width = static_cast<std::uint32_t>(1 + seed % 4),
                        .length_penalty = 0.5 * static_cast<double>(seed % 5) - 0.5,
                        .max_tokens = 7,
                        .end_ids = {kEnd}};
    std::vector<Tokens> expected = PlainSearch(seed, options);
    std::vector<Beam> found = Search(seed, options, options.width);
    ASSERT_EQ(found.size(), expected.size()) << seed;
    for (std::size_t i = 0; i < found.size(); ++i) {
      EXPECT_EQ(found[i].tokens, expected[i]) << seed << " " << i;
      shorter += found[i].end_token ? 1 : 0;
    }
  }
  EXPECT_GT(shorter, 50);
}

TEST(BeamSearch, OneBeamIsGreedyAndEarlyStoppingStopsEarlier) {
  BeamOptions options{.width = 1, .max_tokens = 6, .end_ids = {}};
  Tokens greedy;
  while (greedy.size() < 6) {
    greedy.push_back(OfferOf(3, greedy, 1).top[0].first);
  }
  EXPECT_EQ(Search(3, options, 1)[0].tokens, greedy);
  options = {
      .width = 3, .length_penalty = 2, .early_stopping = true, .max_tokens = 30, .end_ids = {kEnd}};
  std::size_t early = Search(9, options, 1)[0].tokens.size();
  options.early_stopping = false;
  EXPECT_LT(early, Search(9, options, 1)[0].tokens.size());
}

TEST(BeamSearch, TokensThatAreExcludedAreNoOffers) {
  BeamSearch search({.width = 4, .max_tokens = 3, .end_ids = {}});
  BeamOffer offer{{{1, -0.1F}, {2, -std::numeric_limits<float>::infinity()}}, ""};
  search.Advance(std::vector<BeamOffer>{offer});
  ASSERT_EQ(search.live().size(), 1U);
  EXPECT_EQ(search.live()[0].tokens, Tokens{1});
}

// A worker that answers from the model above, and checks what it is asked.
class ModelWorker final : public control::WorkerLink {
 public:
  explicit ModelWorker(rt::Loop& loop) : loop_(loop) {}

  const wire::ModelCard& card() const override { return card_; }

  control::WorkerLoad load() const override { return {}; }

  Result<void> Generate(wire::GenerateRequest request, FrameHandler on_frame) override {
    if (refuse_from > 0 && ++asked >= refuse_from) {
      return pixii::Fail(refusal);
    }
    EXPECT_TRUE(request.stop.ignore_eos && request.processed_logprobs);
    EXPECT_EQ(request.choice_count, 1U);
    ++open;
    loop_.Post([this, request = std::move(request), on_frame = std::move(on_frame)]() mutable {
      --open;
      Tokens text = request.generated.empty() ? Tokens{} : request.generated[0];
      wire::TokenFrame frame;
      frame.id = request.id;
      if (cancelled) {
        frame.finish = wire::FinishReason::kCancelled;
      } else {
        BeamOffer offer = OfferOf(seed, text, static_cast<std::size_t>(request.top_logprobs));
        EXPECT_EQ(request.stop.max_tokens, text.size() + 1);
        EXPECT_EQ(request.states.empty() ? "" : request.states[0], std::string(text.size(), 's'));
        frame.tokens = {offer.top[0].first};
        frame.logprobs.push_back({offer.top[0].second, offer.top});
        frame.state = std::string(text.size() + 1, 's');
        frame.cached_tokens = 2;
        frame.finish = wire::FinishReason::kLength;
      }
      on_frame(std::move(frame));
    });
    return {};
  }

  void Cancel(const wire::CancelRequest&) override { cancelled = true; }

  std::uint64_t seed = 1;
  int refuse_from = 0;
  Error refusal{Code::kResourceExhausted, "full"};
  int asked = 0;
  int open = 0;
  bool cancelled = false;

 private:
  rt::Loop& loop_;
  wire::ModelCard card_;
};

class BeamRunnerTest : public testing::FrontendTest {
 protected:
  std::unique_ptr<BeamRunner> Make(std::uint32_t n, const BeamOptions& beams,
                                   std::string adapter = {}) {
    BeamRun run;
    run.options = beams;
    run.request.id = RequestId{77};
    run.request.prompt = {1, 2, 3};
    run.request.choice_count = n;
    run.request.adapter = std::move(adapter);
    return std::make_unique<BeamRunner>(
        model_worker, [this] { return RequestId{++next_id_}; }, std::move(run),
        [this](wire::TokenFrame frame) { frames.push_back(std::move(frame)); });
  }

  ModelWorker model_worker{server.loop()};
  std::vector<wire::TokenFrame> frames;

 private:
  std::uint64_t next_id_ = 1000;
};

TEST_F(BeamRunnerTest, GivesTheTextsOfThePureSearchWithTheirLogprobs) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    model_worker.seed = seed;
    frames.clear();
    BeamOptions beams{.width = 3, .max_tokens = 5, .top_logprobs = 1, .end_ids = {kEnd}};
    auto runner = Make(2, beams);
    ASSERT_TRUE(runner->Start());
    ASSERT_TRUE(Until([&] { return frames.size() == 2; }));
    std::vector<Beam> expected = Search(seed, beams, 2);
    for (std::size_t i = 0; i < 2; ++i) {
      EXPECT_EQ(frames[i].id, RequestId{77});
      EXPECT_EQ(frames[i].choice, i);
      EXPECT_EQ(frames[i].tokens, expected[i].tokens);
      EXPECT_EQ(frames[i].stop_token, expected[i].end_token);
      EXPECT_EQ(frames[i].logprobs.size(), expected[i].tokens.size());
      EXPECT_EQ(frames[i].logprobs.empty() ? 1 : frames[i].logprobs[0].top.size(), 1U);
      EXPECT_EQ(frames[i].cached_tokens, 2U);
      EXPECT_EQ(frames[i].finish,
                expected[i].end_token ? wire::FinishReason::kStop : wire::FinishReason::kLength);
    }
    EXPECT_EQ(model_worker.open, 0);
  }
}

TEST_F(BeamRunnerTest, ACancelledOrRefusedSearchEndsEveryChoiceOnce) {
  BeamOptions beams{.width = 3, .max_tokens = 500, .end_ids = {}};
  auto runner = Make(2, beams);
  ASSERT_TRUE(runner->Start());
  runner->Cancel();
  ASSERT_TRUE(Until([&] { return frames.size() == 2; }));
  EXPECT_EQ(frames[0].finish, wire::FinishReason::kCancelled);
  EXPECT_EQ(model_worker.open, 0);

  model_worker.cancelled = false;
  frames.clear();
  model_worker.refuse_from = 3;  // the second request of the second round
  runner = Make(2, beams);
  ASSERT_TRUE(runner->Start());
  ASSERT_TRUE(Until([&] { return frames.size() == 2; }));
  EXPECT_EQ(frames[1].finish, wire::FinishReason::kError);
  EXPECT_EQ(frames[1].error->code(), Code::kResourceExhausted);
  EXPECT_EQ(model_worker.open, 0);

  model_worker.asked = 0;
  model_worker.refuse_from = 1;
  frames.clear();
  runner = Make(2, beams);
  EXPECT_FALSE(runner->Start());
  EXPECT_TRUE(frames.empty());
}

TEST_F(BeamRunnerTest, AnAdapterThatGoesDuringTheSearchIsNoUnknownModel) {
  BeamOptions beams{.width = 3, .max_tokens = 500, .end_ids = {}};
  model_worker.refusal = Error(Code::kNotFound, "no adapter \"fox\" is loaded", "model");
  model_worker.refuse_from = 3;  // in the second round
  auto runner = Make(2, beams, "fox");
  ASSERT_TRUE(runner->Start());
  ASSERT_TRUE(Until([&] { return frames.size() == 2; }));
  EXPECT_EQ(frames[1].finish, wire::FinishReason::kError);
  EXPECT_EQ(frames[1].error->code(), Code::kUnavailable);
  EXPECT_NE(frames[1].error->detail().find("\"fox\" was unloaded"), std::string::npos);

  model_worker.asked = 0;
  model_worker.refuse_from = 1;  // it never was there
  runner = Make(2, beams, "fox");
  const Result<void> started = runner->Start();
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().code(), Code::kNotFound);
}

}  // namespace
}  // namespace pixii::frontend
