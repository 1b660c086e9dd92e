#include "control/kube_client.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>

#include "sim/kube_objects_check.h"
#include "unit/control/store_worlds.h"

namespace pixii::control {
namespace {

using std::chrono::seconds;
using wire::Json;

class KubeClientTest : public testing::Test {
 protected:
  KubeClientTest() : folder_(testing::TempDir() + "pixii-token-XXXXXX") {
    EXPECT_NE(::mkdtemp(folder_.data()), nullptr);
    access_ = world_.access();
    access_.token_file = folder_ + "/token";
    WriteToken("one\n");
    world_.server().SetTokens({"one"});
  }

  ~KubeClientTest() override { std::filesystem::remove_all(folder_); }

  void WriteToken(const std::string& text) { std::ofstream(access_.token_file) << text; }

  static rt::Task<void> Into(rt::Task<Result<KubeAnswer>> task,
                             std::optional<Result<KubeAnswer>>& out) {
    out = co_await std::move(task);
  }

  Result<KubeAnswer> Do(rt::Task<Result<KubeAnswer>> task) {
    std::optional<Result<KubeAnswer>> out;
    world_.loop().Spawn(Into(std::move(task), out));
    EXPECT_TRUE(world_.RunUntil([&] { return out.has_value(); }));
    return std::move(*out);
  }

  rt::Time Soon() { return world_.loop().Now() + seconds(1); }

  KubeClient& client() {
    if (!client_) {
      client_ = std::make_unique<KubeClient>(world_.loop(), world_.net(), access_);
    }
    return *client_;
  }

  Result<KubeAnswer> List() { return Do(client().List(KubeKind::kConfigMap, {}, Soon())); }

