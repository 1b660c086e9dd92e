// The tests' own API server, asked as any client asks it; and by kubectl where it is installed.
#include "sim/kube_api_server.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <sstream>

#include "sim/kube_objects_check.h"
#include "unit/control/store_worlds.h"

namespace pixii::kube {
namespace {

using wire::Json;

constexpr const char* kMaps = "/api/v1/namespaces/n/configmaps";

class KubeApiStateTest : public testing::Test {
 protected:
  Reply Ask(const std::string& method, const std::string& path, const std::string& body = "",
            const std::string& query = "") {
    return state_.Handle({.method = method,
                          .path = path,
                          .query = query,
                          .accept = "application/json",
                          .content_type = "application/merge-patch+json",
                          .body = body},
                         {.unix_seconds = 0, .nanoseconds = 0});
  }

  static std::string Map(const std::string& name, const std::string& more = "") {
    return R"({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":")" + name +
           R"(","labels":{"a":"b"}})" + more + "}";
  }

  Target TargetOf(const std::string& query) {
    return *state_.Locate({.method = "GET",
                           .path = kMaps,
                           .query = "watch=1&" + query,
                           .accept = "",
                           .content_type = "",
                           .body = ""});
  }

  ApiState state_;
};

TEST_F(KubeApiStateTest, ObjectsHaveVersionsThatGuardThem) {
  const Reply made = Ask("POST", kMaps, Map("x"));
  ASSERT_EQ(made.status, 201);
  EXPECT_EQ(Ask("POST", kMaps, Map("x")).status, 409);
  EXPECT_EQ(Text(made.body, {"metadata", "namespace"}), "n");
  const std::string path = std::string(kMaps) + "/x";
  const std::string version = Text(made.body, {"metadata", "resourceVersion"});
  const Reply same = Ask("PATCH", path, "{}");
  EXPECT_EQ(Text(same.body, {"metadata", "resourceVersion"}), version) << "nothing changed";
  EXPECT_EQ(Ask("PATCH", path, R"({"data":{"k":"v"}})").status, 200);
  EXPECT_EQ(Ask("PUT", path, made.body.Dump()).status, 409);
  EXPECT_EQ(Ask("DELETE", path, R"({"preconditions":{"uid":"other"}})").status, 409);
  EXPECT_EQ(
      Ask("DELETE", path, R"({"preconditions":{"resourceVersion":")" + version + "\"}}").status,
      409);
  EXPECT_EQ(Ask("DELETE", path).status, 200);
  EXPECT_EQ(Ask("GET", path).status, 404);
  EXPECT_EQ(Ask("DELETE", path).status, 404);
}

TEST_F(KubeApiStateTest, WhatAServerWouldNotStoreIsRefused) {
  EXPECT_EQ(Ask("POST", kMaps, Map("Upper")).status, 422);
  EXPECT_EQ(Ask("POST", kMaps, Map(std::string(254, 'a'))).status, 422);
  EXPECT_EQ(Ask("POST", kMaps, Map("x", R"(,"data":{"a b":"v"})")).status, 422);
  EXPECT_EQ(Ask("POST", kMaps, Map("x", R"(,"binaryData":{"k":"%"})")).status, 422);
  const std::string much(1 << 20, 'x');
  EXPECT_EQ(Ask("POST", kMaps, Map("x", R"(,"data":{"k":")" + much + "x\"}")).status, 422);
  EXPECT_EQ(Ask("POST", kMaps, Map("x", R"(,"data":{"k":")" + much + "\"}")).status, 201);
  EXPECT_EQ(Ask("POST", kMaps, "{").status, 400);
  EXPECT_EQ(Ask("POST", kMaps, R"({"kind":"Lease","apiVersion":"v1"})").status, 400);
  EXPECT_EQ(Ask("GET", "/api/v1/namespaces/n/secrets").status, 404);
  EXPECT_EQ(Ask("GET", kMaps, "", "labelSelector=%20").status, 400);
}

TEST_F(KubeApiStateTest, SelectorsChooseByLabels) {
  Ask("POST", kMaps, Map("x"));
  const auto count = [&](const std::string& selector) {
    return Ask("GET", kMaps, "", "labelSelector=" + selector).body.Find("items")->array().size();
  };
  for (const char* selector : {"", "a=b", "a%3D%3Db", "a", "a!=c", "!z", "a=b,z!=1"}) {
    EXPECT_EQ(count(selector), 1U) << selector;
  }
  for (const char* selector : {"a=c", "!a", "z", "a!=b", "a=b,z"}) {
    EXPECT_EQ(count(selector), 0U) << selector;
  }
}

TEST_F(KubeApiStateTest, AWatchSeesObjectsComeChangeAndLeaveItsSelection) {
  const Target target = TargetOf("labelSelector=a=b");
  std::uint64_t revision = state_.revision();
  Ask("POST", kMaps, Map("x"));
  const std::string path = std::string(kMaps) + "/x";
  Ask("PATCH", path, R"({"data":{"k":"v"}})");
  Ask("PATCH", path, R"({"metadata":{"labels":{"a":"c"}}})");
  Ask("PATCH", path, R"({"metadata":{"labels":{"a":"b"}}})");
  Ask("DELETE", path);
  const auto events = state_.EventsAfter(target, revision);
  ASSERT_TRUE(events);
  std::string types;
  std::uint64_t last = 0;
  for (const Event& event : *events) {
    types += event.type + " ";
    const std::uint64_t version =
        control::ResourceNumber(Text(event.object, {"metadata", "resourceVersion"}));
    EXPECT_GT(version, last);
    last = version;
  }
  EXPECT_EQ(types, "ADDED MODIFIED DELETED ADDED DELETED ");
  EXPECT_EQ(revision, state_.revision());
  state_.Compact();
  std::uint64_t old = 1;
  EXPECT_FALSE(state_.EventsAfter(target, old));
}

