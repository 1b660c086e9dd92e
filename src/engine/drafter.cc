#include "engine/drafter.h"

#include "engine/sample_input.h"
#include "engine/sampler.h"

namespace pixii::engine {

TokenId DrawGuess(Sampler& sampler, const DraftRequest& draft, std::span<const TokenId> generated,
                  std::span<float> row) {
  const wire::GenerateRequest& request = *draft.request;
  float mean = FirstMirostatMean(request.sampling.mirostat);
  return sampler.Sample({.params = &request.sampling,
                         .stop = &request.stop,
                         .prompt = request.prompt,
                         .generated = generated,
                         .choice = draft.choice,
                         .mirostat_mean = &mean},
                        row);
}

}  // namespace pixii::engine
