// Workers that look at pictures for others, in virtual time.
#include "frontend/fleet/encode_link.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "rt/sim_world.h"
#include "worker/worker_service.h"

namespace pixii::frontend {
namespace {

constexpr std::uint16_t kPort = 7000;
constexpr rt::Duration kLook = std::chrono::milliseconds(50);  // of a tower at a picture

/// A tower of virtual time: a picture takes kLook, and what it saw is kept until it is cancelled.
class SlowTower final : public control::WorkerLink {
 public:
  explicit SlowTower(rt::Loop& loop) : loop_(loop) {
    card_.name = "m";
    card_.fingerprint = "f";
  }

  const wire::ModelCard& card() const override { return card_; }

  Result<void> Generate(wire::GenerateRequest request, FrameHandler on_frame) override {
    EXPECT_TRUE(request.encode_only);
    const RequestId id = request.id;
    handlers_[id] = std::move(on_frame);
    ++asked;
    loop_.RunAt(loop_.Now() + kLook, [this, id, digest = request.media.front().digest] {
      if (handlers_.contains(id)) {
        ++looked;
        wire::TokenFrame frame;
        frame.id = id;
        frame.handover = "seen " + digest;
        FrameHandler(handlers_.at(id))(std::move(frame));
      }
    });
    return {};
  }

  void Cancel(const wire::CancelRequest& cancel) override {
    loop_.Post([this, id = cancel.id] {
      const auto found = handlers_.find(id);
      if (found == handlers_.end()) {
        return;
      }
      const FrameHandler on_frame = std::move(found->second);
      handlers_.erase(found);
      wire::TokenFrame frame;
      frame.id = id;
      frame.finish = wire::FinishReason::kCancelled;
      on_frame(std::move(frame));
    });
  }

  control::WorkerLoad load() const override { return {}; }

  std::size_t kept() const { return handlers_.size(); }

  int asked = 0;
  int looked = 0;

 private:
  rt::Loop& loop_;
  wire::ModelCard card_;
  std::map<RequestId, FrameHandler> handlers_;
};

struct TowerProcess {
  explicit TowerProcess(rt::SimNode& node_in)
      : node(node_in), tower(node.loop()), service(node.loop(), node.net(), tower, {}) {
    EXPECT_TRUE(service.Start({.host = "0.0.0.0", .port = kPort}));
  }

  rt::SimNode& node;
  SlowTower tower;
  worker::WorkerService service;
};

/// Whoever computes prompts: it says what the test wants.
class Prompts final : public control::WorkerLink {
 public:
  const wire::ModelCard& card() const override { return card_; }

  Result<void> Generate(wire::GenerateRequest request, FrameHandler on_frame) override {
    if (refuses) {
      return Fail(Code::kUnavailable, "nobody");
    }
    const std::uint64_t id = Raw(request.id);
    handlers_[id] = std::move(on_frame);
    requests.emplace(id, std::move(request));
    return {};
  }

  void Cancel(const wire::CancelRequest& cancel) override { cancels.push_back(cancel); }

  control::WorkerLoad load() const override { return {}; }

  void Say(std::uint64_t id, bool finish) {
    wire::TokenFrame frame;
    frame.id = RequestId{id};
    frame.tokens = {1};
    if (finish) {
      frame.finish = wire::FinishReason::kStop;
    }
    FrameHandler(handlers_.at(id))(std::move(frame));
  }

  bool refuses = false;
  std::map<std::uint64_t, wire::GenerateRequest> requests;
  std::vector<wire::CancelRequest> cancels;

 private:
  wire::ModelCard card_;
  std::map<std::uint64_t, FrameHandler> handlers_;
};

class EncodeLinkTest : public ::testing::Test {
 protected:
  void Start(std::uint64_t towers) {
    wire::ModelCard card;
    card.name = "m";
    card.fingerprint = "f";
    FleetOptions options;
    options.flight.moves_max = 1;
    options.patience = rt::Duration::zero();
    options.client.mux.name = "frontend";
    fleet_ = std::make_unique<FleetLink>(frontend_.loop(), frontend_.net(), card, options);
    link_ = std::make_unique<EncodeLink>(frontend_.loop(), *fleet_, prompts_, nullptr);
    for (std::uint64_t number = 1; number <= towers; ++number) {
      const std::string host = "tower" + std::to_string(number);
      towers_[number] = std::make_unique<TowerProcess>(world_.AddNode(host));
      control::Instance instance;
      instance.id = control::InstanceId{number};
      instance.address = host + ":" + std::to_string(kPort);
      instance.role = control::WorkerRole::kEncode;
      instance.card = towers_[number]->tower.card();
      ASSERT_TRUE(fleet_->SetInstance(instance));
    }
    RunUntil([&] { return fleet_->worker_count() == towers; });
  }