TEST_F(KubeApiStateTest, WhatHangsOnADeletedOwnerIsCollected) {
  const Reply owner = Ask("POST", kMaps, Map("owner"));
  Json child = *wire::ParseJson(Map("child"));
  Json reference{Json::Object{}};
  reference.Set("apiVersion", "v1");
  reference.Set("kind", "ConfigMap");
  reference.Set("name", "owner");
  SetMeta(child, "ownerReferences", Json::Array{reference});
  EXPECT_EQ(Ask("POST", kMaps, child.Dump()).status, 422) << "without the owner's uid";
  reference.Set("uid", Text(owner.body, {"metadata", "uid"}));
  SetMeta(child, "ownerReferences", Json::Array{reference});
  ASSERT_EQ(Ask("POST", kMaps, child.Dump()).status, 201);
  EXPECT_FALSE(state_.CollectGarbage());
  Ask("DELETE", std::string(kMaps) + "/owner");
  EXPECT_TRUE(state_.CollectGarbage());
  EXPECT_TRUE(state_.Objects("configmaps").empty());
}

// ---- kubectl, which others wrote

class KubectlTest : public testing::Test {
 protected:
  void SetUp() override {
    const char* folders = std::getenv("PATH");  // tidy: getenv where kubectl would be found
    std::stringstream path(folders == nullptr ? "" : folders);
    bool found = false;
    for (std::string folder; std::getline(path, folder, ':');) {
      found = found || ::access((folder + "/kubectl").c_str(), X_OK) == 0;
    }
    if (!found) {
      GTEST_SKIP() << "kubectl is not installed (Debian: kubernetes-client)";
    }
    ASSERT_NE(::mkdtemp(folder_.data()), nullptr);
    ASSERT_TRUE(server_.Start());
  }

  ~KubectlTest() override { std::filesystem::remove_all(folder_); }

  /// What it says, and its exit status.
  std::pair<int, std::string> Run(const std::vector<std::string>& arguments) {
    const std::string output = folder_ + "/output";
    rt::ChildOptions options{
        .arguments = {"kubectl", "--server", "http://" + server_.address().ToString(),
                      "--namespace", "n", "--cache-dir", folder_, "--kubeconfig", "/dev/null"},
        .output = output};
    options.arguments.insert(options.arguments.end(), arguments.begin(), arguments.end());
    rt::ChildProcess child = rt::ChildProcess::Start(options).value();
    EXPECT_TRUE(world_.RunUntil([&] { return !child.running(); }));
    std::ifstream in(output);
    std::string text((std::istreambuf_iterator<char>(in)), {});
    return {text.starts_with("Error") || text.starts_with("error") ? 1 : 0, text};
  }

  void Watch(control::KubeStore& store) {
    store.Watch("", [this](const control::StoreView& view) {
      seen_ = view.values;
      for (const auto& [key, value] : view.values) {
        history_.insert(value);
      }
    });
  }

  std::map<std::string, std::string> seen_;
  std::set<std::string> history_;
  std::string folder_ = testing::TempDir() + "pixii-kubectl-XXXXXX";
  control::RealStoreWorld world_;
  std::unique_ptr<rt::Net> net_ = rt::MakeNet(world_.loop());
  ApiServer server_{world_.loop(), *net_, ServerOptions{.tokens = {}, .rules = {}}};
};

TEST_F(KubectlTest, KubectlReadsAndChangesWhatAStorePut) {
  control::KubeStoreOptions options;
  options.access.server = server_.address();
  options.access.space = "n";
  control::KubeStore store(world_.loop(), *net_, options);
  Watch(store);
  ASSERT_TRUE(store.Put("v1/key", "value one"));
  ASSERT_TRUE(world_.RunUntil([&] { return seen_.contains("v1/key"); }));
  const std::string name = control::KubeEntryName("v1/key");

  auto [status, text] = Run({"get", "configmaps,leases", "-l", "pixii.dev/store=v1", "-o", "yaml"});
  EXPECT_EQ(status, 0) << text;
  EXPECT_NE(text.find("pixii.dev/key: v1/key"), std::string::npos) << text;
  EXPECT_NE(text.find("holderIdentity: " + store.holder()), std::string::npos) << text;
  std::tie(status, text) = Run({"get", "configmaps", "-l", "pixii.dev/store=v2", "-o", "name"});
  EXPECT_EQ(text, "");
  std::tie(status, text) =
      Run({"patch", "configmap", name, "--type", "merge", "-p", R"({"data":{"value":"by hand"}})"});
  EXPECT_EQ(status, 0) << text;
  EXPECT_TRUE(world_.RunUntil([&] { return history_.contains("by hand"); }));
  EXPECT_TRUE(world_.RunUntil([&] { return seen_["v1/key"] == "value one"; }));
  std::tie(status, text) = Run({"delete", "lease", control::KubeLeaseName(store.holder())});
  EXPECT_EQ(status, 0) << text;
  EXPECT_TRUE(world_.RunUntil([&] { return seen_.empty(); }));
  EXPECT_TRUE(world_.RunUntil([&] { return seen_["v1/key"] == "value one"; }));
}

}  // namespace
}  // namespace pixii::kube
