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

void ClearBatch(kernels::StepBatch& batch) {
  batch.token_ids.clear();
  batch.positions.clear();
  batch.slots.clear();
  batch.sequences.clear();
  batch.block_table.clear();
  batch.logit_rows.clear();
  batch.hidden_rows.clear();
}

}  // namespace pixii::engine
