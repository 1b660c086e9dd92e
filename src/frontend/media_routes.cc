// /v1/videos and /v1/images: OpenAI's jobs, and Dynamo's answers that have the file.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "frontend/error_body.h"
#include "frontend/field_error.h"
#include "frontend/frontend.h"
#include "frontend/list_query.h"
#include "frontend/media_service.h"
#include "wire/base64.h"
#include "wire/multipart.h"

namespace pixii::frontend {

using wire::Json;

namespace {

constexpr std::string_view kForm = "multipart/form-data";

Error NoMedia(std::string_view what, std::string_view id) {
  return Error(Code::kNotFound,
               fmt::format("there is no {} {}", what, Json(id.substr(0, 100)).Dump()),
               fmt::format("{}_id", what));
}

std::string_view NameOf(MediaKind kind) { return kind == MediaKind::kVideo ? "video" : "image"; }

std::optional<std::uint64_t> ReadNumber(std::string_view text) {
  std::uint64_t out = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), out);
  return problem == std::errc() && end == text.data() + text.size() && !text.empty()
             ? std::optional(out)
             : std::nullopt;
}

/// Of a file of `size` bytes; begin == size: the range is outside of it.
struct ByteRange {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;  // behind the last
};

// Source: RFC 9110 section 14. Nothing: there is no range, or one of a form that is to be ignored,
// as several ranges are.
std::optional<ByteRange> ReadRange(std::optional<std::string_view> field, std::uint64_t size) {
  constexpr std::string_view kUnit = "bytes=";
  if (!field || !field->starts_with(kUnit)) {
    return std::nullopt;
  }
  const std::string_view text = field->substr(kUnit.size());
  const std::size_t dash = text.find('-');
  if (dash == std::string_view::npos) {
    return std::nullopt;
  }
  const std::optional<std::uint64_t> first = ReadNumber(text.substr(0, dash));
  const std::optional<std::uint64_t> last = ReadNumber(text.substr(dash + 1));
  if (dash == 0) {
    return last ? std::optional(ByteRange{.begin = size - std::min(*last, size), .end = size})
                : std::nullopt;
  }
  if (!first || (!last && dash + 1 < text.size()) || (last && *last < *first)) {
    return std::nullopt;
  }
  return ByteRange{.begin = std::min(*first, size),
                   .end = last ? std::min(*last, size - 1) + 1 : size};
}

// The value of `name` in a query without escapes; empty: it is not there.
std::string_view QueryValue(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const std::size_t end = std::min(query.find('&'), query.size());
    const std::string_view member = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    if (member.starts_with(name) && member.substr(name.size()).starts_with('=')) {
      return member.substr(name.size() + 1);
    }
  }
  return {};
}

Response FileResponse(const std::string& bytes, MediaFormat format,
                      std::optional<std::string_view> range_field) {
  Response out{
      .content_type = MediaFormatType(format), .body = {}, .fields = {{"Accept-Ranges", "bytes"}}};
  const std::optional<ByteRange> range = ReadRange(range_field, bytes.size());
  if (!range) {
    out.body = bytes;
  } else if (range->begin >= range->end) {
    out.status = 416;
    out.fields.push_back({"Content-Range", fmt::format("bytes */{}", bytes.size())});
  } else {
    out.status = 206;
    out.body = bytes.substr(range->begin, range->end - range->begin);
    out.fields.push_back({"Content-Range", fmt::format("bytes {}-{}/{}", range->begin,
                                                       range->end - 1, bytes.size())});
  }
  return out;
}

}  // namespace

// A client that hangs up wants nothing any more: its job ends within the step.
struct Frontend::MediaWaiting final : ExchangeWatcher {
  void OnClientGone() override {
    exchange = nullptr;
    (void)media->Erase(std::string(tenant), std::string(id));  // whose end may destroy this
  }

  void OnRoom() override {}

  MediaService* media = nullptr;
  Exchange* exchange = nullptr;
  std::vector<wire::HttpField> fields;
  const Route* route = nullptr;
  std::string tenant;
  std::string id;
  bool base64 = false;
  bool bare = false;  // the file is the answer
  rt::Time began{};
  Json::Array files;  // of its answer
};

Result<void> Frontend::ServeMedia(MediaServiceOptions options, std::unique_ptr<MediaMaker> maker) {
  options.on_ended = [this, on_ended = std::move(options.on_ended)](const MediaJob& job,
                                                                    double seconds) {
    idle_.WakeAll();
    if (on_ended) {
      on_ended(job, seconds);
    }
  };
  PX_TRY(media_,
         MediaService::Open(environment_.loop, registry_, std::move(options), std::move(maker)));
  return {};
}

