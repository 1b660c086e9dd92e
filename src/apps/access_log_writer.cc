#include "apps/access_log_writer.h"

#include <utility>

#include "frontend/access_log.h"

namespace pixii::apps {

namespace {

Result<rt::FileWriter> OpenToAppend(const std::string& path) {
  PX_TRY(const std::optional<rt::FileInfo> there, rt::StatFile(path));
  return rt::FileWriter::Open(path, there ? there->size_bytes : 0);
}

}  // namespace

Result<std::function<void(const frontend::Answered&)>> AccessLogWriter::Open(
    const AccessFlags& flags, rt::Loop& loop, obs::Log& log,
    std::unique_ptr<AccessLogWriter>& writer) {
  if (flags.access_log.empty()) {
    return std::function<void(const frontend::Answered&)>();
  }
  Result<rt::FileWriter> file = OpenToAppend(flags.access_log);
  if (!file) {
    return Fail(file.error().code(), "access-log: " + file.error().detail(), "access-log");
  }
  writer = std::make_unique<AccessLogWriter>(CreateOnly{}, flags, loop, log, std::move(*file));
  return std::function<void(const frontend::Answered&)>(
      [raw = writer.get()](const frontend::Answered& answered) { raw->Take(answered); });
}

AccessLogWriter::AccessLogWriter(CreateOnly /*unused*/, const AccessFlags& flags, rt::Loop& loop,
                                 obs::Log& log, rt::FileWriter file)
    : path_(flags.access_log),
      trace_header_(flags.trace_id_header),
      loop_(loop),
      log_(log),
      file_(std::move(file)) {
  thread_ = rt::Thread("access", [this] { Serve(); });
}

AccessLogWriter::~AccessLogWriter() {
  {
    rt::MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake_.NotifyAll();
}

void AccessLogWriter::Take(const frontend::Answered& answered) {
  bool lost = false;
  {
    rt::MutexLock lock(mutex_);
    lost = waiting_.size() >= kWaitingBytesMax;
    if (!lost) {
      frontend::AppendAccessLine(waiting_, answered, trace_header_, loop_.WallNow());
    }
  }
  if (lost) {
    obs::Event(log_, obs::EventId::kAccessLogLost).kv("why", "the disk is too slow");
  }
  wake_.NotifyOne();
}

void AccessLogWriter::Reopen() {
  {
    rt::MutexLock lock(mutex_);
    reopen_ = true;
  }
  wake_.NotifyOne();
}

void AccessLogWriter::Serve() {
  while (true) {
    std::string lines;
    bool reopen = false;
    {
      rt::MutexLock lock(mutex_);
      while (waiting_.empty() && !reopen_ && !stopping_) {
        wake_.Wait(mutex_);
      }
      if (waiting_.empty() && !reopen_) {
        return;
      }
      lines.swap(waiting_);
      reopen = std::exchange(reopen_, false);
    }
    Result<void> done;
    if (reopen) {
      Result<rt::FileWriter> fresh = OpenToAppend(path_);
      if (fresh) {
        file_ = std::move(*fresh);
      } else {
        done = Fail(fresh.error());  // the old one is better than none
      }
    }
    if (Result<void> written = file_.Append(lines); !written) {
      done = std::move(written);
    }
    if (!done) {
      obs::Event(log_, obs::EventId::kAccessLogLost).kv("why", done.error().detail());
    }
  }
}

}  // namespace pixii::apps
