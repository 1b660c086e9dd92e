// What UCX and libfabric have beyond other transports: keys of memory.
#include "transport/fabric_transport.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "unit/transport/agents.h"

namespace pixii::transport {
namespace {

class Fabrics : public testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(All, Fabrics, testing::Values("ucx", "libfabric"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(Fabrics, MemoryGoesOnceEveryPeerHasForgottenItsKey) {
  Agents agents(GetParam());
  const Memory local = agents.MakeMemory(agents.client(), 1 << 20, 1);
  const Memory target = agents.MakeMemory(agents.server(), 1 << 20, 2);
  {
    const Memory source = agents.MakeMemory(agents.server(), 1 << 20, 3);
    source.Open(agents.server(), 1, Access::kRead);
    target.Open(agents.server(), 1, Access::kWrite);
    const auto read = [&] {
      return agents.Run(Operation::kRead, {local.At(0, 1 << 20)}, {source.At(0, 1 << 20)});
    };
    ASSERT_EQ(read().state, TransferState::kDone);
    ASSERT_EQ(agents.Run(Operation::kWrite, {local.At(0, 1 << 20)}, {target.At(0, 1 << 20)}).state,
              TransferState::kDone);
    EXPECT_TRUE(std::ranges::equal(source.bytes, target.bytes));
    const Result<void> first = agents.server().Deregister(source.key);
    ASSERT_FALSE(first) << "the client has its key";
    EXPECT_EQ(first.error().code(), Code::kUnavailable);
    EXPECT_TRUE(
        agents.bell().WaitFor([&] { return agents.server().Deregister(source.key).has_value(); }));
    const TransferStatus gone = read();
    ASSERT_EQ(gone.state, TransferState::kFailed);
    EXPECT_EQ(gone.error->code(), Code::kNotFound) << gone.error->ToString();
  }
  // The server has the key of what it was to take bytes from.
  EXPECT_FALSE(agents.client().Deregister(local.key));
  EXPECT_TRUE(
      agents.bell().WaitFor([&] { return agents.client().Deregister(local.key).has_value(); }));
  EXPECT_TRUE(
      agents.bell().WaitFor([&] { return agents.server().Deregister(target.key).has_value(); }));
}

TEST_P(Fabrics, KeysGoWithThePeerThatHadThem) {
  Agents agents(GetParam());
  const Memory local = agents.MakeMemory(agents.client(), 1000, 1);
  const Memory remote = agents.MakeMemory(agents.server(), 1000, 2);
  remote.Open(agents.server(), 1, Access::kWrite);
  ASSERT_EQ(agents.Run(Operation::kWrite, {local.At(0, 1000)}, {remote.At(0, 1000)}).state,
            TransferState::kDone);
  EXPECT_FALSE(agents.client().Deregister(local.key));
  agents.StopServer();
  EXPECT_TRUE(
      agents.bell().WaitFor([&] { return agents.client().Deregister(local.key).has_value(); }));
}

TEST(FabricLibraries, WhatIsNoneOfOursIsRefused) {
  EXPECT_EQ(LoadFabricLibrary(FabricKind::kUcx, "/nowhere.so").error().code(), Code::kNotFound);
  EXPECT_EQ(LoadFabricLibrary(FabricKind::kUcx, "/lib/x86_64-linux-gnu/libc.so.6").error().code(),
            Code::kUnsupported);
}

}  // namespace
}  // namespace pixii::transport
