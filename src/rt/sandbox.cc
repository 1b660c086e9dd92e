#include "rt/sandbox.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <malloc.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <span>

#include "rt/fd.h"

namespace pixii::rt {

namespace {

#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer) || \
    __has_feature(thread_sanitizer)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

Result<void> Refused(const char* what, int error) {
  return Fail(Code::kUnavailable,
              fmt::format("sandbox: {}: {} (errno {})", what, std::strerror(error), error));
}

Result<void> Limit(int resource, std::uint64_t value) {
  const rlimit limit{.rlim_cur = value, .rlim_max = value};
  return ::setrlimit(resource, &limit) == 0 ? Result<void>() : Refused("setrlimit", errno);
}

// Bytes of address space in use: the first number of /proc/self/statm, in pages.
Result<std::uint64_t> MappedBytes() {
  const Fd fd(::open("/proc/self/statm", O_RDONLY | O_CLOEXEC));
  char text[64] = {};
  if (!fd || ::read(fd.get(), text, sizeof text - 1) <= 0) {
    return Fail(Code::kUnavailable, "sandbox: /proc/self/statm cannot be read");
  }
  return std::strtoull(text, nullptr, 10) * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

struct FilterFree {
  void operator()(void* filter) const { ::seccomp_release(filter); }
};

// What becomes of `call` where its arguments are as `conditions` say.
Result<void> Answer(scmp_filter_ctx filter, std::uint32_t action, int call,
                    std::span<const scmp_arg_cmp> conditions) {
  const int code = ::seccomp_rule_add_array(
      filter, action, call, static_cast<unsigned>(conditions.size()), conditions.data());
  return code == 0 ? Result<void>() : Refused("seccomp_rule_add", -code);
}

// `call` where its argument is as `condition` says.
Result<void> Allow(scmp_filter_ctx filter, int call, const scmp_arg_cmp& condition) {
  return Answer(filter, SCMP_ACT_ALLOW, call, {&condition, 1});
}

Result<void> Filter() {
  const std::unique_ptr<void, FilterFree> filter(::seccomp_init(SCMP_ACT_KILL_PROCESS));
  if (filter == nullptr) {
    return Refused("seccomp_init", ENOMEM);
  }
  for (const int call :
       {SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(recvmsg), SCMP_SYS(sendmsg), SCMP_SYS(close),
        SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(brk), SCMP_SYS(futex),
        SCMP_SYS(fstat), SCMP_SYS(newfstatat), SCMP_SYS(clock_gettime), SCMP_SYS(getrandom),
        SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigprocmask), SCMP_SYS(exit), SCMP_SYS(exit_group)}) {
    if (const int code = ::seccomp_rule_add(filter.get(), SCMP_ACT_ALLOW, call, 0); code != 0) {
      return Refused("seccomp_rule_add", -code);
    }
  }
  // A sanitizer looks where its stacks are, and by a pipe whether memory is there.
  for (const int call : {SCMP_SYS(sigaltstack), SCMP_SYS(pipe2)}) {
    const int code = kSanitized ? ::seccomp_rule_add(filter.get(), SCMP_ACT_ALLOW, call, 0) : 0;
    if (code != 0) {
      return Refused("seccomp_rule_add", -code);
    }
  }
  // How many processors there are is nobody's business: a decoder that asks takes it for one. Libc
  // looks for a file of that before it asks, and finds none.
  const scmp_arg_cmp to_read{
      .arg = 2, .op = SCMP_CMP_EQ, .datum_a = O_RDONLY | O_CLOEXEC, .datum_b = 0};
  PX_CHECK_OK(Answer(filter.get(), SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(sched_getaffinity), {}));
  PX_CHECK_OK(Answer(filter.get(), SCMP_ACT_ERRNO(ENOENT), SCMP_SYS(openat), {&to_read, 1}));
  // Memory that becomes code is nothing that reading an image needs.
  const scmp_arg_cmp no_code{
      .arg = 2, .op = SCMP_CMP_MASKED_EQ, .datum_a = PROT_EXEC, .datum_b = 0};
  PX_CHECK_OK(Allow(filter.get(), SCMP_SYS(mmap), no_code));
  PX_CHECK_OK(Allow(filter.get(), SCMP_SYS(mprotect), no_code));
  // What memory that was sent is like: how it is sealed and opened.
  for (const scmp_datum_t command : {F_GET_SEALS, F_GETFL}) {
    PX_CHECK_OK(Allow(filter.get(), SCMP_SYS(fcntl),
                      {.arg = 1, .op = SCMP_CMP_EQ, .datum_a = command, .datum_b = 0}));
  }
  const int code = ::seccomp_load(filter.get());
  return code == 0 ? Result<void>() : Refused("seccomp_load", -code);
}

}  // namespace

Result<void> EnterSandbox(const SandboxOptions& options) {
  if (::syscall(SYS_close_range, STDERR_FILENO + 1, ~0U, 0) != 0) {
    return Refused("close_range", errno);
  }
  // More than one arena would have malloc ask the system how many processors there are.
  ::mallopt(M_ARENA_MAX, 1);
  // Nobody of the same user may look into it, nor does it leave its memory in a file.
  if (::prctl(PR_SET_DUMPABLE, 0) != 0) {
    return Refused("PR_SET_DUMPABLE", errno);
  }
  PX_CHECK_OK(Limit(RLIMIT_CORE, 0));
  PX_CHECK_OK(Limit(RLIMIT_FSIZE, 0));
  PX_CHECK_OK(Limit(RLIMIT_NOFILE, 16));
  if (!kSanitized) {
    PX_TRY(const std::uint64_t mapped, MappedBytes());
    PX_CHECK_OK(Limit(RLIMIT_AS, mapped + options.memory_bytes_max));
  }
  return Filter();
}

}  // namespace pixii::rt