  void TearDown() override {
    link_.reset();
    fleet_.reset();
    towers_.clear();
    dead_.clear();
  }

  void RunUntil(const std::function<bool()>& done) {
    EXPECT_EQ(world_.RunUntil(done, world_.now() + std::chrono::seconds(120)), rt::SimEnd::kDone);
  }

  static wire::GenerateRequest Show(std::uint64_t id, const std::string& colours) {
    wire::GenerateRequest request;
    request.id = RequestId{id};
    request.prompt.assign(3 * colours.size() + 1, 1);
    for (const char colour : colours) {
      wire::MediaItem item{.begin = static_cast<std::uint32_t>(3 * request.media.size()),
                           .count = 3,
                           .height = 1,
                           .width = 3};
      item.pixels.assign(9, colour);
      item.digest = wire::MediaDigest(item);
      request.media.push_back(std::move(item));
    }
    wire::PutMediaTokens(request.media, request.prompt);
    return request;
  }

  void Ask(const wire::GenerateRequest& request) {
    const std::uint64_t id = Raw(request.id);
    ASSERT_TRUE(link_->Generate(request, [this, id](wire::TokenFrame frame) {
      EXPECT_EQ(Raw(frame.id), id);
      frames_[id].push_back(std::move(frame));
    }));
  }

  /// Nothing is asked for, kept or waited for anywhere.
  void ExpectQuiet() {
    RunUntil([&] {
      return std::ranges::all_of(towers_, [](const auto& one) {
        return one.second->tower.kept() == 0 && one.second->service.request_count() == 0;
      });
    });
    RunUntil([&] { return fleet_->outstanding_count() == 0 && fleet_->attempt_count() == 0; });
    EXPECT_EQ(link_->outstanding_count(), 0U);
  }

  std::uint64_t Asked() {
    for (const auto& [number, tower] : towers_) {
      if (tower->tower.kept() > 0) {
        return number;
      }
    }
    return 0;
  }

  void Kill(std::uint64_t number) {
    towers_.at(number)->node.Kill();
    dead_.push_back(std::move(towers_.at(number)));
    towers_.erase(number);
  }

