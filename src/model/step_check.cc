#include "model/step_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <string>

namespace pixii::model {
namespace {

constexpr std::int32_t kStepTokensMax = 1 << 20;
constexpr std::int32_t kAdapterSlotsMax = 4096;

Result<void> CheckOption(std::string_view name, std::int64_t value, std::int64_t min,
                         std::int64_t max) {
  if (value < min || value > max) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{} = {} is not in {} to {}", name, value, min, max),
                std::string(name));
  }
  return {};
}

/// All of `values` in [0, end).
bool AllBelow(std::span<const std::int32_t> values, std::int64_t end) {
  return std::all_of(values.begin(), values.end(),
                     [end](std::int32_t value) { return value >= 0 && value < end; });
}

}  // namespace

Result<LoadOptions> CheckLoadOptions(const LoadOptions& options, std::int32_t context_tokens_max) {
  LoadOptions checked = options;
  PX_CHECK_OK(CheckOption("step_tokens_max", options.step_tokens_max, 1, kStepTokensMax));
  PX_CHECK_OK(CheckOption("step_logit_rows_max", options.step_logit_rows_max, 1, kStepTokensMax));
  if (options.context_tokens_max < 0 || options.context_tokens_max > context_tokens_max) {
    return Fail(Code::kInvalidArgument,
                fmt::format("context_tokens_max = {} is not in 1 to {}, what the checkpoint's "
                            "positions allow; 0 takes them all",
                            options.context_tokens_max, context_tokens_max),
                "context_tokens_max");
  }
  PX_CHECK_OK(CheckOption("adapter_slots", options.adapter_slots, 0, kAdapterSlotsMax));
  if (checked.context_tokens_max == 0) {
    checked.context_tokens_max = context_tokens_max;
  }
  return checked;
}

tl::unexpected<Error> BadStep(std::string_view field, std::string_view what) {
  return Fail(Code::kInvalidArgument, fmt::format("step batch: {} {}", field, what),
              std::string(field));
}

Result<void> CheckStep(const kernels::StepBatch& batch, const StepBounds& bounds,
                       std::size_t result_size) {
  const std::size_t token_count = batch.token_ids.size();
  const std::size_t row_count = batch.logit_rows.size();
  if (token_count == 0 || token_count > static_cast<std::size_t>(bounds.step_tokens_max)) {
    return BadStep("token_ids", fmt::format("has {} tokens, allowed 1 to {}", token_count,
                                            bounds.step_tokens_max));
  }
  if (batch.positions.size() != token_count || batch.slots.size() != token_count) {
    return BadStep("positions, slots",
                   fmt::format("do not have one entry for each of {} tokens", token_count));
  }
  if (!AllBelow(batch.token_ids, bounds.vocab_size)) {
    return BadStep("token_ids", fmt::format("leave the vocabulary of {}", bounds.vocab_size));
  }
  if (!AllBelow(batch.slots, std::int64_t{bounds.block_count} * bounds.block_tokens)) {
    return BadStep("slots", fmt::format("leave the cache's {} blocks", bounds.block_count));
  }
  if (!AllBelow(batch.block_table, bounds.block_count)) {
    return BadStep("block_table", fmt::format("leaves the cache's {} blocks", bounds.block_count));
  }
  if (row_count > static_cast<std::size_t>(bounds.step_logit_rows_max) ||
      result_size != row_count * static_cast<std::size_t>(bounds.row_size)) {
    return BadStep("logit_rows", fmt::format("are {} of at most {}, for {} floats", row_count,
                                             bounds.step_logit_rows_max, result_size));
  }
  if (!AllBelow(batch.logit_rows, static_cast<std::int64_t>(token_count)) ||
      std::adjacent_find(batch.logit_rows.begin(), batch.logit_rows.end(),
                         std::greater_equal<>()) != batch.logit_rows.end()) {
    return BadStep("logit_rows", "are not ascending rows of the step");
  }
  std::int64_t next = 0;
  for (const kernels::StepSequence& sequence : batch.sequences) {
    if (sequence.token_begin != next || sequence.token_count < 1 ||
        next + sequence.token_count > static_cast<std::int64_t>(token_count)) {
      return BadStep("sequences", "do not cover the step's rows without gaps");
    }
    if (sequence.context_tokens < sequence.token_count ||
        sequence.context_tokens > bounds.context_tokens_max) {
      return BadStep("context_tokens",
                     fmt::format("= {} is not in {} to {}", sequence.context_tokens,
                                 sequence.token_count, bounds.context_tokens_max));
    }
    const std::int64_t blocks =
        (std::int64_t{sequence.context_tokens} + bounds.block_tokens - 1) / bounds.block_tokens;
    if (sequence.block_begin < 0 || sequence.block_count != blocks ||
        sequence.block_begin + blocks > static_cast<std::int64_t>(batch.block_table.size())) {
      return BadStep("block_count", fmt::format("= {} is not the {} blocks of the context",
                                                sequence.block_count, blocks));
    }
    for (std::int32_t i = 0; i < sequence.token_count; ++i) {
      const std::int32_t position = sequence.context_tokens - sequence.token_count + i;
      if (batch.positions[static_cast<std::size_t>(next + i)] != position) {
        return BadStep("positions", fmt::format("do not end at context_tokens - 1 = {}",
                                                sequence.context_tokens - 1));
      }
    }
    next += sequence.token_count;
  }
  if (next != static_cast<std::int64_t>(token_count)) {
    return BadStep("sequences", "do not cover the step's rows without gaps");
  }
  return {};
}

