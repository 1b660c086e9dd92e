#include "transport/shm_link.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <deque>
#include <optional>
#include <thread>
#include <unordered_map>
#include <utility>

#include "rt/memory_file.h"
#include "rt/socket_parts.h"
#include "rt/sync.h"
#include "transport/doorkeeper.h"
#include "transport/shm_block.h"
#include "transport/shm_socket.h"

namespace pixii::transport {

namespace {

using rt::operator""us;

constexpr rt::Duration kRingRetry = 200us;       // after a full ring
constexpr std::uint64_t kCopyPerTurn = 1 << 20;  // bytes, before another transfer gets its turn

/// A region of the peer's, as we see it.
struct MappedRegion {
  rt::MemoryFile memory;
  rt::MemoryFile words;
  RegionView view;
};

using MappedPtr = std::shared_ptr<const MappedRegion>;

class CopyingLink final : public ShmLink, public std::enable_shared_from_this<CopyingLink> {
 public:
  CopyingLink(AgentContext& context, rt::Net& net, const ClusterKey& key, rt::Address address,
              AgentId peer)
      : context_(context),
        net_(net),
        key_(key),
        address_(std::move(address)),
        peer_(peer),
        work_(context.loop) {}

  ~CopyingLink() override { WaitForLanes(); }

  void Open() {
    tasks_.Start(Connect());
    tasks_.Start(RunCopies());
  }

  void Start(TransferPtr transfer) override {
    const bool over = state() == PeerState::kBroken;
    copies_.push_back({.transfer = std::move(transfer)});
    if (over) {
      context_.loop.Post([link = shared_from_this()] { link->EndAll(*link->error()); });
    } else {
      work_.WakeAll();
    }
  }

  void Cancel(const TransferPtr& transfer) override {
    const auto found = std::ranges::find(copies_, transfer, &Copy::transfer);
    if (found != copies_.end()) {
      copies_.erase(found);
      context_.Ended(transfer, Fail(Code::kCancelled, "cancelled"));
    }
  }

  std::optional<Result<void>> TryNow(Transfer& transfer) override {
    const std::optional<std::uint32_t> lane = TakeLane();
    if (!lane) {
      return std::nullopt;
    }
    const std::optional<Result<void>> result = CopyNow(transfer, *lane);
    LeaveLane(*lane);
    if (!result || !*result || !transfer.notification) {
      return result;
    }
    Result<void> sent = Notify(*transfer.notification);
    if (!sent && sent.error().code() == Code::kResourceExhausted) {
      return std::nullopt;  // the loop makes it again, and waits for room
    }
    return sent;
  }

  Result<void> Notify(std::string_view bytes) override {
    bool wake = false;
    {
      rt::MutexLock lock(mutex_);
      if (ring_ == nullptr) {
        return Fail(Code::kDisconnected, "the peer is gone");
      }
      if (!ring_->Push(bytes)) {
        return Fail(Code::kResourceExhausted, "the peer has taken none of 64 KiB of notifications");
      }
      wake = ring_->WantsWake();
    }
    context_.counters.notifications_sent.fetch_add(1, std::memory_order_relaxed);
    if (wake) {
      context_.loop.Post([link = shared_from_this()] {
        if (link->socket_ != nullptr) {
          link->socket_->Send({.kind = ShmMessage::kWake});
        }
      });
    }
    return {};
  }

  PeerState state() const override { return state_.load(std::memory_order_acquire); }

  std::optional<Error> error() const override {
    rt::MutexLock lock(mutex_);
    return error_;
  }

  void Shut() override {
    WaitForLanes();
    tasks_.Clear();
    Fall(Error(Code::kCancelled, "the agent ends"));
    socket_.reset();
  }

 private:
  struct Copy {
    TransferPtr transfer;
    std::size_t pair = 0;
    std::uint64_t done = 0;  // bytes of it
    bool asked = false;      // for a region
  };

  tl::unexpected<Error> Stale(const Descriptor& descriptor) const {
    return Fail(Code::kNotFound,
                fmt::format("{} bytes at {} of region {:016x} are not open with generation {}",
                            descriptor.size_bytes, descriptor.offset,
                            static_cast<std::uint64_t>(descriptor.region), descriptor.generation));
  }

