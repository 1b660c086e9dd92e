#include "rt/child_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <string_view>
#include <utility>

#include "base/assert.h"

namespace pixii::rt {

namespace {

int WaitFor(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0) {
    PX_ASSERT(errno == EINTR);
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// NAME=VALUE of this process, but for those that `options` says otherwise.
std::vector<std::string> OwnEnvironment(const ChildOptions& options) {
  std::vector<std::string> out;
  for (char** entry = environ; *entry != nullptr && !options.bare_environment; ++entry) {
    const std::string_view text(*entry);
    const std::string_view name = text.substr(0, text.find('='));
    const bool replaced = std::ranges::any_of(options.environment,
                                              [&](const auto& one) { return one.first == name; });
    if (!replaced) {
      out.emplace_back(text);
    }
  }
  for (const auto& [name, value] : options.environment) {
    out.push_back(fmt::format("{}={}", name, value));
  }
  return out;
}

}  // namespace

Result<ChildProcess> ChildProcess::Start(const ChildOptions& options) {
  PX_ASSERT(!options.arguments.empty());
  std::vector<std::string> texts = options.arguments;
  std::vector<char*> arguments;
  arguments.reserve(texts.size() + 1);
  for (std::string& text : texts) {
    arguments.push_back(text.data());
  }
  arguments.push_back(nullptr);
  const char* output = options.output.empty() ? "/dev/null" : options.output.c_str();
  const bool appends = options.output_bytes_max > 0;
  struct stat old = {};
  if (appends && ::stat(output, &old) == 0 && S_ISREG(old.st_mode) &&
      static_cast<std::uint64_t>(old.st_size) >= options.output_bytes_max) {
    (void)::rename(output, (options.output + ".1").c_str());  // else it grows on
  }
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  if (options.input >= 0) {
    ::posix_spawn_file_actions_adddup2(&actions, options.input, STDIN_FILENO);
  } else {
    ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  }
  if (!options.shares_output) {
    ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output,
                                       O_WRONLY | O_CREAT | (appends ? O_APPEND : O_TRUNC), 0644);
    ::posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  }
  // Signals that a loop of ours watches are blocked here, and would be there.
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t none;
  ::sigemptyset(&none);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setpgroup(&attributes, 0);
  const int group = options.own_group ? POSIX_SPAWN_SETPGROUP : 0;
  ::posix_spawnattr_setflags(&attributes, static_cast<short>(POSIX_SPAWN_SETSIGMASK | group));
  std::vector<std::string> own = OwnEnvironment(options);
  std::vector<char*> environment;
  environment.reserve(own.size() + 1);
  for (std::string& entry : own) {
    environment.push_back(entry.data());
  }
  environment.push_back(nullptr);
  pid_t pid = -1;
  const int failed = ::posix_spawnp(&pid, arguments[0], &actions, &attributes, arguments.data(),
                                    environment.data());
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  if (failed != 0) {
    return Fail(
        failed == ENOENT ? Code::kNotFound : Code::kUnavailable,
        fmt::format("cannot run {}: {} (errno {})", texts[0], std::strerror(failed), failed));
  }
  return ChildProcess(pid);
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), exit_status_(other.exit_status_) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(exit_status_, other.exit_status_);
  return *this;
}

ChildProcess::~ChildProcess() {
  if (pid_ >= 0) {
    Stop(SIGKILL);
  }
}

int ChildProcess::Stop(int signal) {
  PX_ASSERT(pid_ >= 0);
  ::kill(pid_, signal);
  return WaitFor(std::exchange(pid_, -1));
}

bool ChildProcess::running() {
  int status = 0;
  if (pid_ >= 0 && ::waitpid(pid_, &status, WNOHANG) == pid_) {
    pid_ = -1;
    exit_status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  return pid_ >= 0;
}

void ChildProcess::Signal(int signal) {
  if (pid_ >= 0) {
    ::kill(pid_, signal);
  }
}

Result<void> EndWithParent(std::int32_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  return ::getppid() == parent
             ? Result<void>()
             : Fail(Code::kUnavailable, fmt::format("process {} has ended", parent));
}

std::int32_t OwnPid() { return ::getpid(); }

bool SignalProcess(std::int32_t pid, int signal) { return pid > 0 && ::kill(pid, signal) == 0; }

Duration ChildProcess::CpuTime() const {
  clockid_t clock{};
  timespec used{};
  if (pid_ < 0 || ::clock_getcpuclockid(pid_, &clock) != 0 || ::clock_gettime(clock, &used) != 0) {
    return Duration::zero();
  }
  return std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
}

void ChildProcess::LimitCpuTime(Duration more) {
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(CpuTime() + more);
  const auto value = static_cast<rlim_t>(seconds.count());
  rlimit limit{};
  if (pid_ >= 0 && ::prlimit(pid_, RLIMIT_CPU, nullptr, &limit) == 0) {
    limit.rlim_cur = std::min(value, limit.rlim_max);
    (void)::prlimit(pid_, RLIMIT_CPU, &limit, nullptr);
  }
}

}  // namespace pixii::rt
