#include "kernels/cuda/cuda_operators.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "kernels/operators.h"

namespace pixii::kernels {
namespace {

TEST(MakeCudaOperators, SaysWhichLibraryIsMissing) {
  const auto result = MakeCudaOperators({.library = "/nowhere/libpixii_cuda.so"});
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code(), Code::kNotFound);
  EXPECT_NE(result.error().detail().find("/nowhere/libpixii_cuda.so"), std::string::npos);
}

TEST(MakeCudaOperators, MultipliesAndRepeatsARecordedStep) {
  const auto made = MakeCudaOperators({});
  if (!made) {
    GTEST_SKIP() << "no CUDA device: " << made.error().detail();
  }
  Operators& cuda = **made;
  // Two rows of a table, added to themselves: a step of 3 rows is padded to 4 and replayed with
  // other ids.
  const std::vector<float> table = {1, 2, 3, 4, 5, 6};
  auto embedding = cuda.PrepareEmbedding({.data = table.data(), .rows = 3, .cols = 2});
  ASSERT_TRUE(embedding.has_value());
  ASSERT_EQ(cuda.PaddedRows(3), 4);
  auto memory = cuda.Allocate(4 * 2 * sizeof(float));
  ASSERT_TRUE(memory.has_value());
  const Matrix rows{memory->data(), DType::kF32, 4, 2, 2};
  int runs = 0;
  for (const std::int32_t first : {2, 0}) {
    StepBatch batch;
    batch.token_ids = {first, 1, 2};
    batch.positions = {0, 1, 2};
    batch.slots = {0, 1, 2};
    const StepView step = cuda.UploadStep(batch);
    const StepKey key = {.owner = &cuda, .rows = step.token_ids.size()};
    cuda.RunStep(key, [&] {
      ++runs;
      cuda.Embed(**embedding, step.token_ids, 1.0F, rows);
      cuda.Add(rows, rows);
    });
    std::vector<float> host(6);
    cuda.Download(memory->data(), std::as_writable_bytes(std::span(host)));
    ASSERT_TRUE(cuda.Synchronize().has_value());
    const auto at = static_cast<std::size_t>(2 * first);
    EXPECT_EQ(host, (std::vector<float>{2 * table[at], 2 * table[at + 1], 6, 8, 10, 12}));
  }
  EXPECT_EQ(runs, 1);
}

}  // namespace
}  // namespace pixii::kernels
