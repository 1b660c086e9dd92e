#include "apps/media_unit.h"

#include <fmt/format.h>

#include <chrono>
#include <string_view>
#include <utility>
#include <vector>

#include "apps/dit_ranks.h"
#include "apps/object_place.h"
#include "apps/video_maker.h"
#include "kv/tiers/s3_service.h"
#include "rt/http_client.h"
#include "wire/http.h"

namespace pixii::apps {

namespace {

constexpr std::string_view kFlag = "media-output-fs-url";
constexpr std::string_view kFileScheme = "file://";
constexpr std::string_view kObjectScheme = "s3://";
constexpr std::uint32_t kConnectTimeoutMs = 5000;
constexpr std::uint32_t kStallTimeoutS = 30;

using Open = std::function<Result<frontend::OpenedBlobs>(const std::string& name)>;

bool IsWebUrl(std::string_view url) {
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (url.starts_with(scheme) && url.size() > scheme.size() && url[scheme.size()] != '/') {
      return url.find_first_of(" \"<>\\^`{|}") == std::string_view::npos;
    }
  }
  return false;
}

std::string WithoutSlashes(std::string_view text) {
  while (text.size() > 1 && text.ends_with('/')) {
    text.remove_suffix(1);
  }
  return std::string(text);
}

/// "file:///srv/media".
Open InFolder(rt::Loop& loop, std::string folder, std::uint64_t bytes_max) {
  return [&loop, folder = std::move(folder), bytes_max](const std::string& name) {
    Result<frontend::OpenedBlobs> opened =
        frontend::OpenFolderBlobStore(loop, fmt::format("{}/{}", folder, name), bytes_max);
    return opened ? std::move(opened)
                  : Fail(opened.error().code(),
                         fmt::format("{}: {}", kFlag, opened.error().detail()), std::string(kFlag));
  };
}

/// "s3://BUCKET" or "s3://BUCKET/PREFIX", without the scheme.
Result<Open> InBucket(const MediaFlags& flags, rt::Loop& loop, std::string_view place) {
  const std::size_t slash = std::min(place.find('/'), place.size());
  kv::S3Options s3;
  s3.bucket = place.substr(0, slash);
  s3.endpoint = flags.media_s3_endpoint.empty()
                    ? fmt::format("https://s3.{}.amazonaws.com", flags.media_s3_region)
                    : flags.media_s3_endpoint;
  s3.credentials = {.access_key = flags.media_s3_access_key,
                    .secret_key = flags.media_s3_secret_key,
                    .region = flags.media_s3_region};
  if (s3.bucket.empty() || s3.credentials.access_key.empty() || s3.credentials.secret_key.empty()) {
    const std::string_view lacks = s3.bucket.empty()                   ? kFlag
                                   : s3.credentials.access_key.empty() ? "media-s3-access-key"
                                                                       : "media-s3-secret-key";
    return Fail(Code::kInvalidArgument,
                fmt::format("{}: s3://BUCKET/PREFIX needs a bucket, media-s3-access-key and "
                            "media-s3-secret-key",
                            lacks),
                std::string(lacks));
  }
  const std::string prefix(slash < place.size() ? place.substr(slash + 1) : std::string_view());
  return [&loop, s3, prefix, bytes_max = static_cast<std::uint64_t>(flags.media_store_size)](
             const std::string& name) -> Result<frontend::OpenedBlobs> {
    auto service =
        kv::S3Service::Create(s3,
                              rt::MakeCurlClient({.connect_timeout_ms = kConnectTimeoutMs,
                                                  .stall_timeout_s = kStallTimeoutS}),
                              [&loop] { return loop.WallNow().unix_seconds; });
    if (!service) {
      return Fail(service.error().code(),
                  fmt::format("media-s3-endpoint: {}", service.error().detail()),
                  "media-s3-endpoint");
    }
    const std::string folder =
        prefix.empty() ? fmt::format("{}/", name) : fmt::format("{}/{}/", prefix, name);
    return OpenObjectBlobStore(loop, std::move(*service), folder, bytes_max);
  };
}

/// Where files go and how they are reached.
Result<void> ReadPlace(const MediaFlags& flags, rt::Loop& loop,
                       frontend::MediaServiceOptions& out) {
  const std::string url = WithoutSlashes(flags.media_output_fs_url);
  if (url.empty()) {
    return {};
  }
  const std::string_view view = url;
  if (view.starts_with(kFileScheme) && view.substr(kFileScheme.size()).starts_with('/')) {
    const std::optional<std::string> folder = wire::PercentDecode(view.substr(kFileScheme.size()));
    if (!folder) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("{}: \"{}\" has a % without two digits of hexadecimal behind it, or "
                              "%00; write %25 for one that the folder's name has",
                              kFlag, flags.media_output_fs_url),
                  std::string(kFlag));
    }
    out.open = InFolder(loop, *folder, static_cast<std::uint64_t>(flags.media_store_size));
  } else if (view.starts_with(kObjectScheme)) {
    PX_TRY(out.open, InBucket(flags, loop, view.substr(kObjectScheme.size())));
  } else {
    return Fail(Code::kInvalidArgument,
                fmt::format("{}: \"{}\" is neither file:///FOLDER nor s3://BUCKET/PREFIX; other "
                            "stores are not written to",
                            kFlag, flags.media_output_fs_url),
                std::string(kFlag));
  }
  out.fs_url = url;
  return {};
}

