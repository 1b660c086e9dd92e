#include "control/discovery_source.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "unit/control/store_worlds.h"
#include "unit/rt/test_certificates.h"

namespace pixii::control {
namespace {

using Kind = DiscoverySource::Kind;

TEST(DiscoverySourceTest, TheFlagNamesEveryStore) {
  EXPECT_EQ(ParseDiscoverySource("mem")->kind, Kind::kMem);
  const auto file = ParseDiscoverySource("file:/tmp/a:b");
  ASSERT_TRUE(file);
  EXPECT_EQ(file->kind, Kind::kFile);
  EXPECT_EQ(file->folder, "/tmp/a:b");
  const auto etcd = ParseDiscoverySource("etcd://h:2379,[::1]:2380");
  ASSERT_TRUE(etcd);
  EXPECT_EQ(etcd->kind, Kind::kEtcd);
  ASSERT_EQ(etcd->endpoints.size(), 2U);
  EXPECT_EQ(etcd->endpoints[0].ToString(), "h:2379");
  EXPECT_EQ(etcd->endpoints[1].ToString(), "[::1]:2380");
  const auto proxy = ParseDiscoverySource("kubernetes://localhost:8001/fleet-2");
  ASSERT_TRUE(proxy);
  EXPECT_EQ(proxy->kind, Kind::kKubernetes);
  EXPECT_FALSE(proxy->wants_pod());
  EXPECT_EQ(proxy->kube.server.ToString(), "localhost:8001");
  EXPECT_EQ(proxy->kube.space, "fleet-2");
  EXPECT_EQ(proxy->kube.tls, nullptr);
  EXPECT_EQ(ParseDiscoverySource("kubernetes://[::1]:8001")->kube.space, "default");
}

TEST(DiscoverySourceTest, InAPodTheClusterIsTheOneAroundIt) {
  FileStoreWorld files;  // a folder that goes with the test
  const rt::TestAuthority authority;
  const auto write = [&](const std::string& name, const std::string& text) {
    std::ofstream(files.folder() + "/" + name) << text;
  };
  PodSurroundings pod{.host = "10.0.0.1", .port = "443", .folder = files.folder()};
  auto source = ParseDiscoverySource("kubernetes");
  ASSERT_TRUE(source);
  ASSERT_TRUE(source->wants_pod());
  EXPECT_EQ(UsePod(*source, pod).error().code(), Code::kInvalidArgument) << "no namespace file";
  write("namespace", "fleet\n");
  EXPECT_EQ(UsePod(*source, pod).error().code(), Code::kInvalidArgument) << "no ca.crt";
  std::filesystem::copy_file(authority.file(), files.folder() + "/ca.crt");
  for (const char* port : {"", "0", "x", "70000", "443x"}) {
    pod.port = port;
    EXPECT_EQ(UsePod(*source, pod).error().code(), Code::kInvalidArgument) << port;
    EXPECT_TRUE(source->wants_pod());
  }
  pod.port = "443";
  ASSERT_TRUE(UsePod(*source, pod));
  EXPECT_FALSE(source->wants_pod());
  EXPECT_EQ(source->kube.server.ToString(), "10.0.0.1:443");
  EXPECT_EQ(source->kube.space, "fleet");
  EXPECT_EQ(source->kube.token_file, files.folder() + "/token");
  EXPECT_NE(source->kube.tls, nullptr);
  write("namespace", "../other");
  EXPECT_EQ(UsePod(*source, pod).error().code(), Code::kInvalidArgument);
  pod.host = "";
  EXPECT_NE(UsePod(*source, pod).error().detail().find("KUBERNETES_SERVICE_HOST"),
            std::string::npos);
}

TEST(DiscoverySourceTest, WhatIsNoStoreIsRefused) {
  for (const char* text :
       {"", "file:", "etcd://", "etcd://host", "etcd://h:1,", "memory", "http://h:1", "etcd://h:0",
        "kubernetes:", "kubernetes://", "kubernetes://h", "kubernetes://h:1/", "kubernetes://h:1/A",
        "kubernetes://h:1/a/b"}) {
    const auto source = ParseDiscoverySource(text);
    ASSERT_FALSE(source) << text;
    EXPECT_EQ(source.error().code(), Code::kInvalidArgument) << text;
  }
}

TEST(DiscoverySourceTest, OpenedStoresOfOnePlaceMeet) {
  FileStoreWorld files;
  RealStoreWorld& world = files;
  const auto net = rt::MakeNet(world.loop());
  const auto hub = std::make_shared<MemHub>(world.loop(), LeaseOptions{});
  for (const std::string& text : {std::string("mem"), "file:" + files.folder()}) {
    const auto source = ParseDiscoverySource(text);
    ASSERT_TRUE(source);
    const StorePlace place{.loop = world.loop(), .net = *net, .hub = hub};
    const auto one = OpenLeaseStore(*source, place, LeaseOptions{});
    const auto two = OpenLeaseStore(*source, place, LeaseOptions{});
    bool seen = false;
    two->Watch("a", [&](const StoreView& view) { seen = view.values.contains("a/b"); });
    ASSERT_TRUE(one->Put("a/b", "1"));
    EXPECT_TRUE(world.RunUntil([&] { return seen; })) << text;
  }
}

}  // namespace
}  // namespace pixii::control
