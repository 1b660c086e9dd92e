#include "kernels/tensor.h"

#include <gtest/gtest.h>

#include <utility>

namespace pixii::kernels {
namespace {

TEST(Matrix, ColumnsAndRowsAreViewsOfTheSameMemory) {
  float data[12] = {};
  const Matrix whole{.data = data, .dtype = DType::kF32, .rows = 3, .cols = 4, .stride = 4};
  const Matrix part = whole.Rows(1, 2).Columns(2, 2);
  part.f32(1)[0] = 7.0F;
  EXPECT_EQ(data[2 * 4 + 2], 7.0F);
  EXPECT_EQ(part.rows, 2);
  EXPECT_EQ(part.cols, 2);
  EXPECT_EQ(part.stride, 4);
}

TEST(Buffer, FreesItsMemoryOnceWhereverItWasMoved) {
  int freed = 0;
  int memory = 0;
  {
    Buffer first(&memory, sizeof(memory), [&](void* data) {
      EXPECT_EQ(data, &memory);
      ++freed;
    });
    Buffer second = std::move(first);
    EXPECT_EQ(second.data(), &memory);
    EXPECT_EQ(freed, 0);
  }
  EXPECT_EQ(freed, 1);
}

}  // namespace
}  // namespace pixii::kernels
