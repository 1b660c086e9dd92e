#include "model/diffusion/flux_pipeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "model/diffusion/clip_tokenizer.h"
#include "model/diffusion/pipeline_index.h"
#include "model/diffusion/weight_reader.h"

namespace pixii::model {
namespace {

constexpr std::int32_t kPadToken = 0;  // of T5

class FluxLanes final : public OnePassLanes<FluxPass> {
 public:
  /// `requests` and the pipeline outlive it.
  FluxLanes(FluxPipeline& pipeline, std::span<const VideoRequest> requests)
      : OnePassLanes(pipeline.block_count()), pipeline_(pipeline), requests_(requests) {
    for (const VideoRequest& request : requests) {
      guidance_.push_back(static_cast<float>(request.guidance_scale));
    }
  }

  bool ready() const override { return ready_; }

  Result<void> Condition() override {
    std::vector<float> rows;
    std::vector<float> pooled;
    for (const VideoRequest& request : requests_) {
      PX_TRY(const auto ids, pipeline_.TokenizeRows(request.prompt));
      PX_TRY(const std::vector<float> hidden, pipeline_.text_encoder().Encode(ids));
      rows.insert(rows.end(), hidden.begin(), hidden.end());
      PX_TRY(const auto pooled_ids, pipeline_.TokenizePooled(request.prompt));
      PX_TRY(const std::vector<float> one, pipeline_.pooled_encoder().Pool(pooled_ids));
      pooled.insert(pooled.end(), one.begin(), one.end());
    }
    pipeline_.transformer().Prepare(pipeline_.LatentVolume(requests_.front().shape()),
                                    {.rows = rows,
                                     .pooled = pooled,
                                     .lanes = static_cast<std::int32_t>(requests_.size()),
                                     .tokens = pipeline_.prompt_tokens()},
                                    pass_);
    ready_ = true;
    return {};
  }

  Result<void> Begin(std::span<const float> latents, float timestep) override {
    pipeline_.transformer().Begin(latents, timestep, guidance_, pass_);
    return {};
  }

  Result<void> RunBlock() override { return pipeline_.transformer().RunBlock(pass_); }

  Result<void> Finish(std::span<float> velocity) override {
    pipeline_.transformer().Finish(pass_, velocity);
    return {};
  }

