// Appends lines of an access log to a file, on a thread of its own.
//
// Thread: Take and Reopen from one thread; the destructor writes what waits and ends.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "apps/option_structs.h"
#include "base/result.h"
#include "frontend/options.h"
#include "obs/log.h"
#include "rt/file.h"
#include "rt/loop.h"
#include "rt/thread.h"

namespace pixii::apps {

class AccessLogWriter final {
  struct CreateOnly {};

 public:
  static constexpr std::size_t kWaitingBytesMax = 4U << 20U;  // that wait for the disk

  /// What HttpServerOptions::on_answered is to be; empty if the flags name no file, and `writer` is
  /// then null. `loop` and `log` outlive the writer. Errors: the file cannot be opened.
  static Result<std::function<void(const frontend::Answered&)>> Open(
      const AccessFlags& flags, rt::Loop& loop, obs::Log& log,
      std::unique_ptr<AccessLogWriter>& writer);

  AccessLogWriter(CreateOnly /*unused*/, const AccessFlags& flags, rt::Loop& loop, obs::Log& log,
                  rt::FileWriter file);
  AccessLogWriter(const AccessLogWriter&) = delete;
  AccessLogWriter& operator=(const AccessLogWriter&) = delete;
  ~AccessLogWriter();

  /// Does not block; what finds no room is lost with an event.
  void Take(const frontend::Answered& answered);

  /// Before the next line the file is opened by its name again.
  void Reopen();

 private:
  void Serve();

  std::string path_;
  std::string trace_header_;
  rt::Loop& loop_;
  obs::Log& log_;
  rt::FileWriter file_;  // of the thread
  rt::Mutex mutex_;
  rt::CondVar wake_;
  std::string waiting_ PX_GUARDED_BY(mutex_);
  bool reopen_ PX_GUARDED_BY(mutex_) = false;
  bool stopping_ PX_GUARDED_BY(mutex_) = false;
  rt::Thread thread_;  // last: it uses what stands above
};

}  // namespace pixii::apps
