#include "frontend/media_jobs.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <tuple>
#include <utility>

#include "base/assert.h"
#include "wire/json.h"

namespace pixii::frontend {

using wire::Json;

namespace {

constexpr std::array<std::string_view, 5> kStatusNames = {"queued", "in_progress", "completed",
                                                          "failed", "cancelled"};
constexpr std::array<std::string_view, 6> kFormats = {"mp4", "png", "jpeg", "webp", "webm", "avi"};
constexpr std::array<std::string_view, 6> kTypes = {"video/mp4",  "image/png",  "image/jpeg",
                                                    "image/webp", "video/webm", "video/x-msvideo"};

Result<std::string> TextOf(const Json& record, std::string_view name) {
  const Json* found = record.Find(name);
  if (found == nullptr || !found->is_string()) {
    return Fail(Code::kDataCorrupt, fmt::format("the record of a video has no {}", name));
  }
  return found->string();
}

Result<std::int64_t> CountOf(const Json& record, std::string_view name, std::int64_t max) {
  const Json* found = record.Find(name);
  const std::optional<std::int64_t> count = found == nullptr ? std::nullopt : found->AsInt();
  if (!count || *count < 0 || *count > max) {
    return Fail(Code::kDataCorrupt, fmt::format("the record of a video has no {}", name));
  }
  return *count;
}

Json Described(const MediaJob& job) {
  const MediaSpec& spec = job.spec;
  Json out{Json::Object{}};
  out.Set("id", job.id);
  out.Set("object", "video");
  out.Set("model", job.model);
  out.Set("status", MediaStatusName(job.status));
  out.Set("progress", static_cast<std::int64_t>(std::floor(job.progress * 100)));
  out.Set("created_at", job.created_at);
  out.Set("completed_at", job.status == MediaStatus::kCompleted ? Json(job.completed_at) : Json());
  out.Set("expires_at", job.ended() ? Json(job.expires_at) : Json());
  out.Set("prompt", spec.prompt);
  out.Set("size", fmt::format("{}x{}", spec.width, spec.height));
  const double seconds = spec.frames / spec.frames_per_second;
  out.Set("seconds", fmt::format("{}", std::round(seconds * 100) / 100));
  out.Set("num_frames", static_cast<std::int64_t>(spec.frames));
  out.Set("fps", spec.frames_per_second);
  out.Set("seed", spec.seed);
  out.Set("remixed_from_video_id", Json());
  Json error;
  if (job.status == MediaStatus::kFailed) {
    error.Set("code", job.error_code);
    error.Set("message", job.error_message);
  }
  out.Set("error", std::move(error));
  return out;
}

constexpr std::int64_t kTimeMax = std::int64_t{1} << 40;  // seconds since 1970

}  // namespace

std::string_view MediaIdPrefix(MediaKind kind) {
  return kind == MediaKind::kVideo ? "video_" : "image_";
}

bool IsMediaFileName(MediaKind kind, std::string_view name) {
  const std::string_view prefix = MediaIdPrefix(kind);
  const std::size_t size = prefix.size() + kMediaIdDigits;
  return name.starts_with(prefix) && name.size() > size &&
         name.substr(prefix.size(), kMediaIdDigits).find_first_not_of("0123456789abcdef") ==
             std::string_view::npos &&
         (name[size] == '.' || name[size] == '-');
}

std::string_view MediaFormatName(MediaFormat format) {
  return kFormats[static_cast<std::size_t>(format)];
}

std::string_view MediaFormatType(MediaFormat format) {
  return kTypes[static_cast<std::size_t>(format)];
}

std::string_view MediaStatusName(MediaStatus status) {
  return kStatusNames[static_cast<std::size_t>(status)];
}

std::uint64_t MediaJob::size_bytes() const {
  return std::accumulate(file_bytes.begin(), file_bytes.end(), std::uint64_t{0});
}

std::string MediaJob::FileName(std::size_t index) const {
  const std::string_view suffix = MediaFormatName(spec.format);
  return spec.kind == MediaKind::kVideo ? fmt::format("{}.{}", id, suffix)
                                        : fmt::format("{}-{}.{}", id, index, suffix);
}

std::string MediaJob::Body() const { return Described(*this).Dump(); }

std::string MediaJob::Record() const {
  Json out = Described(*this);
  out.Set("tenant", tenant);
  out.Set("kind", static_cast<std::int64_t>(spec.kind));
  out.Set("format", static_cast<std::int64_t>(spec.format));
  out.Set("state", static_cast<std::int64_t>(status));
  out.Set("width", static_cast<std::int64_t>(spec.width));
  out.Set("height", static_cast<std::int64_t>(spec.height));
  out.Set("steps_done", static_cast<std::int64_t>(steps_done));
  out.Set("ended_at", completed_at);
  out.Set("gone_at", expires_at);
  out.Set("lifetime", lifetime_seconds);
  out.Set("error_code", error_code);
  out.Set("error_message", error_message);
  Json::Array sizes;
  for (const std::uint64_t size : file_bytes) {
    sizes.emplace_back(size);
  }
  out.Set("file_bytes", std::move(sizes));
  return out.Dump();
}

Result<MediaJob> MediaJob::FromRecord(std::string_view text) {
  constexpr std::int64_t kCountMax = INT32_MAX;
  PX_TRY(const Json record, wire::ParseJson(text));
  MediaJob out;
  MediaSpec& spec = out.spec;
  PX_TRY(out.id, TextOf(record, "id"));
  PX_TRY(out.tenant, TextOf(record, "tenant"));
  PX_TRY(out.model, TextOf(record, "model"));
  PX_TRY(spec.prompt, TextOf(record, "prompt"));
  PX_TRY(out.error_code, TextOf(record, "error_code"));
  PX_TRY(out.error_message, TextOf(record, "error_message"));
  PX_TRY(const std::int64_t kind, CountOf(record, "kind", 1));
  spec.kind = static_cast<MediaKind>(kind);
  PX_TRY(const std::int64_t format, CountOf(record, "format", std::ssize(kFormats) - 1));
  spec.format = static_cast<MediaFormat>(format);
  PX_TRY(const std::int64_t state, CountOf(record, "state", std::ssize(kStatusNames) - 1));
  out.status = static_cast<MediaStatus>(state);
  PX_TRY(const std::int64_t width, CountOf(record, "width", kCountMax));
  spec.width = static_cast<std::int32_t>(width);
  PX_TRY(const std::int64_t height, CountOf(record, "height", kCountMax));
  spec.height = static_cast<std::int32_t>(height);
  PX_TRY(const std::int64_t frames, CountOf(record, "num_frames", kCountMax));
  spec.frames = static_cast<std::int32_t>(frames);
  PX_TRY(const std::int64_t steps, CountOf(record, "steps_done", kCountMax));
  out.steps_done = static_cast<std::uint32_t>(steps);
  PX_TRY(const std::int64_t progress, CountOf(record, "progress", 100));
  out.progress = static_cast<double>(progress) / 100;
  PX_TRY(const std::int64_t seed, CountOf(record, "seed", INT64_MAX));
  spec.seed = static_cast<std::uint64_t>(seed);
  PX_TRY(out.created_at, CountOf(record, "created_at", kTimeMax));
  PX_TRY(out.completed_at, CountOf(record, "ended_at", kTimeMax));
  PX_TRY(out.expires_at, CountOf(record, "gone_at", 2 * kTimeMax));
  PX_TRY(out.lifetime_seconds, CountOf(record, "lifetime", kTimeMax));
  const Json* rate = record.Find("fps");
  const Json* sizes = record.Find("file_bytes");
  const std::optional<double> fps = rate == nullptr ? std::nullopt : rate->AsDouble();
  if (!fps || !(*fps > 0) || sizes == nullptr || !sizes->is_array()) {
    return pixii::Fail(Code::kDataCorrupt, "the record of a video has no fps or no file_bytes");
  }
  spec.frames_per_second = *fps;
  for (const Json& size : sizes->array()) {
    const std::int64_t bytes = size.AsInt().value_or(-1);
    if (bytes < 0) {
      return pixii::Fail(Code::kDataCorrupt, "the record of a video has sizes that are none");
    }
    out.file_bytes.push_back(static_cast<std::uint64_t>(bytes));
  }
  spec.count = std::max(1U, static_cast<std::uint32_t>(out.file_bytes.size()));
  return out;
}

Result<void> MediaJobs::Add(MediaJob job) {
  if (queued_ >= options_.queued_max) {
    return pixii::Fail(
        Code::kResourceExhausted,
        fmt::format("{} jobs wait, which is the limit; try again later", options_.queued_max));
  }
  if (jobs_.size() >= options_.kept_max || size_bytes_ >= options_.bytes_max) {
    return pixii::Fail(
        Code::kResourceExhausted,
        fmt::format("{} jobs with {} bytes are kept, allowed are {} and {}; delete "
                    "some",
                    jobs_.size(), size_bytes_, options_.kept_max, options_.bytes_max));
  }
  Tenant& tenant = tenants_[job.tenant];
  if (options_.tenant_live_max > 0 && tenant.live >= options_.tenant_live_max) {
    return pixii::Fail(
        Code::kQuotaExceeded,
        fmt::format("{} jobs of this key go on or wait, which is its limit; try again later",
                    tenant.live));
  }
  if (RoomOf(job.tenant) == 0) {  // it has files, so the entry is no new one
    return pixii::Fail(
        Code::kQuotaExceeded,
        fmt::format("videos and pictures of this key have {} bytes, allowed are {}; delete some",
                    tenant.size_bytes, options_.tenant_bytes_max));
  }
  if (tenant.live++ == 0) {
    tenant.last_turn = last_turn_;
  }
  job.status = MediaStatus::kQueued;
  job.order = ++last_order_;
  ++queued_;
  const std::string id = job.id;
  jobs_.insert_or_assign(id, Entry{.job = std::move(job)});
  return {};
}

bool MediaJobs::Restore(MediaJob job, std::int64_t now) {
  job.order = ++last_order_;
  AddBytes(job);
  const bool cut = !job.ended();
  if (cut) {
    job.status = MediaStatus::kFailed;
    job.error_code = "server_restarted";
    job.error_message = "the server ended before the job did; ask again";
    job.completed_at = now;
    job.expires_at = now + job.lifetime_seconds;
  }
  const std::string id = job.id;
  jobs_.insert_or_assign(id, Entry{.job = std::move(job)});
  return cut;
}

// Of those that may go on, whose tenant had no turn for longest, then who itself. One that waits
// begins only while fewer than running_max have.
MediaJobs::Entry* MediaJobs::Best() {
  Entry* best = nullptr;
  const auto rank = [this](const Entry& entry) {
    return std::tuple(tenants_.at(entry.job.tenant).last_turn, entry.last_turn, entry.job.order);
  };
  for (auto& [id, entry] : jobs_) {
    const bool may =
        entry.job.status == MediaStatus::kInProgress
            ? !entry.storing
            : entry.job.status == MediaStatus::kQueued && running_ < options_.running_max;
    if (may && (best == nullptr || rank(entry) < rank(*best))) {
      best = &entry;
    }
  }
  return best;
}

const MediaJob* MediaJobs::BeginTurn() {
  Entry* next = turning_ ? nullptr : Best();
  if (next == nullptr) {
    return nullptr;
  }
  if (next->job.status == MediaStatus::kQueued) {
    next->job.status = MediaStatus::kInProgress;
    --queued_;
    ++running_;
  }
  next->last_turn = ++last_turn_;
  tenants_[next->job.tenant].last_turn = last_turn_;
  turning_ = next->job.id;
  return &next->job;
}

MediaJobs::AfterTurn MediaJobs::EndTurn(const std::string& id, const Result<MediaTurn>& turn,
                                        std::int64_t now) {
  PX_ASSERT(turning_ == id);
  turning_.reset();
  Entry& entry = jobs_.find(id)->second;
  if (entry.job.ended()) {
    return turn ? AfterTurn::kDrop : AfterTurn::kNothing;  // cancelled meanwhile
  }
  if (!turn) {
    const bool reference = turn.error().param() == "input_reference";
    Fail(entry, reference ? kBadReference : "generation_failed", turn.error().detail(), now);
    return AfterTurn::kNothing;
  }
  entry.job.steps_done = std::max(entry.job.steps_done, turn->steps_done);
  entry.job.progress = std::max(entry.job.progress, std::clamp(turn->progress, 0.0, 1.0));
  if (!turn->done) {
    return AfterTurn::kNothing;
  }
  std::vector<std::uint64_t> sizes;
  std::uint64_t sum = 0;
  for (const std::string& file : turn->files) {
    sizes.push_back(file.size());
    sum += file.size();
  }
  if (const std::uint64_t room = RoomOf(entry.job.tenant); sum > room) {
    const bool own = room < options_.bytes_max - std::min(options_.bytes_max, size_bytes_);
    Fail(entry, own ? kTenantStorageFull : kStorageFull,
         fmt::format("its {} bytes do not fit beside what is kept, there is room for {}; delete "
                     "some and ask again",
                     sum, room),
         now);
    return AfterTurn::kDrop;
  }
  entry.job.file_bytes = std::move(sizes);
  AddBytes(entry.job);
  entry.storing = true;
  return AfterTurn::kStore;
}

void MediaJobs::OnStored(const std::string& id, const Result<void>& stored, std::int64_t now) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end()) {
    return;  // cancelled and removed meanwhile
  }
  Entry& entry = found->second;
  entry.storing = false;
  if (entry.job.ended()) {
    return;
  }
  if (!stored) {
    entry.job.error_cause = stored.error().ToString();
    Fail(entry, kStorageFailed, "its file could not be kept", now);
    return;
  }
  entry.job.progress = 1;
  End(entry, MediaStatus::kCompleted, now);
}

