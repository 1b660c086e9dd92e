#include "frontend/fleet/encode_placement.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

namespace pixii::frontend {
namespace {

using control::InstanceId;

std::string Digest(int number) { return "a digest of picture " + std::to_string(number); }

std::vector<EncodeCandidate> Idle(int count) {
  std::vector<EncodeCandidate> out;
  for (int i = 1; i <= count; ++i) {
    out.push_back({.instance = InstanceId{static_cast<std::uint64_t>(i) * 1000}, .load = 0});
  }
  return out;
}

TEST(EncodePlacement, APictureHasOnePlaceWhateverTheOrderOfWorkers) {
  std::vector<EncodeCandidate> workers = Idle(5);
  std::map<InstanceId, int> counts;
  for (int i = 0; i < 1000; ++i) {
    const auto place = PlacePicture(Digest(i), workers);
    ASSERT_TRUE(place);
    std::swap(workers[static_cast<std::size_t>(i) % 5], workers[0]);
    EXPECT_EQ(PlacePicture(Digest(i), workers), place);
    ++counts[*place];
  }
  ASSERT_EQ(counts.size(), 5U);
  for (const auto& [instance, count] : counts) {
    EXPECT_GT(count, 140) << "of 200 that are fair";
  }
}

TEST(EncodePlacement, AWorkerThatGoesMovesItsOwnPicturesAlone) {
  const std::vector<EncodeCandidate> all = Idle(5);
  const std::vector<EncodeCandidate> left(all.begin(), all.end() - 1);
  for (int i = 0; i < 500; ++i) {
    const auto before = PlacePicture(Digest(i), all);
    if (before != all.back().instance) {
      EXPECT_EQ(PlacePicture(Digest(i), left), before);
    }
  }
}

TEST(EncodePlacement, WhoHasMuchMoreToDoIsPassedOver) {
  std::vector<EncodeCandidate> workers = Idle(4);
  const auto own = *PlacePicture(Digest(7), workers);
  for (EncodeCandidate& worker : workers) {
    worker.load = worker.instance == own ? 5 : 4;
  }
  EXPECT_EQ(*PlacePicture(Digest(7), workers), own) << "a little more is no reason";
  for (EncodeCandidate& worker : workers) {
    worker.load = worker.instance == own ? 9 : 4;
  }
  EXPECT_NE(*PlacePicture(Digest(7), workers), own);
}

TEST(EncodePlacement, SomebodyIsFoundWhateverTheLoads) {
  EXPECT_FALSE(PlacePicture(Digest(1), {}));
  for (std::uint32_t load : {0U, 1U, 2U, 1'000'000U}) {
    const std::vector<EncodeCandidate> one = {{.instance = InstanceId{1}, .load = load}};
    EXPECT_TRUE(PlacePicture(Digest(1), one));
    const std::vector<EncodeCandidate> two = {{.instance = InstanceId{1}, .load = load},
                                              {.instance = InstanceId{2}, .load = load}};
    EXPECT_TRUE(PlacePicture(Digest(1), two));
  }
}

}  // namespace
}  // namespace pixii::frontend
