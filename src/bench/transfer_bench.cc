#include "bench/transfer_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <numeric>
#include <thread>
#include <utility>

#include "bench/bare_socket.h"
#include "bench/columns.h"
#include "bench/disk_transfers.h"
#include "bench/fabric_tool.h"
#include "rt/memory_file.h"
#include "rt/process.h"
#include "rt/random.h"
#include "rt/thread.h"
#include "transport/agent_thread.h"
#include "transport/fabric_transport.h"
#include "transport/shm_transport.h"
#include "transport/tcp_transport.h"

namespace pixii::bench {

namespace {

using rt::operator""s;
using rt::operator""ms;
using transport::Access;
using transport::Agent;
using transport::AgentThread;
using transport::Descriptor;
using transport::Notification;
using transport::Operation;
using transport::PeerId;
using transport::RegionKey;
using transport::TransferId;
using transport::TransferState;
using transport::TransferStatus;

constexpr std::size_t kArenaBytes = std::size_t{64} << 20;
constexpr std::uint32_t kSlots = 4;  // of two-sided messages under way

double Now() {
  const auto now = std::chrono::steady_clock::now();  // tidy: clock this is the measurement
  return std::chrono::duration<double>(now.time_since_epoch()).count();
}

double CpuSeconds() {
  const Result<rt::ProcessUsage> usage = rt::ReadProcessUsage();
  return usage ? std::chrono::duration<double>(usage->cpu_time).count() : 0;
}

/// Wakes who waits for transfers.
class Bell final {
 public:
  void Ring() {
    const std::uint64_t rings = rings_.fetch_add(1, std::memory_order_seq_cst) + 1;
    if (rings == wanted_.load(std::memory_order_seq_cst)) {
      rt::MutexLock lock(mutex_);
      changed_.NotifyAll();
    }
  }

  std::uint64_t rings() const { return rings_.load(std::memory_order_acquire); }

  /// Until it has rung so many times: who posts many at a time is woken once for many.
  void WaitFor(std::uint64_t rings) {
    rt::MutexLock lock(mutex_);
    wanted_.store(rings, std::memory_order_seq_cst);
    while (rings_.load(std::memory_order_seq_cst) < rings) {
      changed_.Wait(mutex_);
    }
  }

 private:
  rt::Mutex mutex_;
  rt::CondVar changed_;
  std::atomic<std::uint64_t> rings_{0};
  std::atomic<std::uint64_t> wanted_{0};
};

/// Memory of one agent that others can map.
struct Arena {
  std::shared_ptr<const rt::MemoryFile> file;
  RegionKey key{};

  static Result<Arena> Create(Agent& agent, std::uint64_t seed) {
    PX_TRY(rt::MemoryFile file, rt::MemoryFile::Create(kArenaBytes, rt::Sharing::kOthersWrite));
    Arena arena{.file = std::make_shared<const rt::MemoryFile>(std::move(file)), .key = {}};
    rt::Random random(seed);
    for (std::size_t i = 0; i < kArenaBytes; i += sizeof(std::uint64_t)) {
      const std::uint64_t word = random.Next();
      std::memcpy(arena.file->bytes().data() + i, &word, sizeof(word));
    }
    PX_TRY(arena.key, agent.Register(arena.file->bytes(), {.window_bytes = 0, .file = arena.file}));
    PX_CHECK_OK(agent.Open(arena.key, {.first = 0, .count = 1}, 1, Access::kReadWrite));
    return arena;
  }

  std::byte* at(std::uint64_t offset) const { return file->bytes().data() + offset; }
};

/// What one transfer moves: pairs of places.
struct Shape {
  std::string name;
  std::uint64_t size_bytes = 0;                                 // of all pairs
  std::vector<std::pair<std::uint64_t, std::uint64_t>> places;  // offsets here and there
  std::uint64_t piece_bytes = 0;

  std::vector<Descriptor> Here(const Arena& arena) const {
    std::vector<Descriptor> out;
    for (const auto& [here, there] : places) {
      out.push_back(
          {.region = arena.key, .offset = here, .size_bytes = piece_bytes, .generation = 1});
    }
    return out;
  }

