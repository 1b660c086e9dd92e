#include "frontend/fleet/adapter_places.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

namespace pixii::frontend {
namespace {

using control::InstanceId;

wire::AdapterCard Card(std::string name, std::uint64_t id) {
  wire::AdapterCard out;
  out.name = std::move(name);
  out.id = id;
  return out;
}

std::set<InstanceId> Where(std::string_view adapter, std::span<const AdapterWorker> workers) {
  std::set<InstanceId> out;
  for (const AdapterWorker& worker : workers) {
    out.insert(worker.instance);
  }
  for (const InstanceId instance : NotForAdapter(adapter, workers)) {
    out.erase(instance);
  }
  return out;
}

TEST(AdapterPlacesTest, RequestsGoWhereItIsLoaded) {
  const std::vector<wire::AdapterCard> has = {Card("a", 7), Card("b", 0)};
  const std::vector<wire::AdapterCard> could = {Card("a", 0)};
  const std::vector<wire::AdapterCard> none;
  const std::vector<AdapterWorker> workers = {{InstanceId{1}, &could},
                                              {InstanceId{2}, &has},
                                              {InstanceId{3}, &none},
                                              {InstanceId{4}, &has}};
  EXPECT_EQ(Where("a", workers), (std::set{InstanceId{2}, InstanceId{4}}));
  EXPECT_EQ(Where("b", workers).size(), 1U) << "nobody has it: one loads it";
  EXPECT_EQ(Where("c", workers).size(), 4U) << "nobody names it";
  const std::vector<wire::AdapterCard> all = JoinAdapters(workers);
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0].name, "a");
  EXPECT_TRUE(all[0].is_loaded());
  EXPECT_FALSE(all[1].is_loaded());
}

TEST(AdapterPlacesTest, AWorkerThatGoesMovesOnlyWhatWasThere) {
  constexpr int kAdapters = 300;
  std::vector<wire::AdapterCard> cards;
  for (int i = 0; i < kAdapters; ++i) {
    cards.push_back(Card("adapter-" + std::to_string(i), 0));
  }
  std::vector<AdapterWorker> workers;
  for (std::uint64_t id = 1; id <= 5; ++id) {
    workers.push_back({InstanceId{id}, &cards});
  }
  std::map<std::string, InstanceId> before;
  std::map<InstanceId, int> counts;
  for (const wire::AdapterCard& card : cards) {
    before[card.name] = *Where(card.name, workers).begin();
    ++counts[before[card.name]];
  }
  ASSERT_EQ(counts.size(), 5U);
  for (const auto& [id, count] : counts) {
    EXPECT_GT(count, kAdapters / 10);
  }
  workers.erase(workers.begin() + 2);
  for (const wire::AdapterCard& card : cards) {
    const InstanceId now = *Where(card.name, workers).begin();
    EXPECT_TRUE(now == before[card.name] || before[card.name] == InstanceId{3});
  }
}

}  // namespace
}  // namespace pixii::frontend
