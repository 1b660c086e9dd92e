// An engine over the mock executor, and a collector that checks the shape of what comes out.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "engine/mock_executor.h"
#include "engine/threaded_executor.h"

namespace pixii::engine::testing {

/// All frames of one choice joined.
struct Stream {
  std::vector<TokenId> tokens;
  std::vector<wire::TokenLogprob> logprobs;
  std::vector<wire::TokenLogprob> prompt_logprobs;
  std::uint32_t cached_tokens = 0;
  std::uint32_t frames = 0;
  std::vector<float> pooled;
  std::optional<wire::FinishReason> finish;
  std::optional<TokenId> stop_token;
  std::optional<Error> error;
};

using StreamKey = std::pair<RequestId, std::uint32_t>;

/// Joins frames by choice; fails the test on a frame after an end.
class Collector {
 public:
  void Take(std::vector<wire::TokenFrame>& frames) {
    for (wire::TokenFrame& frame : frames) {
      Stream& stream = streams_[{frame.id, frame.choice}];
      EXPECT_FALSE(stream.finish) << "a frame after the end of request " << Raw(frame.id);
      EXPECT_TRUE(stream.frames == 0 ||
                  (frame.cached_tokens == 0 && frame.prompt_logprobs.empty()));
      EXPECT_TRUE(!frame.tokens.empty() || frame.finish) << "an empty frame";
      stream.tokens.insert(stream.tokens.end(), frame.tokens.begin(), frame.tokens.end());
      std::ranges::move(frame.logprobs, std::back_inserter(stream.logprobs));
      if (stream.frames++ == 0) {
        stream.cached_tokens = frame.cached_tokens;
        stream.prompt_logprobs = std::move(frame.prompt_logprobs);
      }
      stream.finish = frame.finish;
      stream.pooled = std::move(frame.pooled);
      stream.stop_token = frame.stop_token;
      stream.error = frame.error;
    }
    frames.clear();
  }

  /// Fails the test if there was no frame.
  const Stream& at(std::uint64_t id, std::uint32_t choice = 0) {
    return streams_.at({RequestId{id}, choice});
  }

  bool has(std::uint64_t id, std::uint32_t choice = 0) const {
    return streams_.contains({RequestId{id}, choice});
  }

  std::size_t size() const { return streams_.size(); }

 private:
  std::map<StreamKey, Stream> streams_;
};

inline bool SameLogprobs(const std::vector<wire::TokenLogprob>& a,
                         const std::vector<wire::TokenLogprob>& b) {
  return std::ranges::equal(a, b, [](const wire::TokenLogprob& x, const wire::TokenLogprob& y) {
    return x.logprob == y.logprob && x.top == y.top;
  });
}

/// Guesses what the mock will say, wrongly now and then.
class MockDrafter final : public Drafter {
 public:
  /// `right_percent` of the guesses are right.
  MockDrafter(const ExecutorLimits& limits, std::uint32_t context_tokens_max,
              std::uint32_t right_percent)
      : vocab_size_(limits.vocab_size),
        context_tokens_max_(context_tokens_max),
        right_percent_(right_percent) {}

  void Draft(std::span<DraftRequest> requests) override {
    for (DraftRequest& request : requests) {
      std::vector<TokenId> truth =
          MockStream(*request.request, request.choice, vocab_size_, context_tokens_max_).tokens;
      std::size_t given = request.request->generated.empty()
                              ? 0
                              : request.request->generated[request.choice].size();
      std::size_t count = random_() % request.count_max + 1;
      for (std::size_t i = request.generated.size() - given; i < truth.size() && count > 0;
           ++i, --count) {
        bool right = random_() % 100 < right_percent_;
        request.guesses->push_back(right ? truth[i]
                                         : static_cast<TokenId>(random_() % vocab_size_));
      }
    }
  }

  void Forget(DraftKey /*key*/) override {}

