#include "engine/adapter_store.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "engine/mock_executor.h"

namespace pixii::engine {
namespace {

std::shared_ptr<const AdapterWeights> Weights(const std::string& fingerprint,
                                              std::uint64_t size_bytes = 1) {
  return std::make_shared<MockAdapter>(fingerprint, size_bytes);
}

std::vector<std::string> Names(const AdapterStore& store) {
  std::vector<std::string> out;
  for (const wire::AdapterCard& info : store.List()) {
    out.push_back(info.name);
  }
  return out;
}

TEST(AdapterStore, TakesNoneWithoutSlots) {
  AdapterStore store({.slot_count = 0});
  EXPECT_EQ(store.Load("a", Weights("a"), false).error().code(), Code::kUnsupported);
  EXPECT_EQ(store.Open("a").error().code(), Code::kNotFound);
}

TEST(AdapterStore, NamesAreChecked) {
  AdapterStore store({.slot_count = 1});
  for (const std::string& name : {std::string(), std::string("a b"), std::string("a\nb"),
                                  std::string(kAdapterNameBytesMax + 1, 'a')}) {
    EXPECT_EQ(store.Load(name, Weights("a"), false).error().param(), "lora_name");
  }
}

TEST(AdapterStore, TheSameBytesStayAndOthersAreAnotherVersion) {
  AdapterStore store({.slot_count = 1});
  ASSERT_TRUE(store.Load("a", Weights("one"), false));
  std::shared_ptr<Adapter> first = *store.Open("a");
  ASSERT_TRUE(store.Load("a", Weights("one"), true));
  EXPECT_EQ((*store.Open("a")).get(), first.get());
  EXPECT_TRUE(first->pinned);
  ASSERT_TRUE(store.Load("a", Weights("two"), false));
  std::shared_ptr<Adapter> second = *store.Open("a");
  EXPECT_NE(second->id, first->id);
  EXPECT_NE(second->identity, first->identity);
  EXPECT_FALSE(first->loaded);
  EXPECT_EQ(store.List().size(), 1U);
}

TEST(AdapterStore, AnotherVersionThanTheOneAskedForIsRefused) {
  AdapterStore store({.slot_count = 1});
  ASSERT_TRUE(store.Load("a", Weights("one"), false));
  EXPECT_TRUE(store.Open("a", "one"));
  EXPECT_EQ(store.Open("a", "two").error().code(), Code::kUnavailable);
}

TEST(AdapterStore, ANewOneTakesThePlaceOfTheLeastRecentlyUsed) {
  AdapterStore store({.slot_count = 1, .adapters_max = 3});
  for (const char* name : {"a", "b", "c"}) {
    ASSERT_TRUE(store.Load(name, Weights(name), false));
  }
  (void)store.Open("a");
  ASSERT_TRUE(store.Load("d", Weights("d"), false));
  EXPECT_EQ(Names(store), (std::vector<std::string>{"a", "c", "d"}));
  EXPECT_EQ(store.evictions(), 1U);
}

TEST(AdapterStore, PinnedAndOpenedOnesStay) {
  AdapterStore store({.slot_count = 1, .adapters_max = 2});
  ASSERT_TRUE(store.Load("pinned", Weights("p"), true));
  ASSERT_TRUE(store.Load("opened", Weights("o"), false));
  std::shared_ptr<Adapter> opened = *store.Open("opened");
  EXPECT_EQ(store.Load("new", Weights("n"), false).error().code(), Code::kResourceExhausted);
  EXPECT_EQ(Names(store), (std::vector<std::string>{"opened", "pinned"}));
  opened.reset();
  EXPECT_TRUE(store.Load("new", Weights("n"), false));
  EXPECT_EQ(Names(store), (std::vector<std::string>{"new", "pinned"}));
}

TEST(AdapterStore, BytesAreBoundedAndARefusalDropsNobody) {
  AdapterStore store({.slot_count = 1, .adapters_max = 8, .host_bytes_max = 10});
  ASSERT_TRUE(store.Load("a", Weights("a", 4), false));
  ASSERT_TRUE(store.Load("b", Weights("b", 4), true));
  EXPECT_EQ(store.Load("c", Weights("c", 7), false).error().code(), Code::kResourceExhausted);
  EXPECT_EQ(store.List().size(), 2U);
  EXPECT_TRUE(store.Load("c", Weights("c", 6), false));
  EXPECT_EQ(Names(store), (std::vector<std::string>{"b", "c"}));
}

TEST(AdapterStore, ASlotIsTakenFromWhoDoesNotRun) {
  AdapterStore store({.slot_count = 2});
  std::map<std::string, std::shared_ptr<Adapter>> open;
  for (const char* name : {"a", "b", "c"}) {
    ASSERT_TRUE(store.Load(name, Weights(name), false));
    open[name] = *store.Open(name);
  }
  store.Acquire(*open["a"]);
  store.Acquire(*open["b"]);
  EXPECT_FALSE(store.HasSlotFor(open["c"].get()));
  EXPECT_TRUE(store.HasSlotFor(open["a"].get()));
  EXPECT_TRUE(store.HasSlotFor(nullptr));
  store.Release(*open["a"]);
  ASSERT_TRUE(store.HasSlotFor(open["c"].get()));
  store.Acquire(*open["c"]);
  EXPECT_EQ(open["a"]->slot, -1);
  std::vector<AdapterChange> changes = store.TakeChanges();
  // The slot that a had and lost before anything was put there is named once.
  ASSERT_EQ(changes.size(), 2U);
  EXPECT_EQ(changes[0].weights, open["c"]->weights);
  EXPECT_EQ(changes[1].weights, open["b"]->weights);
  EXPECT_TRUE(store.TakeChanges().empty());
  store.CheckInvariants();
}

TEST(AdapterStore, AnUnloadedOneKeepsItsSlotWhileItRuns) {
  AdapterStore store({.slot_count = 1});
  ASSERT_TRUE(store.Load("a", Weights("a"), false));
  std::shared_ptr<Adapter> adapter = *store.Open("a");
  store.Acquire(*adapter);
  (void)store.TakeChanges();
  ASSERT_TRUE(store.Unload("a"));
  EXPECT_EQ(store.Open("a").error().code(), Code::kNotFound);
  EXPECT_EQ(store.Unload("a").error().code(), Code::kNotFound);
  EXPECT_FALSE(store.has_changes());
  store.Release(*adapter);
  std::vector<AdapterChange> changes = store.TakeChanges();
  ASSERT_EQ(changes.size(), 1U);
  EXPECT_EQ(changes[0].weights, nullptr);
  store.CheckInvariants();
}

// Any order of verbs keeps the bounds, and what the changes leave in each slot is what it should
// hold.
TEST(AdapterStore, RandomVerbsKeepItsPromises) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    AdapterStore store({.slot_count = 3, .adapters_max = 5, .host_bytes_max = 40});
    std::vector<std::shared_ptr<Adapter>> opened;
    std::vector<std::shared_ptr<Adapter>> running;
    std::map<std::uint32_t, std::shared_ptr<const AdapterWeights>> slots;
    for (int i = 0; i < 500; ++i) {
      std::string name(1, static_cast<char>('a' + random() % 8));
      switch (random() % 6) {
        case 0:
          (void)store.Load(name, Weights(name + std::to_string(random() % 2), random() % 12),
                           random() % 8 == 0);
          break;
        case 1:
          (void)store.Unload(name);
          break;
        case 2:
          if (auto adapter = store.Open(name)) {
            opened.push_back(*adapter);
          }
          break;
        case 3:
          if (!opened.empty() && store.HasSlotFor(opened.back().get())) {
            store.Acquire(*opened.back());
            running.push_back(opened.back());
            opened.pop_back();
          }
          break;
        case 4:
          if (!running.empty()) {
            std::swap(running[random() % running.size()], running.back());
            store.Release(*running.back());
            running.pop_back();
          }
          break;
        default:
          for (const AdapterChange& change : store.TakeChanges()) {
            slots[change.slot] = change.weights;
          }
          for (const std::shared_ptr<Adapter>& adapter : running) {
            ASSERT_GE(adapter->slot, 0);
            ASSERT_EQ(slots[static_cast<std::uint32_t>(adapter->slot)], adapter->weights);
          }
      }
      store.CheckInvariants();
    }
  }
}

}  // namespace
}  // namespace pixii::engine
