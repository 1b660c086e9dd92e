// A diffusion pipeline as the frontend reaches it: one step after another on a thread of its own.
//
// Thread: the frontend's loop.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "frontend/media_maker.h"
#include "frontend/model_media.h"
#include "kernels/compute_turns.h"
#include "kernels/operators.h"
#include "model/diffusion/diffusion_run.h"
#include "rt/loop.h"
#include "rt/work_pool.h"

namespace pixii::apps {

class VideoMaker final : public frontend::MediaMaker {
 public:
  struct Options {
    std::string name;  // of the model, for clients
    kernels::ComputeType compute = kernels::ComputeType::kF32;
    std::uint32_t jobs_together = 1;         // the memory that is there is shared by so many
    kernels::ComputeTurns* turns = nullptr;  // outlives it; null: nobody else computes here
    std::vector<model::LoraFile> loras = {};
    model::WanRankOptions ranks = {};
    frontend::ImageGetter get_image = {};  // of models that begin with a picture
  };

  /// Blocks while it loads. `loop` outlives it. Errors: those of the pipeline and its files.
  static Result<std::unique_ptr<VideoMaker>> Load(rt::Loop& loop, const std::string& folder,
                                                  std::unique_ptr<kernels::Operators> operators,
                                                  const Options& options);

  const frontend::MediaModel& model() const override { return model_; }

  Result<void> Check(const frontend::MediaSpec& spec) const override;
  void Turn(const std::string& job, const frontend::MediaSpec& spec, OnTurn done) override;

  void Interrupt() override { interrupted_.store(true, std::memory_order_relaxed); }

  void Drop(const std::string& job) override;

 private:
  VideoMaker(rt::Loop& loop, std::unique_ptr<kernels::Operators> operators, const Options& options)
      : turns_(options.turns),
        operators_(std::move(operators)),
        pool_(loop, "video", 1, kQueueMax) {}

  static constexpr std::uint32_t kQueueMax = 4096;  // a turn, and jobs that are to be forgotten

  // On the pool's thread.
  Result<std::unique_ptr<model::DiffusionRun>> Begin(const frontend::MediaSpec& spec);
  Result<frontend::MediaTurn> DoTurn(const std::string& job, const frontend::MediaSpec& spec);
  Result<void> BeforePiece() const;
  Result<void> AdvanceStep(model::DiffusionRun& run) const;
  Result<void> Encode(const model::DiffusionRun& run, const frontend::MediaSpec& spec,
                      frontend::MediaTurn& turn) const;

  kernels::ComputeTurns* const turns_;
  frontend::MediaModel model_;
  frontend::ImageGetter get_image_;
  std::uint64_t job_bytes_max_ = 0;
  std::unique_ptr<kernels::Operators> operators_;
  std::unique_ptr<model::DiffusionPipeline> pipeline_;  // its runs are the thread's alone
  std::map<std::string, std::unique_ptr<model::DiffusionRun>> runs_;  // the thread's alone
  std::atomic<bool> interrupted_ = false;
  rt::WorkPool pool_;  // last: its thread ends first
};

}  // namespace pixii::apps
