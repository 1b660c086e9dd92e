#include "apps/record_sinks.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <utility>
#include <vector>

#include "apps/otlp_sender.h"
#include "control/nats_plane.h"
#include "kv/tiers/s3_service.h"
#include "rt/file.h"
#include "rt/gzip.h"

namespace pixii::apps {

namespace {

std::string Joined(std::span<const RecordLine> lines) {
  std::string out;
  for (const RecordLine& line : lines) {
    out += line.json;
    out += '\n';
  }
  return out;
}

std::string Environment(const char* name) {
  const char* const value = std::getenv(name);
  return value != nullptr ? value : "";
}

Result<void> Rename(const std::string& from, const std::string& to) {
  return rt::RenameFile(from, to);
}

class StderrRecords final : public RecordSink {
 public:
  std::string_view name() const override { return "stderr"; }

  Result<RecordCounts> Write(std::span<const RecordLine> lines, bool /*stopping*/) override {
    const std::string text = Joined(lines);
    std::fwrite(text.data(), 1, text.size(), stderr);
    return RecordCounts{.written = lines.size()};
  }
};

Result<rt::FileWriter> OpenToAppend(const std::string& path) {
  PX_TRY(const std::optional<rt::FileInfo> there, rt::StatFile(path));
  return rt::FileWriter::Open(path, there ? there->size_bytes : 0);
}

/// One file, and the one before it.
class LineFile final : public RecordSink {
 public:
  LineFile(std::string path, std::uint64_t bytes_max, rt::FileWriter file)
      : path_(std::move(path)), bytes_max_(bytes_max), file_(std::move(file)) {}

  std::string_view name() const override { return "file"; }

  Result<RecordCounts> Write(std::span<const RecordLine> lines, bool /*stopping*/) override {
    if (lines.empty()) {
      return RecordCounts();
    }
    if (file_.size_bytes() >= bytes_max_) {
      PX_CHECK_OK(Rename(path_, path_ + ".1"));
      PX_TRY(file_, rt::FileWriter::Open(path_, 0));
    }
    PX_CHECK_OK(file_.Append(Joined(lines)));
    return RecordCounts{.written = lines.size()};
  }

 private:
  const std::string path_;
  const std::uint64_t bytes_max_;
  rt::FileWriter file_;
};

constexpr std::string_view kPartEnd = ".jsonl.gz";
constexpr std::size_t kFilesMax = 1'000'000;  // in the parts' folder

/// Compressed parts, the newest so many. Each batch is a whole member: a part can be read while it
/// is written, and after a crash.
class PartFiles final : public RecordSink {
 public:
  struct Options {
    std::string prefix;
    std::uint64_t bytes_max = 0;  // of JSON in a part
    std::uint64_t parts_max = 0;
  };

  /// Goes on behind the parts that are there. Errors: those of the folder and of the first part.
  static Result<std::unique_ptr<RecordSink>> Open(Options options) {
    auto out = std::make_unique<PartFiles>(std::move(options));
    PX_CHECK_OK(out->Find());
    PX_CHECK_OK(out->Begin());
    return std::unique_ptr<RecordSink>(std::move(out));
  }

  explicit PartFiles(Options options) : options_(std::move(options)) {}

  std::string_view name() const override { return "file"; }

  Result<RecordCounts> Write(std::span<const RecordLine> lines, bool /*stopping*/) override {
    if (lines.empty()) {
      return RecordCounts();
    }
    if (bytes_ >= options_.bytes_max) {
      PX_CHECK_OK(Begin());
    }
    const std::string text = Joined(lines);
    PX_CHECK_OK(file_->Append(rt::Gzip(text)));
    bytes_ += text.size();
    return RecordCounts{.written = lines.size()};
  }

 private:
  std::string PathOf(std::uint64_t number) const {
    return fmt::format("{}.{:06}{}", options_.prefix, number, kPartEnd);
  }