namespace {

/// Pre: CheckStep took the sequences.
Result<void> CheckMutualRows(const kernels::StepBatch& batch) {
  auto sequence = batch.sequences.begin();
  std::int64_t next = 0;
  for (const kernels::MutualRows& rows : batch.mutual_rows) {
    const std::int64_t end = std::int64_t{rows.row_begin} + rows.row_count;
    if (rows.row_begin < next || rows.row_count < 1 || end > std::ssize(batch.token_ids)) {
      return BadStep("mutual_rows", "are not ascending rows of the step");
    }
    while (sequence->token_begin + sequence->token_count <= rows.row_begin) {
      ++sequence;
    }
    if (end > sequence->token_begin + sequence->token_count) {
      return BadStep("mutual_rows", "are not of one sequence");
    }
    const std::int32_t position = batch.positions[static_cast<std::size_t>(rows.row_begin)];
    if (rows.position_begin < 0 || rows.position_begin > position) {
      return BadStep("mutual_rows", fmt::format("begin at position {}, their first row is at {}",
                                                rows.position_begin, position));
    }
    next = end;
  }
  return {};
}

}  // namespace

Result<void> CheckEmbedded(const kernels::StepBatch& batch, std::size_t hidden_size) {
  const std::vector<std::int32_t>& rows = batch.embedded_rows;
  if (!AllBelow(rows, static_cast<std::int64_t>(batch.token_ids.size())) ||
      std::ranges::adjacent_find(rows, std::greater_equal<>()) != rows.end()) {
    return BadStep("embedded_rows", "are not ascending rows of the step");
  }
  const std::size_t size = rows.size() * hidden_size;
  if (batch.embeddings.size() != size) {
    return BadStep("embeddings",
                   fmt::format("are {} floats, not {}", batch.embeddings.size(), size));
  }
  if (size == 0 ? !batch.layer_embeddings.empty() : batch.layer_embeddings.size() % size != 0) {
    return BadStep("layer_embeddings", fmt::format("are {} floats, no multiple of {}",
                                                   batch.layer_embeddings.size(), size));
  }
  if (!batch.rope_positions.empty() && batch.rope_positions.size() != 3 * batch.token_ids.size()) {
    return BadStep("rope_positions", "do not have three for each token");
  }
  return CheckMutualRows(batch);
}

Result<void> CheckFaultyRows(std::span<const std::int32_t> faulty_rows, std::size_t row_count) {
  if (faulty_rows.empty()) {
    return {};
  }
  return Fail(
      Code::kModelFault,
      fmt::format("{} of {} rows of logits hold values that are not finite, the first is row {}",
                  faulty_rows.size(), row_count, faulty_rows.front()));
}

}  // namespace pixii::model