  rt::SimWorld world_{rt::SimOptions{.seed = 5}};
  rt::SimNode& frontend_ = world_.AddNode("frontend");
  Prompts prompts_;
  std::map<std::uint64_t, std::unique_ptr<TowerProcess>> towers_;
  std::vector<std::unique_ptr<TowerProcess>> dead_;
  std::unique_ptr<FleetLink> fleet_;
  std::unique_ptr<EncodeLink> link_;
  std::map<std::uint64_t, std::vector<wire::TokenFrame>> frames_;
};

TEST_F(EncodeLinkTest, PicturesAreSeenBeforeThePromptIsComputedAndKeptUntilItsAnswerGoesOn) {
  Start(2);
  const wire::GenerateRequest request = Show(1, "aba");
  Ask(request);
  EXPECT_TRUE(prompts_.requests.empty());
  RunUntil([&] { return prompts_.requests.contains(1); });
  const wire::GenerateRequest& forwarded = prompts_.requests.at(1);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(forwarded.media[i].encoded, "seen " + request.media[i].digest);
    EXPECT_EQ(forwarded.media[i].pixels, request.media[i].pixels);
  }
  EXPECT_EQ(towers_[1]->tower.kept() + towers_[2]->tower.kept(), 2U);
  prompts_.Say(1, false);  // a prefill worker's token: who goes on may want the last rows
  RunUntil([&] { return world_.now() > rt::Time{} + std::chrono::seconds(2); });
  EXPECT_EQ(towers_[1]->tower.kept() + towers_[2]->tower.kept(), 2U);
  prompts_.Say(1, false);
  RunUntil([&] { return towers_[1]->tower.kept() + towers_[2]->tower.kept() == 0; });
  EXPECT_EQ(link_->outstanding_count(), 1U) << "its answer goes on";
  prompts_.Say(1, true);
  ASSERT_EQ(frames_[1].size(), 3U);
  ExpectQuiet();
  EXPECT_EQ(link_->counters().encoded, 2U);
}

TEST_F(EncodeLinkTest, APictureGoesWhereItWentBefore) {
  Start(4);
  std::map<std::uint64_t, int> asked;
  for (std::uint64_t id = 1; id <= 12; ++id) {
    Ask(Show(id, "q"));
    RunUntil([&] { return prompts_.requests.contains(id); });
    prompts_.Say(id, true);
  }
  for (const auto& [number, tower] : towers_) {
    asked[tower->tower.asked] += 1;
  }
  EXPECT_EQ(asked[12], 1) << "one tower saw all of them";
  EXPECT_EQ(asked[0], 3);
  // Many at a time are too many for one.
  std::map<std::uint64_t, int> before;
  for (const auto& [number, tower] : towers_) {
    before[number] = tower->tower.asked;
  }
  for (std::uint64_t id = 100; id < 140; ++id) {
    Ask(Show(id, "q"));
  }
  for (std::uint64_t id = 100; id < 140; ++id) {
    RunUntil([&, id] { return prompts_.requests.contains(id); });
    prompts_.Say(id, true);
  }
  for (const auto& [number, tower] : towers_) {
    EXPECT_LE(tower->tower.asked - before[number], 13) << "of 40, 10 are fair";
  }
  ExpectQuiet();
}

TEST_F(EncodeLinkTest, ATowerThatDiesIsReplacedByAnotherOrByWhoComputes) {
  Start(2);
  Ask(Show(1, "a"));
  RunUntil([&] { return Asked() != 0; });
  Kill(Asked());
  RunUntil([&] { return prompts_.requests.contains(1); });
  EXPECT_FALSE(prompts_.requests.at(1).media[0].encoded.empty()) << "the other one looked";
  prompts_.Say(1, true);
  Ask(Show(2, "b"));
  RunUntil([&] { return Asked() != 0; });
  Kill(Asked());
  RunUntil([&] { return prompts_.requests.contains(2); });
  EXPECT_TRUE(prompts_.requests.at(2).media[0].encoded.empty());
  EXPECT_EQ(link_->counters().missed, 1U);
  prompts_.Say(2, true);
  RunUntil([&] { return !fleet_->has_worker(); });
  Ask(Show(3, "c"));
  EXPECT_TRUE(prompts_.requests.contains(3)) << "nobody is there to be asked";
  EXPECT_EQ(link_->counters().no_worker, 1U);
  prompts_.Say(3, true);
  ExpectQuiet();
}

TEST_F(EncodeLinkTest, ACancelReachesTheTower) {
  Start(2);
  Ask(Show(1, "ab"));
  RunUntil([&] { return Asked() != 0; });
  link_->Cancel({RequestId{1}, std::nullopt});
  ASSERT_EQ(frames_[1].size(), 1U);
  EXPECT_EQ(frames_[1].front().finish, wire::FinishReason::kCancelled);
  ExpectQuiet();
  EXPECT_EQ(towers_[1]->tower.looked + towers_[2]->tower.looked, 0);
  EXPECT_TRUE(prompts_.requests.empty());
  // Once it is forwarded, both hear of it.
  Ask(Show(2, "a"));
  RunUntil([&] { return prompts_.requests.contains(2); });
  link_->Cancel({RequestId{2}, std::nullopt});
  ASSERT_EQ(prompts_.cancels.size(), 1U);
  prompts_.Say(2, true);
  ExpectQuiet();
}

TEST_F(EncodeLinkTest, ARefusalEndsTheRequestAndFreesItsPictures) {
  Start(1);
  prompts_.refuses = true;
  Ask(Show(1, "a"));
  RunUntil([&] { return !frames_[1].empty(); });
  EXPECT_EQ(frames_[1].front().error->code(), Code::kUnavailable);
  ExpectQuiet();
}

TEST_F(EncodeLinkTest, TextGoesOnAtOnce) {
  Start(1);
  wire::GenerateRequest text;
  text.id = RequestId{1};
  text.prompt = {1, 2, 3};
  Ask(text);
  EXPECT_TRUE(prompts_.requests.contains(1));
  prompts_.Say(1, true);
  ExpectQuiet();
}

}  // namespace
}  // namespace pixii::frontend
