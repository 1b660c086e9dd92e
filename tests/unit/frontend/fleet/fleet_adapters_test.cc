#include "frontend/fleet/fleet_adapters.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace pixii::frontend {
namespace {

using control::InstanceId;

wire::AdapterCard Card(std::string name, std::uint64_t id) {
  wire::AdapterCard out;
  out.name = std::move(name);
  out.version = std::to_string(id);
  out.id = id;
  return out;
}

std::vector<std::string> NamesOf(const std::vector<wire::AdapterCard>& cards) {
  std::vector<std::string> out;
  for (const wire::AdapterCard& card : cards) {
    out.push_back(card.name);
  }
  return out;
}

TEST(FleetAdaptersTest, RequestsMayNameWhatAnyWorkerHasOrWasToldToHave) {
  FleetAdapters adapters;
  EXPECT_TRUE(adapters.Joined().empty());
  adapters.SetWorker(InstanceId{1}, {Card("a", 0)});
  adapters.SetWorker(InstanceId{2}, {Card("a", 7), Card("b", 8)});
  adapters.Want({.name = "c", .source = "folder"}, Card("c", 9));
  EXPECT_EQ(NamesOf(adapters.Joined()), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_TRUE(adapters.Joined()[0].is_loaded());
  EXPECT_EQ(adapters.NotFor("a"), std::vector{InstanceId{1}});
  EXPECT_EQ(adapters.NotForBegun("a"), adapters.NotFor("a"));
  adapters.RemoveWorker(InstanceId{2});
  EXPECT_TRUE(adapters.NotFor("b").empty()) << "any may say that there is none";
  EXPECT_EQ(adapters.NotForBegun("b"), std::vector{InstanceId{1}}) << "which would be no answer";
  EXPECT_EQ(NamesOf(adapters.Joined()), (std::vector<std::string>{"a", "c"}));
  EXPECT_FALSE(adapters.Joined()[0].is_loaded());
  EXPECT_TRUE(adapters.NotFor("a").empty());
  adapters.Unwant("c");
  EXPECT_EQ(NamesOf(adapters.Joined()), (std::vector<std::string>{"a"}));
}

TEST(FleetAdaptersTest, AWorkerThatCameLaterLacksWhatTheOthersWereToldToLoad) {
  FleetAdapters adapters;
  adapters.Want({.name = "a", .source = "of-a"}, Card("a", 7));
  adapters.Want({.name = "b", .source = "of-b"}, Card("b", 8));
  adapters.SetWorker(InstanceId{1}, {Card("a", 6), Card("b", 8)});
  const std::vector<wire::LoadAdapterRequest> missing = adapters.MissingAt(InstanceId{1});
  ASSERT_EQ(missing.size(), 1U) << "another version of a is not a";
  EXPECT_EQ(missing[0].source, "of-a");
  adapters.SetWorker(InstanceId{1}, {Card("a", 7), Card("b", 8)});
  EXPECT_TRUE(adapters.MissingAt(InstanceId{1}).empty());
}

}  // namespace
}  // namespace pixii::frontend