  Result<void> Find() {
    const std::size_t slash = options_.prefix.rfind('/');
    const std::string folder = slash == std::string::npos ? "." : options_.prefix.substr(0, slash);
    const std::string begin = options_.prefix.substr(slash + 1) + ".";
    PX_TRY(const std::vector<rt::FolderEntry> entries,
           rt::ListFolder(folder.empty() ? "/" : folder, kFilesMax));
    for (const rt::FolderEntry& entry : entries) {
      std::string_view rest = entry.name;
      if (!rest.starts_with(begin) || !rest.ends_with(kPartEnd)) {
        continue;
      }
      rest = rest.substr(begin.size(), rest.size() - begin.size() - kPartEnd.size());
      std::uint64_t number = 0;
      const auto [end, failed] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
      if (failed == std::errc() && end == rest.data() + rest.size()) {
        parts_.push_back(number);
      }
    }
    std::ranges::sort(parts_);
    return {};
  }

  Result<void> Begin() {
    const std::uint64_t number = parts_.empty() ? 0 : parts_.back() + 1;
    PX_TRY(file_, rt::FileWriter::Open(PathOf(number), 0));
    parts_.push_back(number);
    bytes_ = 0;
    while (parts_.size() > options_.parts_max) {
      PX_CHECK_OK(rt::RemoveFile(PathOf(parts_.front())));
      parts_.erase(parts_.begin());
    }
    return {};
  }

  const Options options_;
  std::vector<std::uint64_t> parts_;  // numbers, the newest last
  std::optional<rt::FileWriter> file_;
  std::uint64_t bytes_ = 0;  // of JSON in the newest
};

class OtelRecords final : public RecordSink {
 public:
  OtelRecords(OtelTarget target, std::function<bool(rt::Duration)> sleep)
      : sender_(std::move(target)), sleep_(std::move(sleep)) {}

  std::string_view name() const override { return "otel"; }

  Result<RecordCounts> Write(std::span<const RecordLine> lines, bool /*stopping*/) override {
    if (lines.empty()) {
      return RecordCounts();
    }
    std::vector<obs::OtlpLogRecord> records;
    for (const RecordLine& line : lines) {
      records.push_back({.unix_ns = line.unix_ns,
                         .body = line.json,
                         .trace_id = line.trace_id,
                         .event_name = "request_trace"});
    }
    const OtelTarget& target = sender_.target();
    if (!sender_.Send(target.logs_url, obs::EncodeLogs(target.resource, records), sleep_)) {
      return Fail(Code::kUnavailable, "the collector did not take them");
    }
    return RecordCounts{.written = lines.size()};
  }

 private:
  OtlpSender sender_;
  std::function<bool(rt::Duration)> sleep_;
};

class NatsRecords final : public RecordSink {
 public:
  NatsRecords(control::NatsLibrary library, std::string subject)
      : library_(std::move(library)), subject_(std::move(subject)) {}

  ~NatsRecords() override {
    if (session_ != nullptr) {
      library_.functions->close(session_);
    }
  }

  Result<void> Connect(const std::string& url) {
    constexpr std::int64_t kAgeMax = 24LL * 3600 * 1'000'000'000;
    constexpr std::int64_t kStreamBytesMax = 1 << 30;
    constexpr std::uint64_t kQueueBytesMax = 16U << 20;
    constexpr std::uint32_t kQueueMessagesMax = 8192;
    const std::string user = Environment("NATS_AUTH_USERNAME");
    const std::string password = Environment("NATS_AUTH_PASSWORD");
    const std::string token = Environment("NATS_AUTH_TOKEN");
    const std::string credentials = Environment("NATS_AUTH_CREDENTIALS_FILE");
    const control::nats_abi::Options options{.url = url.c_str(),
                                             .user = user.c_str(),
                                             .password = password.c_str(),
                                             .token = token.c_str(),
                                             .credentials_file = credentials.c_str(),
                                             .stream = "pixii-request-trace",
                                             .subject = subject_.c_str(),
                                             .filter = nullptr,
                                             .stream_age_ns_max = kAgeMax,
                                             .stream_bytes_max = kStreamBytesMax,
                                             .queue_bytes_max = kQueueBytesMax,
                                             .queue_messages_max = kQueueMessagesMax};
    if (const char* wrong = library_.functions->open(&options, [](void*) {}, nullptr, &session_)) {
      return Fail(Code::kInvalidArgument, fmt::format("request-trace-sinks: nats: {}", wrong),
                  "request-trace-sinks");
    }
    return {};
  }