  rt::Task<void> Connect() {
    const rt::Time deadline = context_.loop.Now() + kHandshakeTimeMax;
    Result<std::unique_ptr<rt::Stream>> stream = co_await net_.Connect(address_, deadline);
    if (!stream) {
      Fall(stream.error());
      co_return;
    }
    // It would send us away: another transport is tried at once.
    const Result<rt::PeerCredentials> owner = rt::PartsOf(**stream)->credentials();
    if (!owner || owner->user != rt::OwnUser()) {
      Fall(Error(Code::kUnavailable, "the peer's process is another user's, or of another host"));
      co_return;
    }
    const HandshakeOptions options{
        .own = context_.id, .channel = kShmChannel, .checksums = false, .deadline = deadline};
    const Result<Session> session = co_await ShakeAsClient(**stream, key_, options, peer_);
    if (!session) {
      Fall(session.error());
      co_return;
    }
    socket_ = std::make_unique<ShmSocket>(context_.loop, std::move(*stream), 4);
    tasks_.Start(socket_->RunSender());
    context_.counters.connections.fetch_add(1, std::memory_order_relaxed);
    const Result<void> result = co_await Listen();
    context_.counters.connections.fetch_sub(1, std::memory_order_relaxed);
    Fall(result ? Error(Code::kDisconnected, "the peer ended the connection") : result.error());
  }

  rt::Task<Result<void>> Listen() {
    while (true) {
      const std::optional<ShmMessage> message = co_await socket_->Receive();
      if (!message) {
        co_return Result<void>();
      }
      PX_CO_CHECK_OK(Deal(*message));
    }
  }

  Result<void> Deal(const ShmMessage& message) {
    const auto key = static_cast<RegionKey>(message.region);
    switch (message.kind) {
      case ShmMessage::kBlock:
        return MapBlock(message);
      case ShmMessage::kRegion:
        return MapRegion(message);
      case ShmMessage::kNoRegion: {
        for (auto copy = copies_.begin(); copy != copies_.end();) {
          const bool hit = copy->asked && Uses(*copy->transfer, key);
          if (hit) {
            const TransferPtr transfer = copy->transfer;
            copy = copies_.erase(copy);
            context_.Ended(transfer,
                           message.code == 1
                               ? Fail(Code::kUnsupported, "the peer's memory cannot be mapped")
                               : Fail(Code::kNotFound, "the peer has no such memory region"));
          } else {
            ++copy;
          }
        }
        return {};
      }
      case ShmMessage::kGone:
        Unmap(key);
        return {};
      default:
        return Fail(Code::kDataCorrupt, fmt::format("a message of kind {}", message.kind));
    }
  }

  static bool Uses(const Transfer& transfer, RegionKey key) {
    return std::ranges::any_of(transfer.pairs,
                               [key](const Pair& pair) { return pair.remote.region == key; });
  }

  Result<void> MapBlock(const ShmMessage& message) {
    std::optional<rt::Fd> fd = socket_->TakeDescriptor();
    if (!fd || message.size_bytes != sizeof(ShmBlock) || block_file_ != nullptr) {
      return Fail(Code::kDataCorrupt, "the peer's shared block is not of this version");
    }
    PX_TRY(rt::MemoryFile file,
           rt::MemoryFile::Map(std::move(*fd), sizeof(ShmBlock), rt::Sharing::kOthersWrite));
    auto* block = reinterpret_cast<ShmBlock*>(file.bytes().data());
    if (block->magic != ShmBlock::kMagic) {
      return Fail(Code::kDataCorrupt, "the peer's shared block is not of this version");
    }
    {
      rt::MutexLock lock(mutex_);
      block_file_ = std::make_unique<rt::MemoryFile>(std::move(file));
      block_.store(block, std::memory_order_release);
      ring_ = std::make_unique<RingWriter>(*block);
    }
    state_.store(PeerState::kConnected, std::memory_order_release);
    context_.LinkChanged(peer_, kShmChannel, nullptr);
    work_.WakeAll();
    return {};
  }

  Result<void> MapRegion(const ShmMessage& message) {
    std::optional<rt::Fd> memory_fd = socket_->TakeDescriptor();
    std::optional<rt::Fd> words_fd = socket_->TakeDescriptor();
    if (!memory_fd || !words_fd || message.size_bytes == 0 || message.window_bytes == 0 ||
        message.words == 0 || message.words > kWindowsMax || message.offset > message.file_bytes ||
        message.size_bytes > message.file_bytes - message.offset) {
      return Fail(Code::kDataCorrupt, "the peer describes a memory region that cannot be");
    }
    auto mapped = std::make_shared<MappedRegion>();
    PX_TRY(mapped->memory, rt::MemoryFile::Map(std::move(*memory_fd), message.file_bytes,
                                               rt::Sharing::kOthersWrite));
    PX_TRY(mapped->words,
           rt::MemoryFile::Map(std::move(*words_fd), message.words * sizeof(WindowWord),
                               rt::Sharing::kOthersRead));
    mapped->view = {.key = static_cast<RegionKey>(message.region),
                    .memory = mapped->memory.bytes().subspan(message.offset, message.size_bytes),
                    .window_bytes = message.window_bytes,
                    .words = {reinterpret_cast<const WindowWord*>(mapped->words.bytes().data()),
                              message.words}};
    Unmap(mapped->view.key);  // it may come twice
    {
      rt::MutexLock lock(mutex_);
      regions_[mapped->view.key] = std::move(mapped);
    }
    for (Copy& copy : copies_) {
      copy.asked = false;
    }
    work_.WakeAll();
    return {};
  }

