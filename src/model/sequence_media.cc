#include "model/sequence_media.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/assert.h"

namespace pixii::model {
namespace {

tl::unexpected<Error> BadMedia(std::string_view what) {
  return Fail(Code::kInvalidArgument, fmt::format("placeholders of media {}", what), "media");
}

Result<void> CheckCounts(std::span<const std::int32_t> counts) {
  for (const std::int32_t count : counts) {
    if (count < 1 || count > kMediaTokensMax) {
      return BadMedia(
          fmt::format("of one item are {}, which is not in 1 to {}", count, kMediaTokensMax));
    }
  }
  return {};
}

/// Positions of the rows that were added last but have none.
void FillPlain(kernels::StepBatch& batch, std::size_t row_end) {
  for (std::size_t row = batch.rope_positions.size() / 3; row < row_end; ++row) {
    batch.rope_positions.insert(batch.rope_positions.end(), 3, batch.positions[row]);
  }
}

}  // namespace

Result<ExpandedPrompt> ExpandPlaceholders(std::span<const std::int32_t> tokens,
                                          std::int32_t placeholder,
                                          std::span<const std::int32_t> counts) {
  PX_CHECK_OK(CheckCounts(counts));
  const auto found = std::ranges::count(tokens, placeholder);
  if (found != std::ssize(counts)) {
    return BadMedia(fmt::format("are {} in the prompt, for {} items", found, counts.size()));
  }
  ExpandedPrompt out;
  for (const std::int32_t token : tokens) {
    if (token != placeholder) {
      out.tokens.push_back(token);
      continue;
    }
    const std::int32_t count = counts[out.spans.size()];
    out.spans.push_back({static_cast<std::int32_t>(out.tokens.size()), count});
    out.tokens.insert(out.tokens.end(), static_cast<std::size_t>(count), placeholder);
  }
  return out;
}

Result<std::vector<MediaSpan>> FindPlaceholders(std::span<const std::int32_t> tokens,
                                                std::int32_t placeholder,
                                                std::span<const std::int32_t> counts) {
  PX_CHECK_OK(CheckCounts(counts));
  std::vector<MediaSpan> out;
  auto at = std::ranges::find(tokens, placeholder);
  for (const std::int32_t count : counts) {
    const auto is_one = [&](std::int32_t token) { return token == placeholder; };
    if (tokens.end() - at < count || !std::all_of(at, at + count, is_one)) {
      return BadMedia(fmt::format("of item {} are fewer than {} in a row", out.size(), count));
    }
    out.push_back({static_cast<std::int32_t>(at - tokens.begin()), count});
    at = std::find(at + count, tokens.end(), placeholder);
  }
  if (at != tokens.end()) {
    return BadMedia(fmt::format("go on after {} items", counts.size()));
  }
  return out;
}

RopePositions MakeRopePositions(std::int32_t token_count, std::span<const MediaSpan> spans,
                                std::span<const MediaGrid> grids) {
  PX_ASSERT(spans.size() == grids.size());
  RopePositions out;
  out.values.reserve(3 * static_cast<std::size_t>(token_count));
  std::int32_t next = 0;  // position of the next text token
  std::int32_t token = 0;
  const auto add_text = [&](std::int32_t end) {
    PX_ASSERT(end >= token);
    for (; token < end; ++token, ++next) {
      out.values.insert(out.values.end(), 3, next);
    }
  };
  for (std::size_t i = 0; i < spans.size(); ++i) {
    const MediaGrid& grid = grids[i];
    PX_ASSERT(spans[i].count == grid.frames * grid.rows * grid.cols);
    add_text(spans[i].begin);
    for (std::int32_t frame = 0; frame < grid.frames; ++frame) {
      for (std::int32_t row = 0; row < grid.rows; ++row) {
        for (std::int32_t col = 0; col < grid.cols; ++col) {
          out.values.insert(out.values.end(),
                            {next + frame * grid.frame_step, next + row, next + col});
        }
      }
    }
    token += spans[i].count;
    next += std::max(grid.rows, grid.cols);
  }
  add_text(token_count);
  out.delta = next - token_count;
  return out;
}

void AddMedia(const SequenceMedia* media, std::int32_t begin, std::int32_t count,
              kernels::StepBatch& batch) {
  const std::size_t row_end = batch.token_ids.size();
  const auto first_row = static_cast<std::int32_t>(row_end) - count;
  if (media == nullptr) {
    if (!batch.rope_positions.empty()) {
      FillPlain(batch, row_end);
    }
    return;
  }
  if (!media->rope.empty()) {
    FillPlain(batch, static_cast<std::size_t>(first_row));
    const auto prompt = static_cast<std::int32_t>(media->rope.size() / 3);
    for (std::int32_t token = begin; token < begin + count; ++token) {
      if (token < prompt) {
        const auto* at = media->rope.data() + 3 * static_cast<std::size_t>(token);
        batch.rope_positions.insert(batch.rope_positions.end(), at, at + 3);
      } else {
        batch.rope_positions.insert(batch.rope_positions.end(), 3, token + media->rope_delta);
      }
    }
  } else if (!batch.rope_positions.empty()) {
    FillPlain(batch, row_end);
  }
  for (const SequenceMedia::Item& item : media->items) {
    if (!item.features) {
      continue;
    }
    const VisionFeatures& features = *item.features;
    const std::int32_t from = std::max(begin, item.begin);
    const std::int32_t to = std::min(begin + count, item.begin + features.rows);
    if (from >= to) {
      continue;
    }
    for (std::int32_t token = from; token < to; ++token) {
      batch.embedded_rows.push_back(first_row + token - begin);
    }
    const auto add = [&](const std::vector<float>& rows, std::int64_t row_size,
                         std::vector<float>& out) {
      out.insert(out.end(), rows.begin() + (from - item.begin) * row_size,
                 rows.begin() + (to - item.begin) * row_size);
    };
    add(features.rows_data, features.size, batch.embeddings);
    add(features.layers_data, std::int64_t{features.levels} * features.size,
        batch.layer_embeddings);
  }
}

}  // namespace pixii::model