 private:
  FluxPipeline& pipeline_;
  std::span<const VideoRequest> requests_;
  std::vector<float> guidance_;
  bool ready_ = false;
};

/// The family's defaults; distilled models, which are told no guidance, take fewer steps.
void SetDefaults(bool guided, VideoDefaults& out, std::int32_t& prompt_tokens) {
  out.request.width = 1024;
  out.request.height = 1024;
  out.request.frames = 1;
  out.request.steps = guided ? 28 : 4;
  out.request.guidance_scale = guided ? 3.5 : 0.0;
  prompt_tokens = guided ? 512 : 256;
}

Result<std::unique_ptr<const text::Tokenizer>> ReadTokenizer(const CheckpointFolder& folder) {
  PX_TRY(const std::string text, ReadClipTokenizer(folder));
  return text::Tokenizer::FromJson(text, folder.path() + "/tokenizer.json");
}

/// Its transformer is not cut.
Result<void> CheckRanks(const WanRankOptions& ranks) {
  if (ranks.count() == 1) {
    return {};
  }
  const auto [flag, count] = ranks.cfg_count > 1 ? std::pair("dit-cfg-size", ranks.cfg_count)
                             : ranks.sequence_count > 1
                                 ? std::pair("dit-ulysses-size", ranks.sequence_count)
                                 : std::pair("tensor-parallel-size", ranks.tensor_count);
  return Fail(
      Code::kUnsupported,
      fmt::format("{} is {}, must be 1: FLUX's transformer is not shared by ranks", flag, count),
      flag);
}

}  // namespace

Result<std::unique_ptr<FluxPipeline>> FluxPipeline::Load(const std::string& path,
                                                         kernels::Operators& operators,
                                                         const PipelineOptions& options) {
  constexpr PipelineIndex::Part kParts[] = {{"text_encoder", "CLIPTextModel"},
                                            {"text_encoder_2", "T5EncoderModel"},
                                            {"transformer", "FluxTransformer2DModel"},
                                            {"vae", "AutoencoderKL"}};
  PX_CHECK_OK(CheckDiffusionBackend(path, operators));
  PX_CHECK_OK(CheckRanks(options.ranks));
  PX_TRY(const CheckpointFolder folder, CheckpointFolder::Open(path));
  PX_TRY(const PipelineIndex index, PipelineIndex::Read(folder));
  PX_CHECK_OK(index.Require(kParts));
  auto pipeline = std::make_unique<FluxPipeline>(CreateOnly{}, operators);
  PX_CHECK_OK(pipeline->LoadParts(folder, options));
  PX_CHECK_OK(pipeline->CheckFit(folder));
  SetDefaults(pipeline->transformer_->config().guided, pipeline->defaults_,
              pipeline->prompt_tokens_);
  PX_CHECK_OK(pipeline->TakeOptions(folder, options));
  return pipeline;
}

Result<void> FluxPipeline::LoadParts(const CheckpointFolder& folder,
                                     const PipelineOptions& options) {
  PX_TRY(LoraMerger loras, LoraMerger::Open(options.loras));
  PX_TRY(const CheckpointFolder scheduler, folder.Subfolder("scheduler"));
  PX_TRY(const wire::Json scheduler_json, ReadPartConfig(scheduler, "scheduler_config.json"));
  const std::string scheduler_file = scheduler.path() + "/scheduler_config.json";
  PX_TRY(scheduler_, ParseSchedulerConfig(scheduler_json, scheduler_file));
  if (scheduler_.kind != SchedulerConfig::Kind::kFlowMatchEuler) {
    return ConfigReader(scheduler_json, scheduler_file)
        .Unsupported("_class_name", "is not FlowMatchEulerDiscreteScheduler");
  }
  PX_TRY(const CheckpointFolder pooled_tokenizer, folder.Subfolder("tokenizer"));
  PX_TRY(pooled_tokenizer_, ReadTokenizer(pooled_tokenizer));
  PX_TRY(const CheckpointFolder tokenizer, folder.Subfolder("tokenizer_2"));
  PX_TRY(tokenizer_, ReadTokenizer(tokenizer));
  PX_TRY(const CheckpointFolder pooled, folder.Subfolder("text_encoder"));
  PX_TRY(pooled_encoder_, ClipTextEncoder::Load(pooled, operators_, options.compute, &loras));
  PX_TRY(const CheckpointFolder encoder, folder.Subfolder("text_encoder_2"));
  PX_TRY(text_encoder_,
         Umt5Encoder::Load(encoder, operators_, options.compute, &loras, "text_encoder_2"));
  PX_TRY(const CheckpointFolder transformer, folder.Subfolder("transformer"));
  PX_TRY(transformer_, FluxTransformer::Load(transformer, operators_, options.compute, &loras));
  PX_TRY(const CheckpointFolder vae, folder.Subfolder("vae"));
  PX_TRY(vae_, KlVae::Load(vae, operators_, kernels::ComputeType::kF32));
  return loras.CheckAllUsed();
}

/// Whether the parts fit each other.
Result<void> FluxPipeline::CheckFit(const CheckpointFolder& folder) const {
  struct Fit {
    std::string_view what;
    std::int32_t wanted;
    std::int32_t given;
  };

  const FluxConfig& config = transformer_->config();
  for (const Fit& fit :
       {Fit{"features of text rows", config.text_dim, text_encoder_->config().d_model},
        Fit{"features of a text's vector", config.pooled_dim,
            pooled_encoder_->config().hidden_size},
        Fit{"channels of latents", config.latent_channels(), vae_->latent_channels()}}) {
    if (fit.wanted != fit.given) {
      return Fail(Code::kDataCorrupt,
                  fmt::format("{}: the transformer wants {} {}, the other parts have {}",
                              folder.path(), fit.wanted, fit.what, fit.given));
    }
  }
  return {};
}

Result<void> FluxPipeline::CheckFields(const VideoRequest& request) const {
  if (!request.negative_prompt.empty()) {
    return BadVideoRequest("negative_prompt",
                           "must be empty: this model is told how far to follow the prompt, and "
                           "computes nothing without it");
  }
  return {};
}

Result<std::vector<std::int32_t>> FluxPipeline::TokenizeRows(const std::string& prompt) const {
  PX_TRY(const text::TypedTokens tokens,
         tokenizer_->Join(prompt, std::nullopt,
                          {.tokens_max = static_cast<std::size_t>(prompt_tokens_)}));
  std::vector<std::int32_t> out(tokens.ids.begin(), tokens.ids.end());
  out.resize(static_cast<std::size_t>(prompt_tokens_), kPadToken);
  return out;
}

Result<std::vector<std::int32_t>> FluxPipeline::TokenizePooled(const std::string& prompt) const {
  PX_TRY(const text::TypedTokens tokens,
         pooled_tokenizer_->Join(
             prompt, std::nullopt,
             {.tokens_max = static_cast<std::size_t>(pooled_encoder_->config().tokens_max)}));
  return std::vector<std::int32_t>(tokens.ids.begin(), tokens.ids.end());
}

PictureUnits FluxPipeline::units() const {
  const std::int32_t side = 2 * vae_->space_scale();  // a token is two latents wide
  return {.width = side, .height = side, .frames = 0};
}

kernels::Volume FluxPipeline::LatentVolume(const VideoShape& shape) const {
  return {1, shape.height / vae_->space_scale(), shape.width / vae_->space_scale()};
}

std::uint64_t FluxPipeline::WorkingBytes(const VideoShape& shape, std::size_t requests) const {
  const FluxConfig& config = transformer_->config();
  const KlVaeConfig& vae = vae_->config();
  const kernels::Volume latents = LatentVolume(shape);
  const double count = static_cast<double>(requests);
  const double tokens = static_cast<double>(latents.pixels() / 4 + prompt_tokens_);
  const double key_bytes = bf16_ ? 2.0 : 4.0;
  // Residual rows, what is added, queries, what they gathered, texts; keys and values.
  const double rows = count * tokens * config.dim() * (5.0 * sizeof(float) + 2.0 * key_bytes);
  double largest = 0.0;  // of the decoder: four planes of the largest level
  for (std::size_t level = 0; level < vae.widths.size(); ++level) {
    const double scale = static_cast<double>(std::int64_t{1} << (vae.widths.size() - 1 - level));
    // A level begins with the width of the one below.
    const double width = vae.widths[std::min(level + 1, vae.widths.size() - 1)];
    largest = std::max(largest, 4.0 * static_cast<double>(latents.pixels()) * scale * scale *
                                    width * sizeof(float));
  }
  const double pictures = count * shape.width * shape.height * 3.0 * sizeof(float);
  return static_cast<std::uint64_t>(std::max(rows, largest + pictures));
}

std::unique_ptr<FlowScheduler> FluxPipeline::NewScheduler(const VideoShape& shape) const {
  return MakeTokenScheduler(scheduler_,
                            {.steps = shape.steps, .tokens = LatentVolume(shape).pixels() / 4});
}

std::unique_ptr<DenoiseLanes> FluxPipeline::NewLanes(std::span<const VideoRequest> requests) {
  return std::make_unique<FluxLanes>(*this, requests);
}

}  // namespace pixii::model
