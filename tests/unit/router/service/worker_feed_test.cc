// A router's process that listens to workers with mock engines, over a simulated network.
#include "router/service/worker_feed.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "support/ranked_link.h"
#include "support/worker_process.h"
#include "unit/router/service/router_process.h"

namespace pixii::router {
namespace {

using std::chrono::seconds;

class WorkerFeedTest : public ::testing::Test {
 protected:
  WorkerFeedTest() { StartWorker(); }

  void StartWorker() {
    if (worker_ && worker_->node.alive()) {
      worker_->node.Kill();
    }
    worker_.reset();
    worker_ = std::make_unique<pixii::testing::WorkerProcess>(world_.AddNode("worker"));
  }

  control::Instance Instance(std::uint64_t id) {
    control::Instance out;
    out.id = InstanceId{id};
    out.address = "worker:7000";
    out.card = worker_->link.card();
    return out;
  }

  void RunUntil(const std::function<bool()>& done) {
    ASSERT_EQ(world_.RunUntil(done, world_.now() + seconds(60)), rt::SimEnd::kDone);
  }

  std::size_t SaidCount(std::string_view event, std::string_view why = "") const {
    return static_cast<std::size_t>(std::ranges::count_if(lines_, [&](const std::string& line) {
      return line.find(event) != std::string::npos && line.find(why) != std::string::npos;
    }));
  }

  std::size_t RankCount() {
    Pool* const pool = router_.pools.Find("mock", "default");
    return pool == nullptr ? 0 : pool->router().Loads().size();
  }

