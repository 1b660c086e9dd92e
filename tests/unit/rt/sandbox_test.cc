#include "rt/sandbox.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <functional>

namespace pixii::rt {
namespace {

constexpr std::uint64_t kMemory = std::uint64_t{64} << 20;

// How a process ends that shuts itself in and does `work`: its exit status, or minus the signal.
int EndOf(const std::function<int()>& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (!EnterSandbox({.memory_bytes_max = kMemory})) {
      ::_exit(99);
    }
    ::_exit(work());
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

TEST(Sandbox, ComputingAndTakingMemoryGoOn) {
  EXPECT_EQ(EndOf([] {
              void* memory = std::malloc(kMemory / 2);
              std::memset(memory, 1, kMemory / 2);
              const int last = static_cast<unsigned char*>(memory)[kMemory / 2 - 1];
              std::free(memory);
              return last + 6;
            }),
            7);
}

TEST(Sandbox, FilesConnectionsProcessesAndSignalsAreDeath) {
  EXPECT_EQ(EndOf([] { return ::open("/etc/passwd", O_RDONLY); }), -SIGSYS);
  EXPECT_EQ(EndOf([] { return ::open("/tmp/pixii_sandbox", O_CREAT | O_WRONLY, 0600); }), -SIGSYS);
  EXPECT_EQ(EndOf([] { return ::socket(AF_INET, SOCK_STREAM, 0); }), -SIGSYS);
  EXPECT_EQ(EndOf([] { return static_cast<int>(::fork()); }), -SIGSYS);
  EXPECT_EQ(EndOf([] { return ::execl("/bin/true", "true", nullptr); }), -SIGSYS);
  EXPECT_EQ(EndOf([] { return ::kill(::getppid(), 0); }), -SIGSYS);
}

TEST(Sandbox, WhoAsksForProcessorsFindsNoFileOfThem) {
  EXPECT_EQ(EndOf([] { return ::sysconf(_SC_NPROCESSORS_ONLN) >= 1 ? 7 : 8; }), 7);
  EXPECT_EQ(EndOf([] {
              const int file = ::open("/etc/passwd", O_RDONLY | O_CLOEXEC);
              return file == -1 && errno == ENOENT ? 7 : 8;
            }),
            7);
}

TEST(Sandbox, MemoryNeverBecomesCode) {
  EXPECT_EQ(EndOf([] {
              ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
                     -1, 0);
              return 0;
            }),
            -SIGSYS);
}

TEST(Sandbox, MemoryHasALimit) {
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
  GTEST_SKIP() << "a sanitizer maps more than any limit";
#else
  EXPECT_EQ(EndOf([] {
              void* memory = ::mmap(nullptr, kMemory * 2, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
              return memory == MAP_FAILED ? 5 : 6;
            }),
            5);
#endif
}

TEST(Sandbox, WhatWasOpenIsClosed) {
  const int open_before = ::open("/dev/null", O_WRONLY);
  ASSERT_GE(open_before, 3);
  EXPECT_EQ(EndOf([=] { return ::write(open_before, "x", 1) < 0 ? 3 : 4; }), 3);
  ::close(open_before);
}

}  // namespace
}  // namespace pixii::rt