  std::string_view name() const override { return "nats"; }

  Result<RecordCounts> Write(std::span<const RecordLine> lines, bool stopping) override {
    for (const RecordLine& line : lines) {
      library_.functions->publish(session_, {subject_.data(), subject_.size()},
                                  {line.json.data(), line.json.size()});
    }
    sent_ += lines.size();
    control::nats_abi::Status status;
    library_.functions->status(session_, &status);
    const RecordCounts counts{.written = status.published - told_.written,
                              .lost = status.lost - told_.lost};
    told_ = {.written = status.published, .lost = status.lost};
    if (stopping && status.published + status.lost < sent_) {
      return Fail(Code::kUnavailable,
                  fmt::format("{} were on their way to the server when the process ended",
                              sent_ - status.published - status.lost));
    }
    return counts;
  }

 private:
  control::NatsLibrary library_;
  const std::string subject_;
  control::nats_abi::Session* session_ = nullptr;
  std::uint64_t sent_ = 0;
  RecordCounts told_;
};

/// Objects of so many bytes or so much time, each written once.
class S3Records final : public RecordSink {
 public:
  struct Options {
    std::string prefix;
    std::uint64_t bytes_max = 0;  // of JSON in an object
    std::int64_t age_ns_max = 0;  // of the first record of an object that is not full
    bool compressed = true;
    std::function<std::int64_t()> unix_ns;
    std::function<bool(rt::Duration)> sleep;
  };

  S3Records(std::unique_ptr<kv::ObjectService> service, Options options)
      : service_(std::move(service)), options_(std::move(options)), origin_(options_.unix_ns()) {}

  std::string_view name() const override { return "s3"; }

  Result<RecordCounts> Write(std::span<const RecordLine> lines, bool stopping) override {
    const std::int64_t now = options_.unix_ns();
    if (text_.empty()) {
      begun_ns_ = now;
    }
    text_ += Joined(lines);
    count_ += lines.size();
    const bool due = text_.size() >= options_.bytes_max || now - begun_ns_ >= options_.age_ns_max;
    if (text_.empty() || !(due || stopping)) {
      return RecordCounts();
    }
    const std::string name = fmt::format("{}{}-{:06}.jsonl{}", options_.prefix, origin_, number_++,
                                         options_.compressed ? ".gz" : "");
    const std::string bytes = options_.compressed ? rt::Gzip(text_) : std::move(text_);
    text_.clear();
    const std::uint64_t count = std::exchange(count_, 0);
    rt::Duration pause = OtlpSender::kRetryPause;
    Result<void> done = service_->Put(name, bytes);
    for (std::uint32_t tries = 1; !done && tries < OtlpSender::kTries; ++tries) {
      if (options_.sleep(pause)) {
        break;
      }
      pause *= 2;
      done = service_->Put(name, bytes);
    }
    return RecordCounts{.written = done ? count : 0, .lost = done ? 0 : count};
  }