  std::vector<Descriptor> There(const Arena& arena) const {
    std::vector<Descriptor> out;
    for (const auto& [here, there] : places) {
      out.push_back(
          {.region = arena.key, .offset = there, .size_bytes = piece_bytes, .generation = 1});
    }
    return out;
  }
};

std::vector<Shape> Shapes(const TransferBenchOptions& options) {
  std::vector<Shape> out;
  for (const auto& [name, size] : {std::pair<const char*, std::uint64_t>{"64k", 64 << 10},
                                   {"1m", 1 << 20},
                                   {"16m", 16 << 20}}) {
    out.push_back({.name = name, .size_bytes = size, .places = {{0, 0}}, .piece_bytes = size});
  }
  const std::uint64_t count =
      std::min<std::uint64_t>(options.blocks, kArenaBytes / options.block_bytes);
  Shape list{.name = fmt::format("{}x{}k", count, options.block_bytes >> 10),
             .size_bytes = count * options.block_bytes,
             .places = {},
             .piece_bytes = options.block_bytes};
  // Blocks as a cache hands them out: anywhere.
  std::vector<std::uint64_t> here(kArenaBytes / options.block_bytes);
  std::iota(here.begin(), here.end(), 0);
  std::vector<std::uint64_t> there = here;
  rt::Random random(1);
  for (std::uint64_t i = 0; i < count; ++i) {
    std::swap(here[i], here[i + random.Below(here.size() - i)]);
    std::swap(there[i], there[i + random.Below(there.size() - i)]);
    list.places.emplace_back(here[i] * options.block_bytes, there[i] * options.block_bytes);
  }
  out.push_back(std::move(list));
  return out;
}

/// Where the i-th of two-sided messages goes: one slot after another.
std::uint64_t SlotOffset(const Shape& shape, std::uint64_t i) {
  return shape.places.size() > 1 ? 0 : i % kSlots * shape.size_bytes;
}

struct Took {
  double seconds = 0;
  double cpu_seconds = 0;
};

Result<Took> Timed(const std::function<Result<void>()>& run) {
  const double cpu = CpuSeconds();
  const double begin = Now();
  PX_CHECK_OK(run());
  const double end = Now();
  return Took{.seconds = end - begin, .cpu_seconds = CpuSeconds() - cpu};
}

/// Two agents and a memory of each.
class Pair final {
 public:
  enum class Kind : std::uint8_t { kShm, kTcp, kTcpChecked, kUcx, kLibfabric };

  static Result<std::unique_ptr<Pair>> Create(Kind kind) {
    auto pair = std::unique_ptr<Pair>(new Pair);  // tidy: new the constructor is private
    PX_TRY(const transport::ClusterKey key,
           transport::ClusterKey::FromSecret("only this process has both ends"));
    const auto choose = [kind, key](rt::Loop& /*loop*/, rt::Net& net) {
      std::vector<transport::TransportFactory> out;
      if (kind == Kind::kShm) {
        transport::ShmOptions options;
        options.polled = true;
        out.push_back(transport::MakeShmTransport(net, key, options));
      } else if (kind == Kind::kUcx || kind == Kind::kLibfabric) {
        transport::FabricOptions options;
        options.kind =
            kind == Kind::kUcx ? transport::FabricKind::kUcx : transport::FabricKind::kLibfabric;
        out.push_back(transport::MakeFabricTransport(net, key, options));
      } else {
        transport::TcpOptions options;
        options.checksums = kind == Kind::kTcpChecked;
        out.push_back(transport::MakeTcpTransport(net, key, options));
      }
      return out;
    };
    for (std::unique_ptr<AgentThread>* each : {&pair->server_, &pair->client_}) {
      transport::AgentOptions options;
      options.wake = [bell = pair->bell_.get()] { bell->Ring(); };
      options.inline_bytes_max = kArenaBytes;  // by the caller, as a one-sided put is
      PX_TRY(*each, AgentThread::Start(std::move(options), choose));
    }
    PX_TRY(pair->here_, Arena::Create(pair->client(), 1));
    PX_TRY(pair->there_, Arena::Create(pair->server(), 2));
    PX_TRY(pair->peer_, pair->client().Connect(pair->server().Metadata()));
    PX_TRY(pair->back_, pair->server().Connect(pair->client().Metadata()));
    // Connections are made and memory is mapped before anything counts.
    const Shape all{
        .name = "", .size_bytes = kArenaBytes, .places = {{0, 0}}, .piece_bytes = kArenaBytes};
    PX_CHECK_OK(pair->Run(Operation::kWrite, all, 1, 1));
    while (pair->server().peer(pair->back_).state == transport::PeerState::kConnecting) {
      std::this_thread::yield();
    }
    return pair;
  }

