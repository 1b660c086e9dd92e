// How the engine reads texts: requests that want a result of the whole prompt in place of tokens.
#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "engine/engine.h"
#include "engine/request_state.h"

namespace pixii::engine {

namespace {

/// The raw logits of a few tokens in the row behind the prompt.
class LogitReader final : public PooledText {
 public:
  explicit LogitReader(std::vector<TokenId> tokens) : tokens_(std::move(tokens)) {}

  void Add(std::span<const float> row) override {
    out_.clear();
    for (TokenId token : tokens_) {
      out_.push_back(row[static_cast<std::size_t>(token)]);
    }
  }

  std::vector<float> Finish() override { return std::move(out_); }

 private:
  std::vector<TokenId> tokens_;
  std::vector<float> out_;
};

}  // namespace

// Which rows the only sequence of `state` wants. Pre: the request was checked.
void Engine::StartPooled(RequestState& state) {
  const wire::PoolParams& pool = *state.request.pool;
  Sequence& sequence = state.sequences[0];
  sequence.token_types = pool.token_types;
  sequence.whole_text = limits_.whole_texts;
  if (!pooler_) {
    state.pooled = std::make_unique<LogitReader>(pool.logit_tokens);
    return;
  }
  state.pooled = pooler_->Start(pool.skip_tokens);
  PoolRows rows = pooler_->rows();
  sequence.wants_last = rows == PoolRows::kLast;
  if (rows == PoolRows::kFirst) {
    sequence.prompt_rows_end = 1;
  } else if (rows == PoolRows::kAll) {
    sequence.prompt_rows_done = pool.skip_tokens;
    sequence.prompt_rows_end = static_cast<std::uint32_t>(state.request.prompt.size());
  }
}

// Takes the rows of a chunk, [rows of the chunk, row_size]; the text's last chunk ends the request.
void Engine::ReadPooled(const Chunk& chunk, std::span<const float> rows) {
  Sequence& sequence = *chunk.sequence;
  RequestState& state = *sequence.request;
  PX_ASSERT(rows.size() ==
            std::size_t{chunk.prompt_rows_count + chunk.sample_rows} * limits_.row_size);
  for (std::size_t at = 0; at < rows.size(); at += limits_.row_size) {
    state.pooled->Add(rows.subspan(at, limits_.row_size));
  }
  tables_changed_ = scheduler_.Complete(chunk) || tables_changed_;
  if (sequence.computed_tokens < sequence.token_count()) {
    return;
  }
  wire::TokenFrame frame = MakeFrame(sequence);
  frame.pooled = state.pooled->Finish();
  frame.finish = wire::FinishReason::kStop;
  EndWithFrame(sequence, std::move(frame));
}

}  // namespace pixii::engine
