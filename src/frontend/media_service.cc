#include "frontend/media_service.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

namespace pixii::frontend {

namespace {

constexpr std::array<std::string_view, 2> kFolders = {"images", "videos"};
constexpr std::array<std::string_view, 2> kKinds = {"image", "video"};
constexpr std::string_view kRecordSuffix = ".json";
constexpr rt::Duration kSweepMax = std::chrono::minutes(1);

std::string RecordName(std::string_view id) { return fmt::format("{}{}", id, kRecordSuffix); }

std::string_view KindName(MediaKind kind) { return kKinds[static_cast<std::size_t>(kind)]; }

// What a client is told of a store; its paths are nobody's business.
Result<void> NotKept(const Error& error) {
  return Fail(
      error.code() == Code::kResourceExhausted ? Code::kResourceExhausted : Code::kUnavailable,
      "the job cannot be kept now; try again later");
}

}  // namespace

MediaService::MediaService(rt::Loop& loop, obs::Registry& registry, MediaServiceOptions options,
                           std::unique_ptr<MediaMaker> maker)
    : loop_(loop),
      registry_(registry),
      options_(std::move(options)),
      jobs_(options_.jobs),
      maker_(std::move(maker)) {}

Result<std::unique_ptr<MediaService>> MediaService::Open(rt::Loop& loop, obs::Registry& registry,
                                                         MediaServiceOptions options,
                                                         std::unique_ptr<MediaMaker> maker) {
  std::unique_ptr<MediaService> out(new MediaService(  // tidy: new the constructor is private
      loop, registry, std::move(options), std::move(maker)));
  PX_CHECK_OK(out->OpenStores());
  out->Count();
  out->SweepLater();
  return out;
}

MediaService::~MediaService() { loop_.CancelTimer(sweep_); }

Result<void> MediaService::OpenStores() {
  for (const MediaKind kind : {MediaKind::kVideo, MediaKind::kImage}) {
    const auto at = static_cast<std::size_t>(kind);
    if (!options_.open) {
      stores_[at] = MakeMemoryBlobStore(loop_);
      continue;
    }
    PX_TRY(OpenedBlobs opened, options_.open(std::string(kFolders[at])));
    stores_[at] = std::move(opened.store);
    Restore(kind, opened.found);
  }
  return {};
}

// Files without a record go: they are the rest of a job that was cut. What bears no name of ours is
// somebody else's, and a record that cannot be read may be a later version's: both stay.
void MediaService::Restore(MediaKind kind, const std::vector<FoundBlob>& found) {
  std::map<std::string_view, std::optional<std::uint64_t>> sizes;
  for (const FoundBlob& blob : found) {
    sizes.emplace(blob.name, blob.size_bytes);
  }
  std::vector<MediaJob> jobs;
  std::map<std::string, bool> kept;
  std::vector<std::string> unread;  // ids
  for (const FoundBlob& blob : found) {
    Result<MediaJob> job = blob.name.ends_with(kRecordSuffix)
                               ? MediaJob::FromRecord(blob.bytes)
                               : Result<MediaJob>(Fail(Code::kNotFound, "no record"));
    bool fits = job && blob.name == RecordName(job->id) && job->spec.kind == kind;
    for (std::size_t i = 0; fits && i < job->file_bytes.size(); ++i) {
      const auto size = sizes.find(job->FileName(i));
      fits = size != sizes.end() && size->second.value_or(job->file_bytes[i]) == job->file_bytes[i];
    }
    if (fits) {
      jobs.push_back(std::move(*job));
    } else if (!job && blob.name.ends_with(kRecordSuffix)) {
      unread.emplace_back(blob.name, 0, blob.name.size() - kRecordSuffix.size());
    }
  }
  std::ranges::sort(jobs, {}, [](const MediaJob& job) {
    return std::pair(job.created_at, std::string_view(job.id));
  });
  for (MediaJob& job : jobs) {
    const std::string id = job.id;
    const bool cut = jobs_.Restore(std::move(job), Wall());
    const MediaJob& now = *jobs_.Get(id);
    kept[RecordName(id)] = true;
    for (std::size_t i = 0; i < now.file_bytes.size(); ++i) {
      kept[now.FileName(i)] = true;
    }
    if (cut) {
      store(kind).Put(RecordName(id), std::make_shared<const std::string>(now.Record()),
                      [](const Result<void>&) {});
    }
  }
  for (const FoundBlob& blob : found) {
    const bool stays = kept.contains(blob.name) || !IsMediaFileName(kind, blob.name) ||
                       std::ranges::any_of(unread, [&](const std::string& id) {
                         return blob.name.starts_with(id);
                       });
    if (!stays) {
      store(kind).Remove(blob.name);
    }
  }
}

Result<MediaRequest> MediaService::Read(const wire::Json& body, MediaKind kind,
                                        std::uint64_t seed) const {
  PX_TRY(MediaRequest out, kind == MediaKind::kVideo
                               ? ReadVideoRequest(body, model(), seed, options_.rules)
                               : ReadImageRequest(body, model(), seed, options_.rules));
  if (const Result<void> good = maker_->Check(out.spec); !good) {
    const Error& error = good.error();
    const bool side = error.param() == "width" || error.param() == "height";
    return side ? Fail(error.code(), fmt::format("size: {}", error.detail()), "size") : Fail(error);
  }
  return out;
}

void MediaService::Create(const std::string& id, const std::string& tenant, MediaSpec spec,
                          std::function<void(Result<void>)> added, OnEnd ended) {
  DropExpired();
  MediaJob job;
  job.id = id;
  job.tenant = tenant;
  job.model = model().name;
  job.created_at = Wall();
  job.lifetime_seconds = options_.lifetime_seconds;
  job.spec = std::move(spec);
  const MediaKind kind = job.spec.kind;
  auto record = std::make_shared<const std::string>(job.Record());
  if (closed_) {
    added(Fail(Code::kShuttingDown, "the server shuts down; ask another"));
    return;
  }
  if (Result<void> taken = jobs_.Add(std::move(job)); !taken) {
    added(std::move(taken));
    return;
  }
  Live& live = live_[id];
  live.ended = std::move(ended);
  live.began = loop_.Now();
  Count();
  store(kind).Put(RecordName(id), std::move(record),
                  [this, id, added = std::move(added)](const Result<void>& stored) {
                    if (!stored) {  // nobody could find it after a restart
                      if (const auto found = live_.find(id); found != live_.end()) {
                        found->second.ended = {};
                      }
                      if (const MediaJob* job = jobs_.Get(id)) {
                        (void)Erase(job->tenant, id);
                      }
                    }
                    added(stored ? stored : NotKept(stored.error()));
                    Pump();
                  });
}

const MediaJob* MediaService::Find(std::string_view tenant, std::string_view id) {
  DropExpired();
  const auto found = live_.find(std::string(id));
  return found != live_.end() && found->second.erase ? nullptr : jobs_.Find(tenant, id);
}

std::vector<const MediaJob*> MediaService::List(std::string_view tenant, MediaKind kind) {
  DropExpired();
  std::vector<const MediaJob*> out = jobs_.List(tenant, kind);
  std::erase_if(out, [&](const MediaJob* job) {
    const auto found = live_.find(job->id);
    return found != live_.end() && found->second.erase;
  });
  return out;
}

bool MediaService::Erase(std::string_view tenant, std::string_view given) {
  if (Find(tenant, given) == nullptr) {
    return false;
  }
  const std::string id(given);
  switch (jobs_.Cancel(id, Wall())) {
    case MediaJobs::Cancelled::kInterrupt:
      live_[id].erase = true;  // once its turn is over
      maker_->Interrupt();
      TellEnded();
      break;
    case MediaJobs::Cancelled::kDrop:
      maker_->Drop(id);
      [[fallthrough]];
    case MediaJobs::Cancelled::kNow:
      TellEnded();
      [[fallthrough]];
    case MediaJobs::Cancelled::kAlreadyEnded:
      if (jobs_.turning(id)) {
        live_[id].erase = true;  // as above: it failed in the middle of a turn
      } else {
        Forget(id);
      }
      break;
  }
  Pump();
  return true;
}

void MediaService::Forget(const std::string& id) {
  const MediaJob& job = *jobs_.Get(id);
  BlobStore& blobs = store(job.spec.kind);
  blobs.Remove(RecordName(id));
  // Also those that are on their way to the disk: calls take effect in their order.
  for (std::size_t i = 0; i < job.spec.count; ++i) {
    blobs.Remove(job.FileName(i));
  }
  jobs_.Remove(id);
  live_.erase(id);
  Count();
}

void MediaService::DropExpired() {
  for (const std::string& id : jobs_.Expired(Wall())) {
    Forget(id);
  }
}

// Jobs go also where nobody asks for any.
void MediaService::SweepLater() {
  const rt::Duration lifetime = std::chrono::seconds(std::max<std::int64_t>(
      1, std::min<std::int64_t>(options_.lifetime_seconds, kSweepMax / std::chrono::seconds(1))));
  sweep_ = loop_.RunAt(loop_.Now() + std::min(lifetime, kSweepMax), [this] {
    DropExpired();
    SweepLater();
  });
}

void MediaService::Pump() {
  const MediaJob* next = closed_ ? nullptr : jobs_.BeginTurn();
  if (next == nullptr) {
    return;
  }
  Count();
  maker_->Turn(next->id, next->spec,
               [this, id = next->id](Result<MediaTurn> turn) { OnTurn(id, std::move(turn)); });
}

void MediaService::OnTurn(const std::string& id, Result<MediaTurn> turn) {
  const MediaJobs::AfterTurn after = jobs_.EndTurn(id, turn, Wall());
  const auto live = live_.find(id);
  const bool erase = live != live_.end() && live->second.erase;
  if (live != live_.end() && turn && turn->steps_done > live->second.steps) {
    registry_.GetCounter(obs::MetricId::kMediaStepsTotal, {model().name})
        .Add(turn->steps_done - live->second.steps);
    live->second.steps = turn->steps_done;
  }
  if (after == MediaJobs::AfterTurn::kDrop) {
    maker_->Drop(id);
  } else if (after == MediaJobs::AfterTurn::kStore) {
    Store(id, std::move(turn->files));
  }
  TellEnded();
  if (erase) {
    Forget(id);
  }
  Pump();
}

void MediaService::Store(const std::string& id, std::vector<std::string> files) {
  const MediaJob& job = *jobs_.Get(id);
  live_[id].waits = files.size();
  for (std::size_t i = 0; i < files.size(); ++i) {
    store(job.spec.kind)
        .Put(job.FileName(i), std::make_shared<const std::string>(std::move(files[i])),
             [this, id](const Result<void>& stored) {
               const auto found = live_.find(id);
               if (found == live_.end()) {
                 return;  // cancelled meanwhile
               }
               if (!stored) {
                 found->second.stored = stored;
               }
               if (--found->second.waits == 0) {
                 OnFileStored(id);
               }
             });
  }
}

// Its record goes behind its files: what is found as completed has them.
void MediaService::OnFileStored(const std::string& id) {
  const Result<void> stored = live_[id].stored;
  const MediaJob* job = jobs_.Get(id);
  if (!stored || job == nullptr) {
    jobs_.OnStored(id, stored, Wall());
    TellEnded();
    Pump();
    return;
  }
  MediaJob completed = *job;
  completed.status = MediaStatus::kCompleted;
  completed.progress = 1;
  completed.completed_at = Wall();
  completed.expires_at = completed.completed_at + completed.lifetime_seconds;
  store(job->spec.kind)
      .Put(RecordName(id), std::make_shared<const std::string>(completed.Record()),
           [this, id, now = completed.completed_at](const Result<void>& kept) {
             if (live_.contains(id)) {
               jobs_.OnStored(id, kept, now);
               TellEnded();
               Pump();
             }
           });
}

// Whoever hears of an end may ask for anything, also for the next job.
void MediaService::TellEnded() {
  for (const std::string& id : jobs_.TakeEnded()) {
    const MediaJob job = *jobs_.Get(id);
    const auto found = live_.find(id);
    const double seconds = std::chrono::duration<double>(loop_.Now() - found->second.began).count();
    const OnEnd ended = std::exchange(found->second.ended, {});
    if (!found->second.erase) {
      live_.erase(found);
    }
    if (job.status == MediaStatus::kFailed) {
      store(job.spec.kind)
          .Put(RecordName(id), std::make_shared<const std::string>(job.Record()),
               [](const Result<void>&) {});
    }
    registry_
        .GetCounter(obs::MetricId::kMediaJobsTotal,
                    {model().name, KindName(job.spec.kind), MediaStatusName(job.status)})
        .Add();
    registry_.GetHistogram(obs::MetricId::kMediaJobSeconds, {model().name, KindName(job.spec.kind)})
        .Observe(seconds);
    Count();
    if (options_.on_ended) {
      options_.on_ended(job, seconds);
    }
    if (ended) {
      ended(job);
    }
  }
}

void MediaService::Count() {
  registry_.GetGauge(obs::MetricId::kMediaJobs, {model().name, "queued"}).Set(jobs_.queued_count());
  registry_.GetGauge(obs::MetricId::kMediaJobs, {model().name, "in_progress"})
      .Set(jobs_.running_count());
  registry_.GetGauge(obs::MetricId::kMediaBytes, {model().name})
      .Set(static_cast<double>(jobs_.size_bytes()));
}

void MediaService::ReadFile(const MediaJob& job, std::size_t index, BlobStore::OnRead done) {
  store(job.spec.kind).Get(job.FileName(index), std::move(done));
}

std::string MediaService::UrlOf(const MediaJob& job, std::size_t index) const {
  const std::string_view folder = kFolders[static_cast<std::size_t>(job.spec.kind)];
  if (!options_.http_url.empty()) {
    return fmt::format("{}/{}/{}", options_.http_url, folder, job.FileName(index));
  }
  if (!options_.fs_url.empty()) {
    return fmt::format("{}/{}/{}", options_.fs_url, folder, job.FileName(index));
  }
  return job.spec.kind == MediaKind::kVideo
             ? fmt::format("/v1/videos/{}/content", job.id)
             : fmt::format("/v1/images/{}/content?index={}", job.id, index);
}

void MediaService::Close() {
  closed_ = true;
  jobs_.FailAll("server_stopped", "the server ended before the job did; ask again", Wall());
  if (jobs_.turning()) {
    maker_->Interrupt();
  }
  TellEnded();
}

}  // namespace pixii::frontend
