#include "transport/choice.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "unit/transport/agents.h"

namespace pixii::transport {
namespace {

using rt::operator""s;

/// One agent of some configuration, and what is needed to use it.
struct Chosen {
  Bell bell;
  std::string log_text;
  rt::Mutex log_mutex;
  std::unique_ptr<obs::Log> log;
  std::unique_ptr<AgentThread> thread;

  explicit Chosen(ChoiceOptions options, ClusterKey key = TestKey()) {
    log = std::make_unique<obs::Log>(
        obs::LogOptions{}, [] { return rt::WallTime{}; },
        [this](obs::Severity /*severity*/, std::string_view line) {
          rt::MutexLock lock(log_mutex);
          log_text += line;
        });
    AgentOptions agent;
    agent.wake = [this] { bell.Ring(); };
    agent.log = log.get();
    Result<std::unique_ptr<AgentThread>> made =
        AgentThread::Start(std::move(agent), ChooseTransports(key, std::move(options)));
    EXPECT_TRUE(made) << made.error().ToString();
    thread = std::move(*made);
  }

  Agent& agent() { return thread->agent(); }

  std::string Logged() {
    rt::MutexLock lock(log_mutex);
    return log_text;
  }
};

/// What a read of 1,000 bytes from `server`, `times` over, ends with, and over what it went.
std::pair<TransferStatus, std::string> Read(Chosen& client, Chosen& server, bool mappable,
                                            int times = 1) {
  std::vector<std::byte> heap(1000, std::byte{7});
  std::shared_ptr<const rt::MemoryFile> file;
  RegionOptions options;
  std::span<std::byte> source = heap;
  if (mappable) {
    file = std::make_shared<const rt::MemoryFile>(
        std::move(*rt::MemoryFile::Create(1000, rt::Sharing::kOthersRead)));
    source = file->bytes();
    std::ranges::fill(source, std::byte{7});
    options.file = file;
  }
  std::vector<std::byte> target(1000);
  const RegionKey there = *server.agent().Register(source, options);
  const RegionKey here = *client.agent().Register(target, {});
  EXPECT_TRUE(server.agent().Open(there, {}, 1, Access::kRead));
  const Result<PeerId> peer = client.agent().Connect(server.agent().Metadata());
  if (!peer) {
    return {{.state = TransferState::kFailed, .error = peer.error()}, ""};
  }
  const Descriptor local{.region = here, .offset = 0, .size_bytes = 1000, .generation = 0};
  const Descriptor remote{.region = there, .offset = 0, .size_bytes = 1000, .generation = 1};
  TransferStatus status;
  for (int i = 0; i < times; ++i) {
    const Result<TransferId> id = client.agent().Post({.operation = Operation::kRead,
                                                       .peer = *peer,
                                                       .local = {&local, 1},
                                                       .remote = {&remote, 1},
                                                       .notification = std::nullopt,
                                                       .deadline = In(10s)});
    EXPECT_TRUE(client.bell.WaitFor([&] {
      status = client.agent().Poll(*id);
      return status.state != TransferState::kInProgress;
    }));
    client.agent().Release(*id);
  }
  if (status.state == TransferState::kDone) {
    EXPECT_EQ(target, std::vector<std::byte>(1000, std::byte{7}));
  }
  const std::string over(client.agent().peer(*peer).transport);
  EXPECT_TRUE(client.bell.WaitFor([&] { return client.agent().Deregister(here).has_value(); }));
  EXPECT_TRUE(client.bell.WaitFor([&] { return server.agent().Deregister(there).has_value(); }));
  return {status, over};
}

TEST(Choice, MemoryOfOneHostGoesOverShmAndWhatCannotBeMappedOverTcp) {
  Chosen client({});
  Chosen server({});
  auto [mapped, over_shm] = Read(client, server, true);
  EXPECT_EQ(mapped.state, TransferState::kDone);
  EXPECT_EQ(over_shm, "shm");
  EXPECT_NE(client.Logged().find("transport=shm"), std::string::npos) << client.Logged();
  auto [heap, over_tcp] = Read(client, server, false);
  EXPECT_EQ(heap.state, TransferState::kDone) << heap.error->ToString();
  EXPECT_EQ(over_tcp, "tcp");
  EXPECT_NE(client.Logged().find("transport=tcp"), std::string::npos) << client.Logged();
}

TEST(Choice, OneThatIsNamedIsTakenAloneAndNoCommonOneIsAnError) {
  Chosen tcp({.backend = Backend::kTcp});
  Chosen both({});
  auto [status, over] = Read(tcp, both, true);
  EXPECT_EQ(status.state, TransferState::kDone);
  EXPECT_EQ(over, "tcp");
  Chosen shm({.backend = Backend::kShm});
  EXPECT_EQ(Read(shm, both, true).second, "shm");
  EXPECT_EQ(Read(shm, both, false).first.error->code(), Code::kUnsupported);
  EXPECT_EQ(Read(shm, tcp, true).first.error->code(), Code::kUnsupported);
}

TEST(Choice, FabricsAreTakenAloneAndSayWhatIsMissing) {
  for (const Backend backend : {Backend::kUcx, Backend::kLibfabric}) {
    const std::string_view name = backend == Backend::kUcx ? "ucx" : "libfabric";
    Chosen client({.backend = backend});
    Chosen server({.backend = backend});
    auto [status, over] = Read(client, server, false);
    EXPECT_EQ(status.state, TransferState::kDone) << status.error->ToString();
    EXPECT_EQ(over, name);
    Chosen tcp({.backend = Backend::kTcp});
    EXPECT_EQ(Read(client, tcp, false).first.error->code(), Code::kUnsupported);
    Chosen stranger({.backend = backend}, *ClusterKey::FromSecret("another cluster's key ..."));
    const TransferStatus refused = Read(stranger, server, false).first;
    EXPECT_EQ(refused.state, TransferState::kFailed);
    EXPECT_EQ(refused.error->code(), Code::kUnauthenticated) << refused.error->ToString();
    EXPECT_GE(server.agent().counters().strangers_refused, 1u);
    ChoiceOptions missing{.backend = backend};
    missing.fabric.library_path = "/nowhere/at-all.so";
    Result<std::unique_ptr<AgentThread>> made =
        AgentThread::Start({}, ChooseTransports(TestKey(), missing));
    ASSERT_FALSE(made);
    EXPECT_NE(made.error().detail().find("/nowhere/at-all.so"), std::string::npos);
  }
}

TEST(Choice, TlsIsWithKeyAndBothSidesMustWantIt) {
  Chosen client({.backend = Backend::kTcp, .encrypted = true});
  Chosen server({.backend = Backend::kTcp, .encrypted = true});
  auto [status, over] = Read(client, server, false);
  EXPECT_EQ(status.state, TransferState::kDone) << status.error->ToString();
  EXPECT_EQ(over, "tls");
  Chosen plain({.backend = Backend::kTcp});
  EXPECT_EQ(Read(plain, server, false).first.error->code(), Code::kUnsupported);
  Chosen other({.backend = Backend::kTcp, .encrypted = true},
               *ClusterKey::FromSecret("another cluster's key ..."));
  const TransferStatus refused = Read(other, server, false).first;
  EXPECT_EQ(refused.state, TransferState::kFailed);
}

TEST(Choice, AnotherKeyIsRefusedOverEveryTransport) {
  Chosen server({});
  for (const Backend backend : {Backend::kShm, Backend::kTcp}) {
    Chosen stranger({.backend = backend}, *ClusterKey::FromSecret("another cluster's key ..."));
    const TransferStatus status = Read(stranger, server, true).first;
    EXPECT_EQ(status.state, TransferState::kFailed);
    EXPECT_EQ(status.error->code(), Code::kUnauthenticated) << status.error->ToString();
  }
  EXPECT_GE(server.agent().counters().strangers_refused, 2u);
}

const TransportCounters& Of(const AgentCounters& counters, std::string_view transport) {
  return *std::ranges::find(counters.transports, transport, &TransportCounters::transport);
}

TEST(Choice, EachTransportsFiguresAreItsOwn) {
  Chosen client({});
  Chosen server({});
  Read(client, server, true);
  Read(client, server, false);
  const AgentCounters counters = client.agent().counters();
  ASSERT_EQ(counters.transports.size(), 2U);
  EXPECT_EQ(counters.transports.front().transport, "shm");
  for (const std::string_view each : {"shm", "tcp"}) {
    EXPECT_EQ(Of(counters, each).reads, 1U) << each;
    EXPECT_EQ(Of(counters, each).read_bytes, 1000U) << each;
    EXPECT_EQ(Of(counters, each).failed, 0U) << each;
  }
  EXPECT_EQ(Of(counters, "shm").fallbacks, 1U) << "memory that cannot be mapped";
  EXPECT_EQ(counters.read_bytes, 2000U);
  EXPECT_EQ(Of(server.agent().counters(), "tcp").served_bytes, 1000U);
}

TEST(Choice, ASocketThatIsNotThereIsTriedOnceAndThenLeftAloneForAWhile) {
  std::string folder = ::testing::TempDir() + "pixii-choice-XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  ChoiceOptions options;
  options.shm.folder = folder;
  Chosen server(options);
  std::filesystem::remove_all(folder);  // as in another container
  Chosen client({});
  auto [status, over] = Read(client, server, true, 3);
  EXPECT_EQ(status.state, TransferState::kDone) << status.error->ToString();
  EXPECT_EQ(over, "tcp");
  const AgentCounters counters = client.agent().counters();
  EXPECT_EQ(Of(counters, "tcp").reads, 3U);
  EXPECT_EQ(Of(counters, "shm").fallbacks, 1U);
  const std::vector<PeerInfo> peers = client.agent().peers();
  ASSERT_EQ(peers.size(), 1U);
  EXPECT_EQ(peers[0].transport, "tcp");
  EXPECT_EQ(peers[0].agent, server.agent().id());
}

TEST(Choice, WithoutAFolderForSocketsDefaultIsTcpAndShmIsRefused) {
  ChoiceOptions options;
  options.shm.folder = "/proc/no such folder";
  Chosen client(options);
  EXPECT_NE(client.Logged().find("no such folder"), std::string::npos) << client.Logged();
  Chosen server({});
  EXPECT_EQ(Read(client, server, true).second, "tcp");
  EXPECT_EQ(Read(server, client, true).second, "tcp");
  options.backend = Backend::kShm;
  EXPECT_FALSE(AgentThread::Start({}, ChooseTransports(TestKey(), options)));
  options.shm.folder = std::string(61, 'x');
  const auto refused = AgentThread::Start({}, ChooseTransports(TestKey(), options));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().param(), "folder");
}

TEST(Choice, NamesAreReadInAnyCaseAndOthersNamed) {
  EXPECT_EQ(*ParseBackend("DEFAULT"), Backend::kDefault);
  EXPECT_EQ(*ParseBackend("shm"), Backend::kShm);
  EXPECT_EQ(*ParseBackend("Tcp"), Backend::kTcp);
  EXPECT_EQ(*ParseBackend("UCX"), Backend::kUcx);
  EXPECT_EQ(*ParseBackend("LIBFABRIC"), Backend::kLibfabric);
  EXPECT_EQ(ParseBackend("rdma").error().param(), "backend");
}

}  // namespace
}  // namespace pixii::transport
