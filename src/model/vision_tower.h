// Runs a VisionSpec: patches of one picture to rows that stand in for its placeholders.
//
//   patches [N, values] -> linear -> + positions -> blocks -> projector -> features [n, out_size]
//                                                 \-> deepstack projectors -> layers [n, levels,
//                                                 out_size]
//
// Thread: one caller. Bidirectional PagedAttention over a scratch cache of one layer, as encoders
// have it: frames or windows are the sequences of one step, and every block writes over the last.
// Scratch grows with the largest picture seen. Numerics: rows depend on their own picture alone,
// whatever was encoded before; rows fp32. A tower is the model's own: ranks that hold a decoder
// together have one between them, or a copy each.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "kernels/operators.h"
#include "model/encoder_block.h"
#include "model/sequence_media.h"
#include "model/vision_layout.h"
#include "model/vision_spec.h"
#include "model/weights.h"

namespace pixii::model {

struct VisionOptions {
  kernels::ComputeType compute = kernels::ComputeType::kBf16;
  std::int64_t patches_max = 65536;  // of one picture: bounds scratch
};

/// What a processor makes of one picture or video.
struct VisionInput {
  PatchGrid grid;
  std::span<const float> patches;  // [grid.patches(), patch_values()] in the tower's order
  media::ImageSize source = {};    // before it was resized; of towers with tiles
};

class VisionTower final {
  struct CreateOnly {};

 public:
  /// Loads the tower of a folder. Errors: those of LanguageModel::Load, kUnsupported where the
  /// folder has none or the backend's memory is not the host's.
  static Result<std::unique_ptr<VisionTower>> Load(const std::string& folder,
                                                   kernels::Operators& operators,
                                                   const VisionOptions& options);

  /// `operators` outlives the tower. Pre: `weights` has what ExpectedTensors(spec) lists.
  static Result<std::unique_ptr<VisionTower>> Create(VisionSpec spec, Weights& weights,
                                                     kernels::Operators& operators,
                                                     const VisionOptions& options);

  VisionTower(CreateOnly /*unused*/, VisionSpec spec, kernels::Operators& operators,
              const VisionOptions& options)
      : spec_(std::move(spec)), operators_(operators), options_(options) {}

  const VisionSpec& spec() const { return spec_; }

  /// Errors: kInvalidArgument for a grid that the tower does not take or another count of values,
  /// kTooLarge past patches_max, kModelFault if a row is not finite, kResourceExhausted.
  Result<VisionFeatures> Encode(const VisionInput& input);

 private:
  struct Projector {
    NormWeights norm;
    std::unique_ptr<kernels::LinearWeight> in;
    std::unique_ptr<kernels::LinearWeight> out;
  };

  /// The picture at hand.
  struct Picture {
    PatchGrid grid;
    std::int64_t rows = 0;       // that the blocks see
    WindowPlan windows;          // empty: the order is the input's
    kernels::StepBatch frames;   // rows as sequences of frames
    kernels::StepBatch cells;    // as sequences of windows
    std::vector<float> factors;  // cosines, then sines, by row
    std::vector<std::int32_t> row_numbers;
  };

  struct Rows {
    kernels::Matrix residual;
    kernels::Matrix normed;
    kernels::Matrix delta;
  };

  Result<void> PrepareWeights(Weights& weights);
  Result<std::unique_ptr<kernels::LinearWeight>> PrepareLinear(
      const std::vector<std::string>& names, std::size_t layer, std::int64_t rows,
      std::int64_t cols, bool bias, Weights& weights);
  Result<NormWeights> PrepareNorm(const std::string& name, std::size_t layer, std::int64_t size,
                                  Weights& weights);
  Result<Projector> PrepareMeansProjector(Weights& weights);
  Result<Projector> PrepareProjector(const ProjectorNames& names, std::size_t level,
                                     std::int64_t norm_size, std::int64_t in, Weights& weights);
  Result<std::span<const float>> Keep(std::span<const float> values);

  Result<void> CheckInput(const VisionInput& input) const;
  Picture Plan(const PatchGrid& grid) const;
  Result<void> Reserve(const Picture& picture);
  void EmbedPatches(const VisionInput& input, const Picture& picture, const Rows& rows);
  void AddPositions(const Picture& picture, const Rows& rows);
  void RunBlock(std::size_t index, const Picture& picture, const Rows& rows);
  void RunFeedForward(const EncoderBlock& block, const Rows& rows);
  void AddNorm(const NormWeights& norm, const kernels::Matrix& residual,
               const kernels::Matrix& delta, const kernels::Matrix& out);
  void TakeFeatures(std::size_t index, const Picture& picture, const Rows& rows);
  void ProjectMeans(const Picture& picture, const Rows& rows, const kernels::Matrix& out);
  void Project(const Projector& projector, const kernels::Matrix& in, const Picture& picture,
               const kernels::Matrix& out);
  Result<void> CheckRows(const kernels::Matrix& rows);

  VisionSpec spec_;
  kernels::Operators& operators_;
  VisionOptions options_;

  std::unique_ptr<kernels::LinearWeight> patch_;
  std::unique_ptr<kernels::LinearWeight> positions_;  // of a table that is not stretched
  std::span<const float> class_token_;                // empty: none
  std::span<const float> table_;                      // of stretched positions
  std::span<const float> newline_;                    // empty: none
  NormWeights entry_norm_;
  NormWeights exit_norm_;
  std::vector<EncoderBlock> blocks_;
  Projector projector_;
  std::vector<Projector> deepstack_;
  std::vector<kernels::Buffer> vectors_;  // what the spans above point to

  kernels::Buffer stream_;    // residual, normed, delta
  kernels::Buffer scratch_;   // qkv and attention's output; then the feed-forward; the projector
  kernels::Buffer features_;  // [rows, feature_size]
  kernels::KvCache cache_;
  std::int64_t scratch_rows_ = 0;  // rows that the above are for
};

}  // namespace pixii::model