 private:
  std::uint32_t vocab_size_;
  std::uint32_t context_tokens_max_;
  std::uint32_t right_percent_;
  std::mt19937_64 random_{5};
};

struct HarnessOptions {
  ExecutorLimits limits{.vocab_size = 64,
                        .context_tokens_max = 256,
                        .block_tokens = 4,
                        .block_count = 256,
                        .step_tokens_max = 256,
                        .step_logit_rows_max = 64};
  EngineOptions engine{.batch_sequences_max = 16, .batch_tokens_max = 64, .queue_length_max = 256};
  MockFaults faults = {};
  bool overlaps = false;
  PoolRows pool_rows = PoolRows::kLast;  // of a mock that reads texts
  bool threaded = false;                 // steps run on a thread of their own
  std::shared_ptr<ProcessorSet> processors = nullptr;
  std::optional<std::uint32_t> draft_right_percent = {};  // none: nobody guesses
  std::function<std::unique_ptr<kv::Connector>()> connector = {};
  std::function<std::unique_ptr<MediaEncoder>()> encoder = {};
};

class Harness {
 public:
  explicit Harness(const HarnessOptions& options = {})
      : vocab_size_(options.limits.vocab_size),
        mock_options_{.limits = options.limits,
                      .timing = {},
                      .faults = options.faults,
                      .overlaps = options.overlaps,
                      .pool_rows = options.pool_rows} {
    auto executor = std::make_unique<MockExecutor>(mock_options_);
    mock_ = executor.get();
    std::unique_ptr<StepExecutor> used = std::move(executor);
    if (options.threaded) {
      used = std::make_unique<ThreadedExecutor>(std::move(used));
    }
    std::unique_ptr<Drafter> drafter;
    if (options.draft_right_percent) {
      std::uint32_t context = std::min(options.limits.context_tokens_max,
                                       options.limits.block_count * options.limits.block_tokens);
      drafter =
          std::make_unique<MockDrafter>(options.limits, context, *options.draft_right_percent);
    }
    auto made =
        Engine::Create(options.engine, std::move(used), options.processors, std::move(drafter),
                       options.connector ? options.connector() : nullptr,
                       options.encoder ? options.encoder() : nullptr);
    EXPECT_TRUE(made) << made.error().ToString();
    engine_ = std::move(*made);
  }

  Engine& engine() { return *engine_; }

  MockExecutor& mock() { return *mock_; }

  Collector& streams() { return streams_; }

  StepReport Step() {
    now_ += rt::Duration(1'000'000);
    StepReport report = engine_->Step(now_, frames_);
    streams_.Take(frames_);
    return report;
  }

  /// Runs until nothing is left; fails the test if that takes more than `steps_max` steps.
  void RunDry(int steps_max = 100'000) {
    while (engine_->has_work() && steps_max-- > 0) {
      Step();
    }
    EXPECT_FALSE(engine_->has_work());
    engine_->CheckInvariants();
    EXPECT_EQ(engine_->cache().pool().pinned_count(), 0U);
  }

  Result<void> Submit(const wire::GenerateRequest& request) {
    return engine_->Submit(request, now_);
  }

  rt::Time now() const { return now_; }

  void Advance(rt::Duration duration) { now_ += duration; }

  /// The only frame of `request`, which has `pool`, is what the mock's oracle says.
  void ExpectPooled(const wire::GenerateRequest& request) {
    ASSERT_TRUE(streams_.has(Raw(request.id))) << Raw(request.id);
    const Stream& stream = streams_.at(Raw(request.id));
    EXPECT_EQ(stream.frames, 1U);
    EXPECT_EQ(stream.finish, wire::FinishReason::kStop);
    EXPECT_FALSE(stream.error);
    EXPECT_EQ(stream.pooled, MockPooled(request, mock_options_)) << "request " << Raw(request.id);
  }

  /// The stream of every choice of `request` is what the mock's oracle says.
  void ExpectOracle(const wire::GenerateRequest& request) {
    for (std::uint32_t choice = 0; choice < request.choice_count; ++choice) {
      ASSERT_TRUE(streams_.has(Raw(request.id), choice)) << Raw(request.id);
      const Stream& stream = streams_.at(Raw(request.id), choice);
      MockChoice expected = MockStream(request, choice, vocab_size_, engine_->context_tokens_max());
      EXPECT_EQ(stream.tokens, expected.tokens)
          << "request " << Raw(request.id) << " choice " << choice;
      EXPECT_EQ(stream.finish, expected.finish);
      EXPECT_EQ(stream.stop_token, expected.stop_token);
      EXPECT_FALSE(stream.error);
      EXPECT_TRUE(SameLogprobs(stream.logprobs, expected.logprobs));
    }
    if (request.prompt_logprobs) {
      EXPECT_TRUE(SameLogprobs(streams_.at(Raw(request.id)).prompt_logprobs,
                               MockPromptLogprobs(request, vocab_size_)));
    }
  }

 private:
  std::uint32_t vocab_size_;
  MockOptions mock_options_;
  MockExecutor* mock_ = nullptr;
  std::unique_ptr<Engine> engine_;
  std::vector<wire::TokenFrame> frames_;
  Collector streams_;
  rt::Time now_{rt::Duration(1'000'000'000)};
};

/// A greedy request of `prompt_size` tokens that count up from `first`.
inline wire::GenerateRequest MakeRequest(std::uint64_t id, std::uint32_t prompt_size,
                                         std::uint32_t max_tokens, TokenId first = 1) {
  wire::GenerateRequest request;
  request.id = RequestId{id};
  for (std::uint32_t i = 0; i < prompt_size; ++i) {
    request.prompt.push_back((first + static_cast<TokenId>(i)) % 60);
  }
  request.sampling.temperature = 0;
  request.stop.max_tokens = max_tokens;
  return request;
}

}  // namespace pixii::engine::testing
