// The program's half of the event plane over NATS, on a library that is this test.
#include "control/nats_plane.h"

#include <gtest/gtest.h>

#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "rt/sim_world.h"

namespace pixii::control {
namespace {

struct FakeLibrary {
  std::string url;
  std::string stream;
  std::string subject;
  std::string filter;
  void (*wake)(void* self) = nullptr;
  void* self = nullptr;
  std::deque<std::pair<std::string, std::string>> incoming;
  std::pair<std::string, std::string> taken;
  std::vector<std::pair<std::string, std::string>> published;
  bool closed = false;
};

FakeLibrary* fake = nullptr;

std::string Copy(nats_abi::Bytes bytes) { return {bytes.data, bytes.size}; }

constexpr nats_abi::Library kLibrary{
    .abi = nats_abi::kAbi,
    .open = [](const nats_abi::Options* options, void (*wake)(void*), void* self,
               nats_abi::Session** session) -> const char* {
      fake->url = options->url;
      fake->stream = options->stream;
      fake->subject = options->subject;
      fake->filter = options->filter == nullptr ? "" : options->filter;
      fake->wake = wake;
      fake->self = self;
      *session = reinterpret_cast<nats_abi::Session*>(fake);
      return fake->url == "nats://bad" ? "no such address" : nullptr;
    },
    .publish =
        [](nats_abi::Session*, nats_abi::Bytes subject, nats_abi::Bytes payload) {
          fake->published.emplace_back(Copy(subject), Copy(payload));
        },
    .take = [](nats_abi::Session*, nats_abi::Message* message) -> bool {
      if (fake->incoming.empty()) {
        return false;
      }
      fake->taken = std::move(fake->incoming.front());
      fake->incoming.pop_front();
      message->subject = {fake->taken.first.data(), fake->taken.first.size()};
      message->payload = {fake->taken.second.data(), fake->taken.second.size()};
      return true;
    },
    .status =
        [](nats_abi::Session*, nats_abi::Status* status) {
          status->connected = status->listening = true;
          status->published = 4;
          status->lost = 2;
          status->subscriptions = 3;
        },
    .close = [](nats_abi::Session*) { fake->closed = true; }};

struct Hearing final : EventPlane::Listener {
  void OnPlane(EventPlane::Kind kind, std::string_view message) override {
    heard.emplace_back(kind, message);
    if (on_message) {
      on_message();
    }
  }

  std::vector<std::pair<EventPlane::Kind, std::string>> heard;
  std::function<void()> on_message;
};

class NatsPlaneTest : public testing::Test {
 protected:
  NatsPlaneTest() { fake = &library_; }

  Result<std::unique_ptr<NatsPlane>> Open(NatsPlaneOptions options) {
    return NatsPlane::Open(node_.loop(), {.file = nullptr, .functions = &kLibrary},
                           std::move(options));
  }

  void Come(const std::string& subject, std::string payload) {
    const bool was_empty = library_.incoming.empty();
    library_.incoming.emplace_back(subject, std::move(payload));
    if (was_empty) {
      library_.wake(library_.self);
    }
  }

  void Run() { world_.RunTo(world_.now() + std::chrono::milliseconds(10)); }

