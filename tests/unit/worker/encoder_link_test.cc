// A tower alone as a worker.
#include "worker/encoder_link.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "rt/thread.h"
#include "unit/worker/feature_fixture.h"

namespace pixii::worker {
namespace {

using testing::MakeFeatures;
using testing::ShowPicture;

/// Holds the tower's thread until it is let go.
class Gate final {
 public:
  void Pass() {
    rt::MutexLock lock(mutex_);
    ++arrived_;
    while (closed_) {
      changed_.Wait(mutex_);
    }
  }

  void Set(bool closed) {
    rt::MutexLock lock(mutex_);
    closed_ = closed;
    changed_.NotifyAll();
  }

  int arrived() {
    rt::MutexLock lock(mutex_);
    return arrived_;
  }

 private:
  rt::Mutex mutex_;
  rt::CondVar changed_;
  bool closed_ PX_GUARDED_BY(mutex_) = false;
  int arrived_ PX_GUARDED_BY(mutex_) = 0;
};

class FakeEncoder final : public engine::MediaEncoder {
 public:
  explicit FakeEncoder(Gate& gate) : gate_(gate) {}

  const wire::VisionCard& card() const override { return card_; }

  bool mutual() const override { return false; }

  Result<Shape> Measure(const wire::MediaItem& item) const override {
    return Shape{.tokens = item.width, .grid = {}};
  }

  Result<model::VisionFeatures> Encode(const wire::MediaItem& item) override {
    gate_.Pass();
    if (item.pixels[0] == 'x') {
      return Fail(Code::kModelFault, "a row is not finite");
    }
    return MakeFeatures(static_cast<std::int32_t>(item.count));
  }

 private:
  Gate& gate_;
  wire::VisionCard card_{.image_token = 1, .row_size = 2};
};

class EncoderLinkTest : public testing::FeatureFixture {
 protected:
  void Start(EncoderLinkOptions options = {}, std::uint64_t bytes_max = 1 << 20) {
    auto store = MakeStore("tcp", bytes_max);
    link_ = std::make_unique<EncoderLink>(*loop_, std::move(options),
                                          std::make_unique<FakeEncoder>(gate_), std::move(store));
  }

  void TearDown() override {
    gate_.Set(false);
    link_.reset();
  }

  Result<void> Ask(wire::GenerateRequest request) {
    const std::uint64_t id = Raw(request.id);
    request.encode_only = true;
    return link_->Generate(std::move(request), [this, id](wire::TokenFrame frame) {
      frames_[id].push_back(std::move(frame));
    });
  }

  bool HasRecord(std::uint64_t id) {
    return !frames_[id].empty() && !frames_[id].front().handover.empty();
  }

  bool Ended(std::uint64_t id) { return !frames_[id].empty() && frames_[id].back().finish; }

  Code CodeOf(std::uint64_t id) { return frames_[id].back().error->code(); }

