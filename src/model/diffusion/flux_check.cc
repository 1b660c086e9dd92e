#include "model/diffusion/flux_check.h"

#include "model/diffusion/diffusion_checker.h"
#include "model/diffusion/flux_pipeline.h"

namespace pixii::model {
namespace {

class FluxChecker final : public DiffusionChecker {
 public:
  FluxChecker(FluxPipeline& pipeline, const DiffusionGolden& golden, const CheckOptions& options)
      : DiffusionChecker(pipeline, golden, options), pipeline_(pipeline) {}

  Result<std::vector<CheckLine>> Run() {
    const Extents shape = {1, 3, pictures().height, pictures().width};
    PX_CHECK_OK(CheckTexts());
    PX_CHECK_OK(CheckPass());
    PX_CHECK_OK(CheckSteps("pipeline.image", shape));
    PX_CHECK_OK(CheckDecoder(shape));
    VideoRequest other = golden().request;
    other.prompt = "";
    other.guidance_scale += 1.0;
    PX_CHECK_OK(CheckBeside(other));
    return TakeLines();
  }

 private:
  Result<void> CheckTexts() {
    const std::int64_t tokens = golden().prompt_tokens;
    const std::string& prompt = golden().request.prompt;
    PX_TRY(const auto ids, GoldenIds(golden().tensors, "text.ids", tokens));
    PX_TRY(const auto ours, pipeline_.TokenizeRows(prompt));
    CompareIds("text.ids", ours, ids);
    PX_TRY(const auto pooled_ids, GoldenIds(golden().tensors, "pooled.ids", -1));
    PX_TRY(const auto our_pooled_ids, pipeline_.TokenizePooled(prompt));
    CompareIds("pooled.ids", our_pooled_ids, pooled_ids);
    PX_TRY(rows_, pipeline_.text_encoder().Encode(ids));
    PX_CHECK_OK(
        Compare("text.hidden", rows_, {1, tokens, pipeline_.text_encoder().config().d_model}));
    PX_TRY(pooled_, pipeline_.pooled_encoder().Pool(pooled_ids));
    return Compare("text.pooled", pooled_, {1, pipeline_.pooled_encoder().config().hidden_size});
  }

  /// One pass of the transformer over the first latents.
  Result<void> CheckPass() {
    FluxTransformer& transformer = pipeline_.transformer();
    PX_CHECK_OK(ReadStart());
    FluxPass pass;
    transformer.Prepare(
        latents(), {.rows = rows_, .pooled = pooled_, .lanes = 1, .tokens = golden().prompt_tokens},
        pass);
    const auto guidance = static_cast<float>(golden().request.guidance_scale);
    transformer.Begin(start(), golden().pass_timestep, {&guidance, 1}, pass);
    while (pass.next_block < transformer.block_count()) {
      PX_CHECK_OK(transformer.RunBlock(pass));
    }
    std::vector<float> out(start().size());
    transformer.Finish(pass, out);
    return Compare("dit.out", out, LatentShape());
  }

  FluxPipeline& pipeline_;
  std::vector<float> rows_;
  std::vector<float> pooled_;
};

}  // namespace

Result<CheckReport> CheckFluxFolder(const std::string& folder, const DiffusionGolden& golden,
                                    kernels::Operators& operators, const CheckOptions& options) {
  return CheckPipeline<FluxPipeline, FluxChecker>(folder, golden, operators, options);
}

}  // namespace pixii::model
