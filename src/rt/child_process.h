// Another program, run as a child of this one and ended with it.
//
// Thread: one.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "rt/time.h"

namespace pixii::rt {

struct ChildOptions {
  std::vector<std::string> arguments;  // [0]: path of the program, or a name to be found in PATH
  std::string output = {};  // file that gets what it writes to stdout and stderr; empty: nobody
  /// Above 0: what others before it wrote to `output` stays, until that has so many bytes; then
  /// the next one begins anew, and the old file is OUTPUT.1.
  std::uint64_t output_bytes_max = 0;
  bool shares_output = false;  // it writes where this process writes, instead
  bool own_group = false;      // a terminal's signals do not reach it
  std::vector<std::pair<std::string, std::string>> environment = {};  // beside this process's
  bool bare_environment = false;  // `environment` and nothing else
  int input = -1;                 // descriptor that becomes its standard input; -1: that is empty
};

class ChildProcess final {
 public:
  /// No signal is blocked. Errors: kNotFound if there is no such program,
  /// kUnavailable.
  static Result<ChildProcess> Start(const ChildOptions& options);

  ChildProcess() = default;
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;
  /// Kills it if it still runs, and waits for its end.
  ~ChildProcess();

  /// Sends `signal` and waits for its end, however long that takes; its exit status, or 128 + the
  /// signal that ended it. Pre: started and not stopped before.
  int Stop(int signal);

  /// Whether it has not ended by itself.
  bool running();

  /// Sends `signal`, if it has not ended.
  void Signal(int signal);

  /// As Stop's, of one that running() said has ended.
  int exit_status() const { return exit_status_; }

  std::int32_t pid() const { return pid_; }

  /// User and system time of all its threads so far; zero once it has ended.
  Duration CpuTime() const;

  /// The system ends it with SIGXCPU once it has used `more` from now on, up to whole seconds.
  void LimitCpuTime(Duration more);

 private:
  explicit ChildProcess(std::int32_t pid) : pid_(pid) {}

  std::int32_t pid_ = -1;  // -1: none, or its end was seen
  int exit_status_ = 0;
};

/// The system kills this process when the thread that started it ends, or process `parent` has
/// ended already. Errors: kUnavailable: it has.
Result<void> EndWithParent(std::int32_t parent);

/// Of this process.
std::int32_t OwnPid();

/// Whether `pid` is there and got `signal`; 0: only whether it is there.
bool SignalProcess(std::int32_t pid, int signal);

}  // namespace pixii::rt
