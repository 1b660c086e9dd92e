// A store against a Kubernetes API server that is restarted, hangs, forgets, refuses and lies.
#include "control/kube_store.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>

#include "unit/control/store_worlds.h"
#include "unit/rt/test_certificates.h"

namespace pixii::control {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

class KubeStoreTest : public testing::Test {
 protected:
  void Watch(LeaseStore& store) {
    store.Watch("v1/", [this](const StoreView& view) {
      view_ = view;
      seen_.insert(view.values);
      troubles_ += view.trouble ? 1 : 0;
    });
  }

  testing::AssertionResult Comes(const StoreValues& values) {
    if (world_.RunUntil([&] { return !view_.trouble && view_.values == values; })) {
      return testing::AssertionSuccess();
    }
    auto failure = testing::AssertionFailure() << "seen";
    for (const auto& [key, value] : view_.values) {
      failure << " " << key << "=" << value;
    }
    return failure << (view_.trouble ? " trouble: " + view_.trouble->detail() : "");
  }

  /// A writer with v1/x = 1, and a reader that saw it.
  void Begin() {
    writer_ = world_.OpenKube();
    reader_ = world_.OpenKube();
    Watch(*reader_);
    ASSERT_TRUE(writer_->Put("v1/x", "1"));
    ASSERT_TRUE(Comes({{"v1/x", "1"}}));
    world_.RunFor(milliseconds(100));  // watches are open
    seen_.clear();
    troubles_ = 0;
  }

  int Lists(const std::string& plural) { return world_.server().CountOf("list", plural); }

  kube::Reply Ask(const std::string& method, const std::string& path, const std::string& body) {
    return world_.server().Handle({.method = method,
                                   .path = path,
                                   .query = "",
                                   .accept = "",
                                   .content_type = "application/merge-patch+json",
                                   .body = body});
  }

  std::string PathOf(const std::string& key) const {
    return "/api/v1/namespaces/fleet/configmaps/" + KubeEntryName(key);
  }

  std::string PathOf(const KubeStore& store) const {
    return "/apis/coordination.k8s.io/v1/namespaces/fleet/leases/" + KubeLeaseName(store.holder());
  }

