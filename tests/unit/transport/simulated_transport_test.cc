// The same agents under virtual time: tcp over a network whose faults a seed decides.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <vector>

#include "rt/sim_world.h"
#include "transport/memory_transport.h"
#include "transport/tcp_transport.h"
#include "transport/transfer_agent.h"
#include "unit/transport/agents.h"

namespace pixii::transport {
namespace {

using rt::operator""s;
using rt::operator""ms;

struct Simulated {
  rt::SimWorld world;
  rt::SimNode& client_node = world.AddNode("10.0.0.1");
  rt::SimNode& server_node = world.AddNode("10.0.0.2");
  MemoryExchange exchange{{.latency = rt::Duration(50'000), .bytes_per_s_max = 1'000'000'000}};
  std::unique_ptr<TransferAgent> server;
  std::unique_ptr<TransferAgent> client;
  PeerId peer{};
  std::vector<std::byte> here = std::vector<std::byte>(1 << 20);
  std::vector<std::byte> there = std::vector<std::byte>(1 << 20);
  RegionKey here_key{};
  RegionKey there_key{};

  explicit Simulated(std::uint64_t seed, bool tcp, double resets = 0)
      : world({.seed = seed, .reset_probability = resets, .delay_probability = 0.01}) {
    const auto make = [&](rt::SimNode& node) {
      std::vector<TransportFactory> transports;
      if (tcp) {
        TcpOptions options;
        options.listen = {.host = node.host(), .port = 0};
        transports.push_back(MakeTcpTransport(node.net(), TestKey(), options));
      } else {
        transports.push_back(exchange.factory());
      }
      return std::move(*TransferAgent::Create(node.loop(), {}, std::move(transports)));
    };
    server = make(server_node);
    client = make(client_node);
    here_key = *client->Register(here, {});
    there_key = *server->Register(there, {});
    peer = *client->Connect(server->Metadata());
    for (std::size_t i = 0; i < there.size(); ++i) {
      there[i] = static_cast<std::byte>(i * 131 + i / 977);
    }
  }

  ~Simulated() {
    client.reset();
    server.reset();
  }

  TransferStatus Read(std::uint64_t size, rt::Duration limit) {
    std::ranges::fill(here, std::byte{0});
    EXPECT_TRUE(server->Open(there_key, {}, 1, Access::kRead));
    const Descriptor local{.region = here_key, .offset = 0, .size_bytes = size, .generation = 0};
    const Descriptor remote{.region = there_key, .offset = 7, .size_bytes = size, .generation = 1};
    const Result<TransferId> id = client->Post({.operation = Operation::kRead,
                                                .peer = peer,
                                                .local = {&local, 1},
                                                .remote = {&remote, 1},
                                                .notification = std::nullopt,
                                                .deadline = world.now() + limit});
    EXPECT_TRUE(id);
    const rt::SimEnd end =
        world.RunUntil([&] { return client->Poll(*id).state != TransferState::kInProgress; },
                       world.now() + limit + 1s);
    EXPECT_EQ(end, rt::SimEnd::kDone) << "it did not end by its deadline";
    TransferStatus status = client->Poll(*id);
    client->Release(*id);
    return status;
  }

  bool Equal(std::uint64_t size) const {
    return std::equal(here.begin(), here.begin() + static_cast<std::ptrdiff_t>(size),
                      there.begin() + 7);
  }
};

TEST(SimulatedTransport, BytesArriveOverAnyNetworkAndTimeIsVirtual) {
  for (const bool tcp : {false, true}) {
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
      Simulated simulated(seed, tcp);
      const TransferStatus status = simulated.Read(1'000'000, 20s);
      ASSERT_EQ(status.state, TransferState::kDone) << status.error->ToString();
      EXPECT_TRUE(simulated.Equal(1'000'000));
    }
  }
}

TEST(SimulatedTransport, ChangedBitsOnTheWayAreNeverTakenForBytes) {
  std::map<Code, int> ended;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Simulated simulated(seed, true);
    ASSERT_EQ(simulated.Read(1000, 10s).state, TransferState::kDone);
    simulated.world.SetCorruption("10.0.0.1", "10.0.0.2", 0.02);
    const TransferStatus status = simulated.Read(1'000'000, 10s);
    if (status.state == TransferState::kDone) {
      EXPECT_TRUE(simulated.Equal(1'000'000));
    } else {
      ++ended[status.error->code()];
    }
    simulated.world.SetCorruption("10.0.0.1", "10.0.0.2", 0);
    // The peer is not lost for that.
    TransferStatus after = simulated.Read(1'000'000, 10s);
    if (after.state != TransferState::kDone) {
      after = simulated.Read(1'000'000, 10s);
    }
    ASSERT_EQ(after.state, TransferState::kDone) << after.error->ToString();
    EXPECT_TRUE(simulated.Equal(1'000'000));
  }
  EXPECT_GT(ended[Code::kDataCorrupt], 0);
  for (const auto& [code, count] : ended) {
    EXPECT_TRUE(code == Code::kDataCorrupt || code == Code::kDisconnected) << CodeName(code);
  }
}

TEST(SimulatedTransport, APartitionEndsWithTheDeadlineAndHeals) {
  Simulated simulated(3, true);
  ASSERT_EQ(simulated.Read(1000, 10s).state, TransferState::kDone);
  simulated.world.SetPartition("10.0.0.1", "10.0.0.2", true);
  EXPECT_EQ(simulated.Read(1000, 2s).error->code(), Code::kDeadlineExceeded);
  // Longer than a connection may be silent: it is given up, and a new one is made after the
  // healing.
  EXPECT_EQ(simulated.Read(1000, 15s).error->code(), Code::kDisconnected);
  simulated.world.SetPartition("10.0.0.1", "10.0.0.2", false);
  ASSERT_EQ(simulated.Read(1'000'000, 20s).state, TransferState::kDone);
  EXPECT_TRUE(simulated.Equal(1'000'000));
}

TEST(SimulatedTransport, APeerThatIsKilledEndsItsTransfers) {
  Simulated simulated(4, true);
  ASSERT_EQ(simulated.Read(1000, 10s).state, TransferState::kDone);
  simulated.world.RunAt(simulated.world.now() + 1ms, [&] { simulated.server_node.Kill(); });
  EXPECT_EQ(simulated.Read(1'000'000, 20s).error->code(), Code::kDisconnected);
}

}  // namespace
}  // namespace pixii::transport
