#include "rt/process.h"

#include <fmt/format.h>
#include <malloc.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <ctime>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "rt/epoll_loop.h"
#include "rt/fd.h"
#include "rt/file.h"

namespace pixii::rt {
namespace {

constexpr std::uint64_t kProcFileSizeMax = 1 << 20;

class SignalFdWatch final : public SignalWatch, FdWatcher {
 public:
  SignalFdWatch(EpollLoop& loop, Fd fd, Function<void(int)> fn)
      : loop_(loop),
        fd_(std::move(fd)),
        fn_(std::make_shared<Function<void(int)>>(std::move(fn))) {}

  Result<void> Register() { return loop_.Watch(fd_.get(), *this); }

 private:
  void OnReady(std::uint32_t /*events*/) override {
    signalfd_siginfo info{};
    while (::read(fd_.get(), &info, sizeof(info)) == sizeof(info)) {
      const int number = static_cast<int>(info.ssi_signo);
      // The posted call may outlive the watch: it holds the function, and calls it only while the
      // watch lives.
      loop_.Post([weak = std::weak_ptr(fn_), number] {
        if (const auto fn = weak.lock()) {
          (*fn)(number);
        }
      });
    }
  }

  EpollLoop& loop_;
  Fd fd_;
  std::shared_ptr<Function<void(int)>> fn_;
};

/// The number after `key` and blanks in a file such as /proc/self/status.
std::optional<std::uint64_t> FieldOf(std::string_view text, std::string_view key) {
  std::size_t at = text.starts_with(key) ? 0 : text.find(fmt::format("\n{}", key));
  if (at == std::string_view::npos) {
    return std::nullopt;
  }
  at = text.find_first_of("0123456789", at + key.size());
  if (at == std::string_view::npos) {
    return std::nullopt;
  }
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data() + at, text.data() + text.size(), value);
  return error == std::errc{} ? std::optional(value) : std::nullopt;
}

Result<std::uint64_t> RequireField(std::string_view text, std::string_view key,
                                   std::string_view file) {
  const std::optional<std::uint64_t> value = FieldOf(text, key);
  if (!value) {
    return Fail(Code::kUnavailable, fmt::format("{} has no {}", file, key));
  }
  return *value;
}

Duration ReadCpuClock(clockid_t clock) {
  timespec now{};
  PX_ASSERT(::clock_gettime(clock, &now) == 0);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

std::optional<std::uint64_t> CgroupNumber(const std::string& path) {
  const Result<std::string> text = ReadFile(path, kProcFileSizeMax);
  if (!text) {
    return std::nullopt;
  }
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  return error == std::errc{} ? std::optional(value) : std::nullopt;  // "max" is no number
}

std::uint32_t CountCpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::uint32_t count = 1;
  if (::sched_getaffinity(0, sizeof(set), &set) == 0) {
    count = static_cast<std::uint32_t>(std::max(CPU_COUNT(&set), 1));
  }
  const Result<std::string> quota = ReadFile("/sys/fs/cgroup/cpu.max", kProcFileSizeMax);
  if (quota) {
    std::uint64_t allowed_us = 0;
    std::uint64_t period_us = 0;
    const char* last = quota->data() + quota->size();
    const auto [end, error] = std::from_chars(quota->data(), last, allowed_us);
    if (error == std::errc{} && end != last &&
        std::from_chars(end + 1, last, period_us).ec == std::errc{} && period_us > 0) {
      const std::uint64_t cpus = (allowed_us + period_us - 1) / period_us;
      count = static_cast<std::uint32_t>(std::clamp<std::uint64_t>(cpus, 1, count));
    }
  }
  return count;
}

}  // namespace

Result<std::unique_ptr<SignalWatch>> WatchSignals(Loop& loop, std::initializer_list<int> signals,
                                                  Function<void(int)> fn) {
  auto* epoll_loop = dynamic_cast<EpollLoop*>(&loop);
  PX_ASSERT(epoll_loop != nullptr);
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : signals) {
    ::sigaddset(&set, signal);
  }
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  Fd fd(::signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
  if (!fd) {
    return Fail(Code::kResourceExhausted,
                fmt::format("no descriptor for signals (errno {})", errno));
  }
  auto watch = std::make_unique<SignalFdWatch>(*epoll_loop, std::move(fd), std::move(fn));
  PX_CHECK_OK(watch->Register());
  return std::unique_ptr<SignalWatch>(std::move(watch));
}

void IgnoreBrokenPipes() { ::signal(SIGPIPE, SIG_IGN); }

Result<ProcessUsage> ReadProcessUsage() {
  constexpr std::string_view kStatus = "/proc/self/status";
  ProcessUsage usage;
  PX_TRY(const std::string status, ReadFile(std::string(kStatus), kProcFileSizeMax));
  PX_TRY(const std::uint64_t resident_kib, RequireField(status, "VmRSS:", kStatus));
  PX_TRY(const std::uint64_t peak_kib, RequireField(status, "VmHWM:", kStatus));
  PX_TRY(const std::uint64_t threads, RequireField(status, "Threads:", kStatus));
  usage.resident_bytes = resident_kib * 1024;
  usage.resident_bytes_peak = peak_kib * 1024;
  usage.threads = static_cast<std::uint32_t>(threads);
  PX_TRY(const auto descriptors, ListFolder("/proc/self/fd", 10'000'000));
  usage.descriptors = static_cast<std::uint32_t>(descriptors.size() - 1);  // less the listing's own
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    constexpr rlim_t kMax = std::numeric_limits<std::uint32_t>::max();
    usage.descriptors_max = static_cast<std::uint32_t>(std::min(limit.rlim_cur, kMax));
  }
  usage.cpu_time = ReadCpuClock(CLOCK_PROCESS_CPUTIME_ID);
  return usage;
}

void TrimMemory() { (void)::malloc_trim(0); }

Duration ThreadCpuTime() { return ReadCpuClock(CLOCK_THREAD_CPUTIME_ID); }

Result<MachineLimits> ReadMachineLimits() {
  constexpr std::string_view kMemory = "/proc/meminfo";
  MachineLimits limits;
  PX_TRY(const std::string memory, ReadFile(std::string(kMemory), kProcFileSizeMax));
  PX_TRY(const std::uint64_t total_kib, RequireField(memory, "MemTotal:", kMemory));
  PX_TRY(const std::uint64_t available_kib, RequireField(memory, "MemAvailable:", kMemory));
  limits.memory_bytes = total_kib * 1024;
  limits.memory_available_bytes = available_kib * 1024;
  if (const auto cgroup_max = CgroupNumber("/sys/fs/cgroup/memory.max")) {
    limits.memory_bytes = std::min(limits.memory_bytes, *cgroup_max);
    const std::uint64_t used = CgroupNumber("/sys/fs/cgroup/memory.current").value_or(0);
    limits.memory_available_bytes =
        std::min(limits.memory_available_bytes, *cgroup_max - std::min(used, *cgroup_max));
  }
  limits.cpu_count = CountCpus();
  return limits;
}

}  // namespace pixii::rt
