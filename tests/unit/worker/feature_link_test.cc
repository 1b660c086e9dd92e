// A worker whose pictures others have looked at.
#include "worker/feature_link.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "unit/worker/feature_fixture.h"

namespace pixii::worker {
namespace {

using testing::MakeFeatures;
using testing::ShowPicture;

/// The engine: it takes requests and says what the test wants.
class ScriptedLink final : public control::WorkerLink {
 public:
  ScriptedLink() { card_.block_tokens = 4; }

  const wire::ModelCard& card() const override { return card_; }

  Result<void> Generate(wire::GenerateRequest request, FrameHandler on_frame) override {
    if (refuses) {
      return Fail(Code::kResourceExhausted, "full");
    }
    const RequestId id = request.id;
    handlers_[id] = std::move(on_frame);
    requests.push_back(std::move(request));
    return {};
  }

  void Cancel(const wire::CancelRequest& cancel) override { cancels.push_back(cancel); }

  control::WorkerLoad load() const override { return {}; }

  void End(std::uint64_t id) {
    wire::TokenFrame frame;
    frame.id = RequestId{id};
    frame.tokens = {1};
    frame.finish = wire::FinishReason::kStop;
    handlers_.at(RequestId{id})(std::move(frame));
  }

  bool refuses = false;
  std::vector<wire::GenerateRequest> requests;
  std::vector<wire::CancelRequest> cancels;

 private:
  wire::ModelCard card_;
  std::map<RequestId, FrameHandler> handlers_;
};

class FeatureLinkTest : public testing::FeatureFixture {
 protected:
  /// A request for a picture that the store has.
  wire::GenerateRequest Encoded(std::uint64_t id, char colour = 'a') {
    wire::GenerateRequest request = ShowPicture(id, 4, colour);
    wire::MediaItem& item = request.media.front();
    EXPECT_TRUE(store_->Put(item.digest, MakeFeatures(4)));
    item.encoded = *store_->Pin(item.digest);
    return request;
  }

  void Generate(wire::GenerateRequest request) {
    const std::uint64_t id = Raw(request.id);
    ASSERT_TRUE(link_.Generate(std::move(request), [this, id](wire::TokenFrame frame) {
      frames_[id].push_back(std::move(frame));
    }));
  }

  std::unique_ptr<FeatureStore> store_ = MakeStore();
  std::unique_ptr<FeatureFetcher> fetcher_ = MakeFetcher();
  ScriptedLink engine_;
  std::map<std::string, std::weak_ptr<const model::VisionFeatures>> offered_;
  FeatureLink link_{*loop_, engine_, *fetcher_, [this](auto digest, auto features) {
                      EXPECT_EQ(features->rows_data, MakeFeatures(4).rows_data);
                      offered_[digest] = features;
                    }};
  std::map<std::uint64_t, std::vector<wire::TokenFrame>> frames_;
};

TEST_F(FeatureLinkTest, FeaturesAreThereBeforeTheRequestAndAsLongAsIt) {
  const wire::GenerateRequest request = Encoded(1);
  const std::string digest = request.media.front().digest;
  Generate(request);
  EXPECT_TRUE(engine_.requests.empty());
  RunUntil([&] { return !engine_.requests.empty(); });
  EXPECT_FALSE(offered_.at(digest).expired());
  EXPECT_EQ(link_.outstanding_count(), 1U);
  Generate(Encoded(2));  // what is here need not come again
  EXPECT_EQ(engine_.requests.size(), 2U);
  EXPECT_EQ(fetcher_->counters().fetched, 1U);
  engine_.End(1);
  EXPECT_FALSE(offered_.at(digest).expired()) << "the other one has them";
  engine_.End(2);
  EXPECT_TRUE(offered_.at(digest).expired());
  EXPECT_EQ(link_.outstanding_count(), 0U);
  EXPECT_EQ(frames_[1].size(), 1U);
  EXPECT_EQ(frames_[2].size(), 1U);
}

TEST_F(FeatureLinkTest, WhatDoesNotComeIsLeftToTheEngine) {
  wire::GenerateRequest request = Encoded(1);
  request.media.front().encoded += "!";
  Generate(request);
  wire::GenerateRequest gone = Encoded(2, 'b');
  store_.reset();
  Generate(gone);
  RunUntil([&] { return engine_.requests.size() == 2; });
  EXPECT_TRUE(offered_.empty());
}

TEST_F(FeatureLinkTest, WhoHasBlocksOfAnotherWorkerFetchesWhatTheyDoNotHold) {
  wire::GenerateRequest decodes = Encoded(1);
  decodes.handover = "a record";
  Generate(decodes);
  EXPECT_EQ(engine_.requests.size(), 1U) << "a block of 4 holds the picture";
  decodes = Encoded(2, 'b');
  decodes.handover = "a record";
  decodes.prompt.insert(decodes.prompt.begin(), 2, 1);
  decodes.media.front().begin = 2;
  Generate(decodes);
  EXPECT_EQ(engine_.requests.size(), 1U) << "its last rows are behind the last whole block";
  RunUntil([&] { return engine_.requests.size() == 2; });
  EXPECT_EQ(offered_.size(), 1U);
  FeatureLink towerless{*loop_, engine_, *fetcher_, [](auto, auto) {}, true};
  decodes = Encoded(3, 'c');
  decodes.handover = "a record";
  ASSERT_TRUE(towerless.Generate(decodes, [](wire::TokenFrame) {}));
  EXPECT_EQ(engine_.requests.size(), 2U) << "it could not compute it if the blocks do not come";
  RunUntil([&] { return engine_.requests.size() == 3; });
}

TEST_F(FeatureLinkTest, WhoComputesNothingFetchesNothing) {
  wire::GenerateRequest fetches = Encoded(2);
  fetches.fetch_only = true;
  Generate(fetches);
  Generate(ShowPicture(3, 4, 'c'));
  EXPECT_EQ(engine_.requests.size(), 2U);
  EXPECT_EQ(link_.outstanding_count(), 0U);
  EXPECT_TRUE(offered_.empty());
}

TEST_F(FeatureLinkTest, ACancelEndsWhatWaits) {
  wire::GenerateRequest request = Encoded(1);
  request.choice_count = 2;
  Generate(request);
  link_.Cancel({RequestId{1}, std::nullopt});
  EXPECT_TRUE(frames_[1].empty()) << "not inside the call";
  RunUntil([&] { return frames_[1].size() == 2; });
  EXPECT_EQ(frames_[1].back().finish, wire::FinishReason::kCancelled);
  EXPECT_TRUE(engine_.requests.empty());
  EXPECT_EQ(link_.outstanding_count(), 0U);
  EXPECT_EQ(fetcher_->running(), 0U);
  wire::GenerateRequest half = Encoded(2);
  half.choice_count = 2;
  Generate(half);
  link_.Cancel({RequestId{2}, 1});
  RunUntil([&] { return !engine_.cancels.empty(); });
  EXPECT_EQ(engine_.requests.size(), 1U);
  EXPECT_EQ(engine_.cancels.front().choice, 1U);
}

TEST_F(FeatureLinkTest, AnEngineThatRefusesEndsTheRequest) {
  engine_.refuses = true;
  Generate(Encoded(1));
  RunUntil([&] { return !frames_[1].empty(); });
  EXPECT_EQ(frames_[1].front().error->code(), Code::kResourceExhausted);
  EXPECT_EQ(link_.outstanding_count(), 0U);
}

}  // namespace
}  // namespace pixii::worker