  /// In a lane. Nothing: its pairs lie in several regions, or in one that is not mapped.
  std::optional<Result<void>> CopyNow(const Transfer& transfer, std::uint32_t lane) {
    if (transfer.pairs.empty()) {
      return Result<void>();
    }
    const RegionKey key = transfer.pairs.front().remote.region;
    const MappedRegion* region = MappedInLane(key);
    const bool one = region != nullptr && std::ranges::all_of(transfer.pairs, [key](const Pair& p) {
                       return p.remote.region == key;
                     });
    if (!one) {
      return std::nullopt;
    }
    for (std::size_t i = 0; i < transfer.pairs.size(); ++i) {
      if (!CopyPart(transfer, i, *region, 0, transfer.pairs[i].remote.size_bytes, lane)) {
        return Stale(transfer.pairs[i].remote);
      }
    }
    return Result<void>();
  }

  /// Null if it is not mapped. It stays until the caller's lane is left: whoever takes it out of
  /// `regions_` waits for that (Unmap).
  const MappedRegion* MappedInLane(RegionKey key) {
    const MappedRegion* last = last_region_.load(std::memory_order_seq_cst);
    if (last != nullptr && last->view.key == key) {
      return last;
    }
    rt::MutexLock lock(mutex_);
    const auto found = regions_.find(key);
    if (found == regions_.end()) {
      return nullptr;
    }
    last_region_.store(found->second.get(), std::memory_order_seq_cst);
    return found->second.get();
  }

  /// Takes one out of `regions_`, or all of them: what they were ends once nobody copies from or to
  /// it.
  void Unmap(std::optional<RegionKey> key) {
    std::unordered_map<RegionKey, MappedPtr> gone;
    {
      rt::MutexLock lock(mutex_);
      if (!key) {
        gone.swap(regions_);
      } else if (auto node = regions_.extract(*key)) {
        gone.insert(std::move(node));
      }
      last_region_.store(nullptr, std::memory_order_seq_cst);
    }
    if (!gone.empty()) {
      AwaitLanes();
    }
  }

  MappedPtr FindOne(RegionKey key) const {
    rt::MutexLock lock(mutex_);
    const auto found = regions_.find(key);
    return found == regions_.end() ? nullptr : found->second;
  }

  /// Bytes [from, from + size) of a pair.
  bool CopyPart(const Transfer& transfer, std::size_t index, const MappedRegion& region,
                std::uint64_t from, std::uint64_t size, std::uint32_t lane) {
    const Pair& pair = transfer.pairs[index];
    Descriptor part = pair.remote;
    part.offset += from;
    part.size_bytes = size;
    if (transfer.operation == Operation::kRead) {
      return CopyFrom(region.view, part, pair.local + from);
    }
    return region.memory.writable() && CopyTo(region.view, part, pair.local + from,
                                              block_.load(std::memory_order_acquire)->lanes[lane]);
  }

  /// One transfer after another gets its turn, so that a large one does not keep small ones
  /// waiting.
  rt::Task<void> RunCopies() {
    while (true) {
      if (copies_.empty() || state() != PeerState::kConnected) {
        co_await work_.Wait(rt::kNever);
        continue;
      }
      Copy copy = std::move(copies_.front());
      copies_.pop_front();
      const Progress progress = CopySome(copy);
      if (progress == Progress::kMore) {
        copies_.push_back(std::move(copy));
        co_await context_.loop.Yield();
      } else if (progress == Progress::kAsked) {
        copies_.push_back(std::move(copy));
        if (std::ranges::all_of(copies_, &Copy::asked)) {
          co_await work_.Wait(rt::kNever);
        }
      } else if (progress == Progress::kRingFull) {
        copies_.push_back(std::move(copy));
        co_await context_.loop.SleepFor(kRingRetry);
      }
    }
  }

  enum class Progress : std::uint8_t { kEnded, kMore, kAsked, kRingFull };