  KubeStoreWorld world_;
  std::string folder_;
  KubeAccess access_;
  std::unique_ptr<KubeClient> client_;
};

TEST_F(KubeClientTest, ObjectsAreMadeReplacedAndDeletedOnlyAsTheyWereSeen) {
  const Json made = MakeKubeEntry("k", "1", "h", {.uid = "u"});
  const auto created = Do(client().Create(KubeKind::kConfigMap, made, Soon()));
  ASSERT_TRUE(created) << created.error().detail();
  EXPECT_EQ(created->status, 201);
  const KubeVersion first = VersionOf(created->body);
  EXPECT_EQ(Do(client().Create(KubeKind::kConfigMap, made, Soon()))->status, 409);
  Json next = MakeKubeEntry("k", "2", "h", {.uid = "u"});
  kube::SetMeta(next, "resourceVersion", first.resource_version);
  const std::string name = KubeEntryName("k");
  const auto replaced = Do(client().Replace(KubeKind::kConfigMap, name, next, Soon()));
  ASSERT_TRUE(replaced && replaced->ok());
  EXPECT_EQ(Do(client().Replace(KubeKind::kConfigMap, name, next, Soon()))->status, 409);
  const auto read = Do(client().Get(KubeKind::kConfigMap, name, Soon()));
  EXPECT_EQ(ReadKubeEntry(read->body)->value, "2");
  EXPECT_EQ(Do(client().Delete(KubeKind::kConfigMap, name, first, Soon()))->status, 409);
  EXPECT_EQ(Do(client().Delete(KubeKind::kConfigMap, name, VersionOf(read->body), Soon()))->status,
            200);
  EXPECT_EQ(Do(client().Get(KubeKind::kConfigMap, name, Soon()))->status, 404);
}

TEST_F(KubeClientTest, ATokenThatWasReplacedIsReadAnewAndTheCallSucceeds) {
  EXPECT_TRUE(List());
  world_.server().SetTokens({"two"});
  WriteToken("two");
  const auto listed = List();
  EXPECT_TRUE(listed) << listed.error().detail();
  world_.server().SetTokens({"three"});
  EXPECT_EQ(List().error().code(), Code::kUnauthenticated);
  std::filesystem::remove(access_.token_file);
  EXPECT_EQ(List().error().code(), Code::kUnauthenticated);
  WriteToken("a b");
  EXPECT_EQ(List().error().code(), Code::kUnauthenticated) << "no header of its own";
  WriteToken("three\n");
  EXPECT_TRUE(List());
}

TEST_F(KubeClientTest, ATokenIsReadAnewEveryMinuteBeforeTheOldOneIsRefused) {
  EXPECT_TRUE(List());
  world_.server().SetTokens({"one", "two"});
  WriteToken("two");
  EXPECT_TRUE(List());
  world_.RunFor(seconds(61));
  EXPECT_TRUE(List());
  world_.server().SetTokens({"two"});
  WriteToken("broken");  // not looked at again so soon
  EXPECT_TRUE(List());
}

TEST_F(KubeClientTest, RefusalsSayWhatIsMissing) {
  world_.server().SetRules(kube::Rules{{{"leases", {"list"}}}});
  const auto listed = List();
  ASSERT_FALSE(listed);
  EXPECT_EQ(listed.error().code(), Code::kForbidden);
  EXPECT_NE(listed.error().detail().find("configmaps is forbidden: the account cannot list"),
            std::string::npos);
}

TEST_F(KubeClientTest, AServerThatIsBusyIsLeftAloneAsLongAsItSays) {
  world_.server().Inject(
      {.status = 429, .reason = "TooManyRequests", .retry_after_s = 7, .count = 1});
  EXPECT_EQ(List().error().code(), Code::kUnavailable);
  EXPECT_GT(client().not_before(), world_.loop().Now() + seconds(6));
  EXPECT_LE(client().not_before(), world_.loop().Now() + seconds(7));
  world_.server().Inject({.status = 503, .retry_after_s = 100'000});
  EXPECT_EQ(List().error().code(), Code::kUnavailable);
  EXPECT_LE(client().not_before(), world_.loop().Now() + seconds(60));
}

TEST_F(KubeClientTest, AServerThatDoesNotAnswerIsAnErrorByTheDeadline) {
  world_.server().Hang(true);
  EXPECT_EQ(List().error().code(), Code::kDeadlineExceeded);
  world_.server().Hang(false);
  world_.server().Stop();
  const auto listed = List();
  EXPECT_EQ(listed.error().code(), Code::kUnavailable);
  EXPECT_NE(listed.error().detail().find("kube:8001"), std::string::npos);
}

TEST_F(KubeClientTest, PagesAndMetadataAloneAreAsked) {
  for (const std::string key : {"a", "b", "c"}) {
    ASSERT_TRUE(Do(
        client().Create(KubeKind::kConfigMap, MakeKubeEntry(key, "x", "h", {.uid = "u"}), Soon())));
  }
  const auto some = Do(client().List(KubeKind::kConfigMap,
                                     KubeListOptions{.limit = 2, .metadata_only = true}, Soon()));
  ASSERT_TRUE(some);
  ASSERT_EQ(some->body.Find("items")->array().size(), 2U);
  EXPECT_EQ(some->body.Find("items")->array()[0].Find("data"), nullptr);
  EXPECT_NE(TextAt(some->body, {"metadata", "continue"}), "");
  const auto none = Do(client().List(
      KubeKind::kConfigMap, KubeListOptions{.selector = "pixii.dev/holder=other"}, Soon()));
  EXPECT_TRUE(none->body.Find("items")->array().empty());
}

TEST(KubeWatchLineTest, EventsAreRead) {
  const auto put = KubeClient::ReadWatchLine(
      R"({"type":"MODIFIED","object":{"metadata":{"name":"a","resourceVersion":"5"}}})");
  ASSERT_TRUE(put);
  EXPECT_EQ(put->type, KubeEvent::Type::kPut);
  EXPECT_EQ(VersionOf(put->object).resource_version, "5");
  EXPECT_EQ(KubeClient::ReadWatchLine(R"({"type":"DELETED","object":{}})")->type,
            KubeEvent::Type::kDeleted);
  EXPECT_EQ(KubeClient::ReadWatchLine(R"({"type":"BOOKMARK","object":{}})")->type,
            KubeEvent::Type::kBookmark);
}

TEST(KubeWatchLineTest, WhatEndsAWatchOrCannotBeReadIsAnError) {
  const auto code = [](std::string_view line) {
    const auto event = KubeClient::ReadWatchLine(line);
    return event ? Code::kInternal : event.error().code();
  };
  EXPECT_EQ(code(R"({"type":"ERROR","object":{"kind":"Status","code":410,"message":"old"}})"),
            Code::kNotFound);
  EXPECT_EQ(code(R"({"type":"ERROR","object":{"kind":"Status","code":500}})"), Code::kUnavailable);
  EXPECT_EQ(code(R"({"type":"ERROR"})"), Code::kDataCorrupt);
  EXPECT_EQ(code(R"({"type":"NEWS","object":{}})"), Code::kDataCorrupt);
  EXPECT_EQ(code(R"({"object":{}})"), Code::kDataCorrupt);
  EXPECT_EQ(code(R"([])"), Code::kDataCorrupt);
  EXPECT_EQ(code(R"({)"), Code::kDataCorrupt);
}

}  // namespace
}  // namespace pixii::control