Error Frontend::MediaOnly() const {
  return Error(Code::kUnsupported,
               fmt::format("model: {} makes videos and pictures: POST /v1/videos, POST "
                           "/v1/images/generations",
                           media_->model().name),
               "model");
}

Result<void> Frontend::CheckMedia(const Call& call) const {
  if (!media_) {
    return Fail(Code::kUnavailable, "the model is not loaded yet");
  }
  if (!call.key->MayUse(media_->model().name)) {
    return Fail(ModelNotFound(media_->model().name));
  }
  return {};
}

Result<Json> Frontend::ReadMediaBody(const Call& call) const {
  const wire::HttpRequest& request = call.exchange.request();
  const std::string_view type = request.Field("content-type").value_or("");
  if (!wire::EqualsIgnoreCase(type.substr(0, kForm.size()), kForm)) {
    return ParseBody(request);
  }
  if (keys_->open()) {
    PX_CHECK_OK(CheckOrigin(request));
  }
  PX_TRY(const std::vector<wire::FormPart> parts, wire::ParseMultipart(type, request.body));
  return BodyOfForm(parts);
}

void Frontend::CreateMedia(Call& call, MediaKind kind, MediaAnswer answer) {
  const auto read = [&]() -> Result<MediaRequest> {
    PX_CHECK_OK(CheckMedia(call));
    PX_CHECK_OK(Admit(call));
    PX_TRY(const Json body, ReadMediaBody(call));
    const std::uint64_t seed = environment_.loop.random().Next() >> 32;
    return media_->Read(body, kind, seed);
  };
  Result<MediaRequest> request = read();
  if (!request) {
    Refuse(call, request.error());
    return;
  }
  const std::string id = NewId(MediaIdPrefix(kind));
  const std::string& tenant = call.key->tenant;
  if (answer == MediaAnswer::kAsAsked && !request->synchronous) {
    std::shared_ptr<Waiting> waiting = Wait(call);
    media_->Create(id, tenant, std::move(request->spec),
                   [this, waiting, id, tenant](const Result<void>& added) {
                     const MediaJob* job = added ? media_->Find(tenant, id) : nullptr;
                     AnswerLater(*waiting, job != nullptr ? Result<std::string>(job->Body())
                                           : added ? Result<std::string>(Fail(NoMedia("video", id)))
                                                   : Result<std::string>(Fail(added.error())));
                   });
    return;
  }
  auto waiting = std::make_shared<MediaWaiting>();
  waiting->media = media_.get();
  waiting->exchange = &call.exchange;
  waiting->fields = std::move(call.fields);
  waiting->route = call.route;
  waiting->tenant = tenant;
  waiting->id = id;
  waiting->base64 = request->base64;
  waiting->bare = answer == MediaAnswer::kFile && !request->placed;
  waiting->began = Now();
  call.exchange.Watch(waiting.get());
  media_->Create(
      id, tenant, std::move(request->spec),
      [this, waiting](const Result<void>& added) {
        if (!added && waiting->exchange != nullptr) {
          Exchange& exchange = *std::exchange(waiting->exchange, nullptr);
          exchange.Watch(nullptr);
          Call refused{exchange, std::move(waiting->fields)};
          refused.route = waiting->route;
          Refuse(refused, added.error());
        }
      },
      [this, waiting](const MediaJob& job) { OnMediaEnded(waiting, job); });
}

void Frontend::OnMediaEnded(const std::shared_ptr<MediaWaiting>& waiting, const MediaJob& job) {
  if (waiting->exchange == nullptr) {
    return;
  }
  if (job.status == MediaStatus::kCompleted) {
    AddMediaFile(waiting, job);
    return;
  }
  Exchange& exchange = *std::exchange(waiting->exchange, nullptr);
  exchange.Watch(nullptr);
  Call call{exchange, std::move(waiting->fields)};
  call.route = waiting->route;
  const bool reference = job.error_code == kBadReference;
  const Code code = draining_                               ? Code::kShuttingDown
                    : job.status == MediaStatus::kCancelled ? Code::kCancelled
                    : reference                             ? Code::kInvalidArgument
                    : job.error_code == kStorageFull        ? Code::kResourceExhausted
                    : job.error_code == kTenantStorageFull  ? Code::kQuotaExceeded
                    : job.error_code == kStorageFailed      ? Code::kUnavailable
                                                            : Code::kModelFault;
  Refuse(call,
         Error(code,
               job.status == MediaStatus::kCancelled ? "the job was cancelled" : job.error_message,
               reference ? "input_reference" : ""));
  if (job.status == MediaStatus::kFailed && !draining_) {
    (void)media_->Erase(waiting->tenant, waiting->id);  // its id was never said
  }
}