  Agent& client() { return client_->agent(); }

  Agent& server() { return server_->agent(); }

  const Arena& here() const { return here_; }

  const Arena& there() const { return there_; }

  /// `count` transfers, `depth` under way at a time.
  Result<void> Run(Operation operation, const Shape& shape, std::uint64_t count,
                   std::uint64_t depth) {
    const std::vector<Descriptor> here = shape.Here(here_);
    const std::vector<Descriptor> there = shape.There(there_);
    std::deque<TransferId> running;
    for (std::uint64_t posted = 0; posted < count || !running.empty();) {
      const std::uint64_t rings = bell_->rings();
      while (posted < count && running.size() < depth) {
        PX_TRY(const TransferId id, client().Post({.operation = operation,
                                                   .peer = peer_,
                                                   .local = here,
                                                   .remote = there,
                                                   .notification = std::nullopt,
                                                   .deadline = rt::kNever - 1s}));
        running.push_back(id);
        ++posted;
      }
      std::size_t ended = 0;
      for (; !running.empty(); ++ended) {
        const TransferStatus status = client().Poll(running.front());
        if (status.state == TransferState::kInProgress) {
          break;
        }
        client().Release(running.front());
        running.pop_front();
        if (status.error) {
          return Fail(*status.error);
        }
      }
      if (ended == 0) {
        bell_->WaitFor(rings + std::max<std::uint64_t>(1, running.size() / 2));
      }
    }
    return {};
  }

  /// `count` messages into slots that the receiver gives back, each by a notification.
  Result<void> RunTwoSided(const Shape& shape, std::uint64_t count) {
    rt::Thread receiver("receiver", [this, count] {
      Notification got;
      for (std::uint64_t i = 0; i < count; ++i) {
        while (!server().TakeNotification(got)) {
        }
        while (!server().Notify(back_, "back")) {
        }
      }
    });
    std::uint64_t free = kSlots;
    Result<void> result;
    Notification got;
    std::vector<Descriptor> here = shape.Here(here_);
    std::vector<Descriptor> there = shape.There(there_);
    for (std::uint64_t i = 0; i < count; ++i) {
      while (free == 0) {
        while (client().TakeNotification(got)) {
          ++free;
        }
      }
      --free;
      there.front().offset = shape.places.front().second + SlotOffset(shape, i);
      const Result<TransferId> id = client().Post({.operation = Operation::kWrite,
                                                   .peer = peer_,
                                                   .local = here,
                                                   .remote = there,
                                                   .notification = "sent",
                                                   .deadline = rt::kNever - 1s});
      if (!id) {
        return Fail(id.error());
      }
      while (client().Poll(*id).state == TransferState::kInProgress) {
      }
      client().Release(*id);
    }
    while (free < kSlots) {
      free += client().TakeNotification(got) ? 1 : 0;
    }
    receiver.Join();
    return result;
  }

