#include "unit/transport/agents.h"

#include <gtest/gtest.h>

#include <chrono>

#include "rt/random.h"
#include "transport/fabric_transport.h"
#include "transport/shm_transport.h"
#include "transport/tcp_transport.h"

// For ThreadSanitizer: a read looks at its windows again after it has copied, and is told as done
// only if they were open all the time. What it copied while their owner wrote nobody sees.
extern "C" const char* __tsan_default_suppressions();

extern "C" const char* __tsan_default_suppressions() { return "race:pixii::transport::CopyFrom\n"; }

namespace pixii::transport {

using rt::operator""s;
using rt::operator""ms;

void Bell::Ring() {
  rt::MutexLock lock(mutex_);
  ++rings_;
  changed_.NotifyAll();
}

bool Bell::WaitFor(const std::function<bool()>& holds) {
  const rt::Time limit = In(20s);
  while (true) {
    std::uint64_t seen = 0;
    {
      rt::MutexLock lock(mutex_);
      seen = rings_;
    }
    if (holds()) {
      return true;
    }
    if (Now() > limit) {
      return false;
    }
    rt::MutexLock lock(mutex_);
    if (rings_ == seen) {
      // Some conditions change without a ring: a peer's notification lies in memory.
      changed_.WaitFor(mutex_, 5ms);
    }
  }
}

ClusterKey TestKey() { return *ClusterKey::FromSecret("a key for tests, 32 bytes long .."); }

rt::Time Now() {
  return rt::Time(std::chrono::duration_cast<rt::Duration>(
      std::chrono::steady_clock::now().time_since_epoch()));
}

void Memory::Open(Agent& agent, std::uint64_t generation, Access access) const {
  ASSERT_TRUE(agent.Open(key, {.first = 0, .count = 1}, generation, access));
}

Descriptor Memory::At(std::uint64_t offset, std::uint64_t size_bytes,
                      std::uint64_t generation) const {
  return {.region = key, .offset = offset, .size_bytes = size_bytes, .generation = generation};
}

Agents::Agents(std::string_view backend, AgentOptions options, std::optional<FaultOptions> faults)
    : backend_(backend) {
  const auto start = [&](std::uint64_t inline_bytes_max, bool faulty) {
    AgentOptions own;
    own.wake = [bell = bell_.get()] { bell->Ring(); };
    own.inline_bytes_max = inline_bytes_max;
    own.transfers_max = options.transfers_max;
    own.notifications_max = options.notifications_max;
    return AgentThread::Start(std::move(own), [&](rt::Loop& /*loop*/, rt::Net& net) {
      std::vector<TransportFactory> factories;
      if (backend_.starts_with("tcp")) {
        TcpOptions tcp;
        tcp.checksums = backend_ == "tcp";
        factories.push_back(MakeTcpTransport(net, TestKey(), tcp));
      } else if (backend_ == "shm") {
        factories.push_back(MakeShmTransport(net, TestKey(), {}));
      } else if (backend_ == "ucx" || backend_ == "libfabric") {
        FabricOptions fabric;
        fabric.kind = backend_ == "ucx" ? FabricKind::kUcx : FabricKind::kLibfabric;
        factories.push_back(MakeFabricTransport(net, TestKey(), fabric));
      } else {
        factories.push_back(exchange_->factory());
      }
      if (faulty) {
        factories.back() = WithFaults(std::move(factories.back()), *faults);
      }
      return factories;
    });
  };
  Result<std::unique_ptr<AgentThread>> server = start(options.inline_bytes_max, false);
  Result<std::unique_ptr<AgentThread>> client = start(options.inline_bytes_max, faults.has_value());
  EXPECT_TRUE(server) << server.error().ToString();
  EXPECT_TRUE(client) << client.error().ToString();
  server_ = std::move(*server);
  client_ = std::move(*client);
  Result<PeerId> peer = client_->agent().Connect(server_->agent().Metadata());
  EXPECT_TRUE(peer) << peer.error().ToString();
  peer_ = *peer;
}

Agents::~Agents() = default;

Memory Agents::MakeMemory(Agent& agent, std::size_t size_bytes, std::uint64_t seed,
                          std::uint64_t window_bytes) {
  Memory memory;
  RegionOptions options{.window_bytes = window_bytes, .file = nullptr};
  if (backend_ == "shm") {
    Result<rt::MemoryFile> file = rt::MemoryFile::Create(size_bytes, rt::Sharing::kOthersWrite);
    EXPECT_TRUE(file) << file.error().ToString();
    memory.file = std::make_shared<const rt::MemoryFile>(std::move(*file));
    memory.bytes = memory.file->bytes();
    options.file = memory.file;
  } else {
    memory.heap.resize(size_bytes);
    memory.bytes = memory.heap;
  }
  rt::Random random(seed);
  for (std::byte& byte : memory.bytes) {
    byte = static_cast<std::byte>(random.Next());
  }
  Result<RegionKey> key = agent.Register(memory.bytes, options);
  EXPECT_TRUE(key) << key.error().ToString();
  memory.key = *key;
  return memory;
}

TransferStatus Agents::Await(TransferId id) {
  TransferStatus status;
  EXPECT_TRUE(bell_->WaitFor([&] {
    status = client().Poll(id);
    return status.state != TransferState::kInProgress;
  })) << "the transfer has not ended";
  client().Release(id);
  return status;
}

TransferStatus Agents::Run(Operation operation, std::vector<Descriptor> local,
                           std::vector<Descriptor> remote,
                           std::optional<std::string_view> notification) {
  Result<TransferId> id = client().Post({.operation = operation,
                                         .peer = peer_,
                                         .local = local,
                                         .remote = remote,
                                         .notification = notification,
                                         .deadline = In(15s)});
  if (!id) {
    return {.state = TransferState::kFailed, .error = id.error()};
  }
  return Await(*id);
}

std::optional<Notification> Agents::AwaitNotification(Agent& agent) {
  Notification out;
  if (!bell_->WaitFor([&] { return agent.TakeNotification(out); })) {
    return std::nullopt;
  }
  return out;
}

}  // namespace pixii::transport
