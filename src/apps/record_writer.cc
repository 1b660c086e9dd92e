#include "apps/record_writer.h"

#include <fmt/format.h>

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
    : folder_(std::move(folder)),
      left_(record_count_max),
      log_(log),
      queue_({.name = "record", .length_max = kQueueLengthMax, .batch_max = 1},
             [this](const BackgroundBatch<frontend::RequestRecord>& batch) {
               for (const frontend::RequestRecord& record : batch.items) {
                 Write(record);
               }
               return true;
             }) {}

RecordWriter::~RecordWriter() = default;

void RecordWriter::Take(frontend::RequestRecord record) {
  const std::string id = record.id;
  if (left_ == 0) {
    SayLost(id, "--record-limit is reached");
  } else if (queue_.Push(std::move(record))) {
    --left_;
  } else {
    SayLost(id, fmt::format("{} records wait for the disk", kQueueLengthMax));
  }
}

void RecordWriter::Write(const frontend::RequestRecord& record) {
  const std::string path = fmt::format("{}/{}.json", folder_, record.id);
  if (Result<void> done =
          rt::WriteFileAtomic(path, frontend::RecordJson(record) + "\n", kRecordMode);
      !done) {
    SayLost(record.id, done.error().detail());
  }
}

void RecordWriter::SayLost(const std::string& id, std::string_view why) {
  obs::Event(log_, obs::EventId::kRecordLost).kv("id", id).kv("why", why);
}

}  // namespace pixii::apps
