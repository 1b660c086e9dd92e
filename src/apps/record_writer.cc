#include "apps/record_writer.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "rt/file.h"

namespace pixii::apps {

namespace {

constexpr std::uint32_t kRecordMode = 0600;  // prompts are nobody else's business

}  // namespace

Result<std::unique_ptr<RecordWriter>> RecordWriter::Create(const std::string& folder,
                                                           std::uint64_t record_count_max,
                                                           obs::Log& log) {
  PX_CHECK_OK(rt::CreateFolders(folder));
  return std::make_unique<RecordWriter>(CreateOnly{}, folder, record_count_max, log);
}

RecordWriter::RecordWriter(CreateOnly /*unused*/, std::string folder,
                           std::uint64_t record_count_max, obs::Log& log)
    : folder_(std::move(folder)), left_(record_count_max), log_(log) {
  thread_ = rt::Thread("record", [this] { Serve(); });
}

RecordWriter::~RecordWriter() {
  {
    rt::MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake_.NotifyAll();
}

void RecordWriter::Take(frontend::RequestRecord record) {
  std::string lost;
  if (left_ == 0) {
    lost = "--record-limit is reached";
  } else {
    rt::MutexLock lock(mutex_);
    if (queue_.size() < kQueueLengthMax) {
      --left_;
      queue_.push_back(std::move(record));
    } else {
      lost = fmt::format("{} records wait for the disk", kQueueLengthMax);
    }
  }
  if (!lost.empty()) {
    obs::Event(log_, obs::EventId::kRecordLost).kv("id", record.id).kv("why", lost);
  }
  wake_.NotifyOne();
}

void RecordWriter::Serve() {
  while (true) {
    std::optional<frontend::RequestRecord> record;
    {
      rt::MutexLock lock(mutex_);
      while (queue_.empty() && !stopping_) {
        wake_.Wait(mutex_);
      }
      if (queue_.empty()) {
        return;
      }
      record.emplace(std::move(queue_.front()));
      queue_.pop_front();
    }
    Write(*record);
  }
}

void RecordWriter::Write(const frontend::RequestRecord& record) {
  const std::string path = fmt::format("{}/{}.json", folder_, record.id);
  if (Result<void> done =
          rt::WriteFileAtomic(path, frontend::RecordJson(record) + "\n", kRecordMode);
      !done) {
    obs::Event(log_, obs::EventId::kRecordLost)
        .kv("id", record.id)
        .kv("why", done.error().detail());
  }
}

}  // namespace pixii::apps