  Gate gate_;
  std::unique_ptr<EncoderLink> link_;
  std::map<std::uint64_t, std::vector<wire::TokenFrame>> frames_;
};

TEST_F(EncoderLinkTest, KeepsFeaturesForAsLongAsTheRequestStands) {
  Start({}, 0);
  ASSERT_TRUE(Ask(ShowPicture(1, 4, 'a')));
  EXPECT_TRUE(frames_[1].empty()) << "not inside the call";
  RunUntil([&] { return HasRecord(1); });
  EXPECT_FALSE(Ended(1));
  EXPECT_EQ(link_->store().pinned_bytes(), 4U * 2 * sizeof(float));
  const auto fetcher = MakeFetcher();
  wire::MediaItem item = ShowPicture(1, 4, 'a').media.front();
  item.encoded = frames_[1].front().handover;
  bool fetched = false;
  fetcher->Fetch(item, [&](const Result<FeatureFetcher::Features>& features) {
    fetched = features && (*features)->rows_data == MakeFeatures(4).rows_data;
  });
  RunUntil([&] { return fetched; });
  link_->Cancel({RequestId{1}, std::nullopt});
  RunUntil([&] { return Ended(1); });
  EXPECT_EQ(frames_[1].back().finish, wire::FinishReason::kCancelled);
  EXPECT_EQ(link_->store().count(), 0U) << "the budget is nothing";
  EXPECT_EQ(link_->outstanding_count(), 0U);
  EXPECT_EQ(link_->counters().cancelled, 0U) << "it had what it wanted";
}

TEST_F(EncoderLinkTest, EqualPicturesAreLookedAtOnce) {
  Start();
  gate_.Set(true);
  ASSERT_TRUE(Ask(ShowPicture(1, 4, 'a')));
  ASSERT_TRUE(Ask(ShowPicture(2, 4, 'a')));
  RunUntil([&] { return gate_.arrived() == 1; });
  ASSERT_TRUE(Ask(ShowPicture(3, 4, 'a')));
  ASSERT_TRUE(Ask(ShowPicture(4, 4, 'b')));
  RunUntil([&] { return link_->load().queued == 1; });
  EXPECT_EQ(link_->load().running, 1U);
  gate_.Set(false);
  RunUntil([&] { return HasRecord(1) && HasRecord(2) && HasRecord(3) && HasRecord(4); });
  ASSERT_TRUE(Ask(ShowPicture(5, 4, 'a')));
  RunUntil([&] { return HasRecord(5); });
  EXPECT_EQ(gate_.arrived(), 2);
  EXPECT_EQ(link_->counters().encoded, 2U);
  EXPECT_EQ(link_->counters().cache_hits, 1U);
}

TEST_F(EncoderLinkTest, WhatNobodyWaitsForIsNotLookedAt) {
  Start();
  gate_.Set(true);
  ASSERT_TRUE(Ask(ShowPicture(1, 4, 'a')));
  RunUntil([&] { return gate_.arrived() == 1; });
  ASSERT_TRUE(Ask(ShowPicture(2, 4, 'b')));
  ASSERT_TRUE(Ask(ShowPicture(3, 4, 'c')));
  RunUntil([&] { return link_->load().queued == 2; });
  link_->Cancel({RequestId{2}, std::nullopt});
  RunUntil([&] { return Ended(2); });
  EXPECT_EQ(frames_[2].back().finish, wire::FinishReason::kCancelled);
  EXPECT_EQ(link_->load().queued, 1U);
  gate_.Set(false);
  RunUntil([&] { return HasRecord(1) && HasRecord(3); });
  EXPECT_EQ(gate_.arrived(), 2) << "b was not";
  EXPECT_EQ(link_->counters().cancelled, 1U);
}

TEST_F(EncoderLinkTest, AWrongDigestHarmsItsOwnRequestAlone) {
  Start();
  gate_.Set(true);
  ASSERT_TRUE(Ask(ShowPicture(1, 4, 'z')));  // keeps the tower busy
  RunUntil([&] { return gate_.arrived() == 1; });
  wire::GenerateRequest wrong = ShowPicture(2, 4, 'a');
  wrong.media.front().pixels[0] = 'b';
  ASSERT_TRUE(Ask(wrong));
  ASSERT_TRUE(Ask(ShowPicture(3, 4, 'a')));
  gate_.Set(false);
  RunUntil([&] { return Ended(2) && HasRecord(3); });
  EXPECT_EQ(CodeOf(2), Code::kInvalidArgument);
  EXPECT_EQ(link_->counters().failed, 1U);
}

TEST_F(EncoderLinkTest, ATowerThatFailsEndsAllWhoAsked) {
  Start();
  ASSERT_TRUE(Ask(ShowPicture(1, 4, 'x')));
  ASSERT_TRUE(Ask(ShowPicture(2, 4, 'x')));
  RunUntil([&] { return Ended(1) && Ended(2); });
  EXPECT_EQ(CodeOf(1), Code::kModelFault);
  EXPECT_EQ(CodeOf(2), Code::kModelFault);
  EXPECT_EQ(link_->outstanding_count(), 0U);
}

TEST_F(EncoderLinkTest, LeasesAndDeadlinesEnd) {
  EncoderLinkOptions options;
  options.lease = std::chrono::milliseconds(1);
  Start(std::move(options));
  ASSERT_TRUE(Ask(ShowPicture(1, 4, 'a')));
  RunUntil([&] { return Ended(1); });
  EXPECT_TRUE(HasRecord(1));
  EXPECT_EQ(frames_[1].back().finish, wire::FinishReason::kLength);
  EXPECT_EQ(link_->store().pinned_bytes(), 0U);
  EXPECT_EQ(link_->counters().expired, 1U);
  gate_.Set(true);
  wire::GenerateRequest late = ShowPicture(2, 4, 'b');
  late.deadline_left_ns = 1'000'000;
  ASSERT_TRUE(Ask(late));
  RunUntil([&] { return Ended(2); });
  EXPECT_EQ(CodeOf(2), Code::kDeadlineExceeded);
}

TEST_F(EncoderLinkTest, TakesNothingElseAndNoMoreThanItMay) {
  EncoderLinkOptions options;
  options.requests_max = 2;
  Start(std::move(options));
  wire::GenerateRequest text;
  text.stop.max_tokens = 20;
  EXPECT_EQ(link_->Generate(text, [](wire::TokenFrame) {}).error().code(), Code::kUnsupported);
  wire::GenerateRequest none;
  none.id = RequestId{9};
  EXPECT_EQ(Ask(none).error().code(), Code::kInvalidArgument);
  gate_.Set(true);
  ASSERT_TRUE(Ask(ShowPicture(1, 4, 'a')));
  ASSERT_TRUE(Ask(ShowPicture(2, 4, 'a')));
  EXPECT_EQ(Ask(ShowPicture(3, 4, 'a')).error().code(), Code::kResourceExhausted);
  gate_.Set(false);
  RunUntil([&] { return HasRecord(2); });
  link_->Close(Error(Code::kShuttingDown, "the worker ends"));
  EXPECT_TRUE(Ended(1) && Ended(2));
  EXPECT_EQ(Ask(ShowPicture(4, 4, 'a')).error().code(), Code::kShuttingDown);
}

TEST_F(EncoderLinkTest, TheWatchHearsOfTheTowersThread) {
  Start();
  wire::GenerateRequest probe;
  probe.id = RequestId{1};
  probe.prompt = {0};
  probe.stop.max_tokens = 1;
  gate_.Set(true);
  ASSERT_TRUE(Ask(ShowPicture(2, 4, 'a')));
  RunUntil([&] { return gate_.arrived() == 1; });
  const std::uint64_t steps = link_->load().steps;
  ASSERT_TRUE(link_->Generate(
      probe, [this](wire::TokenFrame frame) { frames_[1].push_back(std::move(frame)); }));
  gate_.Set(false);
  RunUntil([&] { return Ended(1); });
  EXPECT_EQ(frames_[1].front().tokens.size(), 1U);
  EXPECT_TRUE(HasRecord(2)) << "it waited behind the picture";
  EXPECT_EQ(link_->load().steps, steps + 2);
}

}  // namespace
}  // namespace pixii::worker