  KubeStoreWorld world_;
  StoreView view_;
  std::set<StoreValues> seen_;
  int troubles_ = 0;
  std::unique_ptr<KubeStore> writer_;
  std::unique_ptr<KubeStore> reader_;
};

// ---- the server is away

TEST_F(KubeStoreTest, AServerThatIsRestartedHarmsNothing) {
  Begin();
  world_.server().Stop();
  ASSERT_TRUE(world_.RunUntil([&] { return view_.trouble.has_value(); }));
  EXPECT_EQ(view_.values.size(), 1U) << "what was known stands";
  EXPECT_NE(view_.trouble->detail().find("kube:8001"), std::string::npos);
  ASSERT_TRUE(writer_->Put("v1/y", "2"));
  world_.RunFor(minutes(10));
  ASSERT_TRUE(world_.server().Start());
  ASSERT_TRUE(Comes({{"v1/x", "1"}, {"v1/y", "2"}}));
  world_.RunFor(seconds(10));
  EXPECT_FALSE(seen_.contains(StoreValues{})) << "nobody could be heard of: nobody is dead";
}

TEST_F(KubeStoreTest, AServerThatHangsIsTroubleWithinALeaseAndNobodyDiesOfIt) {
  Begin();
  const rt::Time hung_at = world_.loop().Now();
  world_.server().Hang(true);
  ASSERT_TRUE(world_.RunUntil([&] { return view_.trouble.has_value(); }));
  EXPECT_LT(world_.loop().Now() - hung_at, seconds(4));
  world_.RunFor(seconds(40));
  world_.server().Hang(false);
  ASSERT_TRUE(Comes({{"v1/x", "1"}}));
  world_.RunFor(seconds(10));
  EXPECT_FALSE(seen_.contains(StoreValues{}));
}

TEST_F(KubeStoreTest, AWipedServerHasEverythingAgain) {
  Begin();
  ASSERT_TRUE(writer_->Put("v1/y", "2"));
  ASSERT_TRUE(Comes({{"v1/x", "1"}, {"v1/y", "2"}}));
  writer_->Delete("v1/y");
  ASSERT_TRUE(Comes({{"v1/x", "1"}}));
  world_.server().Wipe();
  ASSERT_TRUE(world_.RunUntil([&] { return world_.Dump().size() == 1; }));
  ASSERT_TRUE(Comes({{"v1/x", "1"}}));
  ASSERT_TRUE(writer_->Put("v1/x", "3"));
  ASSERT_TRUE(Comes({{"v1/x", "3"}}));
}

TEST_F(KubeStoreTest, AServerSetBackEndsWithWhatIsTrueNow) {
  Begin();
  auto leaver = world_.OpenKube();
  ASSERT_TRUE(writer_->Put("v1/deleted", "old"));
  ASSERT_TRUE(leaver->Put("v1/gone", "old"));
  ASSERT_TRUE(Comes({{"v1/deleted", "old"}, {"v1/gone", "old"}, {"v1/x", "1"}}));
  const kube::ApiState old = world_.server().Save();
  ASSERT_TRUE(writer_->Put("v1/x", "new"));
  ASSERT_TRUE(writer_->Put("v1/z", "new"));
  writer_->Delete("v1/deleted");
  bool closed = false;
  leaver->Close([&] { closed = true; });
  ASSERT_TRUE(world_.RunUntil([&] { return closed; }));
  leaver.reset();
  const StoreValues now = {{"v1/x", "new"}, {"v1/z", "new"}};
  ASSERT_TRUE(Comes(now));
  world_.RunFor(seconds(30));
  world_.server().Restore(old);
  seen_.clear();
  // Watches cannot tell of it; the versions do.
  ASSERT_TRUE(world_.RunUntil([&] { return seen_.size() > 1; }));
  EXPECT_TRUE(Comes(now)) << "the keys of the one that left end with its old lease";
}

// ---- watches

TEST_F(KubeStoreTest, AWatchThatTheServerEndsGoesOnFromItsVersion) {
  Begin();
  const int lists = Lists("configmaps");
  for (int i = 0; i < 3; ++i) {
    world_.server().EndWatches(kube::WatchEnd::kClean);
    ASSERT_TRUE(writer_->Put("v1/x", "clean " + std::to_string(i)));
    ASSERT_TRUE(Comes({{"v1/x", "clean " + std::to_string(i)}}));
  }
  EXPECT_EQ(Lists("configmaps") - lists, 0) << "nothing is listed anew";
  EXPECT_EQ(troubles_, 0);
}

TEST_F(KubeStoreTest, AWatchThatBreaksOrIsTooOldIsBegunAnewWithAList) {
  Begin();
  for (const kube::WatchEnd how : {kube::WatchEnd::kBroken, kube::WatchEnd::kExpired}) {
    world_.RunFor(seconds(1));  // there is a watch to end
    const int lists = Lists("configmaps");
    world_.server().EndWatches(how);
    const std::string value = "after " + std::to_string(static_cast<int>(how));
    ASSERT_TRUE(writer_->Put("v1/x", value));
    ASSERT_TRUE(Comes({{"v1/x", value}}));
    EXPECT_GT(Lists("configmaps"), lists);
  }
  EXPECT_EQ(troubles_, 0);
  EXPECT_FALSE(seen_.contains(StoreValues{}));
}

TEST_F(KubeStoreTest, AVersionThatWasCompactedIsListedAnew) {
  Begin();
  world_.server().FreezeWatches();  // what comes now is missed
  ASSERT_TRUE(writer_->Put("v1/x", "2"));
  ASSERT_TRUE(world_.RunUntil([&] { return world_.Dump() == StoreValues{{"v1/x", "2"}}; }));
  world_.server().Compact();
  world_.server().EndWatches(kube::WatchEnd::kClean);
  EXPECT_TRUE(Comes({{"v1/x", "2"}}));
  EXPECT_EQ(troubles_, 0);
}

TEST_F(KubeStoreTest, AWatchThatIsSilentForNoReasonMissesNothingForLong) {
  Begin();
  world_.server().FreezeWatches();
  ASSERT_TRUE(writer_->Put("v1/x", "2"));
  const rt::Time put_at = world_.loop().Now();
  ASSERT_TRUE(Comes({{"v1/x", "2"}}));
  EXPECT_LT(world_.loop().Now() - put_at, seconds(3));
  world_.server().FreezeWatches();
  world_.RunFor(seconds(20));  // renewals are asked for, too
  EXPECT_FALSE(seen_.contains(StoreValues{}));
}

// ---- others who write

TEST_F(KubeStoreTest, AKeyThatSomebodyDeletedOrTookComesBack) {
  Begin();
  ASSERT_EQ(Ask("DELETE", PathOf("v1/x"), "").status, 200);
  ASSERT_TRUE(Comes({}));
  ASSERT_TRUE(Comes({{"v1/x", "1"}}));
  const auto other = world_.OpenKube();
  ASSERT_TRUE(other->Put("v1/x", "2"));
  ASSERT_TRUE(Comes({{"v1/x", "2"}}));
  ASSERT_TRUE(Comes({{"v1/x", "1"}}));
  bool closed = false;
  other->Close([&] { closed = true; });
  ASSERT_TRUE(world_.RunUntil([&] { return closed; }));
  world_.RunFor(seconds(5));
  EXPECT_TRUE(Comes({{"v1/x", "1"}}));
}

TEST_F(KubeStoreTest, AValueThatSomebodyEditedIsPutRight) {
  Begin();
  ASSERT_EQ(Ask("PATCH", PathOf("v1/x"), R"({"data":{"value":"edited"}})").status, 200);
  ASSERT_TRUE(Comes({{"v1/x", "edited"}}));
  ASSERT_TRUE(Comes({{"v1/x", "1"}}));
  ASSERT_EQ(Ask("PATCH", PathOf("v1/x"), R"({"metadata":{"labels":null}})").status, 200);
  ASSERT_TRUE(Comes({}));
  EXPECT_TRUE(Comes({{"v1/x", "1"}})) << "also if it does not look like one of ours";
}

TEST_F(KubeStoreTest, ALeaseThatSomebodyDeletedIsMadeAgainWithItsKeys) {
  Begin();
  ASSERT_EQ(Ask("DELETE", PathOf(*writer_), "").status, 200);
  ASSERT_TRUE(Comes({}));
  ASSERT_TRUE(Comes({{"v1/x", "1"}}));
  // Its new one owns them: the garbage collector leaves them alone.
  world_.RunFor(seconds(20));
  EXPECT_TRUE(Comes({{"v1/x", "1"}}));
  EXPECT_EQ(world_.Dump().size(), 1U);
}

TEST_F(KubeStoreTest, AKeyThatAnotherHolderTookIsNotDeletedWithOurs) {
  Begin();
  auto other = world_.OpenKube();
  ASSERT_TRUE(other->Put("v1/x", "2"));
  ASSERT_TRUE(Comes({{"v1/x", "2"}}));
  writer_->Delete("v1/x");
  world_.RunFor(seconds(10));
  EXPECT_EQ(view_.values, (StoreValues{{"v1/x", "2"}}));
}

// ---- answers that are no answers

TEST_F(KubeStoreTest, ConflictsBusyAndBrokenAnswersAreTriedAgain) {
  Begin();
  int number = 2;
  for (const int status : {409, 410, 429, 500, 503}) {
    for (const std::string verb : {"create", "update", "patch", "delete", "list", "watch"}) {
      if (status == 410 && verb != "list" && verb != "watch") {
        continue;  // only versions can be too old
      }
      if (status == 429 && verb == "patch") {
        continue;  // a lease that may not be renewed for so long ends
      }
      world_.server().Inject({.verb = verb, .status = status, .reason = "Fault", .count = 2});
    }
    world_.server().EndWatches(kube::WatchEnd::kBroken);
    const std::string value = std::to_string(number++);
    ASSERT_TRUE(writer_->Put("v1/x", value));
    ASSERT_TRUE(writer_->Put("v1/" + value, "new"));
    ASSERT_TRUE(Comes({{"v1/x", value}, {"v1/" + value, "new"}})) << status;
    writer_->Delete("v1/" + value);
    ASSERT_TRUE(Comes({{"v1/x", value}})) << status;
  }
  EXPECT_FALSE(seen_.contains(StoreValues{}));
}

TEST_F(KubeStoreTest, AnAnswerThatWasLostDoesNotHarm) {
  for (const std::string plural : {"leases", "configmaps"}) {
    world_.server().Inject({.verb = "create", .plural = plural, .status = 504, .also_done = true});
  }
  Begin();
  EXPECT_EQ(world_.server().state().Objects("leases").size(), 1U);
  world_.server().Inject({.verb = "create", .status = 504, .also_done = true});
  ASSERT_TRUE(writer_->Put("v1/y", "2"));
  ASSERT_TRUE(world_.RunUntil([&] { return world_.Dump().size() == 2; }));
  writer_->Delete("v1/y");  // before it is known to be there
  EXPECT_TRUE(world_.RunUntil([&] { return world_.Dump() == StoreValues{{"v1/x", "1"}}; }));
}

TEST_F(KubeStoreTest, AServerThatAsksForSilenceGetsIt) {
  Begin();
  world_.server().Inject({.verb = "patch", .status = 429, .retry_after_s = 2});
  ASSERT_TRUE(world_.RunUntil([&, before = world_.server().CountOf("patch", "leases")] {
    return world_.server().CountOf("patch", "leases") > before;
  }));
  const int patches = world_.server().CountOf("patch", "leases");
  world_.RunFor(milliseconds(1900));
  EXPECT_EQ(world_.server().CountOf("patch", "leases"), patches);
  world_.RunFor(milliseconds(300));
  EXPECT_EQ(world_.server().CountOf("patch", "leases"), patches + 1);
}

TEST_F(KubeStoreTest, WhoIsNotLetInSaysSoAndGoesOnWithANewToken) {
  std::string folder = testing::TempDir() + "pixii-token-XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  KubeAccess access = world_.access();
  access.token_file = folder + "/token";
  std::ofstream(access.token_file) << "one";
  world_.server().SetTokens({"one"});
  writer_ = world_.OpenKube(access);
  Watch(*writer_);
  ASSERT_TRUE(writer_->Put("v1/x", "1"));
  ASSERT_TRUE(Comes({{"v1/x", "1"}}));
  // Replaced in time: nothing is to be seen of it.
  std::ofstream(access.token_file) << "two";
  world_.server().SetTokens({"two"});
  world_.RunFor(seconds(90));
  EXPECT_EQ(troubles_, 0);
  world_.server().SetTokens({"three"});
  world_.server().EndWatches(kube::WatchEnd::kBroken);
  ASSERT_TRUE(world_.RunUntil([&] { return view_.trouble.has_value(); }));
  EXPECT_EQ(view_.trouble->code(), Code::kUnauthenticated);
  EXPECT_EQ(view_.values.size(), 1U);
  std::ofstream(access.token_file) << "three";
  EXPECT_TRUE(Comes({{"v1/x", "1"}}));
  std::filesystem::remove_all(folder);
}

TEST_F(KubeStoreTest, ARightThatIsMissingIsNamed) {
  kube::Rules rules = KubeStoreWorld::DocumentedRules();
  rules->at("configmaps").erase("watch");
  world_.server().SetRules(rules);
  reader_ = world_.OpenKube();
  Watch(*reader_);
  ASSERT_TRUE(world_.RunUntil([&] { return view_.trouble.has_value(); }));
  EXPECT_EQ(view_.trouble->code(), Code::kForbidden);
  EXPECT_NE(view_.trouble->detail().find("configmaps is forbidden: the account cannot watch"),
            std::string::npos)
      << view_.trouble->detail();
}

// ---- the dead

TEST_F(KubeStoreTest, AHolderThatIsGoneLosesItsKeysAfterTheLeaseAndThenWhatItLeft) {
  Begin();
  const rt::Time gone_at = world_.loop().Now();
  writer_.reset();  // without giving the lease back
  ASSERT_TRUE(Comes({}));
  EXPECT_GT(world_.loop().Now() - gone_at, seconds(1));
  EXPECT_LT(world_.loop().Now() - gone_at, seconds(5));
  EXPECT_EQ(world_.Dump().size(), 1U) << "it may only have been frozen";
  world_.RunFor(seconds(27));
  EXPECT_EQ(world_.Dump().size(), 1U);
  world_.RunFor(seconds(13));
  EXPECT_EQ(world_.Dump(), StoreValues{});
  EXPECT_TRUE(world_.server().state().Objects("leases").empty());
}

TEST_F(KubeStoreTest, WhoClosedLeavesNothing) {
  Begin();
  bool closed = false;
  writer_->Close([&] { closed = true; });
  ASSERT_TRUE(world_.RunUntil([&] { return closed; }));
  EXPECT_TRUE(world_.server().state().Objects("leases").empty());
  EXPECT_TRUE(world_.RunUntil([&] { return world_.Dump().empty(); }));
}

TEST_F(KubeStoreTest, AReaderAloneWritesNothing) {
  reader_ = world_.OpenKube();
  Watch(*reader_);
  ASSERT_TRUE(Comes({}));
  world_.RunFor(minutes(2));
  EXPECT_EQ(world_.server().CountOf("create", "leases"), 0);
  EXPECT_EQ(troubles_, 0);
}

// ---- over TLS, on sockets

TEST(KubeStoreOverTlsTest, AServerIsBelievedOnlyByItsNameAndAuthority) {
  RealStoreWorld world;
  const auto net = rt::MakeNet(world.loop());
  rt::TestAuthority authority;
  rt::TestAuthority other("another authority");
  const auto context = rt::TlsContext::ForServer(authority.Sign("127.0.0.1"));
  ASSERT_TRUE(context);
  const auto server_net = rt::MakeTlsNet(world.loop(), *net, *context, nullptr);
  kube::ApiServer server(world.loop(), *server_net, {.tokens = {}, .rules = {}});
  ASSERT_TRUE(server.Start());
  const auto open = [&](const std::string& authorities, const std::string& name) {
    KubeStoreOptions options;
    options.access.server = server.address();
    options.access.tls = rt::TlsContext::ForClient({.authorities = authorities}, name).value();
    return std::make_unique<KubeStore>(world.loop(), *net, std::move(options));
  };
  const auto good = open(authority.file(), "127.0.0.1");
  StoreView seen;
  good->Watch("", [&](const StoreView& view) { seen = view; });
  ASSERT_TRUE(good->Put("k", "1"));
  EXPECT_TRUE(world.RunUntil([&] { return seen.values.contains("k"); }));
  for (const auto& [authorities, name] :
       {std::pair(other.file(), "127.0.0.1"), std::pair(authority.file(), "127.0.0.2")}) {
    StoreView refused;
    const auto bad = open(authorities, name);
    bad->Watch("", [&](const StoreView& view) { refused = view; });
    EXPECT_TRUE(world.RunUntil([&] { return refused.trouble.has_value(); }));
    EXPECT_TRUE(refused.values.empty());
  }
}

}  // namespace
}  // namespace pixii::control