// One file after the other, then the answer.
void Frontend::AddMediaFile(const std::shared_ptr<MediaWaiting>& waiting, const MediaJob& job) {
  const std::size_t index = waiting->files.size();
  const bool video = job.spec.kind == MediaKind::kVideo;
  const auto add = [waiting, job, video](std::string_view name, std::string value) {
    Json file{Json::Object{}};
    if (video) {
      file.Set("output_format", MediaFormatName(job.spec.format));
      file.Set("fps", job.spec.frames_per_second);
    }
    file.Set(name, std::move(value));
    waiting->files.push_back(std::move(file));
  };
  if (index < job.file_bytes.size()) {
    if (!waiting->base64 && !waiting->bare) {
      add("url", media_->UrlOf(job, index));
      AddMediaFile(waiting, job);
      return;
    }
    media_->ReadFile(job, index, [this, waiting, job, add](const Result<BlobStore::Bytes>& bytes) {
      if (waiting->exchange == nullptr) {
        return;
      }
      if (!bytes) {
        MediaJob failed = job;
        failed.status = MediaStatus::kFailed;
        failed.error_message = "its file could not be read";
        OnMediaEnded(waiting, failed);
        return;
      }
      if (waiting->bare) {
        SendBareMedia(waiting, job, **bytes);
        return;
      }
      add("b64_json", wire::EncodeBase64(**bytes));
      AddMediaFile(waiting, job);
    });
    return;
  }
  Json out{Json::Object{}};
  if (video) {
    out.Set("id", job.id);
    out.Set("object", "video");
    out.Set("model", job.model);
    out.Set("status", MediaStatusName(job.status));
    out.Set("progress", 100);
  }
  out.Set("created", job.created_at);
  out.Set("data", std::move(waiting->files));
  if (video) {
    out.Set("error", Json());
    out.Set("inference_time_s", std::chrono::duration<double>(Now() - waiting->began).count());
  } else {
    out.Set("output_format", MediaFormatName(job.spec.format));
    out.Set("size", fmt::format("{}x{}", job.spec.width, job.spec.height));
  }
  Exchange& exchange = *std::exchange(waiting->exchange, nullptr);
  exchange.Watch(nullptr);
  exchange.Respond({.body = out.Dump(), .fields = std::move(waiting->fields)});
  if (waiting->base64) {
    (void)media_->Erase(waiting->tenant, waiting->id);  // nobody knows where it is
  }
}

// Who wants it again finds it by the id in the header.
void Frontend::SendBareMedia(const std::shared_ptr<MediaWaiting>& waiting, const MediaJob& job,
                             const std::string& bytes) {
  Exchange& exchange = *std::exchange(waiting->exchange, nullptr);
  exchange.Watch(nullptr);
  Response out{.content_type = MediaFormatType(job.spec.format),
               .body = bytes,
               .fields = std::move(waiting->fields)};
  out.fields.push_back({"X-Video-Id", job.id});
  exchange.Respond(std::move(out));
}

void Frontend::HandleCreateVideo(Call& call) {
  CreateMedia(call, MediaKind::kVideo, MediaAnswer::kAsAsked);
}

void Frontend::HandleVideoSync(Call& call) {
  CreateMedia(call, MediaKind::kVideo, MediaAnswer::kFile);
}

void Frontend::HandleVideoGenerations(Call& call) {
  CreateMedia(call, MediaKind::kVideo, MediaAnswer::kJson);
}

void Frontend::HandleImages(Call& call) {
  CreateMedia(call, MediaKind::kImage, MediaAnswer::kJson);
}

void Frontend::HandleVideos(Call& call) {
  constexpr ListLimits kLimits{.limit_default = 20, .limit_max = 100};
  auto list = [&]() -> Result<std::string> {
    PX_CHECK_OK(CheckMedia(call));
    PX_TRY(const ListQuery query, ReadListQuery(call.exchange.request().query, kLimits));
    std::vector<ListItem> items;
    for (const MediaJob* job : media_->List(call.key->tenant, MediaKind::kVideo)) {
      items.push_back({.id = job->id, .body = job->Body()});
    }
    return ListPage(items, query);
  };
  Answer(call, list());
}

