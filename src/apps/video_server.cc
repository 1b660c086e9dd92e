#include "apps/video_server.h"

#include <fmt/format.h>

#include <memory>
#include <utility>

#include "apps/command.h"
#include "apps/http_unit.h"
#include "apps/media_unit.h"
#include "apps/mock_engine.h"
#include "apps/process_unit.h"
#include "apps/version.h"
#include "rt/file.h"

namespace pixii::apps {

namespace {

class VideoServer final {
 public:
  VideoServer(ServeFlags flags, EngineFlags engine)
      : flags_(std::move(flags)),
        engine_flags_(std::move(engine)),
        registry_(flags_.metrics_prefix) {}

  Result<int> Run(const ModelSource& source) {
    PX_CHECK_OK(process_.Open(flags_, {.dump = [this] { DumpState(); },
                                       .reload = [this] { http_->Reload(); },
                                       .drain = [this] { return http_->Drain(); }}));
    http_.emplace(process_.loop(), process_.net(), process_.log(), flags_, flags_);
    PX_CHECK_OK(http_->Prepare());
    PX_TRY(frontend::MediaServiceOptions options,
           MediaOptionsOf(flags_, process_.loop(), process_.log()));
    http_->OfferMedia(std::move(options));
    obs::Event(process_.log(), obs::EventId::kServeStarting)
        .kv("model", source.folder)
        .kv("version", kVersion)
        .kv("commit", kCommit);
    PX_TRY(std::unique_ptr<frontend::MediaMaker> maker,
           LoadMediaMaker(
               process_.loop(), process_.log(), flags_, http_->getters().near_images, engine_flags_,
               {.folder = source.folder,
                .name = flags_.served_model_name.empty() ? source.name : flags_.served_model_name},
               nullptr));
    PX_CHECK_OK(http_->Start(false, registry_));
    PX_CHECK_OK(http_->ServeMedia(std::move(maker)));
    http_->AnnounceWhenReady("");
    process_.loop().Run();
    const std::size_t cancelled = http_->frontend().cut_count();
    const int exit = http_->exit().value_or(kExitDone);
    http_.reset();
    obs::Event(process_.log(), obs::EventId::kServeStopped).kv("cancelled", cancelled);
    return exit;
  }

 private:
  void DumpState() {
    obs::Event(process_.log(), obs::EventId::kStateDump)
        .kv("connections", http_->frontend().connection_count());
  }

  ServeFlags flags_;
  EngineFlags engine_flags_;
  obs::Registry registry_;
  ProcessUnit process_;
  std::optional<HttpUnit> http_;
};

bool IsPipeline(const std::string& folder) {
  const auto index = rt::StatFile(folder + "/model_index.json");
  return index && *index;
}

}  // namespace

std::optional<ModelSource> VideoModel(const ServeFlags& flags, const std::string& model) {
  if (IsMock(flags)) {
    return std::nullopt;
  }
  Result<ModelSource> source = ResolveModel(model, flags.offline);
  if (!source || !IsPipeline(source->folder)) {
    return std::nullopt;  // whoever loads it says why
  }
  return std::move(*source);
}

Result<ModelSource> VideoModelBeside(const ServeFlags& flags) {
  PX_TRY(ModelSource source, ResolveModel(flags.video_model, flags.offline));
  if (!IsPipeline(source.folder)) {
    return Fail(Code::kInvalidArgument,
                fmt::format("video-model: {} has no model_index.json, so it makes no videos",
                            source.folder),
                "video-model");
  }
  return source;
}

Result<int> ServeVideos(ServeFlags flags, EngineFlags engine, const ModelSource& source) {
  if (flags.workers > 0 || flags.prefill > 0 || flags.decode > 0 || flags.encode > 0) {
    return Fail(Code::kUnsupported,
                "workers: a model that makes videos runs in the server's own process", "workers");
  }
  if (!flags.video_model.empty()) {
    return Fail(Code::kInvalidArgument,
                fmt::format("video-model: goes beside a language model, and {} makes videos itself",
                            source.name),
                "video-model");
  }
  return VideoServer(std::move(flags), std::move(engine)).Run(source);
}

}  // namespace pixii::apps
