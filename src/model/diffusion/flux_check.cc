#include "model/diffusion/flux_check.h"

#include <fmt/format.h>

#include <algorithm>

#include "model/check_lines.h"
#include "model/diffusion/diffusion_run.h"
#include "model/diffusion/flux_pipeline.h"

namespace pixii::model {
namespace {

class FluxChecker final {
 public:
  FluxChecker(FluxPipeline& pipeline, const DiffusionGolden& golden, const CheckOptions& options)
      : pipeline_(pipeline),
        golden_(golden),
        tolerance_(options.tolerance),
        latents_(pipeline.LatentVolume(golden.request.shape())),
        picture_{1, golden.request.height, golden.request.width} {}

  Result<std::vector<CheckLine>> Run() {
    PX_CHECK_OK(CheckTexts());
    PX_CHECK_OK(CheckPass());
    PX_CHECK_OK(CheckSteps());
    PX_CHECK_OK(CheckDecoder());
    PX_CHECK_OK(CheckBeside());
    return std::move(lines_);
  }

 private:
  Extents LatentShape() const {
    return {1, pipeline_.latent_channels(), latents_.frames, latents_.height, latents_.width};
  }

  Extents PictureShape() const { return {1, 3, picture_.height, picture_.width}; }

  Result<std::vector<float>> Golden(const std::string& name, const Extents& shape) const {
    return GoldenFloats(golden_.tensors, name, shape);
  }

  Result<void> Compare(const std::string& name, std::span<const float> ours, const Extents& shape) {
    PX_TRY(const std::vector<float> golden, Golden(name, shape));
    lines_.push_back(CompareValues(name, ours, golden, tolerance_));
    return {};
  }

  Result<void> CheckTexts() {
    const std::int64_t tokens = golden_.prompt_tokens;
    const std::string& prompt = golden_.request.prompt;
    PX_TRY(const auto ids, GoldenIds(golden_.tensors, "text.ids", tokens));
    PX_TRY(const auto ours, pipeline_.TokenizeRows(prompt));
    lines_.push_back(CompareIntegers("text.ids", ours, ids));
    PX_TRY(const auto pooled_ids, GoldenIds(golden_.tensors, "pooled.ids", -1));
    PX_TRY(const auto our_pooled_ids, pipeline_.TokenizePooled(prompt));
    lines_.push_back(CompareIntegers("pooled.ids", our_pooled_ids, pooled_ids));
    PX_TRY(rows_, pipeline_.text_encoder().Encode(ids));
    PX_CHECK_OK(
        Compare("text.hidden", rows_, {1, tokens, pipeline_.text_encoder().config().d_model}));
    PX_TRY(pooled_, pipeline_.pooled_encoder().Pool(pooled_ids));
    return Compare("text.pooled", pooled_, {1, pipeline_.pooled_encoder().config().hidden_size});
  }

  /// One pass of the transformer over the first latents.
  Result<void> CheckPass() {
    FluxTransformer& transformer = pipeline_.transformer();
    PX_TRY(start_, Golden("latents.start", LatentShape()));
    FluxPass pass;
    transformer.Prepare(
        latents_, {.rows = rows_, .pooled = pooled_, .lanes = 1, .tokens = golden_.prompt_tokens},
        pass);
    const auto guidance = static_cast<float>(golden_.request.guidance_scale);
    transformer.Begin(start_, golden_.pass_timestep, {&guidance, 1}, pass);
    while (pass.next_block < transformer.block_count()) {
      PX_CHECK_OK(transformer.RunBlock(pass));
    }
    std::vector<float> out(start_.size());
    transformer.Finish(pass, out);
    return Compare("dit.out", out, LatentShape());
  }

  Result<void> CheckSteps() {
    const std::int64_t steps = golden_.request.steps;
    const auto scheduler = pipeline_.NewScheduler(golden_.request.shape());
    PX_CHECK_OK(Compare("pipeline.timesteps", scheduler->timesteps(), {steps}));
    PX_CHECK_OK(Compare("pipeline.sigmas", scheduler->sigmas(), {steps + 1}));
    VideoRequest request = golden_.request;
    request.latents = start_;
    PX_TRY(const auto run, pipeline_.Start({request}));
    PX_CHECK_OK(run->FinishStep());  // the texts
    for (std::int64_t step = 0; step < steps; ++step) {
      PX_CHECK_OK(run->FinishStep());
      PX_CHECK_OK(
          Compare(fmt::format("pipeline.latents.{}", step), run->latents(0), LatentShape()));
    }
    while (!run->done()) {
      PX_CHECK_OK(run->Advance());
    }
    PX_CHECK_OK(
        Compare("pipeline.image", ChannelsApart(run->pictures(0), picture_, true), PictureShape()));
    alone_.assign(run->latents(0).begin(), run->latents(0).end());
    return {};
  }

  /// Half of the first latents, decoded as they are.
  Result<void> CheckDecoder() {
    std::vector<float> latents = start_;
    for (float& value : latents) {
      value *= 0.5F;
    }
    TiledDecoder decoder(pipeline_.vae(), {}, latents_.height, latents_.width);
    PX_TRY(const Pictures decoded, decoder.Decode(latents));
    return Compare("vae.decoded", ChannelsApart(decoded.rgb, picture_, true), PictureShape());
  }

  /// The golden request after another one, in one run.
  Result<void> CheckBeside() {
    VideoRequest request = golden_.request;
    request.latents = start_;
    VideoRequest other = golden_.request;
    other.prompt = "";
    other.guidance_scale += 1.0;
    PX_TRY(const auto run, pipeline_.Start({other, request}));
    while (run->progress().phase != RunProgress::Phase::kDecode) {
      PX_CHECK_OK(run->Advance());
    }
    lines_.push_back(CompareBits("latents beside others", run->latents(1), alone_));
    return {};
  }

  FluxPipeline& pipeline_;
  const DiffusionGolden& golden_;
  double tolerance_;
  kernels::Volume latents_;
  kernels::Volume picture_;
  std::vector<float> rows_;
  std::vector<float> pooled_;
  std::vector<float> start_;
  std::vector<float> alone_;  // the golden request's last latents
  std::vector<CheckLine> lines_;
};

}  // namespace

Result<CheckReport> CheckFluxFolder(const std::string& folder, const DiffusionGolden& golden,
                                    kernels::Operators& operators, const CheckOptions& options) {
  PX_TRY(const auto pipeline, FluxPipeline::Load(folder, operators,
                                                 {.compute = kernels::ComputeType::kF32,
                                                  .prompt_tokens = golden.prompt_tokens}));
  PX_CHECK_OK(pipeline->Check(golden.request));
  CheckReport report{.folder = folder, .operators = std::string(operators.name()), .lines = {}};
  FluxChecker checker(*pipeline, golden, options);
  PX_TRY(report.lines, checker.Run());
  return report;
}

}  // namespace pixii::model