  Progress CopySome(Copy& copy) {
    Transfer& transfer = *copy.transfer;
    std::uint64_t budget = kCopyPerTurn;
    while (copy.pair < transfer.pairs.size()) {
      const Pair& pair = transfer.pairs[copy.pair];
      const MappedPtr region = FindOne(pair.remote.region);
      if (region == nullptr) {
        if (!std::exchange(copy.asked, true)) {
          socket_->Send(
              {.kind = ShmMessage::kAsk, .region = static_cast<std::uint64_t>(pair.remote.region)});
        }
        return Progress::kAsked;
      }
      const std::uint64_t size = std::min(pair.remote.size_bytes - copy.done, budget);
      if (!CopyPart(transfer, copy.pair, *region, copy.done, size, 0)) {
        context_.Ended(copy.transfer, Stale(pair.remote));
        return Progress::kEnded;
      }
      copy.done += size;
      budget -= size;
      if (copy.done == pair.remote.size_bytes) {
        ++copy.pair;
        copy.done = 0;
      }
      if (budget == 0 && copy.pair < transfer.pairs.size()) {
        return Progress::kMore;
      }
    }
    if (transfer.notification) {
      const Result<void> sent = Notify(*transfer.notification);
      if (!sent && sent.error().code() == Code::kResourceExhausted) {
        return Progress::kRingFull;
      }
      context_.Ended(copy.transfer, sent);
      return Progress::kEnded;
    }
    context_.Ended(copy.transfer, {});
    return Progress::kEnded;
  }

  /// Lane 0 is the loop's. Whoever only reads takes one as well, so that what it reads stays
  /// mapped, but keeps nobody from closing: it looks again.
  std::optional<std::uint32_t> TakeLane() {
    for (std::uint32_t lane = 1; lane < kShmLanes; ++lane) {
      std::uint64_t turn = lane_turns_[lane].load(std::memory_order_relaxed);
      if (turn % 2 == 0 &&
          lane_turns_[lane].compare_exchange_strong(turn, turn + 1, std::memory_order_seq_cst)) {
        if (state_.load(std::memory_order_seq_cst) == PeerState::kConnected) {
          return lane;
        }
        LeaveLane(lane);  // after WaitForLanes looked
        return std::nullopt;
      }
    }
    return std::nullopt;
  }

  /// By whoever has it: nobody else changes its turn meanwhile.
  void LeaveLane(std::uint32_t lane) {
    std::atomic<std::uint64_t>& turn = lane_turns_[lane];
    turn.store(turn.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  }

  /// Until each lane that is taken now has been left.
  void AwaitLanes() const {
    for (const std::atomic<std::uint64_t>& lane : lane_turns_) {
      const std::uint64_t turn = lane.load(std::memory_order_seq_cst);
      while (turn % 2 == 1 && lane.load(std::memory_order_acquire) == turn) {
        std::this_thread::yield();
      }
    }
  }

  /// While our socket is open the peer waits for our lanes: it closes only once nobody is in one.
  void WaitForLanes() {
    state_.store(PeerState::kBroken, std::memory_order_seq_cst);
    AwaitLanes();
  }

  void Fall(const Error& why) {
    const bool broke = why.code() == Code::kDeadlineExceeded ||
                       why.code() == Code::kResourceExhausted || why.code() == Code::kNotFound;
    const Error error = broke ? Error(Code::kUnavailable, why.detail()) : why;
    {
      rt::MutexLock lock(mutex_);
      error_ = error;
      ring_.reset();
    }
    if (error.code() == Code::kDataCorrupt) {
      context_.counters.frames_malformed.fetch_add(1, std::memory_order_relaxed);
    }
    WaitForLanes();
    Unmap(std::nullopt);
    if (socket_ != nullptr) {
      socket_->Close();
    }
    context_.LinkChanged(peer_, kShmChannel, &error);
    EndAll(error);
    context_.Wake();
  }

  void EndAll(const Error& error) {
    for (const Copy& copy : std::exchange(copies_, {})) {
      context_.Ended(copy.transfer, Fail(error));
    }
  }

  AgentContext& context_;
  rt::Net& net_;
  const ClusterKey& key_;
  rt::Address address_;
  AgentId peer_;
  std::atomic<PeerState> state_{PeerState::kConnecting};
  std::array<std::atomic<std::uint64_t>, kShmLanes> lane_turns_{};  // odd: a thread has it
  std::atomic<ShmBlock*> block_{nullptr};
  mutable rt::Mutex mutex_;
  std::optional<Error> error_ PX_GUARDED_BY(mutex_);
  std::unique_ptr<RingWriter> ring_ PX_GUARDED_BY(mutex_);
  std::unordered_map<RegionKey, MappedPtr> regions_ PX_GUARDED_BY(mutex_);
  /// One of them, that was used last. Set under the mutex, read in a lane.
  std::atomic<const MappedRegion*> last_region_{nullptr};
  std::unique_ptr<rt::MemoryFile> block_file_;  // once set it stays
  std::unique_ptr<ShmSocket> socket_;
  std::deque<Copy> copies_;
  rt::WaitList work_;
  rt::SpawnedTasks tasks_;
};

}  // namespace

std::shared_ptr<ShmLink> OpenShmLink(AgentContext& context, rt::Net& net, const ClusterKey& key,
                                     rt::Address address, AgentId peer) {
  auto link = std::make_shared<CopyingLink>(context, net, key, std::move(address), peer);
  link->Open();
  return link;
}

}  // namespace pixii::transport
