#include "frontend/fleet/encode_flight.h"

#include <gtest/gtest.h>

#include <string>

namespace pixii::frontend {
namespace {

using Next = EncodeFlight::Next;

wire::MediaItem Picture(std::uint32_t begin, char colour) {
  wire::MediaItem item{.begin = begin, .count = 3, .height = 1, .width = 3};
  item.pixels.assign(9, colour);
  item.digest = wire::MediaDigest(item);
  return item;
}

/// Pictures a, b and a once more.
wire::GenerateRequest MakeRequest() {
  wire::GenerateRequest request;
  request.id = RequestId{4};
  request.model = "m";
  request.tenant = "t";
  request.choice_count = 2;
  request.prompt.assign(20, 1);
  request.media = {Picture(2, 'a'), Picture(8, 'b'), Picture(12, 'a')};
  wire::PutMediaTokens(request.media, request.prompt);
  return request;
}

wire::TokenFrame Record(const std::string& record) {
  wire::TokenFrame frame;
  frame.handover = record;
  return frame;
}

wire::TokenFrame Failure(Code code) {
  wire::TokenFrame frame;
  frame.finish = wire::FinishReason::kError;
  frame.error = Error(code, "why");
  return frame;
}

TEST(EncodeFlight, EachPictureIsAskedForOnceAndAloneOfItsRequest) {
  EncodeFlight flight(MakeRequest());
  ASSERT_EQ(flight.picture_count(), 2U);
  const wire::GenerateRequest ask = flight.Ask(1);
  EXPECT_TRUE(ask.encode_only);
  EXPECT_EQ(ask.tenant, "t");
  ASSERT_EQ(ask.media.size(), 1U);
  EXPECT_EQ(ask.media[0].digest, flight.digest(1));
  EXPECT_EQ(ask.media[0].begin, 0U);
  ASSERT_EQ(ask.prompt.size(), 3U);
  EXPECT_EQ(ask.prompt[1], wire::MediaToken(flight.digest(1), 1));
}

TEST(EncodeFlight, RecordsGoToAllEqualPictures) {
  EncodeFlight flight(MakeRequest());
  EXPECT_EQ(flight.OnFrame(0, wire::TokenFrame{}), Next::kWait);
  EXPECT_EQ(flight.OnFrame(0, Record("A")), Next::kWait);
  EXPECT_EQ(flight.OnFrame(1, Record("B")), Next::kForward);
  EXPECT_EQ(flight.missed_count(), 0U);
  const wire::GenerateRequest request = flight.Take();
  EXPECT_EQ(request.media[0].encoded, "A");
  EXPECT_EQ(request.media[1].encoded, "B");
  EXPECT_EQ(request.media[2].encoded, "A");
  EXPECT_EQ(request.media[2].begin, 12U);
  EXPECT_FALSE(EncodeFlight::Wants(request)) << "all of it is";
}

TEST(EncodeFlight, WhatIsNotEncodedGoesOnWithout) {
  EncodeFlight flight(MakeRequest());
  EXPECT_EQ(flight.OnFrame(0, Record("A")), Next::kWait);
  wire::TokenFrame gone;
  gone.finish = wire::FinishReason::kLength;
  EXPECT_EQ(flight.OnFrame(0, gone), Next::kWait) << "its lease has ended";
  EXPECT_EQ(flight.OnFrame(1, Failure(Code::kUnavailable)), Next::kForward);
  EXPECT_EQ(flight.missed_count(), 2U);
  const wire::GenerateRequest request = flight.Take();
  EXPECT_TRUE(request.media[0].encoded.empty());
  EXPECT_TRUE(request.media[1].encoded.empty());
}

TEST(EncodeFlight, APictureThatKillsWorkersEndsItsRequest) {
  EncodeFlight flight(MakeRequest());
  EXPECT_EQ(flight.OnFrame(0, Failure(Code::kRequestPoisoned)), Next::kFail);
  const auto frames = flight.EndAll(wire::FinishReason::kError, flight.failure());
  ASSERT_EQ(frames.size(), 2U);
  EXPECT_EQ(frames[1].choice, 1U);
  EXPECT_EQ(frames[1].error->code(), Code::kRequestPoisoned);
}

TEST(EncodeFlight, CancelledChoicesAreRemembered) {
  EncodeFlight flight(MakeRequest());
  EXPECT_FALSE(flight.OnCancel(1));
  EXPECT_EQ(flight.cancelled_choices(), std::vector<std::uint32_t>{1});
  EXPECT_TRUE(flight.OnCancel(0));
  const auto frames = flight.EndAll(wire::FinishReason::kCancelled, std::nullopt);
  EXPECT_EQ(frames[0].finish, wire::FinishReason::kCancelled);
  EncodeFlight other(MakeRequest());
  EXPECT_TRUE(other.OnCancel(std::nullopt));
}

TEST(EncodeFlight, WhatNeedsNoTowerIsNotAskedFor) {
  wire::GenerateRequest request = MakeRequest();
  EXPECT_TRUE(EncodeFlight::Wants(request));
  request.handover = "blocks";
  EXPECT_FALSE(EncodeFlight::Wants(request));
  request.handover.clear();
  request.media = {Picture(2, 'a')};
  request.media[0].pixels.clear();
  request.media[0].features = "rows";
  EXPECT_FALSE(EncodeFlight::Wants(request));
  request.media.clear();
  EXPECT_FALSE(EncodeFlight::Wants(request));
}

}  // namespace
}  // namespace pixii::frontend
