#include "control/discovery_source.h"

#include <gtest/gtest.h>

#include "unit/control/store_worlds.h"

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
}

TEST(DiscoverySourceTest, WhatIsNoStoreIsRefused) {
  EXPECT_EQ(ParseDiscoverySource("kubernetes").error().code(), Code::kUnsupported);
  for (const char* text : {"", "file:", "etcd://", "etcd://host", "etcd://h:1,", "memory",
                           "http://h:1", "etcd://h:0"}) {
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