void Frontend::HandleVideo(Call& call) {
  const auto find = [&]() -> Result<std::string> {
    PX_TRY(const MediaJob* job, FindMedia(call, MediaKind::kVideo));
    return job->Body();
  };
  Answer(call, find());
}

Result<const MediaJob*> Frontend::FindMedia(const Call& call, MediaKind kind) const {
  PX_CHECK_OK(CheckMedia(call));
  const std::string_view id = ParameterOf(*call.route, call.exchange.request());
  const MediaJob* job = media_->Find(call.key->tenant, id);
  if (job == nullptr || job->spec.kind != kind) {
    return Fail(NoMedia(NameOf(kind), id));
  }
  return job;
}

void Frontend::HandleDeleteVideo(Call& call) { DeleteMedia(call, MediaKind::kVideo); }

void Frontend::HandleDeleteImage(Call& call) { DeleteMedia(call, MediaKind::kImage); }

void Frontend::DeleteMedia(Call& call, MediaKind kind) {
  const std::string_view id = ParameterOf(*call.route, call.exchange.request());
  if (const auto job = FindMedia(call, kind); !job) {
    Refuse(call, job.error());
    return;
  }
  (void)media_->Erase(call.key->tenant, id);
  AnswerDeleted(call, fmt::format("{}.deleted", NameOf(kind)), id);
}

void Frontend::SendMediaFile(Call& call, MediaKind kind, std::size_t index) {
  const auto found = FindMedia(call, kind);
  if (!found) {
    Refuse(call, found.error());
    return;
  }
  const MediaJob* job = *found;
  const std::string_view what = NameOf(kind);
  if (index >= job->file_bytes.size() || job->status != MediaStatus::kCompleted) {
    const bool completed = job->status == MediaStatus::kCompleted;
    Refuse(call, completed
                     ? Error(Code::kNotFound,
                             fmt::format("index: {} is not below {}, as many files there are",
                                         index, job->file_bytes.size()),
                             "index")
                     : Error(Code::kNotFound,
                             fmt::format("the {} is {}; ask for its file once it is completed",
                                         what, MediaStatusName(job->status)),
                             fmt::format("{}_id", what)));
    return;
  }
  std::shared_ptr<Waiting> waiting = Wait(call);
  media_->ReadFile(
      *job, index,
      [this, waiting, format = job->spec.format](const Result<BlobStore::Bytes>& bytes) {
        AnswerFile(*waiting, bytes,
                   [format](const std::string& content, const wire::HttpRequest& request) {
                     return FileResponse(content, format, request.Field("range"));
                   });
      });
}

void Frontend::HandleVideoContent(Call& call) {
  const std::string_view variant = QueryValue(call.exchange.request().query, "variant");
  if (!variant.empty() && variant != "video") {
    const bool known = variant == "thumbnail" || variant == "spritesheet";
    Refuse(call, Error(known ? Code::kUnsupported : Code::kInvalidArgument,
                       fmt::format("variant: {} is not made here, only video",
                                   Json(variant.substr(0, 100)).Dump()),
                       "variant"));
    return;
  }
  SendMediaFile(call, MediaKind::kVideo, 0);
}

void Frontend::HandleImageContent(Call& call) {
  const std::string_view index = QueryValue(call.exchange.request().query, "index");
  const std::optional<std::uint64_t> read = index.empty() ? 0 : ReadNumber(index);
  if (!read) {
    Refuse(call, Error(Code::kInvalidArgument, "index: must be a whole number", "index"));
    return;
  }
  SendMediaFile(call, MediaKind::kImage, *read);
}

// What others have and the models here cannot do.
void Frontend::HandleVideoAbsent(Call& call) {
  const std::string_view path = call.exchange.request().path;
  const std::string_view name = path.substr(path.rfind('/') + 1);
  const std::string_view why = name == "stream" ? "a video is made whole; GET /v1/videos/{id} says "
                                                  "how far it is"
                                                : "a video is made anew, not from another one";
  Refuse(call, Error(Code::kUnsupported, fmt::format("{}: {}", name, why), std::string(name)));
}

void Frontend::HandleImageAbsent(Call& call) {
  const std::string_view path = call.exchange.request().path;
  const std::string_view name = path.substr(path.rfind('/') + 1);
  Refuse(call, Error(Code::kUnsupported,
                     fmt::format("{}: a picture is made anew, not from another one", name),
                     std::string(name)));
}

}  // namespace pixii::frontend
