#include "engine/request_check.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "engine/sampling_check.h"

namespace pixii::engine {
namespace {

const RequestLimits kLimits{.vocab_size = 100, .context_tokens_max = 50, .choice_count_max = 4};

wire::GenerateRequest Valid() {
  wire::GenerateRequest request;
  request.prompt = {1, 2, 3};
  request.stop.max_tokens = 5;
  return request;
}

TEST(RequestCheck, TakesEveryFieldAtItsBounds) {
  wire::GenerateRequest request = Valid();
  EXPECT_TRUE(CheckRequest(request, kLimits));
  request.prompt.assign(49, 99);
  request.choice_count = 4;
  request.generated.assign(4, {99});
  request.stop.max_tokens = 1'000'000;
  request.sampling = {.temperature = 2,
                      .top_p = 1e-6F,
                      .top_k = 0x7fffffff,
                      .min_p = 1,
                      .presence_penalty = -2,
                      .frequency_penalty = 2,
                      .repetition_penalty = 2,
                      .seed = ~0ULL,
                      .logit_bias = {{0, -100.0F}, {99, 100.0F}}};
  request.top_logprobs = 20;
  EXPECT_TRUE(CheckRequest(request, kLimits));
  request = Valid();
  request.stop.max_tokens = 0;
  request.prompt_logprobs = true;
  request.prompt.assign(50, 1);
  EXPECT_TRUE(CheckRequest(request, kLimits));
}

TEST(RequestCheck, NamesTheFieldItsValueAndTheLimit) {
  struct Bad {
    std::string param;
    std::string value;
    std::function<void(wire::GenerateRequest&)> spoil;
  };

  using Request = wire::GenerateRequest;
  std::vector<Bad> cases = {
      {"n", "0", [](Request& r) { r.choice_count = 0; }},
      {"n", "5", [](Request& r) { r.choice_count = 5; }},
      {"states", "2", [](Request& r) { r.states.resize(2); }},
      {"top_a", "1.5", [](Request& r) { r.sampling.top_a = 1.5F; }},
      {"typical_p", "0", [](Request& r) { r.sampling.typical_p = 0; }},
      {"typical_p", "2", [](Request& r) { r.sampling.typical_p = 2; }},
      {"dry_multiplier", "-1", [](Request& r) { r.sampling.dry.multiplier = -1; }},
      {"dry_base", "0.5", [](Request& r) { r.sampling.dry.base = 0.5F; }},
      {"dry_allowed_length", "0", [](Request& r) { r.sampling.dry.allowed_length = 0; }},
      {"dry_sequence_breakers", "100", [](Request& r) { r.sampling.dry.breakers = {100}; }},
      {"xtc_probability", "1.5", [](Request& r) { r.sampling.xtc.probability = 1.5F; }},
      {"xtc_threshold", "nan", [](Request& r) { r.sampling.xtc.threshold = std::nanf(""); }},
      {"mirostat_tau", "0", [](Request& r) { r.sampling.mirostat.tau = 0; }},
      {"mirostat_eta", "2", [](Request& r) { r.sampling.mirostat.eta = 2; }},
      {"allowed_token_ids", "-1", [](Request& r) { r.sampling.allowed_token_ids = {-1}; }},
      {"bad_words", "0", [](Request& r) { r.sampling.bad_words = {{}}; }},
      {"bad_words", "100", [](Request& r) { r.sampling.bad_words = {{1, 100}}; }},
      {"allowed_token_ids", "65537",
       [](Request& r) { r.sampling.allowed_token_ids.assign(kAllowedTokensMax + 1, 1); }},
      {"generated", "2", [](Request& r) { r.generated.resize(2); }},
      {"generated", "100", [](Request& r) { r.generated = {{100}}; }},
      {"generated", "51", [](Request& r) { r.generated = {std::vector<TokenId>(48)}; }},
      {"prompt", "no tokens", [](Request& r) { r.prompt.clear(); }},
      {"prompt", "50", [](Request& r) { r.prompt.assign(50, 1); }},
      {"prompt", "-1", [](Request& r) { r.prompt[1] = -1; }},
      {"prompt", "100", [](Request& r) { r.prompt[2] = 100; }},
      {"max_tokens", "0", [](Request& r) { r.stop.max_tokens = 0; }},
      {"temperature", "2.5", [](Request& r) { r.sampling.temperature = 2.5F; }},
      {"temperature", "nan", [](Request& r) { r.sampling.temperature = std::nanf(""); }},
      {"top_p", "0", [](Request& r) { r.sampling.top_p = 0; }},
      {"top_p", "1.5", [](Request& r) { r.sampling.top_p = 1.5F; }},
      {"top_k", "-1", [](Request& r) { r.sampling.top_k = -1; }},
      {"min_p", "1.5", [](Request& r) { r.sampling.min_p = 1.5F; }},
      {"presence_penalty", "-2.5", [](Request& r) { r.sampling.presence_penalty = -2.5F; }},
      {"frequency_penalty", "2.5", [](Request& r) { r.sampling.frequency_penalty = 2.5F; }},
      {"repetition_penalty", "0", [](Request& r) { r.sampling.repetition_penalty = 0; }},
      {"logit_bias", "100", [](Request& r) { r.sampling.logit_bias = {{100, 1.0F}}; }},
      {"logit_bias", "101", [](Request& r) { r.sampling.logit_bias = {{1, 101.0F}}; }},
      {"top_logprobs", "21", [](Request& r) { r.top_logprobs = 21; }},
      {"top_logprobs", "-2", [](Request& r) { r.top_logprobs = -2; }},
  };
  for (const Bad& bad : cases) {
    SCOPED_TRACE(bad.param + " " + bad.value);
    wire::GenerateRequest request = Valid();
    bad.spoil(request);
    Result<void> result = CheckRequest(request, kLimits);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code(), Code::kInvalidArgument);
    EXPECT_EQ(result.error().param(), bad.param);
    EXPECT_NE(result.error().detail().find(bad.value), std::string::npos)
        << result.error().detail();
  }
}

}  // namespace
}  // namespace pixii::engine