void MediaJobs::AddBytes(const MediaJob& job) {
  size_bytes_ += job.size_bytes();
  tenants_[job.tenant].size_bytes += job.size_bytes();
  ForgetTenant(job.tenant);
}

void MediaJobs::TakeBytes(const MediaJob& job) {
  size_bytes_ -= job.size_bytes();
  tenants_[job.tenant].size_bytes -= job.size_bytes();
  ForgetTenant(job.tenant);
}

// Of one that has nothing any more nothing is known.
void MediaJobs::ForgetTenant(const std::string& name) {
  const auto found = tenants_.find(name);
  if (found != tenants_.end() && found->second.live == 0 && found->second.size_bytes == 0) {
    tenants_.erase(found);
  }
}

std::uint64_t MediaJobs::RoomOf(const std::string& tenant) const {
  const std::uint64_t all = options_.bytes_max - std::min(options_.bytes_max, size_bytes_);
  const auto found = tenants_.find(tenant);
  if (options_.tenant_bytes_max == 0) {
    return all;
  }
  const std::uint64_t used = found == tenants_.end() ? 0 : found->second.size_bytes;
  return std::min(all, options_.tenant_bytes_max - std::min(options_.tenant_bytes_max, used));
}

void MediaJobs::End(Entry& entry, MediaStatus status, std::int64_t now) {
  MediaJob& job = entry.job;
  PX_ASSERT(!job.ended());
  --(job.status == MediaStatus::kQueued ? queued_ : running_);
  job.status = status;
  job.completed_at = now;
  job.expires_at = now + job.lifetime_seconds;
  --tenants_.at(job.tenant).live;
  if (status != MediaStatus::kCompleted) {
    TakeBytes(job);
    job.file_bytes.clear();
  }
  ended_.push_back(job.id);
  ForgetTenant(job.tenant);
}

