#include "engine/processor_set.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/builtin_processors.h"
#include "engine_harness.h"

namespace pixii::engine {
namespace {

using testing::Harness;
using testing::HarnessOptions;
using testing::MakeRequest;

struct TestCall final : ProcessorCall {
  TokenId wanted = 0;
};

/// Forces the token `wanted` plus the count in its state; fails on rows of odd requests if told to.
class Counting final : public LogitsProcessor {
 public:
  enum class Failure { kNone, kOddRow, kWholeCall, kBigState };

  Counting(std::string name, Failure failure) : name_(std::move(name)), failure_(failure) {}

  std::string_view name() const override { return name_; }

  Result<std::unique_ptr<ProcessorCall>> Open(const wire::Json& arguments,
                                              const ProcessorContext&) const override {
    auto call = std::make_unique<TestCall>();
    const wire::Json* wanted = arguments.Find("wanted");
    if (wanted != nullptr && !wanted->AsInt()) {
      return Fail(Code::kInvalidArgument, "wanted is no integer", "wanted");
    }
    call->wanted = wanted == nullptr ? 0 : static_cast<TokenId>(*wanted->AsInt());
    return std::unique_ptr<ProcessorCall>(std::move(call));
  }

  void Process(std::span<ProcessorRow> rows) override {
    calls.push_back(rows.size());
    bool spoils = false;
    for (ProcessorRow& row : rows) {
      std::size_t count = row.state->size();
      row.state->push_back('x');
      auto token = static_cast<std::size_t>(static_cast<const TestCall*>(row.call)->wanted) + count;
      for (std::size_t i = 0; i < row.logits.size(); ++i) {
        row.logits[i] = i == token % row.logits.size() ? 1.0F : -1e30F;
      }
      bool odd = Raw(row.request) % 2 == 1;
      if (failure_ == Failure::kOddRow && odd) {
        row.error = Error(Code::kProcessorFault, "it is odd");
      }
      if (failure_ == Failure::kBigState && odd) {
        row.state->assign(wire::kStateBytesMax + 1, 'y');
      }
      spoils |= failure_ == Failure::kWholeCall && odd;
    }
    for (ProcessorRow& row : rows) {
      if (spoils) {
        row.error = Error(Code::kProcessorFault, "it threw");
      }
    }
  }

  std::vector<std::size_t> calls;