  /// Seconds of one way, of `count` there and back again, polled.
  Result<double> PingPong(std::uint64_t count) {
    rt::Thread other("answerer", [this, count] {
      Notification got;
      for (std::uint64_t i = 0; i < count; ++i) {
        while (!server().TakeNotification(got)) {
        }
        while (!server().Notify(back_, got.bytes)) {
        }
      }
    });
    Notification got;
    const double begin = Now();
    for (std::uint64_t i = 0; i < count; ++i) {
      while (!client().Notify(peer_, "8 bytes.")) {
      }
      while (!client().TakeNotification(got)) {
      }
    }
    const double end = Now();
    other.Join();
    return (end - begin) / static_cast<double>(2 * count);
  }

 private:
  Pair() = default;

  std::unique_ptr<Bell> bell_ = std::make_unique<Bell>();
  Arena here_;
  Arena there_;
  std::unique_ptr<AgentThread> server_;
  std::unique_ptr<AgentThread> client_;
  PeerId peer_{};
  PeerId back_{};
};

class Bench final {
 public:
  explicit Bench(const TransferBenchOptions& options)
      : options_(options), shapes_(Shapes(options)) {
    for (const auto& [kind, pair] :
         {std::pair(transport::FabricKind::kUcx, Pair::Kind::kUcx),
          std::pair(transport::FabricKind::kLibfabric, Pair::Kind::kLibfabric)}) {
      fabrics_.push_back({.kind = kind,
                          .pair_kind = pair,
                          .name = std::string(transport::FabricName(kind)),
                          .there = transport::LoadFabricLibrary(kind).has_value(),
                          .pair = nullptr});
    }
  }

  Result<std::vector<Figure>> Run() {
    const bool all = options_.only.empty();
    const bool shm = all || options_.only == "shm";
    const bool tcp = all || options_.only == "tcp";
    for (std::uint32_t round = 0; round <= options_.repeats; ++round) {
      warm_ = round == 0;  // the first one counts for nothing
      if (shm) {
        PX_CHECK_OK(RunShm());
      }
      if (tcp) {
        PX_CHECK_OK(RunTcp());
      }
      if (all || options_.only == "file") {
        PX_CHECK_OK(RunFile());
      }
      for (Fabric& fabric : fabrics_) {
        if (options_.only == fabric.name || (all && fabric.there)) {
          PX_CHECK_OK(RunFabric(fabric));
        }
      }
    }
    std::vector<std::pair<std::string_view, std::string_view>> limits;
    for (const auto& [figure, beside] : limits_) {
      limits.emplace_back(figure, beside);
    }
    return columns_.Figures(limits);
  }

 private:
  struct Fabric {
    transport::FabricKind kind{};
    Pair::Kind pair_kind{};
    std::string name;
    bool there = false;
    std::unique_ptr<Pair> pair;
  };

  /// A message's figure of the fabric's own program, where that is installed: a list is measured
  /// beside one message of its size.
  std::string PutTool(const Fabric& fabric, const Shape& shape, std::uint64_t count,
                      std::uint64_t depth) {
    if (!options_.tools) {
      return {};
    }
    const Result<double> figure = RunFabricTool(
        {.kind = fabric.kind, .message_bytes = shape.size_bytes, .count = count, .depth = depth});
    if (!figure) {
      return std::string();  // it is not there, or did not come to an end
    }
    const std::string name = fabric.name + "_tool_" + shape.name;
    if (!warm_) {
      columns_.Put(name, "GB/s", *figure);
    }
    return name;
  }

  Result<void> RunFabric(Fabric& fabric) {
    if (fabric.pair == nullptr) {
      PX_TRY(fabric.pair, Pair::Create(fabric.pair_kind));
    }
    for (const Shape& shape : shapes_) {
      const std::uint64_t count = CountOf(shape, std::uint64_t{1} << 28U);
      const std::uint64_t depth =
          std::max<std::uint64_t>(2, (std::uint64_t{4} << 20U) / shape.size_bytes);
      const std::string floor = PutTool(fabric, shape, count, depth);
      PX_CHECK_OK(Put(fmt::format("{}_read_{}", fabric.name, shape.name), floor, shape, count,
                      [&] { return fabric.pair->Run(Operation::kRead, shape, count, depth); }));
      PX_CHECK_OK(Put(fmt::format("{}_write_{}", fabric.name, shape.name), floor, shape, count,
                      [&] { return fabric.pair->Run(Operation::kWrite, shape, count, depth); }));
    }
    return {};
  }