void MediaJobs::Fail(Entry& entry, std::string_view code, std::string_view message,
                     std::int64_t now) {
  entry.job.error_code = code;
  entry.job.error_message = message;
  End(entry, MediaStatus::kFailed, now);
}

MediaJobs::Cancelled MediaJobs::Cancel(const std::string& id, std::int64_t now) {
  Entry& entry = jobs_.find(id)->second;
  if (entry.job.ended()) {
    return Cancelled::kAlreadyEnded;
  }
  const bool waiting = entry.job.status == MediaStatus::kQueued || entry.storing;
  End(entry, MediaStatus::kCancelled, now);
  return turning_ == id ? Cancelled::kInterrupt : waiting ? Cancelled::kNow : Cancelled::kDrop;
}

void MediaJobs::FailAll(std::string_view code, std::string_view message, std::int64_t now) {
  for (auto& [id, entry] : jobs_) {
    if (!entry.job.ended()) {
      Fail(entry, code, message, now);
    }
  }
}

std::vector<std::string> MediaJobs::TakeEnded() { return std::exchange(ended_, {}); }

void MediaJobs::Remove(const std::string& id) {
  const auto found = jobs_.find(id);
  PX_ASSERT(found->second.job.ended() && turning_ != id);
  TakeBytes(found->second.job);
  jobs_.erase(found);
}

std::vector<std::string> MediaJobs::Expired(std::int64_t now) const {
  std::vector<std::string> out;
  for (const auto& [id, entry] : jobs_) {
    if (entry.job.ended() && entry.job.expires_at <= now && turning_ != id) {
      out.push_back(id);
    }
  }
  return out;
}

const MediaJob* MediaJobs::Get(std::string_view id) const {
  const auto found = jobs_.find(id);
  return found == jobs_.end() ? nullptr : &found->second.job;
}

const MediaJob* MediaJobs::Find(std::string_view tenant, std::string_view id) const {
  const MediaJob* job = Get(id);
  return job != nullptr && job->tenant == tenant ? job : nullptr;
}

std::vector<const MediaJob*> MediaJobs::List(std::string_view tenant, MediaKind kind) const {
  std::vector<const MediaJob*> out;
  for (const auto& [id, entry] : jobs_) {
    if (entry.job.tenant == tenant && entry.job.spec.kind == kind) {
      out.push_back(&entry.job);
    }
  }
  std::ranges::sort(out, {}, &MediaJob::order);
  return out;
}

}  // namespace pixii::frontend
