#include "bench/diffusion_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

#include "kernels/roof.h"
#include "model/diffusion/wan_pipeline.h"

namespace pixii::bench {

namespace {

using kernels::ComputeType;
using kernels::MultiplyAdds;

constexpr std::int32_t kWanTextTokens = 512;
constexpr std::int32_t kWanSpaceScale = 8;  // pixels of a picture for each of its latents
constexpr std::int32_t kWanTimeScale = 4;
constexpr std::int32_t kDecodedFrames = 2;  // latent frames: the first is not resampled in time
constexpr double kShortRunSeconds = 0.1;    // shorter work is repeated until it has taken so long
constexpr float kTimestep = 500.0F;

/// One block of Wan 2.1 T2V 1.3B's transformer; all thirty are alike.
model::WanConfig WanShape() {
  return {.heads = 12,
          .head_dim = 128,
          .layers = 1,
          .ffn_dim = 8960,
          .in_channels = 16,
          .out_channels = 16,
          .patch = {1, 2, 2},
          .text_dim = 4096,
          .freq_dim = 256};
}

model::VaeConfig WanVaeShape() {
  return {.base_dim = 96,
          .decoder_base_dim = 96,
          .z_dim = 16,
          .res_blocks = 2,
          .dim_mult = {1, 2, 4, 4},
          .temporal_downsample = {false, true, true},
          .latents_mean = std::vector<float>(16, 0.0F),
          .latents_std = std::vector<float>(16, 1.0F)};
}

/// Numbers of about -1 to 1.
std::vector<float> Noise(std::int64_t count) {
  std::vector<float> out(static_cast<std::size_t>(count));
  std::uint32_t state = 1;
  for (float& value : out) {
    state = state * 1664525U + 1013904223U;
    value = static_cast<float>(state >> 8U) * 0x1p-23F - 1.0F;
  }
  return out;
}

double Now() {
  const std::chrono::duration<double> since =
      std::chrono::steady_clock::now().time_since_epoch();  // tidy: clock this is the measurement
  return since.count();
}

/// Seconds that `work` would take at the peaks.
double LeastSeconds(const MultiplyAdds& work, const MultiplyAdds& peak) {
  return work.f32 / peak.f32 + work.bf16 / peak.bf16;
}

MultiplyAdds Less(const MultiplyAdds& all, const MultiplyAdds& before) {
  return {
      .f32 = all.f32 - before.f32, .bf16 = all.bf16 - before.bf16, .int8 = all.int8 - before.int8};
}

/// What is measured, again and again.
class Work {
 public:
  virtual ~Work() = default;
  virtual Result<void> Run() = 0;
};

class StepWork final : public Work {
 public:
  static Result<std::unique_ptr<Work>> Create(model::WanTransformer& transformer,
                                              const kernels::Volume& latents, std::int32_t lanes,
                                              std::int32_t text_tokens) {
    PX_CHECK_OK(transformer.CheckLatents(latents, lanes));
    const model::WanConfig& config = transformer.config();
    const std::vector<float> rows = Noise(std::int64_t{lanes} * text_tokens * config.text_dim);
    PX_TRY(model::WanText text, transformer.MakeText(rows, lanes, text_tokens));
    auto out = std::make_unique<StepWork>(transformer, std::move(text));
    transformer.Prepare(latents, lanes, out->pass_);
    out->latents_ = Noise(lanes * latents.pixels() * config.in_channels);
    out->timesteps_.assign(static_cast<std::size_t>(lanes), kTimestep);
    out->velocity_.resize(static_cast<std::size_t>(lanes * latents.pixels() * config.out_channels));
    return out;
  }

  StepWork(model::WanTransformer& transformer, model::WanText text)
      : transformer_(transformer), text_(std::move(text)) {}

  Result<void> Run() override {
    transformer_.Begin(latents_, timesteps_, pass_);
    while (!transformer_.done(pass_)) {
      PX_CHECK_OK(transformer_.RunBlock(text_, pass_));
    }
    transformer_.Finish(pass_, velocity_);
    return {};
  }

 private:
  model::WanTransformer& transformer_;
  model::WanText text_;
  model::WanPass pass_;
  std::vector<float> latents_;
  std::vector<float> timesteps_;
  std::vector<float> velocity_;
};

class DecodeWork final : public Work {
 public:
  DecodeWork(model::WanVae& vae, std::int32_t height, std::int32_t width)
      : vae_(vae),
        height_(height),
        width_(width),
        latent_(Noise(std::int64_t{vae.config().z_dim} * height * width)) {}

  Result<void> Run() override {
    model::VaeStream stream = vae_.NewStream();
    for (std::int32_t frame = 0; frame < kDecodedFrames; ++frame) {
      PX_TRY(const auto pictures, vae_.Decode(stream, latent_, height_, width_));
    }
    return {};
  }

 private:
  model::WanVae& vae_;
  std::int32_t height_;
  std::int32_t width_;
  std::vector<float> latent_;
};

/// The rates of one case and what they could have been, round by round.
struct Case {
  const char* name = nullptr;
  std::unique_ptr<Work> work;
  std::vector<double> rates = {};
  std::vector<double> fractions = {};

  Figure Summary() const {
    Figure figure = MakeFigure(name, "G/s", rates);
    // The median of the paired ratios: the host changes speed between rounds.
    figure.limit = figure.value / Quantile(fractions, 0.5);
    figure.limit_name = "multiply-add peak";
    return figure;
  }
};

class DiffusionBench final {
 public:
  static Result<std::unique_ptr<DiffusionBench>> Create(const DiffusionBenchOptions& options) {
    auto out = std::make_unique<DiffusionBench>();
    PX_TRY(out->operators_, kernels::MakeCpuOperators(options.cpu));
    PX_TRY(out->roof_, kernels::MakeRoof(options.cpu));
    PX_CHECK_OK(out->AddTiny(options));
    PX_CHECK_OK(out->AddWan(options));
    PX_CHECK_OK(out->KeepOnly(options.only));
    return out;
  }

