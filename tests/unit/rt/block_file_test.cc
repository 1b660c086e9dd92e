#include "rt/block_file.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <vector>

#include "rt/random.h"

namespace pixii::rt {
namespace {

/// Alone, in batches by io_uring, and so with the page cache in between.
class BlockFiles : public testing::TestWithParam<BlockFileOptions> {
 protected:
  void SetUp() override { ASSERT_NE(::mkdtemp(folder_.data()), nullptr); }

  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string folder_ = testing::TempDir() + "pixii-block-file-XXXXXX";
};

INSTANTIATE_TEST_SUITE_P(
    All, BlockFiles,
    testing::Values(
        BlockFileOptions{.create = true, .write = true, .direct = true},
        BlockFileOptions{.create = true, .write = true, .direct = true, .batches = true},
        BlockFileOptions{.create = true, .write = true, .direct = false, .batches = true}));

TEST_P(BlockFiles, BatchesMoveWhatSingleCallsMove) {
  constexpr std::size_t kPiece = 3 * kBlockFileAlignment;
  constexpr std::size_t kCount = 150;  // more than are under way at a time
  auto file = *OpenBlockFile(folder_ + "/file", GetParam());
  if (GetParam().batches && file->batch_trouble()) {
    GTEST_SKIP() << file->batch_trouble()->ToString();
  }
  AlignedBytes from(kPiece * kCount);
  AlignedBytes to(kPiece * kCount);
  Random random(5);
  for (std::byte& byte : from.bytes()) {
    byte = static_cast<std::byte>(random.Next());
  }
  // Half of the buffers are expected, the others come as they are.
  const std::span<std::byte> expected[] = {from.bytes().first(kPiece * kCount / 2),
                                           to.bytes().first(kPiece * kCount / 2)};
  file->Expect(expected);
  std::vector<BlockPiece> writes;
  std::vector<BlockPiece> reads;
  for (std::size_t i = 0; i < kCount; ++i) {
    const std::uint64_t offset = (kCount - 1 - i) * kPiece;
    writes.push_back({.offset = offset, .bytes = from.bytes().subspan(i * kPiece, kPiece)});
    reads.push_back({.offset = offset, .bytes = to.bytes().subspan(i * kPiece, kPiece)});
  }
  file->RunAll(BlockOperation::kWrite, writes);
  EXPECT_TRUE(std::ranges::all_of(writes, [](const BlockPiece& each) { return !!each.result; }));
  AlignedBytes one(kPiece);
  ASSERT_TRUE(file->Read(0, one.bytes()));
  EXPECT_TRUE(std::ranges::equal(one.bytes(), from.bytes().last(kPiece)));
  file->RunAll(BlockOperation::kRead, reads);
  EXPECT_TRUE(std::ranges::all_of(reads, [](const BlockPiece& each) { return !!each.result; }));
  EXPECT_TRUE(std::ranges::equal(from.bytes(), to.bytes()));
}

TEST_P(BlockFiles, EachPieceHasItsOwnResult) {
  auto file = *OpenBlockFile(folder_ + "/file", GetParam());
  AlignedBytes bytes(4 * kBlockFileAlignment);
  ASSERT_TRUE(file->Write(0, bytes.bytes().first(2 * kBlockFileAlignment)));
  const auto at = [&](std::size_t number) {
    return bytes.bytes().subspan(number * kBlockFileAlignment, kBlockFileAlignment);
  };
  BlockPiece pieces[] = {{.offset = 0, .bytes = at(0)},
                         {.offset = 64 * kBlockFileAlignment, .bytes = at(1)},
                         {.offset = kBlockFileAlignment, .bytes = at(2)}};
  file->RunAll(BlockOperation::kRead, pieces);
  EXPECT_TRUE(pieces[0].result);
  ASSERT_FALSE(pieces[1].result);
  EXPECT_EQ(pieces[1].result.error().code(), Code::kNotFound);
  EXPECT_TRUE(pieces[2].result);
}

TEST_P(BlockFiles, AWindowGivesItsPiecesInOrderWithTheirBuffers) {
  constexpr std::size_t kBuffers = 6;
  constexpr std::size_t kCount = 50;
  auto file = *OpenBlockFile(folder_ + "/file", GetParam());
  AlignedBytes bytes(kBuffers * kBlockFileAlignment);
  const auto at = [&](std::size_t buffer) {
    return bytes.bytes().subspan(buffer * kBlockFileAlignment, kBlockFileAlignment);
  };
  for (const BlockOperation operation : {BlockOperation::kWrite, BlockOperation::kRead}) {
    const bool writes = operation == BlockOperation::kWrite;
    BlockWindow window(*file, operation, kBuffers);
    std::size_t ended = 0;
    const auto end_some = [&] {
      window.AwaitSome([&](std::size_t buffer, const BlockPiece& piece) {
        EXPECT_EQ(buffer, ended % kBuffers);
        EXPECT_EQ(piece.result.has_value(), writes || ended < kCount) << "piece " << ended;
        EXPECT_TRUE(writes || ended >= kCount || at(buffer)[1] == std::byte(ended));
        ++ended;
      });
    };
    for (std::size_t i = 0; i < kCount + (writes ? 0 : 2); ++i) {
      if (window.full()) {
        end_some();
      }
      const std::size_t buffer = window.next();
      std::ranges::fill(at(buffer), writes ? std::byte(i) : std::byte{});
      window.Begin(i * kBlockFileAlignment, at(buffer));
    }
    while (!window.empty()) {
      end_some();
    }
    EXPECT_EQ(ended, kCount + (writes ? 0 : 2));
  }
  BlockWindow left(*file, BlockOperation::kRead, kBuffers);  // its end waits
  left.Begin(0, at(0));
}

}  // namespace
}  // namespace pixii::rt