  /// What UCX puts into shared memory of its own, beside which ours is never slower.
  void PutSharedMemoryOfUcx(const Shape& shape, std::uint64_t count) {
    const Result<double> figure = RunFabricTool({.kind = transport::FabricKind::kUcx,
                                                 .message_bytes = shape.size_bytes,
                                                 .count = count,
                                                 .shared_memory = true});
    if (figure && !warm_) {
      columns_.Put("ucx_shared_put_" + shape.name, "GB/s", *figure);
    }
  }

  Result<void> RunShm() {
    if (shm_ == nullptr) {
      PX_TRY(shm_, Pair::Create(Pair::Kind::kShm));
    }
    for (const Shape& shape : shapes_) {
      const std::uint64_t count = CountOf(shape, std::uint64_t{1} << 30U);
      const std::string floor = "memcpy_" + shape.name;
      PX_CHECK_OK(Put(floor, {}, shape, count, [&] { return CopyMemory(shape, count, false); }));
      PX_CHECK_OK(Put("shm_write_" + shape.name, floor, shape, count,
                      [&] { return shm_->Run(Operation::kWrite, shape, count, 1); }));
      PX_CHECK_OK(Put("shm_read_" + shape.name, floor, shape, count,
                      [&] { return shm_->Run(Operation::kRead, shape, count, 1); }));
      if (shape.places.size() == 1 && options_.tools) {
        PutSharedMemoryOfUcx(shape, count);
      }
      const std::string slots = "memcpy_slots_" + shape.name;
      PX_CHECK_OK(Put(slots, {}, shape, count, [&] { return CopyMemory(shape, count, true); }));
      PX_CHECK_OK(Put("shm_two_sided_" + shape.name, slots, shape, count,
                      [&] { return shm_->RunTwoSided(shape, count); }));
    }
    constexpr std::uint64_t kPings = 100'000;
    PX_TRY(const double one_way, shm_->PingPong(std::max<std::uint64_t>(
                                     100, static_cast<std::uint64_t>(kPings * options_.scale))));
    if (!warm_) {
      columns_.Put("shm_notification", "us", one_way * 1e6);
    }
    return {};
  }

  Result<void> RunTcp() {
    if (tcp_ == nullptr) {
      PX_TRY(tcp_, Pair::Create(Pair::Kind::kTcp));
      PX_TRY(checked_, Pair::Create(Pair::Kind::kTcpChecked));
      PX_TRY(BareSocket socket, BareSocket::Connect());
      socket_ = std::make_unique<BareSocket>(std::move(socket));
    }
    for (const Shape& shape : shapes_) {
      const std::uint64_t count = CountOf(shape, std::uint64_t{1} << 28U);
      const std::uint64_t depth =
          std::max<std::uint64_t>(2, (std::uint64_t{4} << 20U) / shape.size_bytes);
      const std::string floor = "socket_" + shape.name;
      PX_CHECK_OK(Put(floor, {}, shape, count, [&]() -> Result<void> {
        const std::span<const std::byte> from(tcp_->here().at(0), shape.size_bytes);
        const Result<double> took =
            socket_->Stream(from, {tcp_->there().at(0), shape.size_bytes}, count);
        return took ? Result<void>() : Fail(took.error());
      }));
      PX_CHECK_OK(Put("tcp_write_" + shape.name, floor, shape, count,
                      [&] { return tcp_->Run(Operation::kWrite, shape, count, depth); }));
      PX_CHECK_OK(Put("tcp_read_" + shape.name, floor, shape, count,
                      [&] { return tcp_->Run(Operation::kRead, shape, count, depth); }));
      PX_CHECK_OK(Put("tcp_checked_write_" + shape.name, floor, shape, count,
                      [&] { return checked_->Run(Operation::kWrite, shape, count, depth); }));
      PX_CHECK_OK(Put("tcp_checked_read_" + shape.name, floor, shape, count,
                      [&] { return checked_->Run(Operation::kRead, shape, count, depth); }));
    }
    return {};
  }