  Result<void> Round() {
    for (Case& each : cases_) {
      PX_CHECK_OK(Measure(each));
    }
    return {};
  }

  std::vector<Figure> Figures() const {
    std::vector<Figure> out;
    for (const Case& each : cases_) {
      out.push_back(each.Summary());
    }
    out.push_back(MakeFigure("multiply_add", "G/s", peaks_f32_));
    out.push_back(MakeFigure("multiply_add_bf16", "G/s", peaks_bf16_));
    return out;
  }

 private:
  static const char* NameOf(ComputeType compute, const char* plain, const char* rounded) {
    return compute == ComputeType::kF32 ? plain : rounded;
  }

  Result<void> KeepOnly(const std::string& name) {
    if (name.empty()) {
      return {};
    }
    std::string names;
    for (const Case& each : cases_) {
      names += fmt::format("{}{}", names.empty() ? "" : ", ", each.name);
    }
    std::erase_if(cases_, [&](const Case& each) { return each.name != name; });
    if (cases_.empty()) {
      return Fail(Code::kInvalidArgument, fmt::format("only: \"{}\" is none of {}", name, names),
                  "only");
    }
    return {};
  }

  Result<void> AddTiny(const DiffusionBenchOptions& options) {
    for (const ComputeType compute : {ComputeType::kF32, ComputeType::kBf16}) {
      PX_TRY(auto pipeline,
             model::WanPipeline::Load(options.folder, *operators_, {.compute = compute}));
      const model::VideoShape shape = pipeline->defaults().request.shape();
      const kernels::Volume latents = pipeline->LatentVolume(shape);
      PX_TRY(auto step, StepWork::Create(pipeline->transformer(), latents, shape.guided ? 2 : 1,
                                         pipeline->prompt_tokens()));
      cases_.push_back({NameOf(compute, "dit_tiny", "dit_tiny_bf16"), std::move(step)});
      if (compute == ComputeType::kF32) {
        cases_.push_back({"vae_tiny", std::make_unique<DecodeWork>(pipeline->vae(), latents.height,
                                                                   latents.width)});
      }
      tiny_.push_back(std::move(pipeline));
    }
    return {};
  }

  Result<void> AddWan(const DiffusionBenchOptions& options) {
    const kernels::Volume latents = {.frames = (options.frames - 1) / kWanTimeScale + 1,
                                     .height = options.height / kWanSpaceScale,
                                     .width = options.width / kWanSpaceScale};
    for (const ComputeType compute : {ComputeType::kF32, ComputeType::kBf16}) {
      PX_TRY(auto transformer, model::WanTransformer::Random(WanShape(), *operators_, compute));
      PX_TRY(auto step, StepWork::Create(*transformer, latents, 1, kWanTextTokens));
      cases_.push_back({NameOf(compute, "dit_wan", "dit_wan_bf16"), std::move(step)});
      wan_.push_back(std::move(transformer));
    }
    PX_TRY(vae_, model::WanVae::Random(WanVaeShape(), *operators_, ComputeType::kF32));
    cases_.push_back(
        {"vae_wan", std::make_unique<DecodeWork>(*vae_, options.vae_height / kWanSpaceScale,
                                                 options.vae_width / kWanSpaceScale)});
    return {};
  }

  MultiplyAdds Peaks() {
    return {.f32 = roof_->MultiplyAddsPerSecond(ComputeType::kF32),
            .bf16 = roof_->MultiplyAddsPerSecond(ComputeType::kBf16)};
  }

  /// Beside the peaks right before and after it, of which the better one counts.
  Result<void> Measure(Case& each) {
    PX_CHECK_OK(each.work->Run());  // warm: memory of its own, weights' pages
    MultiplyAdds peak = Peaks();
    const MultiplyAdds before = kernels::MultiplyAddsRun(*operators_);
    const double begin = Now();
    double seconds = 0;
    do {
      PX_CHECK_OK(each.work->Run());
      seconds = Now() - begin;
    } while (seconds < kShortRunSeconds);
    const MultiplyAdds done = Less(kernels::MultiplyAddsRun(*operators_), before);
    const MultiplyAdds after = Peaks();
    peak.f32 = std::max(peak.f32, after.f32);
    peak.bf16 = std::max(peak.bf16, after.bf16);
    peaks_f32_.push_back(peak.f32 / 1e9);
    peaks_bf16_.push_back(peak.bf16 / 1e9);
    each.rates.push_back((done.f32 + done.bf16) / seconds / 1e9);
    each.fractions.push_back(LeastSeconds(done, peak) / seconds);
    return {};
  }

  std::unique_ptr<kernels::Operators> operators_;
  std::unique_ptr<kernels::Roof> roof_;
  std::vector<std::unique_ptr<model::WanPipeline>> tiny_;
  std::vector<std::unique_ptr<model::WanTransformer>> wan_;
  std::unique_ptr<model::WanVae> vae_;
  std::vector<Case> cases_;
  std::vector<double> peaks_f32_;
  std::vector<double> peaks_bf16_;
};

}  // namespace

Result<std::vector<Figure>> BenchDiffusion(const DiffusionBenchOptions& options) {
  PX_TRY(const std::unique_ptr<DiffusionBench> bench, DiffusionBench::Create(options));
  for (std::uint32_t repeat = 0; repeat < options.repeats; ++repeat) {
    PX_CHECK_OK(bench->Round());
  }
  return bench->Figures();
}

}  // namespace pixii::bench
