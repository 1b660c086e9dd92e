#include "model/ranked_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/assert.h"
#include "model/step_check.h"

namespace pixii::model {
namespace {

/// How long a rank computes between two exchanges at most: a stage runs all its layers.
constexpr auto kExchangeTimeout = std::chrono::hours(1);

/// What the other ranks observe with: a step that is observed takes the same way on all.
const HiddenObserver kNobody = [](std::int32_t, const kernels::Matrix&) {};

bool IsModelFault(const Result<void>& result) {
  return !result && result.error().code() == Code::kModelFault;
}

Result<void> CheckOperators(const kernels::Operators& first, const kernels::Operators& other) {
  if (!first.on_host() || first.numerics() != other.numerics()) {
    return Fail(Code::kUnsupported,
                fmt::format("ranks of one model run on the CPU with equal numerics, not on {} and "
                            "{}",
                            first.name(), other.name()),
                "tensor-parallel-size");
  }
  return {};
}

}  // namespace

RankedModel::RankedModel(const LoadOptions& options)
    : options_(options.ranks),
      links_(static_cast<std::size_t>(options.ranks.count())),
      team_(options.ranks.count(), [this](std::int32_t rank) { EndLinks(rank); }) {}

Result<std::unique_ptr<LanguageModel>> RankedModel::Create(kernels::Operators& operators,
                                                           const LoadOptions& options,
                                                           const MakeRank& make) {
  auto out =
      std::unique_ptr<RankedModel>(new RankedModel(options));  // tidy: new private constructor
  const std::int32_t count = options.ranks.count();
  for (std::int32_t rank = 0; rank < count; ++rank) {
    kernels::Operators* own = &operators;
    if (rank > 0) {
      PX_TRY(auto made, options.ranks.make_operators());
      PX_CHECK_OK(CheckOperators(operators, *made));
      own = out->operators_.emplace_back(std::move(made)).get();
    }
    LoadOptions of_rank = options;
    of_rank.ranks = {};
    of_rank.place = {.share = {.tensor_rank = rank % options.ranks.tensor_count,
                               .tensor_count = options.ranks.tensor_count,
                               .stage = rank / options.ranks.tensor_count,
                               .stage_count = options.ranks.stage_count},
                     .links = &out->links_[static_cast<std::size_t>(rank)]};
    if (options.progress) {
      of_rank.progress = [&options, rank, count](double done) {
        options.progress((rank + done) / count);
      };
    }
    PX_TRY(auto model, make(*own, of_rank));
    out->models_.push_back(std::move(model));
  }
  PX_CHECK_OK(out->Link());
  return std::unique_ptr<LanguageModel>(std::move(out));
}

/// New groups for the tensor ranks of each stage, and for each rank with that of the next stage.
Result<void> RankedModel::Link() {
  members_.clear();
  const auto ranks = static_cast<std::size_t>(options_.tensor_count);
  const auto stages = static_cast<std::size_t>(options_.stage_count);
  const auto add = [&](std::uint32_t size) {
    return kernels::MakeThreadCollective({.size = size, .timeout = kExchangeTimeout});
  };
  for (std::size_t stage = 0; ranks > 1 && stage < stages; ++stage) {
    PX_TRY(auto group, add(static_cast<std::uint32_t>(ranks)));
    for (std::size_t rank = 0; rank < ranks; ++rank) {
      links_[stage * ranks + rank].tensor = members_.emplace_back(std::move(group[rank])).get();
    }
  }
  for (std::size_t rank = 0; rank + ranks < links_.size(); ++rank) {
    PX_TRY(auto pair, add(2));
    links_[rank].after = members_.emplace_back(std::move(pair[0])).get();
    links_[rank + ranks].before = members_.emplace_back(std::move(pair[1])).get();
  }
  return {};
}

void RankedModel::EndLinks(std::int32_t rank) {
  const RankLinks& links = links_[static_cast<std::size_t>(rank)];
  for (kernels::Collective* link : {links.tensor, links.before, links.after}) {
    if (link != nullptr) {
      link->Abort();
    }
  }
}

Result<void> RankedModel::ForwardOn(std::int32_t rank) {
  if (probe_) {
    PX_CHECK_OK(probe_(rank));
  }
  const auto index = static_cast<std::size_t>(rank);
  const kernels::KvLayout& whole = step_.cache->layout;
  kernels::KvCache own;
  std::size_t offset = 0;
  for (std::size_t i = 0; i <= index; ++i) {
    offset += i > 0 ? own.layout.block_size_bytes() : 0;
    own.layout = models_[i]->MakeKvLayout(whole.block_tokens, whole.dtype);
  }
  own.block_count = step_.cache->block_count;
  own.whole_block_bytes = whole.block_size_bytes();
  own.buffer = kernels::Buffer(static_cast<std::byte*>(step_.cache->buffer.data()) + offset,
                               step_.cache->buffer.size_bytes() - offset, [](void*) {});
  const HiddenObserver* observer =
      step_.observer != nullptr && rank % options_.tensor_count != 0 ? &kNobody : step_.observer;
  return models_[index]->Forward(*step_.batch, own, step_.logits, observer);
}

Result<void> RankedModel::Forward(const kernels::StepBatch& batch, kernels::KvCache& cache,
                                  std::span<float> logits, const HiddenObserver* observer) {
  step_ = {.batch = &batch, .cache = &cache, .logits = logits, .observer = observer};
  return Finish(team_.Run([this](std::int32_t rank) { return ForwardOn(rank); }));
}

Result<void> RankedModel::Finish(std::int32_t failed) {
  faulty_logit_rows_.clear();
  if (failed >= 0) {
    PX_CHECK_OK(Link());
    return std::move(team_.result(failed));
  }
  for (std::size_t rank = 0; rank < models_.size(); ++rank) {
    if (IsModelFault(team_.result(static_cast<std::int32_t>(rank)))) {
      const auto rows = models_[rank]->faulty_logit_rows();
      faulty_logit_rows_.insert(faulty_logit_rows_.end(), rows.begin(), rows.end());
    }
  }
  std::ranges::sort(faulty_logit_rows_);
  const auto rest = std::ranges::unique(faulty_logit_rows_);
  faulty_logit_rows_.erase(rest.begin(), rest.end());
  return CheckFaultyRows(faulty_logit_rows_, step_.batch->logit_rows.size());
}

kernels::KvLayout RankedModel::MakeKvLayout(std::int32_t block_tokens,
                                            kernels::KvDType dtype) const {
  kernels::KvLayout out = models_[0]->MakeKvLayout(block_tokens, dtype);
  for (const auto& model : models_) {
    out.parts_size_bytes += model->MakeKvLayout(block_tokens, dtype).block_size_bytes();
  }
  out.layer_count = spec().layer_count;
  out.kv_head_count = spec().kv_head_count;
  return out;
}

KvCuts RankedModel::kv_cuts() const {
  KvCuts out;
  for (std::size_t rank = 0; rank < models_.size(); ++rank) {
    const KvCuts own = models_[rank]->kv_cuts();
    if (rank < static_cast<std::size_t>(options_.tensor_count)) {
      out.rank_heads.push_back(own.rank_heads[0]);
    }
    if (rank % static_cast<std::size_t>(options_.tensor_count) == 0) {
      out.stage_layers.push_back(own.stage_layers[0]);
    }
  }
  return out;
}

Result<void> RankedModel::LoadAdapter(std::int32_t slot, const LoraAdapter& adapter) {
  for (const auto& model : models_) {
    Result<void> loaded = model->LoadAdapter(slot, adapter);
    if (!loaded) {
      if (slot >= 0 && slot < adapter_slot_count()) {
        UnloadAdapter(slot);
      }
      return loaded;
    }
  }
  return {};
}

void RankedModel::UnloadAdapter(std::int32_t slot) {
  for (const auto& model : models_) {
    model->UnloadAdapter(slot);
  }
}

}  // namespace pixii::model