  /// Blocks of a disk tier; one of a list is measured with the others.
  Result<void> RunFile() {
    for (const Shape& shape : shapes_) {
      if (shape.places.size() > 1) {
        continue;
      }
      const std::uint64_t count = std::min<std::uint64_t>(
          std::max<std::uint64_t>(4, CountOf(shape, std::uint64_t{1} << 28U)), 4096);
      PX_TRY(const std::unique_ptr<DiskTransfers> disk,
             DiskTransfers::Create(options_.folder, shape.size_bytes,
                                   static_cast<std::uint32_t>(count)));
      for (const auto& [operation, verb] : {std::pair(rt::BlockOperation::kWrite, "write"),
                                            std::pair(rt::BlockOperation::kRead, "read")}) {
        const bool writes = operation == rt::BlockOperation::kWrite;
        const std::string floor = fmt::format("uring_{}_{}", verb, shape.name);
        PX_CHECK_OK(disk->RunRaw(operation));  // the file has its blocks on the disk
        PX_CHECK_OK(Put(floor, {}, shape, count, [&] { return disk->RunRaw(operation); }));
        PX_CHECK_OK(writes ? disk->WriteStore(true) : Result<void>());
        for (const bool checked : {false, true}) {
          PX_CHECK_OK(Put(fmt::format("disk_{}{}_{}", checked ? "checked_" : "", verb, shape.name),
                          floor, shape, count, [&] {
                            return writes ? disk->WriteStore(checked) : disk->ReadStore(checked);
                          }));
        }
      }
    }
    return {};
  }

  std::uint64_t CountOf(const Shape& shape, std::uint64_t bytes) const {
    const double wanted =
        static_cast<double>(bytes) * options_.scale / static_cast<double>(shape.size_bytes);
    return std::max<std::uint64_t>(2, static_cast<std::uint64_t>(wanted));
  }

  Result<void> Put(const std::string& name, const std::string& floor, const Shape& shape,
                   std::uint64_t count, const std::function<Result<void>()>& run) {
    PX_TRY(const Took took, Timed(run));
    if (warm_) {
      return {};
    }
    const double gigabytes = static_cast<double>(shape.size_bytes * count) * 1e-9;
    columns_.Put(name, "GB/s", gigabytes / took.seconds);
    columns_.Put(name + "_cpu", "s/GB", took.cpu_seconds / gigabytes);
    if (!floor.empty() &&
        std::ranges::none_of(limits_, [&](const auto& each) { return each.first == name; })) {
      limits_.emplace_back(name, floor);
    }
    return {};
  }

  /// `slots`: to the places of two-sided messages.
  Result<void> CopyMemory(const Shape& shape, std::uint64_t count, bool slots) {
    for (std::uint64_t i = 0; i < count; ++i) {
      for (const auto& [here, there] : shape.places) {
        std::memcpy(shm_->there().at(there + (slots ? SlotOffset(shape, i) : 0)),
                    shm_->here().at(here), shape.piece_bytes);
      }
      std::atomic_signal_fence(std::memory_order_seq_cst);  // each copy is made
    }
    return {};
  }

  const TransferBenchOptions& options_;
  std::vector<Shape> shapes_;
  bool warm_ = true;
  std::unique_ptr<Pair> shm_;
  std::unique_ptr<Pair> tcp_;
  std::unique_ptr<Pair> checked_;
  std::unique_ptr<BareSocket> socket_;
  std::vector<Fabric> fabrics_;
  Columns columns_;
  std::deque<std::pair<std::string, std::string>> limits_;
};

}  // namespace

Result<std::vector<Figure>> BenchTransfers(const TransferBenchOptions& options) {
  Bench bench(options);
  return bench.Run();
}

}  // namespace pixii::bench
