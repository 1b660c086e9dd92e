#include "model/diffusion/wan_ranks.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/assert.h"
#include "base/checked.h"

namespace pixii::model {
namespace {

using kernels::Matrix;

/// How long a rank computes between two exchanges at most: a whole block where others hold nothing
/// of its lanes.
constexpr auto kExchangeTimeout = std::chrono::hours(1);

Result<void> CheckOperators(const kernels::Operators& first, const kernels::Operators& other) {
  if (!other.on_host() || first.numerics() != other.numerics()) {
    return Fail(Code::kUnsupported,
                fmt::format("ranks of one transformer run on the CPU with equal numerics, not on "
                            "{} and {}",
                            first.name(), other.name()),
                "dit-ulysses-size");
  }
  return {};
}

/// What `own` of equally large `lanes` have of `values`.
std::span<const float> PartOf(std::span<const float> values, std::int32_t lanes,
                              const RowRange& own) {
  const std::size_t size = values.size() / static_cast<std::size_t>(lanes);
  return values.subspan(static_cast<std::size_t>(own.begin) * size,
                        static_cast<std::size_t>(SizeOf(own)) * size);
}

}  // namespace

std::span<const float> WanRanksPass::time() const {
  const WanPass& pass = ranks.front();
  return std::span(pass.time).first(static_cast<std::size_t>(pass.rows.cols));
}

WanRanks::WanRanks(const WanRankOptions& options)
    : options_(options),
      links_(static_cast<std::size_t>(options.count())),
      world_(links_.size()),
      team_(options.count(),
            [this](std::int32_t rank) { EndLinks(static_cast<std::size_t>(rank)); }) {}

/// rank = (cfg rank * sequence_count + sequence rank) * tensor_count + tensor rank.
WanPlace WanRanks::PlaceOf(std::size_t rank) const {
  const auto index = static_cast<std::int32_t>(rank);
  return {.tensor_rank = index % options_.tensor_count,
          .tensor_count = options_.tensor_count,
          .sequence_rank = index / options_.tensor_count % options_.sequence_count,
          .sequence_count = options_.sequence_count,
          .links = &links_[rank]};
}

/// The first ranks have one more where lanes do not divide; the first has some always.
RowRange WanRanks::LanesOf(std::size_t rank, std::int32_t lanes) const {
  const std::int64_t cfg_rank =
      static_cast<std::int32_t>(rank) / (options_.tensor_count * options_.sequence_count);
  return {CeilDiv(cfg_rank * lanes, std::int64_t{options_.cfg_count}),
          CeilDiv((cfg_rank + 1) * lanes, std::int64_t{options_.cfg_count})};
}

Result<std::unique_ptr<WanRanks>> WanRanks::Create(kernels::Operators& operators,
                                                   const WanRankOptions& options,
                                                   const Make& make) {
  if (options.cfg_count < 1 || options.cfg_count > 2) {
    return Fail(Code::kInvalidArgument,
                fmt::format("dit-cfg-size is {}, must be 1 or 2", options.cfg_count),
                "dit-cfg-size");
  }
  if (options.count() > kDitRanksMax) {
    return Fail(Code::kInvalidArgument,
                fmt::format("dit-ulysses-size is {}: {} ranks in all, at most {} compute together",
                            options.sequence_count, options.count(), kDitRanksMax),
                "dit-ulysses-size");
  }
  auto out = std::unique_ptr<WanRanks>(new WanRanks(options));  // tidy: new private constructor
  for (std::size_t rank = 0; rank < out->count(); ++rank) {
    kernels::Operators* own = &operators;
    if (out->count() > 1) {
      PX_TRY(auto made, options.make_operators());
      PX_CHECK_OK(CheckOperators(operators, *made));
      own = out->operators_.emplace_back(std::move(made)).get();
    }
    const WanPlace place = out->PlaceOf(rank);
    if (rank < static_cast<std::size_t>(options.tensor_count)) {
      PX_TRY(auto transformer, make(*own, place));
      out->transformers_.push_back(std::move(transformer));
    } else {
      const auto& holder = out->transformers_[static_cast<std::size_t>(place.tensor_rank)];
      out->transformers_.push_back(holder->Twin(*own, place));
    }
  }
  PX_CHECK_OK(out->Link());
  return out;
}

/// New groups: the tensor ranks of each part of the tokens, the sequence ranks of each part of the
/// weights, and all.
Result<void> WanRanks::Link() {
  members_.clear();
  const auto tensor = static_cast<std::size_t>(options_.tensor_count);
  const auto sequence = static_cast<std::size_t>(options_.sequence_count);
  const auto group = [&](std::size_t first, std::size_t size, std::size_t step,
                         const auto& keep) -> Result<void> {
    if (size == 1) {
      return {};
    }
    PX_TRY(auto made, kernels::MakeThreadCollective(
                          {.size = static_cast<std::uint32_t>(size), .timeout = kExchangeTimeout}));
    for (std::size_t i = 0; i < size; ++i) {
      keep(first + i * step, members_.emplace_back(std::move(made[i])).get());
    }
    return {};
  };
  for (std::size_t first = 0; first < count(); first += tensor) {
    PX_CHECK_OK(group(first, tensor, 1, [&](std::size_t rank, kernels::Collective* member) {
      links_[rank].tensor.tensor = member;
    }));
  }
  for (std::size_t rank = 0; rank < count(); ++rank) {
    if (rank / tensor % sequence == 0) {
      PX_CHECK_OK(
          group(rank, sequence, tensor, [&](std::size_t other, kernels::Collective* member) {
            links_[other].sequence = member;
          }));
    }
  }
  return group(0, count(), 1,
               [&](std::size_t rank, kernels::Collective* member) { world_[rank] = member; });
}

void WanRanks::EndLinks(std::size_t rank) {
  for (kernels::Collective* link :
       {links_[rank].tensor.tensor, links_[rank].sequence, world_[rank]}) {
    if (link != nullptr) {
      link->Abort();
    }
  }
}

Result<void> WanRanks::Run(const RankTeam::Work& work) {
  const std::int32_t failed = team_.Run(work);
  if (failed < 0) {
    return {};
  }
  PX_CHECK_OK(Link());
  return std::move(team_.result(failed));
}

Result<WanRanksText> WanRanks::MakeText(std::span<const float> rows, std::int32_t lanes,
                                        std::int32_t tokens) {
  WanRanksText text;
  text.ranks.resize(count());
  PX_CHECK_OK(Run([&](std::int32_t index) -> Result<void> {
    const auto rank = static_cast<std::size_t>(index);
    const RowRange own = LanesOf(rank, lanes);
    if (SizeOf(own) > 0) {
      PX_TRY(WanText made,
             transformers_[rank]->MakeText(PartOf(rows, lanes, own),
                                           static_cast<std::int32_t>(SizeOf(own)), tokens));
      text.ranks[rank] = std::make_unique<WanText>(std::move(made));
    }
    return {};
  }));
  return text;
}

Result<void> WanRanks::AddPictures(std::span<const float> rows, std::int32_t lanes,
                                   std::int32_t tokens, WanRanksText& text) {
  return Run([&](std::int32_t index) -> Result<void> {
    const auto rank = static_cast<std::size_t>(index);
    if (text.ranks[rank] == nullptr) {
      return {};
    }
    return transformers_[rank]->AddPictures(PartOf(rows, lanes, LanesOf(rank, lanes)), tokens,
                                            *text.ranks[rank]);
  });
}

void WanRanks::Prepare(const kernels::Volume& latents, std::int32_t lanes,
                       WanRanksPass& pass) const {
  pass.latents = latents;
  pass.lanes = lanes;
  pass.ranks.resize(count());
  for (std::size_t rank = 0; rank < count(); ++rank) {
    transformers_[rank]->Prepare(latents, static_cast<std::int32_t>(SizeOf(LanesOf(rank, lanes))),
                                 pass.ranks[rank]);
  }
}

Result<void> WanRanks::Begin(std::span<const float> latents, std::span<const float> timesteps,
                             WanRanksPass& pass) {
  return Run([&](std::int32_t index) -> Result<void> {
    const auto rank = static_cast<std::size_t>(index);
    const RowRange own = LanesOf(rank, pass.lanes);
    if (SizeOf(own) > 0) {
      transformers_[rank]->Begin(PartOf(latents, pass.lanes, own),
                                 PartOf(timesteps, pass.lanes, own), pass.ranks[rank]);
    }
    return {};
  });
}

Result<void> WanRanks::RunBlock(WanRanksText& text, WanRanksPass& pass) {
  return Run([&](std::int32_t index) -> Result<void> {
    const auto rank = static_cast<std::size_t>(index);
    if (text.ranks[rank] == nullptr) {
      return {};
    }
    return transformers_[rank]->RunBlock(*text.ranks[rank], pass.ranks[rank]);
  });
}

/// The first rank gathers all patches; tensor ranks beside each other have the same ones.
Result<void> WanRanks::FinishOn(std::size_t rank, WanRanksPass& pass, std::span<float> velocity) {
  WanPass& own = pass.ranks[rank];
  Matrix rows;
  if (own.lanes > 0) {
    rows = transformers_[rank]->FinishRows(own);
  }
  const bool gives = PlaceOf(rank).tensor_rank == 0 && own.lanes > 0;
  const std::span<const float> mine(gives ? rows.f32() : nullptr,
                                    gives ? static_cast<std::size_t>(rows.rows * rows.cols) : 0);
  const std::int64_t columns = first().config().patch_out();
  const std::int64_t tokens = pass.ranks.front().all_tokens();
  const auto size = static_cast<std::size_t>(pass.lanes * tokens * columns);
  std::vector<float> others(rank == 0 ? 0 : size);
  if (rank == 0) {
    gathered_.resize(size);
  }
  PX_CHECK_OK(world_[rank]->AllGather(
      std::as_bytes(mine), std::as_writable_bytes(std::span(rank == 0 ? gathered_ : others))));
  if (rank != 0) {
    return {};
  }
  // Of each rank its tokens of each of its lanes.
  std::vector<float> placed(size);
  const Matrix all{placed.data(), kernels::DType::kF32, pass.lanes * tokens, columns, columns};
  const float* from = gathered_.data();
  for (std::size_t other = 0; other < count();
       other += static_cast<std::size_t>(options_.tensor_count)) {
    const RowRange lanes = LanesOf(other, pass.lanes);
    const RowRange held = pass.ranks[other].own;
    for (std::int64_t lane = lanes.begin; lane < lanes.end; ++lane) {
      std::copy_n(from, SizeOf(held) * columns, all.f32(lane * tokens + held.begin));
      from += SizeOf(held) * columns;
    }
  }
  const std::size_t lane_size = velocity.size() / static_cast<std::size_t>(pass.lanes);
  for (std::int32_t lane = 0; lane < pass.lanes; ++lane) {
    first().PlacePatches(own, all.Rows(lane * tokens, tokens),
                         velocity.subspan(static_cast<std::size_t>(lane) * lane_size, lane_size));
  }
  return {};
}

Result<void> WanRanks::Finish(WanRanksPass& pass, std::span<float> velocity) {
  if (count() == 1) {
    first().Finish(pass.ranks.front(), velocity);
    return {};
  }
  return Run(
      [&](std::int32_t rank) { return FinishOn(static_cast<std::size_t>(rank), pass, velocity); });
}

}  // namespace pixii::model
