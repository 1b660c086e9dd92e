// Wan's transformer held by several ranks, as one: CFG ranks share the lanes (with the prompt and
// without it), sequence ranks (Ulysses) each lane's tokens, tensor ranks each block's heads and
// features.
//
// Thread: one caller; every rank has a thread and operators of its own, and the ranks exchange by
// kernels::Collective. With one rank the caller does it all.
// Numerics: velocities are one rank's, bit for bit.
// Failures: a rank that fails makes the piece fail for all; the next piece begins with new links.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "kernels/collective.h"
#include "kernels/operators.h"
#include "model/diffusion/wan_transformer.h"
#include "model/rank_team.h"

namespace pixii::model {

inline constexpr std::int32_t kDitRanksMax = 64;

struct WanRankOptions {
  std::int32_t cfg_count = 1;  // 1 or 2
  std::int32_t sequence_count = 1;
  std::int32_t tensor_count = 1;  // 1, 2, 4 or 8
  /// Makes the operators of every rank, where there are several. All have the host's memory and
  /// equal numerics.
  std::function<Result<std::unique_ptr<kernels::Operators>>()> make_operators = {};

  std::int32_t count() const { return cfg_count * sequence_count * tensor_count; }
};

/// What MakeText gives: each rank's.
struct WanRanksText {
  std::vector<std::unique_ptr<WanText>> ranks;  // null: the rank has no lanes
};

/// A forward pass on all ranks.
struct WanRanksPass {
  std::vector<WanPass> ranks;  // those of ranks without lanes have none
  kernels::Volume latents;
  std::int32_t lanes = 0;

  std::int32_t next_block() const { return ranks.front().next_block; }

  /// Embedding [dim] of the first lane's timestep.
  std::span<const float> time() const;
};

class WanRanks final {
 public:
  /// Makes the transformer of one rank; called for each tensor rank, the other ranks share their
  /// weights.
  using Make =
      std::function<Result<std::unique_ptr<WanTransformer>>(kernels::Operators&, const WanPlace&)>;

  /// `operators` are those of a single rank and outlive the ranks. Errors: of Make and
  /// make_operators; those of CheckPlace; kInvalidArgument naming dit-cfg-size; kUnsupported where
  /// operators differ.
  static Result<std::unique_ptr<WanRanks>> Create(kernels::Operators& operators,
                                                  const WanRankOptions& options, const Make& make);

  WanTransformer& first() { return *transformers_.front(); }

  const WanTransformer& first() const { return *transformers_.front(); }

  std::int32_t sequence_count() const { return options_.sequence_count; }

  // As WanTransformer's.

  Result<WanRanksText> MakeText(std::span<const float> rows, std::int32_t lanes,
                                std::int32_t tokens);
  Result<void> AddPictures(std::span<const float> rows, std::int32_t lanes, std::int32_t tokens,
                           WanRanksText& text);
  void Prepare(const kernels::Volume& latents, std::int32_t lanes, WanRanksPass& pass) const;
  Result<void> Begin(std::span<const float> latents, std::span<const float> timesteps,
                     WanRanksPass& pass);

  bool done(const WanRanksPass& pass) const { return first().done(pass.ranks.front()); }

  Result<void> RunBlock(WanRanksText& text, WanRanksPass& pass);
  Result<void> Finish(WanRanksPass& pass, std::span<float> velocity);

 private:
  explicit WanRanks(const WanRankOptions& options);

  std::size_t count() const { return links_.size(); }

  WanPlace PlaceOf(std::size_t rank) const;
  RowRange LanesOf(std::size_t rank, std::int32_t lanes) const;
  Result<void> Link();
  void EndLinks(std::size_t rank);
  Result<void> Run(const RankTeam::Work& work);
  Result<void> FinishOn(std::size_t rank, WanRanksPass& pass, std::span<float> velocity);

  WanRankOptions options_;
  std::vector<std::unique_ptr<kernels::Operators>> operators_;  // of the ranks, if several
  std::vector<std::unique_ptr<kernels::Collective>> members_;
  std::vector<WanLinks> links_;                                // [rank], into members_
  std::vector<kernels::Collective*> world_;                    // [rank] all ranks
  std::vector<std::unique_ptr<WanTransformer>> transformers_;  // [rank]
  std::vector<float> gathered_;                                // all ranks' patches
  RankTeam team_;                                              // last: its threads use the above
};

}  // namespace pixii::model