  rt::SimWorld world_{{.seed = 2}};
  std::unique_ptr<pixii::testing::WorkerProcess> worker_;
  RouterProcess router_{world_.AddNode("router")};
  std::map<InstanceId, bool> heard_;
  std::vector<InstanceId> going_away_;
  std::vector<std::string> lines_;
  obs::Log log_{{},
                [] { return rt::WallTime{}; },
                [this](obs::Severity, std::string_view line) { lines_.emplace_back(line); }};
  WorkerFeed feed_{
      router_.node.loop(),
      router_.node.net(),
      router_.pools,
      {.client = {},
       .on_connection = [this](InstanceId id, bool connected) { heard_[id] = connected; },
       .on_going_away = [this](InstanceId id) { going_away_.push_back(id); },
       .log = &log_}};
};

TEST_F(WorkerFeedTest, AWorkerIsThereWhileItsConnectionIs) {
  ASSERT_TRUE(feed_.SetInstance(Instance(7)));
  RunUntil([&] { return RankCount() == 1; });
  EXPECT_TRUE(heard_.at(InstanceId{7}));
  EXPECT_EQ(router_.pools.Find("mock", "default")->name().block_tokens, 4U);
  worker_->node.Kill();
  RunUntil([&] { return RankCount() == 0; });
  EXPECT_FALSE(heard_.at(InstanceId{7}));
  StartWorker();
  RunUntil([&] { return RankCount() == 1; });
  feed_.RemoveInstance(InstanceId{7});
  EXPECT_EQ(RankCount(), 0U);
}

TEST_F(WorkerFeedTest, WorkersWithOtherBlocksAreAPoolOfTheirOwn) {
  ASSERT_TRUE(feed_.SetInstance(Instance(7)));
  RunUntil([&] { return RankCount() == 1; });
  control::Instance other = Instance(8);
  other.card.block_tokens = 8;
  ASSERT_TRUE(feed_.SetInstance(other)) << "as one that takes the place of the first";
  Pool* const pool =
      router_.pools.Find(wire::PoolName{.model = "mock", .group = "default", .block_tokens = 8});
  ASSERT_NE(pool, nullptr);
  EXPECT_EQ(router_.pools.Find("mock", "default")->name().block_tokens, 4U);
  pool->router().SetWorker(other);
  feed_.RemoveInstance(InstanceId{7});
  EXPECT_EQ(router_.pools.Find("mock", "default"), pool) << "who has the workers has the name";
  EXPECT_EQ(router_.pools.Find("moc", "default"), nullptr);
}

TEST_F(WorkerFeedTest, OneThatDrainsTakesNothingNew) {
  ASSERT_TRUE(feed_.SetInstance(Instance(7)));
  RunUntil([&] { return RankCount() == 1; });
  control::Instance draining = Instance(7);
  draining.draining = true;
  ASSERT_TRUE(feed_.SetInstance(draining));
  Result<Target> target = Target{};
  router_.pools.Find("mock", "default")
      ->Submit(MakeRequest(1),
               [&](const Dispatch& dispatch, const Placement*) { target = dispatch.target; });
  EXPECT_EQ(target.error().code(), Code::kUnavailable);
}

TEST_F(WorkerFeedTest, EachRankIsHeardWithItsOwnLoad) {
  rt::SimNode& node = world_.AddNode("ranked");
  pixii::testing::RankedLink link(node.loop(), worker_->link.card());
  link.loads[1].state = wire::WorkerState::kAsleep;
  worker::WorkerService service(node.loop(), node.net(), link, worker::WorkerServiceOptions{});
  ASSERT_TRUE(service.Start({.host = "0.0.0.0", .port = 7000}));
  control::Instance instance = Instance(7);
  instance.address = "ranked:7000";
  instance.rank_count = 2;
  ASSERT_TRUE(feed_.SetInstance(instance));
  RunUntil([&] { return RankCount() == 2; });
  const auto standings = [&] {
    std::vector<Standing> out;
    for (const Candidate& one : router_.pools.Find("mock", "default")
                                    ->router()
                                    .Explain(MakeRequest(1), router_.node.loop().Now())) {
      out.push_back(one.standing);
    }
    return out;
  };
  RunUntil([&] { return standings() == std::vector{Standing::kEligible, Standing::kDraining}; });
  link.loads[1].state = wire::WorkerState::kAwake;
  RunUntil([&] { return standings() == std::vector{Standing::kEligible, Standing::kEligible}; });
}

TEST_F(WorkerFeedTest, ThatOneSleepsAndThatItWakesIsLogged) {
  rt::SimNode& node = world_.AddNode("ranked");
  pixii::testing::RankedLink link(node.loop(), worker_->link.card());
  link.state = wire::WorkerState::kAsleep;
  worker::WorkerService service(node.loop(), node.net(), link, worker::WorkerServiceOptions{});
  ASSERT_TRUE(service.Start({.host = "0.0.0.0", .port = 7000}));
  control::Instance instance = Instance(7);
  instance.address = "ranked:7000";
  instance.rank_count = 2;
  ASSERT_TRUE(feed_.SetInstance(instance));
  RunUntil([&] { return RankCount() == 2; });
  EXPECT_EQ(SaidCount("worker.came"), 0U) << "nothing can be sent to one that sleeps";
  link.state = wire::WorkerState::kAwake;
  RunUntil([&] { return SaidCount("worker.came") == 1; });
  link.state = wire::WorkerState::kAsleep;
  RunUntil([&] { return SaidCount("worker.left", "it sleeps") == 1; });
  EXPECT_EQ(RankCount(), 2U) << "the router has it still";
  link.state = wire::WorkerState::kAwake;
  RunUntil([&] { return SaidCount("worker.came") == 2; });
  feed_.RemoveInstance(InstanceId{7});
  EXPECT_EQ(SaidCount("worker.left"), 2U);
}

TEST_F(WorkerFeedTest, OneOfAnotherModelLeavesTheRouterItWasIn) {
  ASSERT_TRUE(feed_.SetInstance(Instance(7)));
  RunUntil([&] { return RankCount() == 1; });
  control::Instance other = Instance(7);
  other.card.name = "other";
  ASSERT_TRUE(feed_.SetInstance(other));
  EXPECT_EQ(RankCount(), 0U);
  EXPECT_EQ(feed_.workers().at(InstanceId{7}).pool->name().model, "other");
}

TEST_F(WorkerFeedTest, OneThatSaysThatItEndsIsToldOfOnce) {
  ASSERT_TRUE(feed_.SetInstance(Instance(7)));
  RunUntil([&] { return RankCount() == 1; });
  EXPECT_TRUE(going_away_.empty());
  worker_->service.Drain();
  RunUntil([&] { return !going_away_.empty(); });
  worker_->service.Announce();  // it goes on reporting
  world_.RunTo(world_.now() + seconds(1));
  EXPECT_EQ(going_away_, std::vector<InstanceId>{InstanceId{7}});
}

TEST_F(WorkerFeedTest, OneThatCannotBeOfThePoolIsRefused) {
  ASSERT_TRUE(feed_.SetInstance(Instance(7)));
  control::Instance other = Instance(8);
  other.card.block_tokens = 0;
  EXPECT_EQ(feed_.SetInstance(other).error().param(), "block_size");
  other = Instance(9);
  other.address = "nonsense";
  EXPECT_FALSE(feed_.SetInstance(other));
  EXPECT_EQ(feed_.workers().size(), 1U);
}

}  // namespace
}  // namespace pixii::router