 private:
  std::string name_;
  Failure failure_;
};

wire::GenerateRequest RequestWith(std::uint64_t id, std::vector<std::string> names) {
  wire::GenerateRequest request = MakeRequest(id, 6, 5, static_cast<TokenId>(id));
  for (std::string& name : names) {
    request.processors.push_back({std::move(name), "{\"wanted\": 7}"});
  }
  return request;
}

HarnessOptions WithProcessors(std::shared_ptr<ProcessorSet> processors) {
  HarnessOptions options;
  options.processors = std::move(processors);
  return options;
}

TEST(ProcessorSet, TwoConcurrentRequestsKeepTheirStateApartAndShareCalls) {
  auto set = std::make_shared<ProcessorSet>();
  auto made = std::make_unique<Counting>("counting", Counting::Failure::kNone);
  Counting* counting = made.get();
  ASSERT_TRUE(set->Add(std::move(made), {}));
  Harness harness(WithProcessors(set));
  ASSERT_TRUE(harness.Submit(RequestWith(1, {"counting"})));
  harness.Step();
  ASSERT_TRUE(harness.Submit(RequestWith(2, {"counting"})));
  wire::GenerateRequest plain = MakeRequest(3, 6, 5);
  ASSERT_TRUE(harness.Submit(plain));
  harness.RunDry();
  EXPECT_EQ(harness.streams().at(1).tokens, (std::vector<TokenId>{7, 8, 9, 10, 11}));
  EXPECT_EQ(harness.streams().at(2).tokens, (std::vector<TokenId>{7, 8, 9, 10, 11}));
  harness.ExpectOracle(plain);
  EXPECT_EQ(*std::ranges::max_element(counting->calls), 2U);
  EXPECT_EQ(set->counters(0).rows, 10U);
  EXPECT_EQ(set->counters(0).failures, 0U);
}

class ProcessorFailureTest : public ::testing::TestWithParam<Counting::Failure> {};

TEST_P(ProcessorFailureTest, AFailureEndsOnlyItsOwnRequestWithANamedError) {
  auto set = std::make_shared<ProcessorSet>();
  ASSERT_TRUE(set->Add(std::make_unique<Counting>("bad", GetParam()), {}));
  Harness harness(WithProcessors(set));
  for (std::uint64_t id = 1; id <= 6; ++id) {
    ASSERT_TRUE(harness.Submit(RequestWith(id, {"bad"})));
  }
  harness.RunDry();
  for (std::uint64_t id = 1; id <= 6; ++id) {
    const testing::Stream& stream = harness.streams().at(id);
    if (id % 2 == 1) {
      EXPECT_EQ(stream.finish, wire::FinishReason::kError);
      ASSERT_TRUE(stream.error);
      EXPECT_EQ(stream.error->code(), Code::kProcessorFault);
      EXPECT_NE(stream.error->detail().find("\"bad\""), std::string::npos);
      EXPECT_TRUE(stream.tokens.empty());
    } else {
      EXPECT_EQ(stream.tokens, (std::vector<TokenId>{7, 8, 9, 10, 11}));
    }
  }
  EXPECT_EQ(set->counters(0).failures, 3U);
}

TEST_P(ProcessorFailureTest, WithPolicySkipTheAnswerIsTheUnprocessedOneAndCounted) {
  auto set = std::make_shared<ProcessorSet>();
  ASSERT_TRUE(set->Add(std::make_unique<Counting>("bad", GetParam()),
                       {.policy = FailurePolicy::kSkip, .always = false}));
  Harness harness(WithProcessors(set));
  std::vector<wire::GenerateRequest> requests;
  for (std::uint64_t id = 1; id <= 6; ++id) {
    requests.push_back(RequestWith(id, {"bad"}));
    ASSERT_TRUE(harness.Submit(requests.back()));
  }
  harness.RunDry();
  for (const wire::GenerateRequest& request : requests) {
    if (Raw(request.id) % 2 == 1) {
      harness.ExpectOracle(request);
    } else {
      EXPECT_EQ(harness.streams().at(Raw(request.id)).tokens,
                (std::vector<TokenId>{7, 8, 9, 10, 11}));
    }
  }
  EXPECT_EQ(set->counters(0).failures, 15U);
}

INSTANTIATE_TEST_SUITE_P(All, ProcessorFailureTest,
                         ::testing::Values(Counting::Failure::kOddRow,
                                           Counting::Failure::kWholeCall,
                                           Counting::Failure::kBigState));

TEST(ProcessorSet, RefusesWhatIsNotInTheAllowListAndSaysWhatIs) {
  auto set = std::make_shared<ProcessorSet>();
  ASSERT_TRUE(set->Add(std::make_unique<Counting>("counting", Counting::Failure::kNone), {}));
  Harness harness(WithProcessors(set));
  Result<void> submitted = harness.Submit(RequestWith(1, {"mystery"}));
  ASSERT_FALSE(submitted);
  EXPECT_EQ(submitted.error().code(), Code::kInvalidArgument);
  EXPECT_EQ(submitted.error().param(), "nvext.logits_processors");
  EXPECT_NE(submitted.error().detail().find("\"mystery\""), std::string::npos);
  EXPECT_NE(submitted.error().detail().find("\"counting\""), std::string::npos);
  EXPECT_FALSE(harness.Submit(RequestWith(1, {"counting", "counting"})));
  wire::GenerateRequest request = RequestWith(1, {"counting"});
  request.processors[0].arguments = "{\"wanted\": \"x\"}";
  EXPECT_FALSE(harness.Submit(request));
  request.processors[0].arguments = "[1]";
  EXPECT_FALSE(harness.Submit(request));
  request.processors[0].arguments = "{";
  EXPECT_FALSE(harness.Submit(request));
  EXPECT_FALSE(harness.engine().has_work());
  EXPECT_FALSE(set->Add(std::make_unique<Counting>("counting", Counting::Failure::kNone), {}));
}

TEST(ProcessorSet, RunsInTheOrderAskedForAndAlwaysOnesFirst) {
  auto set = std::make_shared<ProcessorSet>();
  auto add = [&](std::string_view name, std::vector<TokenId> tokens, bool always) {
    ASSERT_TRUE(set->Add(MakeFixedAnswerProcessor(name, std::move(tokens)),
                         {.policy = FailurePolicy::kFailRequest, .always = always}));
  };
  add("a", {10, 10}, false);
  add("b", {20, 20}, false);
  add("c", {30, 30}, true);
  Harness harness(WithProcessors(set));
  auto submit = [&](std::uint64_t id, const std::vector<std::string>& names) {
    wire::GenerateRequest request = MakeRequest(id, 6, 2);
    request.stop.eos_token_ids = {2};
    for (const std::string& name : names) {
      request.processors.push_back({name, ""});
    }
    ASSERT_TRUE(harness.Submit(request));
  };
  // Each overwrites the row: the last one decides.
  submit(1, {"a", "b"});
  submit(2, {"b", "a"});
  submit(3, {});
  submit(4, {"b", "c"});
  harness.RunDry();
  EXPECT_EQ(harness.streams().at(1).tokens, (std::vector<TokenId>{20, 20}));
  EXPECT_EQ(harness.streams().at(2).tokens, (std::vector<TokenId>{10, 10}));
  EXPECT_EQ(harness.streams().at(3).tokens, (std::vector<TokenId>{30, 30}));
  EXPECT_EQ(harness.streams().at(4).tokens, (std::vector<TokenId>{30, 30}));
}

TEST(ProcessorSet, StateTravelsOnTheFramesAndComesBack) {
  auto set = std::make_shared<ProcessorSet>();
  ASSERT_TRUE(set->Add(std::make_unique<Counting>("counting", Counting::Failure::kNone), {}));
  Harness first(WithProcessors(set));
  wire::GenerateRequest request = RequestWith(1, {"counting"});
  ASSERT_TRUE(first.Submit(request));
  std::vector<wire::TokenFrame> frames;
  while (request.generated.empty() || request.generated[0].size() < 2) {
    first.engine().Step(rt::Time{}, frames);
    for (wire::TokenFrame& frame : frames) {
      request.generated.resize(1);
      request.states.resize(1);
      request.generated[0].insert(request.generated[0].end(), frame.tokens.begin(),
                                  frame.tokens.end());
      request.states[0] = frame.state;
    }
    frames.clear();
  }
  Harness second(WithProcessors(set));
  ASSERT_TRUE(second.Submit(request));
  second.RunDry();
  EXPECT_EQ(second.streams().at(1).tokens, (std::vector<TokenId>{9, 10, 11}));
  request.states[0] = "nonsense";
  EXPECT_FALSE(second.Submit(request));
}

TEST(ProcessorSet, TimeIsCountedByTheClockGiven) {
  std::int64_t now = 0;
  auto set = std::make_shared<ProcessorSet>([&now] { return now += 50; });
  ASSERT_TRUE(set->Add(std::make_unique<Counting>("counting", Counting::Failure::kNone), {}));
  Harness harness(WithProcessors(set));
  ASSERT_TRUE(harness.Submit(RequestWith(1, {"counting"})));
  harness.RunDry();
  EXPECT_EQ(set->counters(0).nanoseconds, 5U * 50U);
}

TEST(ProcessorSet, LogprobsAreRawUnlessProcessedOnesAreAskedFor) {
  auto set = std::make_shared<ProcessorSet>();
  ASSERT_TRUE(set->Add(std::make_unique<Counting>("counting", Counting::Failure::kNone), {}));
  Harness harness(WithProcessors(set));
  wire::GenerateRequest request = RequestWith(1, {"counting"});
  request.top_logprobs = 0;
  ASSERT_TRUE(harness.Submit(request));
  request.id = RequestId{2};
  request.processed_logprobs = true;
  ASSERT_TRUE(harness.Submit(request));
  harness.RunDry();
  EXPECT_LT(harness.streams().at(1).logprobs[0].logprob, -0.01F);
  EXPECT_EQ(harness.streams().at(2).logprobs[0].logprob, 0.0F);
}

}  // namespace
}  // namespace pixii::engine
