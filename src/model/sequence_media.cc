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

std::vector<float> PackFeatures(const VisionFeatures& features) {
  if (features.levels == 0) {
    return features.rows_data;
  }
  const std::size_t size = static_cast<std::size_t>(features.size);
  const std::size_t behind = size * static_cast<std::size_t>(features.levels);
  std::vector<float> out;
  out.reserve(features.rows_data.size() + features.layers_data.size());
  for (std::size_t row = 0; row < static_cast<std::size_t>(features.rows); ++row) {
    const float* first = features.rows_data.data() + row * size;
    const float* layers = features.layers_data.data() + row * behind;
    out.insert(out.end(), first, first + size);
    out.insert(out.end(), layers, layers + behind);
  }
  return out;
}

VisionFeatures UnpackFeatures(std::span<const float> packed, std::int32_t rows, std::int32_t size,
                              std::int32_t levels) {
  const auto width = static_cast<std::size_t>(size) * static_cast<std::size_t>(1 + levels);
  PX_ASSERT(packed.size() == static_cast<std::size_t>(rows) * width);
  VisionFeatures out{.rows = rows, .size = size, .levels = levels};
  out.rows_data.reserve(static_cast<std::size_t>(rows) * static_cast<std::size_t>(size));
  for (std::size_t at = 0; at < packed.size(); at += width) {
    const std::span<const float> row = packed.subspan(at, width);
    const auto behind = row.begin() + size;
    out.rows_data.insert(out.rows_data.end(), row.begin(), behind);
    out.layers_data.insert(out.layers_data.end(), behind, row.end());
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

std::int32_t SequenceMedia::ChunkEnd(std::int32_t begin, std::int32_t end) const {
  for (const Item& item : items) {
    if (item.begin < end && end < item.begin + item.mutual_count) {
      return std::max(begin, item.begin);
    }
  }
  return end;
}

std::int32_t SequenceMedia::ChunkMin(std::int32_t begin) const {
  for (const Item& item : items) {
    if (item.begin <= begin && begin < item.begin + item.mutual_count) {
      return item.begin + item.mutual_count - begin;
    }
  }
  return 1;
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
    if (item.mutual_count > 0) {
      batch.mutual_rows.push_back({.row_begin = first_row + from - begin,
                                   .row_count = to - from,
                                   .position_begin = item.begin});
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
