// Writes records of requests to a folder, one file each, on a thread of its own.
//
// Thread: Take from one thread; the destructor writes what waits and ends.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "apps/background_queue.h"
#include "base/result.h"
#include "frontend/receipt.h"
#include "obs/log.h"

namespace pixii::apps {

class RecordWriter final {
  struct CreateOnly {};

 public:
  static constexpr std::size_t kQueueLengthMax = 1024;  // records waiting for the disk

  /// Creates `folder`. At most `record_count_max` records are written. `log` outlives the writer.
  /// Errors: those of rt::CreateFolders.
  static Result<std::unique_ptr<RecordWriter>> Create(const std::string& folder,
                                                      std::uint64_t record_count_max,
                                                      obs::Log& log);

  RecordWriter(CreateOnly /*unused*/, std::string folder, std::uint64_t record_count_max,
               obs::Log& log);
  RecordWriter(const RecordWriter&) = delete;
  RecordWriter& operator=(const RecordWriter&) = delete;
  ~RecordWriter();

  /// Does not block; what finds no room is lost with an event.
  void Take(frontend::RequestRecord record);

 private:
  void Write(const frontend::RequestRecord& record);
  void SayLost(const std::string& id, std::string_view why);

  std::string folder_;
  std::uint64_t left_;  // records that may still be taken
  obs::Log& log_;
  BackgroundQueue<frontend::RequestRecord> queue_;  // last: its thread uses what stands above
};

}  // namespace pixii::apps
