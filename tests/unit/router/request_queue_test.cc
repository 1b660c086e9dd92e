#include "router/request_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pixii::router {
namespace {

rt::Time At(double seconds) {
  return rt::Time{} +
         std::chrono::duration_cast<rt::Duration>(std::chrono::duration<double>(seconds));
}

std::unique_ptr<Waiting> Request(std::uint64_t id, double arrived_s, std::uint64_t tokens = 100) {
  auto out = std::make_unique<Waiting>();
  out->request.id = RequestId{id};
  out->arrived = At(arrived_s);
  out->prompt_tokens = tokens;
  return out;
}

std::vector<std::uint64_t> PopAll(RequestQueue& queue) {
  std::vector<std::uint64_t> out;
  while (const std::unique_ptr<Waiting> one =
             queue.Pop([](const Waiting&, const PolicyClass&) { return true; })) {
    out.push_back(Raw(one->request.id));
  }
  return out;
}

RequestQueue Make(QueuePolicy policy) {
  return RequestQueue({.policy = policy, .config = {}, .requests_max = 1000});
}

TEST(RequestQueue, ServesByItsPolicy) {
  for (const auto& [policy, order] :
       {std::pair{QueuePolicy::kFcfs, std::vector<std::uint64_t>{1, 2, 3}},
        std::pair{QueuePolicy::kLcfs, std::vector<std::uint64_t>{3, 2, 1}},
        std::pair{QueuePolicy::kWspt, std::vector<std::uint64_t>{2, 3, 1}}}) {
    RequestQueue queue = Make(policy);
    ASSERT_TRUE(queue.Push(Request(1, 1, 8000), 0, 1));
    ASSERT_TRUE(queue.Push(Request(2, 2, 128), 0, 1));
    ASSERT_TRUE(queue.Push(Request(3, 3, 500), 0, 1));
    EXPECT_EQ(queue.prompt_tokens(), 8628);
    EXPECT_EQ(PopAll(queue), order);
    EXPECT_EQ(queue.prompt_tokens(), 0);
  }
}

TEST(RequestQueue, WsptCountsWhatIsNotCached) {
  RequestQueue queue = Make(QueuePolicy::kWspt);
  auto cached = Request(1, 1, 8000);
  cached->cached_tokens = 7950;
  ASSERT_TRUE(queue.Push(std::move(cached), 0, 1));
  ASSERT_TRUE(queue.Push(Request(2, 2, 128), 0, 1));
  EXPECT_THAT(PopAll(queue), testing::ElementsAre(1, 2));
}

TEST(RequestQueue, PrioritiesJump) {
  RequestQueue queue = Make(QueuePolicy::kFcfs);
  ASSERT_TRUE(queue.Push(Request(1, 0), 0, 1));
  ASSERT_TRUE(queue.Push(Request(2, 5), 0, 1));
  auto jumps = Request(3, 12);
  jumps->request.priority_jump_s = 10;  // as if it came at 2
  ASSERT_TRUE(queue.Push(std::move(jumps), 0, 1));
  auto negative = Request(4, 13);
  negative->request.priority_jump_s = -100;  // as 0
  ASSERT_TRUE(queue.Push(std::move(negative), 0, 1));
  ASSERT_TRUE(queue.Push(Request(5, 14), 0, 1));
  auto strict = Request(6, 20);
  strict->request.strict_priority = 1;
  ASSERT_TRUE(queue.Push(std::move(strict), 0, 1));
  EXPECT_THAT(PopAll(queue), testing::ElementsAre(6, 1, 3, 2, 4, 5));
}

TEST(RequestQueue, APinnedRequestThatCannotGoHoldsUpItsLaneAlone) {
  RequestQueue queue = Make(QueuePolicy::kFcfs);
  auto pinned = Request(1, 0);
  pinned->request.pinned = InstanceId{7};
  ASSERT_TRUE(queue.Push(std::move(pinned), 0, 1));
  auto other = Request(2, 1);
  other->request.pinned = InstanceId{7};
  ASSERT_TRUE(queue.Push(std::move(other), 0, 1));
  ASSERT_TRUE(queue.Push(Request(3, 2), 0, 1));
  const auto without_seven = [](const Waiting& waiting, const PolicyClass&) {
    return !waiting.request.pinned;
  };
  const std::unique_ptr<Waiting> first = queue.Pop(without_seven);
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(first->request.id, RequestId{3});
  EXPECT_EQ(queue.Pop(without_seven), nullptr);
  EXPECT_NE(queue.Remove(RequestId{1}), nullptr);
  EXPECT_THAT(PopAll(queue), testing::ElementsAre(2));
}

PolicyClass Class(std::string name, std::string family, std::string bucket,
                  std::uint64_t quantum = 1) {
  PolicyClass out;
  out.name = std::move(name);
  out.family = std::move(family);
  out.cache_bucket = std::move(bucket);
  out.quantum = quantum;
  return out;
}

PolicyConfig TwoClasses(std::uint64_t first, std::uint64_t second) {
  return {.default_family = "chat",
          .buckets = {{0, "any"}},
          .classes = {Class("chat", "chat", "any", first), Class("batch", "batch", "any", second)}};
}

TEST(RequestQueue, ClassesShareByTheirQuanta) {
  const PolicyConfig config = TwoClasses(512, 128);
  ASSERT_TRUE(CheckPolicyConfig(config));
  RequestQueue queue({.policy = QueuePolicy::kFcfs, .config = config, .requests_max = 1000});
  for (std::uint64_t id = 1; id <= 800; ++id) {
    ASSERT_TRUE(queue.Push(Request(id, 0, 300), id <= 400 ? 0 : 1, 1));
  }
  std::size_t first = 0;
  for (int i = 0; i < 320; ++i) {
    const auto one = queue.Pop([](const Waiting&, const PolicyClass&) { return true; });
    ASSERT_NE(one, nullptr);
    first += Raw(one->request.id) <= 400 ? 1 : 0;
  }
  EXPECT_GE(first, 254);
  EXPECT_LE(first, 258);
}

TEST(DeficitRoundRobin, GivesManyRoundsAtOnce) {
  DeficitRoundRobin turns({1, 1});
  const DeficitRoundRobin::Head heads[] = {{1'000'000, true}, {2'000'000, true}};
  EXPECT_EQ(turns.Next(heads), 0);
  EXPECT_GE(turns.deficit(1), 999'999);
  const DeficitRoundRobin::Head nobody[] = {{1'000'000, false}, {0, false}};
  EXPECT_EQ(turns.Next(nobody), std::nullopt);
  EXPECT_EQ(turns.deficit(1), 0) << "an empty queue saves nothing";
}

TEST(RequestQueue, TheRequestThatCrossesALimitIsTheLast) {
  PolicyConfig config = TwoClasses(1, 1);
  config.classes[0].tokens_per_worker = 1000;
  RequestQueue queue({.policy = QueuePolicy::kFcfs, .config = config, .requests_max = 1000});
  for (std::uint64_t id = 1; id <= 3; ++id) {
    EXPECT_TRUE(queue.Push(Request(id, 0, 900), 0, 2));
  }
  const Result<void> fourth = queue.Push(Request(4, 0, 900), 0, 2);
  ASSERT_FALSE(fourth);
  EXPECT_EQ(fourth.error().code(), Code::kResourceExhausted);
  EXPECT_THAT(fourth.error().detail(),
              testing::AllOf(testing::HasSubstr("chat"), testing::HasSubstr("2000")));
  EXPECT_EQ(queue.size(), 3);
  EXPECT_FALSE(queue.Push(Request(5, 0, 1), 0, 1)) << "fewer workers evict nothing";
  EXPECT_EQ(queue.size(), 3);
  EXPECT_TRUE(queue.Push(Request(6, 0, 900), 1, 2)) << "the other class has no limit";
}

TEST(RequestQueue, ClassifiesByFamilyAndUncachedTokens) {
  PolicyConfig config = {.default_family = "chat",
                         .buckets = {{0, "warm"}, {1000, "cold"}},
                         .classes = {Class("a", "chat", "warm"), Class("b", "chat", "cold"),
                                     Class("c", "batch", "warm"), Class("d", "batch", "cold"),
                                     Class("probe", "", "")}};
  ASSERT_TRUE(CheckPolicyConfig(config));
  const RequestQueue queue({.policy = QueuePolicy::kFcfs, .config = config, .requests_max = 10});
  EXPECT_EQ(queue.ClassOf("", 999), 0);
  EXPECT_EQ(queue.ClassOf("", 1000), 1);
  EXPECT_EQ(queue.ClassOf("batch", 5000), 3);
  EXPECT_EQ(queue.ClassOf("nobody", 5), 0);
  EXPECT_EQ(queue.ClassOf("probe", 5000), 4);
}

TEST(PolicyConfig, RefusesWhatIsNoMatrix) {
  PolicyConfig good = {.default_family = "chat",
                       .buckets = {{0, "warm"}, {1000, "cold"}},
                       .classes = {Class("a", "chat", "warm"), Class("b", "chat", "cold")}};
  EXPECT_TRUE(CheckPolicyConfig(good));
  EXPECT_TRUE(CheckPolicyConfig({}));
  const auto refused = [&](auto change) {
    PolicyConfig config = good;
    change(config);
    const Result<void> checked = CheckPolicyConfig(config);
    return !checked && checked.error().code() == Code::kInvalidArgument;
  };
  EXPECT_TRUE(refused([](PolicyConfig& c) { c.classes.pop_back(); })) << "a cell is missing";
  EXPECT_TRUE(refused([](PolicyConfig& c) { c.buckets[0].tokens_min = 1; }));
  EXPECT_TRUE(refused([](PolicyConfig& c) { c.buckets[1].tokens_min = 0; }));
  EXPECT_TRUE(refused([](PolicyConfig& c) { c.classes.push_back(Class("x", "chat", "")); }));
  EXPECT_TRUE(refused([](PolicyConfig& c) { c.classes.push_back(Class("x", "", "warm")); }));
  EXPECT_TRUE(refused([](PolicyConfig& c) { c.classes.push_back(Class("x", "chat", "warm")); }));
  EXPECT_TRUE(refused([](PolicyConfig& c) { c.classes.push_back(Class("x", "chat", "none")); }));
  EXPECT_TRUE(refused([](PolicyConfig& c) { c.classes.push_back(Class("a", "", "")); }));
  EXPECT_TRUE(refused([](PolicyConfig& c) { c.classes[0].quantum = 0; }));
  EXPECT_TRUE(refused([](PolicyConfig& c) { c.default_family = "nobody"; }));
}

}  // namespace
}  // namespace pixii::router
