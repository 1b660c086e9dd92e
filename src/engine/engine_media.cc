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
#include "engine/media_items.h"
#include "engine/request_state.h"
#include "engine/step_builder.h"

namespace pixii::engine {

namespace {

// A word that stands for media is put into a prompt by an item alone.
Result<void> CheckUnspoken(std::string_view field, std::span<const TokenId> tokens,
                           const wire::VisionCard& card) {
  const auto found =
      std::ranges::find_if(tokens, [&](TokenId token) { return card.StandsForMedia(token); });
  if (found == tokens.end()) {
    return {};
  }
  return Fail(Code::kInvalidArgument,
              fmt::format("{}: token {} is {}, which stands for a picture", field,
                          found - tokens.begin(), *found),
              std::string(field));
}

}  // namespace

// One step takes the item, beside a token of every other sequence of a full batch, or it might
// wait for ever.
Result<void> Engine::CheckMutual(const wire::GenerateRequest& request,
                                 const MediaEncoder::Shape& shape, std::size_t index) const {
  const std::uint64_t room = std::uint64_t{options_.batch_tokens_max} -
                             std::min(options_.batch_tokens_max, options_.batch_sequences_max - 1);
  if (shape.tokens > room) {
    return Fail(BadItem(
        index,
        fmt::format("its {} tokens are computed in one step; a step of {} tokens for {} "
                    "sequences has room for {}",
                    shape.tokens, options_.batch_tokens_max, options_.batch_sequences_max, room)));
  }
  if (request.prompt_logprobs) {
    return Fail(Code::kUnsupported,
                "prompt_logprobs: not beside pictures that this model computes in one step",
                "prompt_logprobs");
  }
  return {};
}

// Also of requests that show nothing: their words may not say that they do.
Result<Engine::MediaShapes> Engine::CheckMedia(const wire::GenerateRequest& request) const {
  if (request.encode_only) {
    return Fail(Code::kUnsupported, "encode_only is for workers with role encode", "encode_only");
  }
  if (media_encoder_) {
    PX_CHECK_OK(CheckUnspoken("prompt", request.prompt, media_encoder_->card()));
    for (const std::vector<TokenId>& generated : request.generated) {
      PX_CHECK_OK(CheckUnspoken("generated", generated, media_encoder_->card()));
    }
  }
  if (request.media.empty()) {
    return MediaShapes();
  }
  if (!media_encoder_) {
    return Fail(Code::kUnsupported, "the model reads text alone", "media");
  }
  if (request.pool) {
    return Fail(Code::kUnsupported, "a text that is read shows no pictures", "media");
  }
  PX_TRY(MediaShapes shapes, CheckMediaItems(request.prompt, request.media, *media_encoder_));
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    if (media_encoder_->mutual()) {
      PX_CHECK_OK(CheckMutual(request, shapes[i], i));
    }
    // Positions of its last frame; before it are no more positions than tokens.
    const wire::MediaItem& item = request.media[i];
    const model::MediaGrid& grid = shapes[i].grid;
    const std::int64_t last = item.begin + std::int64_t{grid.frames - 1} * grid.frame_step;
    if (media_encoder_->card().has_axes && last >= std::int64_t{context_tokens_max_}) {
      return Fail(BadItem(i, fmt::format("its frames lie {} positions apart, and the last one past "
                                         "the context of {}",
                                         grid.frame_step, context_tokens_max_)));
    }
  }
  return shapes;
}

void Engine::OfferFeatures(std::string digest,
                           const std::shared_ptr<const model::VisionFeatures>& features) {
  std::erase_if(offered_, [](const auto& one) { return one.second.expired(); });
  offered_.insert_or_assign(std::move(digest), features);
}

// From here on the request's prompt is words. `shapes`: what CheckMedia says of it.
std::unique_ptr<RequestMedia> Engine::TakeMedia(wire::GenerateRequest& request,
                                                const MediaShapes& shapes) const {
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
        {.begin = static_cast<std::int32_t>(item.begin),
         .features = nullptr,
         .mutual_count = media_encoder_->mutual() ? static_cast<std::int32_t>(item.count) : 0});
    spans.push_back({static_cast<std::int32_t>(item.begin), static_cast<std::int32_t>(item.count)});
    grids.push_back(shapes[grids.size()].grid);
    if (item.count < wire::kMediaTokensSafe) {
      small += item.digest;
    }
  }
  if (!small.empty()) {
    media->small_digest = Sha256Hex(small);
  }
  if (media_encoder_->card().has_axes) {
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
      shown.features = KnownFeatures(item, chunk.sequence->cold);
      if (shown.features) {
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

// What needs no tower. Who is cold uses nothing that was made before, or elsewhere: but what the
// request itself brought.
std::shared_ptr<const model::VisionFeatures> Engine::KnownFeatures(const wire::MediaItem& item,
                                                                   bool cold) {
  if (!item.features.empty()) {
    return std::make_shared<const model::VisionFeatures>(GivenFeatures(item, *media_encoder_));
  }
  if (cold) {
    return nullptr;
  }
  std::shared_ptr<const model::VisionFeatures> known = media_cache_.Find(item.digest);
  if (known) {
    ++counters_.media_cache_hits;
    return known;
  }
  const auto offered = offered_.find(item.digest);
  known = offered == offered_.end() ? nullptr : offered->second.lock();
  if (known) {
    ++counters_.media_offered_hits;
    media_cache_.Put(item.digest, known);
  }
  return known;
}

Result<std::shared_ptr<const model::VisionFeatures>> Engine::Encode(const wire::MediaItem& item,
                                                                    bool cold) {
  Result<model::VisionFeatures> made = model::VisionFeatures();
  executor_->BetweenSteps([&] { made = media_encoder_->Encode(item); });
  if (!made) {
    return Fail(made.error());
  }
  ++counters_.media_encoded;
  auto features = std::make_shared<const model::VisionFeatures>(*std::move(made));
  if (!cold) {
    media_cache_.Put(item.digest, features);
  }
  return features;
}

}  // namespace pixii::engine
