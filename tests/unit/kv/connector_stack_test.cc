#include "kv/connector_stack.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace pixii::kv {
namespace {

/// One that knows and guesses what it is told to, and remembers what it was asked to load.
class Part final : public Connector {
 public:
  struct Told {
    std::uint32_t knows = 0;
    std::uint32_t guesses = 0;
    std::vector<LoadId> loads = {};
  };

  explicit Part(Told& told) : told_(told) {}

  void Start(rt::Function<void()> /*wake*/) override {}

  std::uint32_t Match(const ConnectorRequestRef& /*request*/, std::uint32_t /*first*/) override {
    return told_.knows;
  }

  std::uint32_t Guess(const ConnectorRequestRef& /*request*/, std::uint32_t /*first*/) override {
    return told_.guesses;
  }

  void Load(LoadId id, const ConnectorRequestRef& /*request*/, std::uint32_t /*first*/,
            std::span<const BlockMemory> /*targets*/) override {
    told_.loads.push_back(id);
  }

  void Cancel(LoadId /*id*/) override {}

  void Published(std::vector<PublishedBlock> /*blocks*/) override {}

  void Distrust(std::span<const Hash128> /*hashes*/) override {}

  void Finished(const ConnectorRequestRef& /*request*/, std::vector<BlockPin> /*pins*/) override {}

  rt::Time Poll(rt::Time /*now*/, std::vector<LoadEnd>& ended) override {
    for (const LoadId id : told_.loads) {
      ended.push_back({.id = id, .blocks = 0, .error = {}});
    }
    told_.loads.clear();
    return rt::kNever;
  }

  bool idle() const override { return told_.loads.empty(); }

 private:
  Told& told_;
};

class ConnectorStackTest : public ::testing::Test {
 protected:
  ConnectorStackTest() {
    std::vector<std::unique_ptr<Connector>> parts;
    for (Part::Told& one : told_) {
      parts.push_back(std::make_unique<Part>(one));
    }
    stack_ = std::make_unique<ConnectorStack>(std::move(parts));
  }

  /// What it says it brings, and from whom: 3 if from nobody.
  std::pair<std::uint32_t, std::size_t> Ask() {
    const auto request = std::make_shared<ConnectorRequest>();
    const std::uint32_t count = stack_->Match(request, 0);
    if (count == 0) {
      return {0, 3};
    }
    stack_->Load(LoadId{++loads_}, request, 0, {});
    std::size_t from = 3;
    for (std::size_t i = 0; i < 3; ++i) {
      from = told_[i].loads.empty() ? from : i;
    }
    std::vector<LoadEnd> ended;
    stack_->Poll({}, ended);
    EXPECT_EQ(ended.size(), 1u);
    return {count, from};
  }

  std::vector<Part::Told> told_{3};
  std::unique_ptr<ConnectorStack> stack_;
  std::uint64_t loads_ = 0;
};

TEST_F(ConnectorStackTest, WhoKnowsOfMostIsAskedAndOfEqualOnesTheFirst) {
  EXPECT_EQ(Ask(), std::pair(0u, std::size_t{3}));
  told_[1].knows = 2;
  told_[2].knows = 2;
  EXPECT_EQ(Ask(), std::pair(2u, std::size_t{1}));
  told_[2].knows = 3;
  EXPECT_EQ(Ask(), std::pair(3u, std::size_t{2}));
}

TEST_F(ConnectorStackTest, AGuessCountsOnlyWhereNobodyKnows) {
  told_[0].guesses = 9;
  told_[2].knows = 1;
  EXPECT_EQ(Ask(), std::pair(1u, std::size_t{2}));
  told_[2].knows = 0;
  told_[1].guesses = 5;
  EXPECT_EQ(Ask(), std::pair(9u, std::size_t{0}));
  told_[0].guesses = 0;
  EXPECT_EQ(Ask(), std::pair(5u, std::size_t{1}));
}

}  // namespace
}  // namespace pixii::kv
