// What an agent does where its best transport cannot reach a peer: the next one, and not the best
// again for a while.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "rt/sim_world.h"
#include "transport/metadata.h"
#include "transport/transfer_agent.h"

namespace pixii::transport {
namespace {

using rt::operator""s;

/// How a transport of the test fares, and what was asked of it.
struct Fate {
  std::optional<Code> ends = std::nullopt;  // each transfer with it; nothing: well
  int connects = 0;
  int transfers = 0;
  std::vector<std::string> notes = {};
};

class FatedLink final : public Link {
 public:
  FatedLink(AgentContext& context, Fate& fate) : context_(context), fate_(fate) {}

  void Start(TransferPtr transfer) override {
    ++fate_.transfers;
    context_.loop.Post([this, transfer = std::move(transfer)] {
      context_.Ended(transfer, fate_.ends ? Result<void>(Fail(*fate_.ends, "as the test wants it"))
                                          : Result<void>());
    });
  }

  void Cancel(const TransferPtr& /*transfer*/) override {}

  Result<void> Notify(std::string_view bytes) override {
    fate_.notes.emplace_back(bytes);
    return {};
  }

  PeerState state() const override {
    return fate_.ends == Code::kUnavailable ? PeerState::kBroken : PeerState::kConnected;
  }

  std::optional<Error> error() const override { return std::nullopt; }

 private:
  AgentContext& context_;
  Fate& fate_;
};

class FatedTransport final : public Transport {
 public:
  FatedTransport(AgentContext& context, std::string_view name, Fate& fate)
      : context_(context), name_(name), fate_(fate) {}

  std::string_view name() const override { return name_; }

  std::string address() const override { return "here"; }

  bool Fits(std::string_view /*address*/) const override { return true; }

  std::shared_ptr<Link> Connect(std::string_view /*address*/, AgentId /*peer*/) override {
    ++fate_.connects;
    return std::make_shared<FatedLink>(context_, fate_);
  }

 private:
  AgentContext& context_;
  std::string_view name_;
  Fate& fate_;
};

class Fallback : public testing::Test {
 protected:
  void SetUp() override {
    std::vector<TransportFactory> factories;
    for (Fate* const fate : {&best_, &next_}) {
      factories.push_back([this,
                           fate](AgentContext& context) -> Result<std::unique_ptr<Transport>> {
        return std::make_unique<FatedTransport>(context, fate == &best_ ? "best" : "next", *fate);
      });
    }
    agent_ = std::move(*TransferAgent::Create(node_.loop(), {}, std::move(factories)));
    memory_.resize(10);
    key_ = *agent_->Register(memory_, {});
    peer_ = *agent_->Connect(EncodeMetadata(
        {.id = {.high = 1, .low = 2}, .transports = {{"best", "there"}, {"next", "there"}}}));
  }

  TransferStatus Run() {
    const Descriptor whole{.region = key_, .offset = 0, .size_bytes = 10, .generation = 1};
    const TransferId id = *agent_->Post({.operation = Operation::kRead,
                                         .peer = peer_,
                                         .local = {&whole, 1},
                                         .remote = {&whole, 1},
                                         .notification = std::nullopt,
                                         .deadline = node_.loop().Now() + 5s});
    world_.RunUntil([&] { return agent_->Poll(id).state != TransferState::kInProgress; },
                    world_.now() + 20s);
    const TransferStatus status = agent_->Poll(id);
    agent_->Release(id);
    return status;
  }

  TransportCounters Of(std::size_t index) const { return agent_->counters().transports[index]; }

  rt::SimWorld world_{rt::SimOptions{.seed = 2}};
  rt::SimNode& node_ = world_.AddNode("one");
  Fate best_;
  Fate next_;
  std::unique_ptr<TransferAgent> agent_;
  std::vector<std::byte> memory_;
  RegionKey key_{};
  PeerId peer_{};
};

TEST_F(Fallback, WhatCannotBeReachedIsLeftAloneForAWhileAndThenTriedAgain) {
  best_.ends = Code::kUnavailable;
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Run().state, TransferState::kDone);
  }
  EXPECT_EQ(best_.transfers, 1);
  EXPECT_EQ(next_.transfers, 3);
  EXPECT_EQ(Of(0).fallbacks, 1U);
  EXPECT_EQ(Of(0).failed, 0U);
  EXPECT_EQ(Of(1).reads, 3U);
  EXPECT_EQ(Of(1).read_bytes, 30U);
  EXPECT_EQ(agent_->peer(peer_).transport, "next");
  ASSERT_TRUE(agent_->Notify(peer_, "a")) << "it goes where somebody listens";
  best_.ends.reset();
  bool passed = false;
  node_.loop().RunAt(node_.loop().Now() + 11s, [&passed] { passed = true; });
  world_.RunUntil([&passed] { return passed; }, world_.now() + 12s);
  EXPECT_EQ(Run().state, TransferState::kDone);
  EXPECT_EQ(best_.transfers, 2);
  EXPECT_EQ(Of(0).reads, 1U);
  EXPECT_EQ(agent_->peer(peer_).transport, "best");
  EXPECT_EQ(agent_->peers().size(), 1U);
  EXPECT_EQ(next_.notes, std::vector<std::string>{"a"});
}

TEST_F(Fallback, MemoryThatItCannotReachSaysNothingOfOtherMemory) {
  best_.ends = Code::kUnsupported;
  EXPECT_EQ(Run().state, TransferState::kDone);
  EXPECT_EQ(Run().state, TransferState::kDone);
  EXPECT_EQ(best_.transfers, 2);
  EXPECT_EQ(Of(0).fallbacks, 2U);
}

TEST_F(Fallback, WhatWasRefusedIsRefusedAndCountedOfWhoTried) {
  best_.ends = Code::kNotFound;
  EXPECT_EQ(Run().error->code(), Code::kNotFound);
  EXPECT_EQ(next_.transfers, 0);
  EXPECT_EQ(Of(0).failed, 1U);
  best_.ends = next_.ends = Code::kUnavailable;
  EXPECT_EQ(Run().error->code(), Code::kUnavailable);
  EXPECT_EQ(Of(1).failed, 1U);
}

}  // namespace
}  // namespace pixii::transport
