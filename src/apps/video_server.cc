#include "apps/video_server.h"

#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <string_view>
#include <utility>

#include "apps/command.h"
#include "apps/http_unit.h"
#include "apps/mock_engine.h"
#include "apps/model_host.h"
#include "apps/process_unit.h"
#include "apps/version.h"
#include "apps/video_maker.h"
#include "rt/file.h"

namespace pixii::apps {

namespace {

constexpr std::string_view kFileScheme = "file://";

// "file:///srv/media" to "/srv/media"; empty: in memory.
Result<std::string> MediaFolder(std::string_view url) {
  if (url.empty()) {
    return std::string();
  }
  if (!url.starts_with(kFileScheme) || !url.substr(kFileScheme.size()).starts_with('/')) {
    return Fail(Code::kInvalidArgument,
                fmt::format("media-output-fs-url: \"{}\" is not file:///FOLDER; other stores are "
                            "not written to",
                            url),
                "media-output-fs-url");
  }
  std::string out(url.substr(kFileScheme.size()));
  while (out.size() > 1 && out.ends_with('/')) {
    out.pop_back();
  }
  return out;
}

Result<frontend::MediaServiceOptions> OptionsOf(const MediaFlags& flags) {
  frontend::MediaServiceOptions out;
  PX_TRY(out.folder, MediaFolder(flags.media_output_fs_url));
  out.http_url = flags.media_output_http_url;
  while (out.http_url.ends_with('/')) {
    out.http_url.pop_back();
  }
  if (!out.http_url.empty() && out.folder.empty()) {
    return Fail(Code::kInvalidArgument,
                "media-output-http-url: needs media-output-fs-url, the folder that is served there",
                "media-output-http-url");
  }
  out.lifetime_seconds =
      std::chrono::floor<std::chrono::seconds>(std::chrono::nanoseconds(flags.media_time)).count();
  out.jobs.queued_max = static_cast<std::uint32_t>(flags.media_queue);
  out.jobs.running_max = static_cast<std::uint32_t>(flags.media_concurrency);
  out.jobs.bytes_max = static_cast<std::uint64_t>(flags.media_store_size);
  out.rules.pixels_max = static_cast<std::uint64_t>(flags.media_pixels);
  return out;
}

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
    PX_TRY(frontend::MediaServiceOptions options, OptionsOf(flags_));
    options.on_ended = [this](const frontend::MediaJob& job, double seconds) {
      SayEnded(job, seconds);
    };
    http_->OfferMedia(std::move(options));
    obs::Event(process_.log(), obs::EventId::kServeStarting)
        .kv("model", source.folder)
        .kv("version", kVersion)
        .kv("commit", kCommit);
    PX_TRY(std::unique_ptr<frontend::MediaMaker> maker, Load(source));
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
  Result<std::unique_ptr<frontend::MediaMaker>> Load(const ModelSource& source) {
    const rt::Time began = process_.loop().Now();
    PX_TRY(std::unique_ptr<kernels::Operators> operators, MakeOperators(engine_flags_));
    const kernels::ComputeType compute =
        engine_flags_.dtype == "bf16" ? kernels::ComputeType::kBf16 : kernels::ComputeType::kF32;
    const std::string& name =
        flags_.served_model_name.empty() ? source.name : flags_.served_model_name;
    PX_TRY(
        std::unique_ptr<VideoMaker> maker,
        VideoMaker::Load(process_.loop(), source.folder, std::move(operators),
                         {.name = name,
                          .compute = compute,
                          .jobs_together = static_cast<std::uint32_t>(flags_.media_concurrency)}));
    const rt::Duration took = process_.loop().Now() - began;
    obs::Event(process_.log(), obs::EventId::kMediaLoaded)
        .kv("model", name)
        .kv("load_ms", std::chrono::duration_cast<std::chrono::milliseconds>(took).count());
    return std::unique_ptr<frontend::MediaMaker>(std::move(maker));
  }

  void SayEnded(const frontend::MediaJob& job, double seconds) {
    obs::Event event(process_.log(), obs::EventId::kMediaEnded);
    event.kv("id", job.id)
        .kv("status", frontend::MediaStatusName(job.status))
        .kv("steps", job.steps_done)
        .kv("bytes", job.size_bytes())
        .kv("seconds", seconds);
    if (!job.error_code.empty()) {
      event.kv("why", job.error_code).kv("detail", job.error_message);
    }
  }

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

}  // namespace

std::optional<ModelSource> VideoModel(const ServeFlags& flags, const std::string& model) {
  if (IsMock(flags)) {
    return std::nullopt;
  }
  Result<ModelSource> source = ResolveModel(model, flags.offline);
  if (!source) {
    return std::nullopt;  // whoever loads it says why
  }
  const auto index = rt::StatFile(source->folder + "/model_index.json");
  return index && *index ? std::optional(std::move(*source)) : std::nullopt;
}

Result<int> ServeVideos(ServeFlags flags, EngineFlags engine, const ModelSource& source) {
  if (flags.workers > 0 || flags.prefill > 0 || flags.decode > 0) {
    return Fail(Code::kUnsupported,
                "workers: a model that makes videos runs in the server's own process", "workers");
  }
  return VideoServer(std::move(flags), std::move(engine)).Run(source);
}

}  // namespace pixii::apps