void SayEnded(obs::Log& log, const frontend::MediaJob& job, double seconds) {
  obs::Event event(log, obs::EventId::kMediaEnded);
  event.kv("id", job.id)
      .kv("status", frontend::MediaStatusName(job.status))
      .kv("steps", job.steps_done)
      .kv("bytes", job.size_bytes())
      .kv("seconds", seconds);
  if (!job.error_code.empty()) {
    event.kv("why", job.error_code)
        .kv("detail", job.error_cause.empty() ? job.error_message : job.error_cause);
  }
}

/// Beside a language model tensor-parallel-size is that one's, and one thread alone halts for its
/// steps.
Result<model::WanRankOptions> RanksOf(const EngineFlags& engine, bool beside) {
  if (!beside) {
    return DitRanksOf(engine);
  }
  const bool cfg = engine.dit_cfg_size > 1;
  if (cfg || engine.dit_ulysses_size > 1) {
    const std::string flag = cfg ? "dit-cfg-size" : "dit-ulysses-size";
    return Fail(Code::kUnsupported,
                fmt::format("{} is {}, must be 1: beside a language model one rank makes videos",
                            flag, cfg ? engine.dit_cfg_size : engine.dit_ulysses_size),
                flag);
  }
  return model::WanRankOptions();
}

}  // namespace

Result<frontend::MediaServiceOptions> MediaOptionsOf(const MediaFlags& flags, rt::Loop& loop,
                                                     obs::Log& log) {
  frontend::MediaServiceOptions out;
  PX_CHECK_OK(ReadPlace(flags, loop, out));
  out.http_url = WithoutSlashes(flags.media_output_http_url);
  if (!out.http_url.empty() && out.fs_url.empty()) {
    return Fail(Code::kInvalidArgument,
                "media-output-http-url: needs media-output-fs-url, which is served there",
                "media-output-http-url");
  }
  if (!out.http_url.empty() && !IsWebUrl(out.http_url)) {
    return Fail(Code::kInvalidArgument,
                fmt::format("media-output-http-url: \"{}\" is not http://HOST or https://HOST, "
                            "with a port or a path or without",
                            flags.media_output_http_url),
                "media-output-http-url");
  }
  out.lifetime_seconds =
      std::chrono::floor<std::chrono::seconds>(std::chrono::nanoseconds(flags.media_time)).count();
  out.jobs.queued_max = static_cast<std::uint32_t>(flags.media_queue);
  out.jobs.running_max = static_cast<std::uint32_t>(flags.media_concurrency);
  out.jobs.bytes_max = static_cast<std::uint64_t>(flags.media_store_size);
  out.jobs.tenant_bytes_max = static_cast<std::uint64_t>(flags.media_tenant_size);
  out.jobs.tenant_live_max = static_cast<std::uint32_t>(flags.media_tenant_jobs);
  out.rules.pixels_max = static_cast<std::uint64_t>(flags.media_pixels);
  out.on_ended = [&log](const frontend::MediaJob& job, double seconds) {
    SayEnded(log, job, seconds);
  };
  return out;
}

Result<std::unique_ptr<frontend::MediaMaker>> LoadMediaMaker(
    rt::Loop& loop, obs::Log& log, const MediaFlags& flags, frontend::ImageGetter get_image,
    const EngineFlags& engine, const ModelSource& source, kernels::ComputeTurns* turns) {
  const rt::Time began = loop.Now();
  PX_TRY(std::unique_ptr<kernels::Operators> operators, MakePipelineOperators(engine, turns));
  std::vector<model::LoraFile> loras;
  for (const std::string& text : flags.media_lora) {
    PX_TRY(model::LoraFile file, model::ParseLoraFile(text));
    loras.push_back(std::move(file));
  }
  PX_TRY(model::WanRankOptions ranks, RanksOf(engine, turns != nullptr));
  PX_TRY(std::unique_ptr<VideoMaker> maker,
         VideoMaker::Load(loop, source.folder, std::move(operators),
                          {.name = source.name,
                           .compute = engine.dtype == "bf16" ? kernels::ComputeType::kBf16
                                                             : kernels::ComputeType::kF32,
                           .jobs_together = static_cast<std::uint32_t>(flags.media_concurrency),
                           .turns = turns,
                           .loras = std::move(loras),
                           .ranks = std::move(ranks),
                           .get_image = std::move(get_image)}));
  obs::Event(log, obs::EventId::kMediaLoaded)
      .kv("model", source.name)
      .kv("load_ms",
          std::chrono::duration_cast<std::chrono::milliseconds>(loop.Now() - began).count());
  return std::unique_ptr<frontend::MediaMaker>(std::move(maker));
}

}  // namespace pixii::apps
