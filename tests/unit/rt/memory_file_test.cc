#include "rt/memory_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

namespace pixii::rt {
namespace {

Fd Copy(const MemoryFile& file) { return Fd(::dup(file.fd().get())); }

TEST(MemoryFile, BothMappingsSeeTheSameBytes) {
  Result<MemoryFile> ours = MemoryFile::Create(10'000, Sharing::kOthersWrite);
  ASSERT_TRUE(ours) << ours.error().ToString();
  Result<MemoryFile> theirs = MemoryFile::Map(Copy(*ours), 10'000, Sharing::kOthersWrite);
  ASSERT_TRUE(theirs) << theirs.error().ToString();
  ours->bytes()[9'999] = std::byte{7};
  EXPECT_EQ(theirs->bytes()[9'999], std::byte{7});
  theirs->bytes()[0] = std::byte{8};
  EXPECT_EQ(ours->bytes()[0], std::byte{8});
}

TEST(MemoryFile, WhatOthersMayOnlyReadTheyCannotWrite) {
  Result<MemoryFile> ours = MemoryFile::Create(4096, Sharing::kOthersRead);
  ASSERT_TRUE(ours);
  EXPECT_FALSE(MemoryFile::Map(Copy(*ours), 4096, Sharing::kOthersWrite)->writable());
  Result<MemoryFile> theirs = MemoryFile::Map(Copy(*ours), 4096, Sharing::kOthersRead);
  ASSERT_TRUE(theirs);
  ours->bytes()[1] = std::byte{3};
  EXPECT_EQ(theirs->bytes()[1], std::byte{3});
  EXPECT_NE(::mprotect(theirs->bytes().data(), 4096, PROT_READ | PROT_WRITE), 0);
}

TEST(MemoryFile, WhatCouldShrinkUnderUsIsRefused) {
  const Fd loose(::memfd_create("loose", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(loose.get(), 4096), 0);
  EXPECT_EQ(MemoryFile::Map(Fd(::dup(loose.get())), 4096, Sharing::kOthersRead).error().code(),
            Code::kForbidden);
  Result<MemoryFile> ours = MemoryFile::Create(4096, Sharing::kOthersWrite);
  ASSERT_TRUE(ours);
  EXPECT_EQ(MemoryFile::Map(Copy(*ours), 8192, Sharing::kOthersRead).error().code(),
            Code::kForbidden);
  EXPECT_EQ(
      MemoryFile::Map(Fd(::open("/dev/null", O_RDWR)), 4096, Sharing::kOthersRead).error().code(),
      Code::kForbidden);
  EXPECT_NE(::ftruncate(ours->fd().get(), 0), 0);
  EXPECT_EQ(MemoryFile::Create(0, Sharing::kOthersRead).error().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace pixii::rt
