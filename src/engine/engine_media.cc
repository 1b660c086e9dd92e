// Pictures and films of a request: what stands for them in its prompt, and when a tower looks at
// them.
//
// Sequences and everything below them know an item by its tokens, which its digest gives; samplers,
// drafts and plug-ins see the model's placeholder in their place. Features are made when a chunk
// needs them, so a prompt whose blocks are cached, or come from elsewhere, costs no tower.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "base/digest.h"
#include "engine/engine.h"
#include "engine/request_state.h"
#include "engine/step_builder.h"

namespace pixii::engine {

namespace {

constexpr std::uint32_t kMediaSideMax = 1U << 16U;  // pixels, frames

Error BadItem(std::size_t index, std::string_view what) {
  return Error(Code::kInvalidArgument, fmt::format("media[{}]: {}", index, what), "media");
}

// Who was given tokens that are not of these pixels would find another's blocks.
Result<void> CheckDigest(std::span<const TokenId> prompt, const wire::MediaItem& item,
                         std::size_t index) {
  if (item.digest != wire::MediaDigest(item)) {
    return Fail(BadItem(index, "the digest is not that of the pixels"));
  }
  for (std::uint32_t i = 0; i < item.count; ++i) {
    if (prompt[std::size_t{item.begin} + i] != wire::MediaToken(item.digest, i)) {
      return Fail(BadItem(index, fmt::format("token {} of the prompt is not of its digest",
                                             std::size_t{item.begin} + i)));
    }
  }
  return {};
}

}  // namespace

Result<void> Engine::CheckMedia(const wire::GenerateRequest& request) const {
  if (request.media.empty()) {
    return {};
  }
  if (!media_encoder_) {
    return Fail(Code::kUnsupported, "the model reads text alone", "media");
  }
  if (request.pool) {
    return Fail(Code::kUnsupported, "a text that is read shows no pictures", "media");
  }
  std::uint64_t end = 0;
  for (std::size_t i = 0; i < request.media.size(); ++i) {
    const wire::MediaItem& item = request.media[i];
    const std::uint64_t pixels = std::uint64_t{item.frames} * item.height * item.width;
    if (item.begin < end || item.count == 0 ||
        std::uint64_t{item.begin} + item.count > request.prompt.size()) {
      return Fail(BadItem(i, fmt::format("tokens {} to {} are not in the prompt of {}, or another "
                                         "item's",
                                         item.begin, std::uint64_t{item.begin} + item.count,
                                         request.prompt.size())));
    }
    end = std::uint64_t{item.begin} + item.count;
    if (item.frames == 0 || item.height > kMediaSideMax || item.width > kMediaSideMax ||
        item.frames > kMediaSideMax || item.pixels.size() != 3 * pixels) {
      return Fail(
          BadItem(i, fmt::format("{} bytes are not {} frames of {} x {} pixels", item.pixels.size(),
                                 item.frames, item.width, item.height)));
    }
    PX_TRY(const MediaEncoder::Shape shape, media_encoder_->Measure(item));
    if (shape.tokens != item.count) {
      return Fail(
          BadItem(i, fmt::format("it has {} tokens and takes {}", item.count, shape.tokens)));
    }
    PX_CHECK_OK(CheckDigest(request.prompt, item, i));
  }
  return {};
}

// From here on the request's prompt is words. Pre: CheckMedia took it.
std::unique_ptr<RequestMedia> Engine::TakeMedia(wire::GenerateRequest& request) const {
  const auto word = [card = media_encoder_->card()](wire::MediaKind kind) {
    return kind == wire::MediaKind::kImage ? card.image_token : card.video_token;
  };
  auto media = std::make_unique<RequestMedia>();
  media->prompt = request.prompt;
  std::vector<model::MediaSpan> spans;
  std::vector<model::MediaGrid> grids;
  std::string small;  // digests
  for (const wire::MediaItem& item : request.media) {
    std::fill_n(request.prompt.begin() + item.begin, item.count, word(item.kind));
    media->shown.items.push_back(
        {.begin = static_cast<std::int32_t>(item.begin), .features = nullptr});
    spans.push_back({static_cast<std::int32_t>(item.begin), static_cast<std::int32_t>(item.count)});
    grids.push_back(media_encoder_->Measure(item)->grid);
    if (item.count < wire::kMediaTokensSafe) {
      small += item.digest;
    }
  }
  if (!small.empty()) {
    media->small_digest = Sha256Hex(small);
  }
  if (media_encoder_->has_axes()) {
    model::RopePositions rope =
        model::MakeRopePositions(static_cast<std::int32_t>(request.prompt.size()), spans, grids);
    media->shown.rope = std::move(rope.values);
    media->shown.rope_delta = rope.delta;
  }
  return media;
}

// The tower looks at what the chunks of `step` begin or go on with, at one item a step, so that
// others wait no longer than for one; chunks that lack more leave the step. Requests that it fails
// on end. Pre: no step is in flight.
void Engine::EncodeMedia(PlannedStep& step) {
  bool changed = false;
  bool encoded = false;
  std::vector<const Sequence*> waiting;
  for (const Chunk& chunk : step.chunks) {
    RequestState& state = *chunk.sequence->request;
    if (chunk.sequence->media == nullptr || chunk.sequence->phase != SequencePhase::kRunning) {
      continue;
    }
    const std::uint32_t chunk_end = chunk.begin + chunk.count;
    for (std::size_t i = 0; i < state.request.media.size(); ++i) {
      const wire::MediaItem& item = state.request.media[i];
      model::SequenceMedia::Item& shown = state.media->shown.items[i];
      if (shown.features || item.begin >= chunk_end || item.begin + item.count <= chunk.begin) {
        continue;
      }
      changed = true;
      shown.features = chunk.sequence->cold ? nullptr : media_cache_.Find(item.digest);
      if (shown.features) {
        ++counters_.media_cache_hits;
        continue;
      }
      if (encoded) {
        waiting.push_back(chunk.sequence);
        break;
      }
      encoded = true;
      Result<std::shared_ptr<const model::VisionFeatures>> features =
          Encode(item, chunk.sequence->cold);
      if (!features) {
        ++counters_.failed_requests;
        EndAll(state, wire::FinishReason::kError, features.error());
        break;
      }
      shown.features = std::move(*features);
    }
  }
  if (changed) {
    std::erase_if(step.chunks, [&](const Chunk& chunk) {
      return chunk.sequence->phase == SequencePhase::kEnded ||
             std::ranges::find(waiting, chunk.sequence) != waiting.end();
    });
    BuildStep(step.chunks, limits_.block_tokens, step.batch);
  }
}

Result<std::shared_ptr<const model::VisionFeatures>> Engine::Encode(const wire::MediaItem& item,
                                                                    bool cold) {
  PX_TRY(model::VisionFeatures made, media_encoder_->Encode(item));
  ++counters_.media_encoded;
  auto features = std::make_shared<const model::VisionFeatures>(std::move(made));
  if (!cold) {
    media_cache_.Put(item.digest, features);
  }
  return features;
}

}  // namespace pixii::engine
