// Videos and pictures as jobs: gives the maker one step after another, keeps the files, tells who
// waits.
//
// Thread: the frontend's loop. What MediaJobs decides, done: over a folder, a restart finds what
// was completed, and the rest as failed.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "frontend/blob_store.h"
#include "frontend/media_jobs.h"
#include "frontend/media_maker.h"
#include "frontend/media_request.h"
#include "obs/metrics.h"
#include "rt/loop.h"

namespace pixii::frontend {

struct MediaServiceOptions {
  /// Opens what gets ID.mp4 or ID-0.png: "videos" or "images"; empty: all is in memory.
  std::function<Result<OpenedBlobs>(const std::string& name)> open = {};
  std::string fs_url;    // where these lie, "file:///srv/media"; empty: in memory
  std::string http_url;  // where somebody serves them; empty: nobody does
  MediaJobOptions jobs;
  MediaRules rules;
  std::int64_t lifetime_seconds = 24LL * 3600;  // of a job from its end
  /// Hears of each job that ended, and after how many seconds; empty: nobody does.
  std::function<void(const MediaJob& job, double seconds)> on_ended = {};
};

class MediaService final {
 public:
  /// Blocks: at the start. `loop` and `registry` outlive it. Errors: those of the folder.
  static Result<std::unique_ptr<MediaService>> Open(rt::Loop& loop, obs::Registry& registry,
                                                    MediaServiceOptions options,
                                                    std::unique_ptr<MediaMaker> maker);

  ~MediaService();
  MediaService(const MediaService&) = delete;
  MediaService& operator=(const MediaService&) = delete;

  const MediaModel& model() const { return maker_->model(); }

  const MediaServiceOptions& options() const { return options_; }

  /// Reads and checks a body; `seed` as ReadVideoRequest has it.
  Result<MediaRequest> Read(const wire::Json& body, MediaKind kind, std::uint64_t seed) const;

  using OnEnd = std::function<void(const MediaJob& job)>;

  /// `added` once it is kept; `ended`, if any, once it has ended. Errors: kResourceExhausted, those
  /// of the store; then `ended` is not called.
  void Create(const std::string& id, const std::string& tenant, MediaSpec spec,
              std::function<void(Result<void>)> added, OnEnd ended = {});

  /// Null: unknown, expired or another tenant's.
  const MediaJob* Find(std::string_view tenant, std::string_view id);
  /// A tenant's of a kind, oldest first.
  std::vector<const MediaJob*> List(std::string_view tenant, MediaKind kind);
  /// Cancels it if it has not ended, and forgets it with its files, once its turn is over if it has
  /// one. Whether it was there.
  bool Erase(std::string_view tenant, std::string_view id);

  /// A file of a completed job.
  void ReadFile(const MediaJob& job, std::size_t index, BlobStore::OnRead done);

  /// Where a client finds it: below --media-output-http-url, in the folder, or at `route` of this
  /// server.
  std::string UrlOf(const MediaJob& job, std::size_t index) const;

  /// Jobs that have not ended.
  std::size_t live_count() const { return jobs_.queued_count() + jobs_.running_count(); }

  /// Whatever has not ended fails; nothing more is made.
  void Close();

 private:
  MediaService(rt::Loop& loop, obs::Registry& registry, MediaServiceOptions options,
               std::unique_ptr<MediaMaker> maker);

  Result<void> OpenStores();
  void Restore(MediaKind kind, const std::vector<FoundBlob>& found);

  BlobStore& store(MediaKind kind) { return *stores_[static_cast<std::size_t>(kind)]; }

  std::int64_t Wall() const { return loop_.WallNow().unix_seconds; }

  void Pump();
  void OnTurn(const std::string& id, Result<MediaTurn> turn);
  void Store(const std::string& id, std::vector<std::string> files);
  void OnFileStored(const std::string& id);
  void TellEnded();
  void Forget(const std::string& id);
  void DropExpired();
  void SweepLater();
  void Count();

  /// What is known of a job while it goes on.
  struct Live {
    OnEnd ended;
    rt::Time began{};
    std::uint32_t steps = 0;  // counted so far
    std::size_t waits = 0;    // files that are written
    Result<void> stored;      // of these
    bool erase = false;       // with its end
  };

  rt::Loop& loop_;
  obs::Registry& registry_;
  const MediaServiceOptions options_;
  MediaJobs jobs_;
  std::map<std::string, Live> live_;  // by id
  bool closed_ = false;
  rt::TimerId sweep_ = rt::TimerId::kNone;
  std::array<std::unique_ptr<BlobStore>, 2> stores_;  // [kind]
  std::unique_ptr<MediaMaker> maker_;                 // calls back no more once it is gone
};

}  // namespace pixii::frontend