  rt::SimWorld world_{rt::SimOptions{.seed = 3}};
  rt::SimNode& node_ = world_.AddNode("frontend");
  FakeLibrary library_;
};

TEST_F(NatsPlaneTest, WhatIsPublishedIsWhatIsHeard) {
  const auto plane = *Open({.url = "nats://here:1", .ns = "a.b"});
  EXPECT_EQ(library_.stream, "pixii-a~b");
  EXPECT_EQ(library_.subject, "pixii.a~b.>");
  EXPECT_EQ(library_.filter, "pixii.a~b.>");
  plane->Publish("f00", EventPlane::Kind::kKvEvents, "first");
  plane->Publish("f00", EventPlane::Kind::kLoad, "second");
  ASSERT_EQ(library_.published.size(), 2U);
  EXPECT_EQ(library_.published[0].first, "pixii.a~b.kv.f00");
  EXPECT_EQ(library_.published[1].first, "pixii.a~b.load.f00");
  Hearing hearing;
  plane->Listen("f00", hearing);
  for (const auto& [subject, payload] : library_.published) {
    Come(subject, payload);
  }
  Run();
  EXPECT_EQ(hearing.heard,
            (std::vector<std::pair<EventPlane::Kind, std::string>>{
                {EventPlane::Kind::kKvEvents, "first"}, {EventPlane::Kind::kLoad, "second"}}));
  plane->Forget("f00", hearing);
  const EventPlane::Counters counters = plane->counters();
  EXPECT_EQ(counters.heard, 2U);
  EXPECT_EQ(counters.published, 4U);
  EXPECT_EQ(counters.lost, 2U);
  EXPECT_EQ(counters.breaks, 2U);
  EXPECT_TRUE(plane->ready());
}

TEST_F(NatsPlaneTest, WhatIsNoMessageOfOursIsCountedAndDropped) {
  const auto plane = *Open({.url = "nats://here:1", .ns = "dynamo"});
  Hearing hearing;
  plane->Listen("f00", hearing);
  const std::string good = EventPlane::Seal("good");
  for (const char* const subject :
       {"pixii.dynamo.kv", "pixii.dynamo.kv.", "pixii.dynamo.other.f00", "pixii.dynamo.kv.f00.more",
        "pixii.others.kv.f00", "", "pixii.dynamo.", "pixii.dynamo.kv.nobody"}) {
    Come(subject, good);
  }
  Run();
  EXPECT_EQ(plane->counters().unknown, 8U);
  std::string damaged = good;
  damaged[1] ^= 4;
  for (const std::string& payload : {damaged, std::string("good"), std::string(), good.substr(1)}) {
    Come("pixii.dynamo.kv.f00", payload);
  }
  Run();
  EXPECT_EQ(plane->counters().malformed, 4U);
  EXPECT_TRUE(hearing.heard.empty());
  plane->Forget("f00", hearing);
}

TEST_F(NatsPlaneTest, AListenerMayGoWhileItsMessageIsDelivered) {
  const auto plane = *Open({.url = "nats://here:1", .ns = "dynamo"});
  Hearing first;
  Hearing second;
  plane->Listen("f00", first);
  plane->Listen("f00", second);
  first.on_message = [&] { plane->Forget("f00", second); };
  Come("pixii.dynamo.kv.f00", EventPlane::Seal("x"));
  Run();
  EXPECT_EQ(first.heard.size(), 1U);
  EXPECT_TRUE(second.heard.empty());
  plane->Forget("f00", first);
}

// A turn takes some; others on the loop are not kept waiting, and nothing is left behind.
TEST_F(NatsPlaneTest, ManyMessagesComeInSeveralTurns) {
  const auto plane = *Open({.url = "nats://here:1", .ns = "dynamo"});
  Hearing hearing;
  plane->Listen("f00", hearing);
  for (int i = 0; i < 5000; ++i) {
    Come("pixii.dynamo.kv.f00", EventPlane::Seal(std::to_string(i)));
  }
  std::size_t then = 0;
  node_.loop().Post([&] { then = hearing.heard.size(); });
  Run();
  EXPECT_EQ(hearing.heard.size(), 5000U);
  EXPECT_LT(then, 5000U);
  EXPECT_EQ(hearing.heard[4999].second, "4999");
  plane->Forget("f00", hearing);
}

TEST_F(NatsPlaneTest, AWorkerListensToNobodyAndABadAddressIsSaid) {
  {
    const auto plane = *Open({.url = "nats://here:1", .ns = "dynamo", .listens = false});
    EXPECT_EQ(library_.filter, "");
  }
  EXPECT_TRUE(library_.closed);
  const auto bad = Open({.url = "nats://bad", .ns = "dynamo"});
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().code(), Code::kInvalidArgument);
  EXPECT_EQ(bad.error().detail(), "no such address");
}

}  // namespace
}  // namespace pixii::control