 private:
  std::unique_ptr<kv::ObjectService> service_;
  const Options options_;
  const std::int64_t origin_;  // no other process has it
  std::string text_;
  std::uint64_t count_ = 0;  // of lines in it
  std::int64_t begun_ns_ = 0;
  std::uint64_t number_ = 0;
};

constexpr std::uint32_t kObjectTimeoutMs = 10'000;

Result<std::unique_ptr<RecordSink>> MakeS3(const SinkPlace& place) {
  const HttpFlags& flags = place.flags;
  const auto bad = [&](std::string_view why) {
    return Fail(Code::kInvalidArgument,
                fmt::format("request-trace-s3: \"{}\" {}", flags.request_trace_s3, why),
                "request-trace-s3");
  };
  const std::string& url = flags.request_trace_s3;
  const std::size_t scheme = url.find("://");
  const std::size_t bucket = scheme == url.npos ? url.npos : url.find('/', scheme + 3);
  if (bucket == url.npos || bucket + 1 == url.size()) {
    return bad("is not http://HOST:PORT/BUCKET/PREFIX");
  }
  const std::size_t slash = std::min(url.find('/', bucket + 1), url.size());
  const std::string prefix(url.substr(std::min(slash + 1, url.size())));
  const std::string region = Environment("AWS_REGION");
  const auto unix_ns = [now = place.wall_now] {
    const rt::WallTime at = now();
    return at.unix_seconds * 1'000'000'000 + at.nanoseconds;
  };
  auto service =
      kv::S3Service::Create({.endpoint = url.substr(0, bucket),
                             .bucket = url.substr(bucket + 1, slash - bucket - 1),
                             .credentials = {.access_key = Environment("AWS_ACCESS_KEY_ID"),
                                             .secret_key = Environment("AWS_SECRET_ACCESS_KEY"),
                                             .region = region.empty() ? "us-east-1" : region}},
                            rt::MakeCurlClient({.connect_timeout_ms = kObjectTimeoutMs,
                                                .stall_timeout_s = 5,
                                                .timeout_ms = kObjectTimeoutMs}),
                            [unix_ns] { return unix_ns() / 1'000'000'000; });
  if (!service) {
    return bad(service.error().detail());
  }
  return std::unique_ptr<RecordSink>(std::make_unique<S3Records>(
      std::move(*service),
      S3Records::Options{.prefix = prefix.empty() || prefix.ends_with('/') ? prefix : prefix + "/",
                         .bytes_max = static_cast<std::uint64_t>(flags.request_trace_s3_roll),
                         .age_ns_max = flags.request_trace_s3_time,
                         .compressed = flags.request_trace_format == "jsonl_gz",
                         .unix_ns = unix_ns,
                         .sleep = place.sleep}));
}

Result<std::unique_ptr<RecordSink>> MakeFile(const SinkPlace& place) {
  const HttpFlags& flags = place.flags;
  const auto roll = static_cast<std::uint64_t>(flags.request_trace_roll);
  const auto named = [](const Error& error) {
    return Fail(error.code(), "request-trace-file: " + error.detail(), "request-trace-file");
  };
  if (flags.request_trace_format == "jsonl_gz") {
    auto out =
        PartFiles::Open({.prefix = flags.request_trace_file,
                         .bytes_max = roll,
                         .parts_max = static_cast<std::uint64_t>(flags.request_trace_parts)});
    return out ? std::move(out) : named(out.error());
  }
  Result<rt::FileWriter> file = OpenToAppend(flags.request_trace_file);
  if (!file) {
    return named(file.error());
  }
  return std::unique_ptr<RecordSink>(
      std::make_unique<LineFile>(flags.request_trace_file, roll, std::move(*file)));
}

Result<std::unique_ptr<RecordSink>> MakeNats(const SinkPlace& place) {
  Result<control::NatsLibrary> library = control::LoadNatsLibrary({});
  if (!library) {
    return Fail(library.error().code(), "request-trace-sinks: nats: " + library.error().detail(),
                "request-trace-sinks");
  }
  const std::string server = Environment("NATS_SERVER");
  auto out =
      std::make_unique<NatsRecords>(std::move(*library), place.flags.request_trace_nats_subject);
  PX_CHECK_OK(out->Connect(server.empty() ? "nats://127.0.0.1:4222" : server));
  return std::unique_ptr<RecordSink>(std::move(out));
}

}  // namespace

Result<std::unique_ptr<RecordSink>> MakeRecordSink(std::string_view name, const SinkPlace& place) {
  if (name == "file") {
    return MakeFile(place);
  }
  if (name == "stderr") {
    return std::unique_ptr<RecordSink>(std::make_unique<StderrRecords>());
  }
  if (name == "otel") {
    PX_TRY(OtelTarget target, OtelTargetOf(place.process));
    return std::unique_ptr<RecordSink>(
        std::make_unique<OtelRecords>(std::move(target), place.sleep));
  }
  if (name == "nats") {
    return MakeNats(place);
  }
  if (name == "s3") {
    return MakeS3(place);
  }
  return Fail(Code::kInvalidArgument,
              fmt::format("request-trace-sinks: \"{}\" is none of file, stderr, otel, nats, s3",
                          name.substr(0, 60)),
              "request-trace-sinks");
}

}  // namespace pixii::apps
