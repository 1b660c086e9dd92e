#include "rt/memory_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

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

std::uint64_t PagesOf(const MemoryFile& file) {
  struct stat status{};
  EXPECT_EQ(::fstat(file.fd().get(), &status), 0);
  return static_cast<std::uint64_t>(status.st_blocks) * 512;
}

TEST(MemoryFile, SparseMemoryComesWhenItIsTouchedAndGoesWhoeverHasItMapped) {
  constexpr std::size_t kSize = 5 << 20;
  Result<MemoryFile> ours = MemoryFile::CreateSparse(kSize);
  ASSERT_TRUE(ours) << ours.error().ToString();
  const std::size_t size = ours->bytes().size();
  ASSERT_GE(size, kSize);
  EXPECT_EQ(PagesOf(*ours), 0U);
  Result<MemoryFile> theirs = MemoryFile::Map(Copy(*ours), size, Sharing::kOthersWrite);
  ASSERT_TRUE(theirs) << theirs.error().ToString();
  EXPECT_FALSE(theirs->writable());
  std::ranges::fill(ours->bytes(), std::byte{9});
  EXPECT_EQ(theirs->bytes()[size - 1], std::byte{9});
  EXPECT_EQ(PagesOf(*ours), size);
  ASSERT_TRUE(ours->GiveBack());
  EXPECT_EQ(PagesOf(*ours), 0U);
  EXPECT_EQ(theirs->bytes()[size - 1], std::byte{0}) << "it reads as zeros, nothing crashes";
  ours->bytes()[1] = std::byte{4};
  EXPECT_EQ(theirs->bytes()[1], std::byte{4}) << "the same memory again";
}

TEST(MemoryFile, SparseMemoryCannotShrinkNorBeWrittenByOthers) {
  Result<MemoryFile> ours = MemoryFile::CreateSparse(4096);
  ASSERT_TRUE(ours);
  EXPECT_NE(::ftruncate(ours->fd().get(), 0), 0);
  EXPECT_EQ(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ours->fd().get(), 0),
            MAP_FAILED);
  EXPECT_EQ(MemoryFile::CreateSparse(0).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(MemoryFile::CreateSparse(std::size_t{1} << 60).error().code(),
            Code::kResourceExhausted);
}

}  // namespace
}  // namespace pixii::rt
