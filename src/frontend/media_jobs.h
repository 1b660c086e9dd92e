// The jobs that make videos and pictures: who waits, who has the next step, who has ended and how.
//
// Thread: pure; the caller says what time it is.
// Each job ends exactly once. The device does one step at a time: of the tenants that have jobs,
// the one that had no step for longest has the next, and among its jobs likewise.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "frontend/media_maker.h"

namespace pixii::frontend {

enum class MediaStatus : std::uint8_t { kQueued, kInProgress, kCompleted, kFailed, kCancelled };

std::string_view MediaStatusName(MediaStatus status);

/// error_code of a job whose picture to begin with could not be read: the client's fault.
inline constexpr std::string_view kBadReference = "invalid_input_reference";
inline constexpr std::string_view kStorageFull = "storage_full";
inline constexpr std::string_view kTenantStorageFull = "quota_exceeded";
inline constexpr std::string_view kStorageFailed = "storage_failed";

/// Ids are a prefix of their kind and so many digits of lower-case hexadecimal.
inline constexpr std::size_t kMediaIdDigits = 24;
std::string_view MediaIdPrefix(MediaKind kind);
/// Whether `name` is what a job of `kind` calls a file or its record, or was on the way to be one.
bool IsMediaFileName(MediaKind kind, std::string_view name);

struct MediaJob {
  std::string id;
  std::string tenant;
  std::string model;
  MediaSpec spec;
  MediaStatus status = MediaStatus::kQueued;
  double progress = 0;           // 0 .. 1, never falls
  std::uint32_t steps_done = 0;  // likewise
  std::int64_t created_at = 0;   // seconds since 1970
  std::int64_t completed_at = 0;
  std::int64_t expires_at = 0;
  std::int64_t lifetime_seconds = 0;      // from its end
  std::vector<std::uint64_t> file_bytes;  // of each file, once it is completed
  std::string error_code;                 // of one that failed
  std::string error_message;
  std::string error_cause;  // for who runs the server; in no record
  std::uint64_t order = 0;  // in which they came, in this process

  bool ended() const { return status >= MediaStatus::kCompleted; }

  std::uint64_t size_bytes() const;

  /// "ID.mp4", "ID-0.png".
  std::string FileName(std::size_t index) const;

  /// OpenAI's video object.
  std::string Body() const;
  /// All of it, as it is kept.
  std::string Record() const;
  /// Of Record(). Errors: kDataCorrupt.
  static Result<MediaJob> FromRecord(std::string_view text);
};

struct MediaJobOptions {
  std::uint32_t queued_max = 64;    // that have not begun; further ones are refused
  std::uint32_t running_max = 8;    // that take turns: each holds its latents in memory
  std::uint32_t kept_max = 10'000;  // all together
  std::uint64_t bytes_max = std::uint64_t{4} << 30;  // of all files
  std::uint64_t tenant_bytes_max = 0;                // of one tenant's; 0: of all
  std::uint32_t tenant_live_max = 0;  // jobs of one tenant that have not ended; 0: any number
};

class MediaJobs final {
 public:
  explicit MediaJobs(const MediaJobOptions& options) : options_(options) {}

  /// Takes a new one, queued. Errors: kResourceExhausted or, of a tenant's own, kQuotaExceeded;
  /// naming the bound.
  Result<void> Add(MediaJob job);
  /// Takes one of an earlier process; one that had not ended there has failed. Returns whether it
  /// was changed by that.
  bool Restore(MediaJob job, std::int64_t now);

  /// Whose step is next; it is in progress from now on and has the turn. Null: nobody's, or a turn
  /// is under way.
  const MediaJob* BeginTurn();

  /// What is to be done behind a turn.
  enum class AfterTurn : std::uint8_t {
    kNothing,
    kStore,  // its files, then call OnStored
    kDrop,   // the maker's state of it: it was cancelled, or its files do not fit
  };

  /// The turn of `id` is over. Pre: it had it.
  AfterTurn EndTurn(const std::string& id, const Result<MediaTurn>& turn, std::int64_t now);
  /// The files of one that had kStore are kept, or not.
  void OnStored(const std::string& id, const Result<void>& stored, std::int64_t now);

  /// What cancelling has to do besides.
  enum class Cancelled : std::uint8_t { kAlreadyEnded, kNow, kDrop, kInterrupt };

  /// Ends one that has not ended. kDrop: the maker may know it; kInterrupt: it has the turn, whose
  /// end comes still. Pre: it is there.
  Cancelled Cancel(const std::string& id, std::int64_t now);
  /// Ends all that have not, as failed.
  void FailAll(std::string_view code, std::string_view message, std::int64_t now);

  /// Ids of those that ended since the last call, in that order.
  std::vector<std::string> TakeEnded();

  /// Forgets one that has ended and has no turn. Pre: it is there.
  void Remove(const std::string& id);
  /// Those that have ended and whose time is over.
  std::vector<std::string> Expired(std::int64_t now) const;

  /// Null: unknown, or another tenant's.
  const MediaJob* Find(std::string_view tenant, std::string_view id) const;
  const MediaJob* Get(std::string_view id) const;
  /// A tenant's of a kind, oldest first.
  std::vector<const MediaJob*> List(std::string_view tenant, MediaKind kind) const;

  bool turning() const { return turning_.has_value(); }

  bool turning(std::string_view id) const { return turning_ == id; }

  std::uint32_t queued_count() const { return queued_; }

  std::uint32_t running_count() const { return running_; }

  std::uint64_t size_bytes() const { return size_bytes_; }

  std::size_t count() const { return jobs_.size(); }

 private:
  struct Entry {
    MediaJob job;
    std::uint64_t last_turn = 0;  // 0: it had none
    bool storing = false;
  };

  using Jobs = std::map<std::string, Entry, std::less<>>;

  Entry* Best();
  void AddBytes(const MediaJob& job);
  void TakeBytes(const MediaJob& job);
  void ForgetTenant(const std::string& name);
  std::uint64_t RoomOf(const std::string& tenant) const;
  void End(Entry& entry, MediaStatus status, std::int64_t now);
  void Fail(Entry& entry, std::string_view code, std::string_view message, std::int64_t now);

  const MediaJobOptions options_;
  Jobs jobs_;  // by id

  /// Of one that has jobs that go on, or files.
  struct Tenant {
    std::uint64_t last_turn = 0;
    std::uint32_t live = 0;  // jobs that have not ended
    std::uint64_t size_bytes = 0;
  };

  std::map<std::string, Tenant> tenants_;
  std::optional<std::string> turning_;  // whose turn is under way
  std::vector<std::string> ended_;
  std::uint32_t queued_ = 0;
  std::uint32_t running_ = 0;
  std::uint64_t size_bytes_ = 0;
  std::uint64_t last_turn_ = 0;
  std::uint64_t last_order_ = 0;
};

}  // namespace pixii::frontend
