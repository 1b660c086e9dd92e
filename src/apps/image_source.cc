#include "apps/image_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "apps/supervisor.h"
#include "media/decoder_child.h"
#include "media/decoder_pool.h"
#include "media/source.h"
#include "rt/http_client.h"
#include "rt/resolve.h"
#include "rt/thread.h"

namespace pixii::apps {

Result<media::SourcePolicy> SourcePolicyOf(const HttpFlags& flags) {
  media::SourcePolicy policy{.urls = flags.media_urls,
                             .allow_internal = flags.media_allow_internal,
                             .folder = flags.media_folder,
                             .bytes_max = static_cast<std::uint64_t>(flags.max_file_size_mb) << 20};
  PX_TRY(policy.hosts, media::ReadHosts("media-hosts", flags.media_hosts));
  PX_TRY(policy.internal_hosts,
         media::ReadHosts("media-internal-hosts", flags.media_internal_hosts));
  std::error_code error;
  if (!policy.folder.empty() && !std::filesystem::is_directory(policy.folder, error)) {
    return Fail(Code::kInvalidArgument, fmt::format("media-folder: {} is no folder", policy.folder),
                "media-folder");
  }
  return policy;
}

class MediaFigures {
 public:
  enum class Stage : std::uint8_t { kFetch, kDecode };

  void Fetched(std::string_view url, const Result<std::string>& file) {
    if (file) {
      rt::MutexLock lock(mutex_);
      ++fetched_[url.substr(0, 5) == "data:"   ? "data"
                 : url.substr(0, 5) == "file:" ? "file"
                                               : "url"];
    } else {
      Refuse(Stage::kFetch, file.error());
    }
  }

  template <typename T>
  void Decoded(const Result<T>& made, std::uint64_t deaths) {
    rt::MutexLock lock(mutex_);
    deaths_ = std::max(deaths_, deaths);
    if (made) {
      ++decoded_;
    } else {
      ++refused_[{Stage::kDecode, made.error().code()}];
    }
  }

  void ExportTo(obs::Registry& registry) const {
    using obs::MetricId;
    rt::MutexLock lock(mutex_);
    for (const auto& [source, count] : fetched_) {
      registry.GetCounter(MetricId::kMediaFetchesTotal, {source}).SetTotal(count);
    }
    for (const auto& [what, count] : refused_) {
      registry
          .GetCounter(MetricId::kMediaRefusedTotal,
                      {what.first == Stage::kFetch ? "fetch" : "decode", CodeName(what.second)})
          .SetTotal(count);
    }
    registry.GetCounter(MetricId::kMediaDecodesTotal).SetTotal(decoded_);
    registry.GetCounter(MetricId::kMediaDecoderDeathsTotal).SetTotal(deaths_);
  }

 private:
  void Refuse(Stage stage, const Error& error) {
    rt::MutexLock lock(mutex_);
    ++refused_[{stage, error.code()}];
  }

  mutable rt::Mutex mutex_;
  std::map<std::string_view, std::uint64_t> fetched_ PX_GUARDED_BY(mutex_);  // by where from
  std::map<std::pair<Stage, Code>, std::uint64_t> refused_ PX_GUARDED_BY(mutex_);
  std::uint64_t decoded_ PX_GUARDED_BY(mutex_) = 0;
  std::uint64_t deaths_ PX_GUARDED_BY(mutex_) = 0;
};

void Export(const MediaFigures& figures, obs::Registry& registry) { figures.ExportTo(registry); }

namespace {

using Figures = std::shared_ptr<MediaFigures>;

media::Bytes BytesOf(const std::string& file) {
  return {reinterpret_cast<const std::uint8_t*>(file.data()), file.size()};
}

/// A host that is slow or hangs up is the fault of who named it: nothing here is out of order, and
/// clients shall not try again as if it were.
Result<std::string> AsAnswered(Result<std::string> file) {
  const bool theirs = !file && (file.error().code() == Code::kDeadlineExceeded ||
                                file.error().code() == Code::kUnavailable);
  return theirs ? Fail(Code::kInvalidArgument, file.error().detail(), file.error().param())
                : std::move(file);
}

Result<frontend::ShownFilm> DecodeFilm(media::DecoderPool& pool, media::Bytes file,
                                       const frontend::FilmPlanner& plan) {
  const media::FilmLimits limits{.frame_bytes_max = frontend::kFilmBytesMax};
  frontend::ShownFilm out;
  PX_TRY(out.info, media::ReadFilmInfo(file, limits));
  PX_TRY(out.plan, plan(out.info));
  PX_TRY(out.rgb,
         pool.DecodeFrames(
             file, {.frames = out.plan.frames, .resize = out.plan.resizing, .limits = limits}));
  return out;
}

frontend::FileGetter FilesOf(media::SourcePolicy policy, Figures figures) {
  auto source = std::make_shared<const media::Source>(media::SourceParts{
      .policy = std::move(policy), .resolve = rt::ResolveAll, .make_client = rt::MakeCurlClient});
  return [source = std::move(source), figures = std::move(figures)](const std::string& url) {
    Result<std::string> file = source->Get(url);
    figures->Fetched(url, file);
    return AsAnswered(std::move(file));
  };
}

frontend::ImageGetter ImagesOf(frontend::FileGetter files, std::shared_ptr<media::DecoderPool> pool,
                               Figures figures) {
  return [files = std::move(files), pool = std::move(pool),
          figures = std::move(figures)](const std::string& url) -> Result<media::Image> {
    PX_TRY(const std::string file, files(url));
    Result<media::Image> image = pool->Decode(BytesOf(file), {});
    figures->Decoded(image, pool->deaths());
    return image;
  };
}

}  // namespace

MediaGetters MakeMediaGetters(media::SourcePolicy policy) {
  auto pool = std::make_shared<media::DecoderPool>(
      media::DecoderPoolOptions{.command = {kOwnProgram, std::string(media::kDecoderCommand)}});
  MediaGetters out;
  out.figures = std::make_shared<MediaFigures>();
  media::SourcePolicy near = policy;
  near.urls = false;
  out.near_images = ImagesOf(FilesOf(std::move(near), out.figures), pool, out.figures);
  out.files = FilesOf(std::move(policy), out.figures);
  out.images = ImagesOf(out.files, pool, out.figures);
  out.films = [files = out.files, pool, figures = out.figures](
                  const std::string& url,
                  const frontend::FilmPlanner& plan) -> Result<frontend::ShownFilm> {
    PX_TRY(const std::string file, files(url));
    Result<frontend::ShownFilm> film = DecodeFilm(*pool, BytesOf(file), plan);
    figures->Decoded(film, pool->deaths());
    return film;
  };
  return out;
}

}  // namespace pixii::apps
