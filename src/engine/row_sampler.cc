#include "engine/row_sampler.h"

#include <algorithm>
#include <limits>
#include <utility>

#include <fmt/format.h>

namespace pixii::engine {

namespace {

SampleInput InputOf(const SampleRow& row) {
  return {.params = &row.request->sampling,
          .stop = &row.request->stop,
          .prompt = row.request->prompt,
          .generated = row.generated,
          .choice = row.choice,
          .mirostat_mean = &row.state->mirostat_mean};
}

bool WantsRaw(const SampleRow& row) {
  return row.request->top_logprobs >= 0 && !row.request->processed_logprobs;
}

}  // namespace

RowSampler::RowSampler(std::shared_ptr<ProcessorSet> processors, std::vector<TokenId> unspoken)
    : processors_(processors ? std::move(processors) : std::make_shared<ProcessorSet>()),
      unspoken_(std::move(unspoken)) {}

SamplingState RowSampler::FirstState(const wire::GenerateRequest& request,
                                     const ProcessorChain& chain) {
  SamplingState state;
  state.has_mean = request.sampling.mirostat.on;
  state.mirostat_mean = FirstMirostatMean(request.sampling.mirostat);
  state.processors.resize(chain.size());
  return state;
}

void RowSampler::Run(std::span<SampleRow> rows) {
  std::size_t raw_size = 0;
  for (const SampleRow& row : rows) {
    for (const TokenId token : unspoken_) {
      if (static_cast<std::size_t>(token) < row.logits.size()) {
        row.logits[static_cast<std::size_t>(token)] = -std::numeric_limits<float>::infinity();
      }
    }
    raw_size += WantsRaw(row) ? row.logits.size() : 0;
  }
  raw_.resize(std::max(raw_.size(), raw_size));
  chain_rows_.clear();
  std::size_t raw_used = 0;
  for (SampleRow& row : rows) {
    if (WantsRaw(row)) {
      std::ranges::copy(row.logits, raw_.data() + raw_used);
      raw_used += row.logits.size();
    }
    sampler_.Prepare(InputOf(row), row.logits);
    if (!row.chain->empty()) {
      chain_rows_.push_back({.chain = row.chain,
                             .row = {.request = row.request->id,
                                     .choice = row.choice,
                                     .prompt = row.request->prompt,
                                     .generated = row.generated,
                                     .end_ids = row.request->stop.eos_token_ids,
                                     .logits = row.logits,
                                     .second = row.second},
                             .states = row.state->processors});
    }
  }
  if (!chain_rows_.empty()) {
    processors_->Run(chain_rows_);
  }
  raw_used = 0;
  std::size_t chained = 0;
  for (SampleRow& row : rows) {
    if (!row.chain->empty()) {
      row.error = std::move(chain_rows_[chained++].row.error);
    }
    std::span<const float> raw = row.logits;
    if (WantsRaw(row)) {
      raw = std::span(raw_).subspan(raw_used, row.logits.size());
      raw_used += row.logits.size();
    }
    if (!row.error && row.constraint != nullptr) {
      const Result<void> applied = row.constraint->Apply(row.choice, row.generated, row.logits);
      if (!applied) {
        row.error = applied.error();
      }
    }
    if (!row.error) {
      Draw(row, raw);
    }
  }
}

void RowSampler::Draw(SampleRow& row, std::span<const float> raw) {
  row.token = sampler_.Draw(InputOf(row), row.logits);
  if (row.token == kNoToken) {
    row.error = Error(Code::kInvalidArgument,
                      "no token may follow: allowed_token_ids, bad_words, min_tokens, logits "
                      "processors and response_format together exclude all");
    return;
  }
  if (row.state->encoded_size() > wire::kStateBytesMax) {
    row.error = Error(Code::kProcessorFault,
                      fmt::format("the request's logits processors keep {} bytes of state; at most "
                                  "{} are allowed",
                                  row.state->encoded_size(), wire::kStateBytesMax));
    return;
  }
  if (row.request->top_logprobs >= 0) {
    row.logprob =
        sampler_.Logprob(raw, row.token, static_cast<std::uint32_t>(row.request->top_logprobs));
  }
}

}  // namespace pixii::engine
