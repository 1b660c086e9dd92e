#include "model/shapes.h"

#include <gtest/gtest.h>

#include <string>

#include "model/weights.h"

namespace pixii::model {
namespace {

std::uint64_t Parameters(std::string_view shape) {
  const auto spec = FindShape(shape);
  EXPECT_TRUE(spec.has_value()) << spec.error().ToString();
  std::uint64_t count = 0;
  for (const ExpectedTensor& tensor : ExpectedTensors(*spec)) {
    std::uint64_t size = 1;
    for (const std::int64_t dim : tensor.shape) {
      size *= static_cast<std::uint64_t>(dim);
    }
    count += size;
  }
  return count;
}

TEST(Shapes, HaveTheParametersThatTheirModelsState) {
  EXPECT_EQ(Parameters("qwen2.5-0.5b"), 494'032'768U);
  EXPECT_EQ(Parameters("llama-3.2-1b"), 1'235'814'400U);
  EXPECT_EQ(Parameters("qwen3-0.6b"), 596'049'920U);
}

TEST(Shapes, AreAllDescribed) {
  for (const std::string_view name : Shapes()) {
    EXPECT_TRUE(FindShape(name).has_value()) << name;
  }
  EXPECT_FALSE(FindShape("none").has_value());
}

}  // namespace
}  // namespace pixii::model
