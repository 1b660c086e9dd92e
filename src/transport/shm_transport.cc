#include "transport/shm_transport.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "rt/file.h"
#include "rt/memory_file.h"
#include "rt/socket_parts.h"
#include "rt/sync.h"
#include "transport/handshake.h"
#include "transport/shm_block.h"

namespace pixii::transport {

namespace {

using rt::operator""s;
using rt::operator""us;

constexpr rt::Duration kHandshakeTime = 2s;
constexpr rt::Duration kRingRetry = 200us;       // after a full ring
constexpr std::uint64_t kCopyPerTurn = 1 << 20;  // bytes, before another transfer gets its turn
constexpr std::size_t kStashMax = 65'536;        // notifications of a connection that nobody took
constexpr std::string_view kChannel = "shm";

using Message = ShmMessage;

/// Messages over one socket, with the descriptors that belong to them.
class MessageSocket final {
 public:
  MessageSocket(rt::Loop& loop, std::unique_ptr<rt::Stream> stream, std::size_t descriptors_max)
      : stream_(std::move(stream)), parts_(rt::PartsOf(*stream_)), work_(loop) {
    parts_->KeepDescriptors(descriptors_max);
  }

  /// `keep`: what the descriptors belong to.
  void Send(const Message& message, std::vector<int> fds = {},
            std::shared_ptr<const void> keep = nullptr) {
    if (unsent_.size() < kUnsentMax) {
      unsent_.push_back({.message = message, .fds = std::move(fds), .keep = std::move(keep)});
      work_.WakeAll();
    } else {
      Close();
    }
  }

  /// The next message; nothing at the end.
  rt::Task<std::optional<Message>> Receive() {
    std::array<std::byte, sizeof(Message)> bytes{};
    std::size_t have = 0;
    while (have < bytes.size()) {
      const std::span<std::byte> part = std::span(bytes).subspan(have);
      const Result<std::optional<std::size_t>> got = parts_->TryReadParts({&part, 1});
      if (!got || (*got && **got == 0)) {
        co_return std::nullopt;
      }
      if (*got) {
        have += **got;
        for (rt::Fd& fd : parts_->TakeDescriptors()) {
          descriptors_.push_back(std::move(fd));
        }
      } else {
        co_await parts_->WaitReadable(rt::kNever);
      }
    }
    Message message;
    std::memcpy(&message, bytes.data(), bytes.size());
    co_return message;
  }

  /// Descriptors of the message that came last, in order.
  std::optional<rt::Fd> TakeDescriptor() {
    if (descriptors_.empty()) {
      return std::nullopt;
    }
    rt::Fd fd = std::move(descriptors_.front());
    descriptors_.pop_front();
    return fd;
  }

  rt::Task<void> RunSender() {
    while (true) {
      while (!unsent_.empty()) {
        const Unsent& next = unsent_.front();
        const auto bytes = std::as_bytes(std::span(&next.message, 1)).subspan(sent_);
        const std::span<const std::byte> part = bytes;
        const Result<std::size_t> taken = next.fds.empty() || sent_ > 0
                                              ? parts_->TryWriteParts({&part, 1})
                                              : parts_->TryWriteWithDescriptors(bytes, next.fds);
        if (!taken) {
          Close();
          co_return;
        }
        sent_ += *taken;
        if (*taken == 0) {
          co_await parts_->WaitWritable(rt::kNever);
        } else if (sent_ == sizeof(Message)) {
          unsent_.pop_front();
          sent_ = 0;
        }
      }
      co_await work_.Wait(rt::kNever);
    }
  }

  void Close() { stream_->Close(); }

 private:
  static constexpr std::size_t kUnsentMax = 16'384;

  struct Unsent {
    Message message;
    std::vector<int> fds;
    std::shared_ptr<const void> keep;
  };

  std::unique_ptr<rt::Stream> stream_;
  rt::SocketParts* parts_;
  std::deque<Unsent> unsent_;
  std::size_t sent_ = 0;
  std::deque<rt::Fd> descriptors_;
  rt::WaitList work_;
};

// ---- the side that has the memory

class ShmConnection final {
 public:
  ShmConnection(AgentContext& context, std::unique_ptr<rt::Stream> stream, AgentId peer,
                std::shared_ptr<const rt::MemoryFile> file, bool polled, std::uint64_t number_in)
      : number(number_in),
        context_(context),
        peer_(peer),
        file_(std::move(file)),
        block_(*std::construct_at(reinterpret_cast<ShmBlock*>(file_->bytes().data()))),
        reader_(block_),
        polled_(polled),
        socket_(context.loop, std::move(stream), 0) {
    for (const WriteLane& lane : block_.lanes) {
      context_.regions.AddLane(std::shared_ptr<const WriteLane>(file_, &lane));
    }
    block_.polled = polled_ ? 1 : 0;
    if (!polled_) {
      reader_.Sleep();
    }
    socket_.Send({.kind = Message::kBlock, .size_bytes = sizeof(ShmBlock)}, {file_->fd().get()},
                 file_);
  }

  ~ShmConnection() {
    tasks_.Clear();
    for (const WriteLane& lane : block_.lanes) {
      context_.regions.RemoveLane(&lane);
    }
  }

  ShmConnection(const ShmConnection&) = delete;
  ShmConnection& operator=(const ShmConnection&) = delete;

  /// `woken`: the ring has something. `ended`: the peer is gone, or spoke nonsense.
  void Run(rt::Function<void()> woken, rt::Function<void(ShmConnection&)> ended) {
    woken_ = std::move(woken);
    ended_ = std::move(ended);
    tasks_.Start(socket_.RunSender());
    tasks_.Start(Serve());
  }

  /// Any thread, under the transport's lock. False: there is none now, or it spoke nonsense.
  bool Take(Notification& out) {
    if (stash_.empty()) {
      return Pop(out);
    }
    out = std::move(stash_.front());
    stash_.pop_front();
    return true;
  }

  /// Under the transport's lock: takes what there is out of the ring, which is short.
  void Collect() {
    Notification each;
    while (stash_.size() < kStashMax && Pop(each)) {
      stash_.push_back(std::move(each));
    }
  }

  void Forget(RegionKey region) {
    if (std::erase(given_, region) > 0) {
      socket_.Send({.kind = Message::kGone, .region = static_cast<std::uint64_t>(region)});
    }
  }

  bool broken() const { return broken_; }

  const std::uint64_t number;  // of the transport's connections, never used twice

 private:
  bool Pop(Notification& out) {
    do {
      const Result<std::optional<std::string_view>> next = reader_.Pop();
      if (!next) {
        context_.counters.frames_malformed.fetch_add(1, std::memory_order_relaxed);
        broken_ = true;
        return false;
      }
      if (*next) {
        out.from = peer_;
        out.bytes = **next;
        return true;
      }
    } while (!polled_ && !reader_.Sleep());
    return false;
  }

  rt::Task<void> Serve() {
    while (true) {
      const std::optional<Message> message = co_await socket_.Receive();
      if (!message) {
        break;
      }
      if (message->kind == Message::kAsk) {
        Give(static_cast<RegionKey>(message->region));
      } else if (message->kind == Message::kWake) {
        woken_();
      } else {
        context_.counters.frames_malformed.fetch_add(1, std::memory_order_relaxed);
        break;
      }
    }
    ended_(*this);
  }

  void Give(RegionKey key) {
    const std::shared_ptr<const Region> region = context_.regions.Find(key);
    if (region == nullptr || region->file() == nullptr) {
      socket_.Send({.kind = Message::kNoRegion,
                    .region = static_cast<std::uint64_t>(key),
                    .code = region == nullptr ? 0U : 1U});
      return;
    }
    const RegionView& view = region->view();
    given_.push_back(key);
    socket_.Send({.kind = Message::kRegion,
                  .region = static_cast<std::uint64_t>(key),
                  .file_bytes = region->file()->bytes().size(),
                  .offset = region->file_offset(),
                  .size_bytes = view.memory.size(),
                  .window_bytes = view.window_bytes,
                  .words = view.words.size()},
                 {region->file()->fd().get(), region->words_file().fd().get()}, region);
  }

  AgentContext& context_;
  AgentId peer_;
  std::shared_ptr<const rt::MemoryFile> file_;
  ShmBlock& block_;
  RingReader reader_;
  std::deque<Notification> stash_;
  bool polled_;
  std::atomic<bool> broken_{false};
  std::vector<RegionKey> given_;
  MessageSocket socket_;
  rt::Function<void()> woken_;
  rt::Function<void(ShmConnection&)> ended_;
  rt::SpawnedTasks tasks_;
};

// ---- the side that copies

/// A region of the peer's, as we see it.
struct MappedRegion {
  rt::MemoryFile memory;
  rt::MemoryFile words;
  RegionView view;
};

using MappedPtr = std::shared_ptr<const MappedRegion>;

class ShmLink final : public Link, public std::enable_shared_from_this<ShmLink> {
 public:
  ShmLink(AgentContext& context, rt::Net& net, const ClusterKey& key, rt::Address address,
          AgentId peer)
      : context_(context),
        net_(net),
        key_(key),
        address_(std::move(address)),
        peer_(peer),
        work_(context.loop) {}

  ~ShmLink() override { WaitForLanes(); }

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
    MappedPtr region;
    {
      rt::MutexLock lock(mutex_);
      if (ring_ == nullptr ||
          (transfer.notification && !ring_->Fits(transfer.notification->size()))) {
        return std::nullopt;
      }
      region = TheRegion(transfer);
      if (region == nullptr && !transfer.pairs.empty()) {
        return std::nullopt;
      }
    }
    // Whoever only reads keeps nobody from closing: it looks again.
    const bool writes = transfer.operation == Operation::kWrite;
    const std::optional<std::uint32_t> lane = writes ? TakeLane() : 0;
    if (!lane) {
      return std::nullopt;
    }
    Result<void> result;
    for (std::size_t i = 0; i < transfer.pairs.size() && result; ++i) {
      if (!CopyPart(transfer, i, *region, 0, transfer.pairs[i].remote.size_bytes, *lane)) {
        result = Stale(transfer.pairs[i].remote);
      }
    }
    if (writes) {
      LeaveLane(*lane);
    }
    if (result && transfer.notification) {
      result = Notify(*transfer.notification);
    }
    return result;
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
          link->socket_->Send({.kind = Message::kWake});
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

  /// The agent ends.
  void Shut() {
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
    const rt::Time deadline = context_.loop.Now() + kHandshakeTime;
    Result<std::unique_ptr<rt::Stream>> stream = co_await net_.Connect(address_, deadline);
    if (!stream) {
      Fall(stream.error());
      co_return;
    }
    const HandshakeOptions options{
        .own = context_.id, .channel = kChannel, .checksums = false, .deadline = deadline};
    const Result<Session> session = co_await ShakeAsClient(**stream, key_, options, peer_);
    if (!session) {
      Fall(session.error());
      co_return;
    }
    socket_ = std::make_unique<MessageSocket>(context_.loop, std::move(*stream), 4);
    tasks_.Start(socket_->RunSender());
    context_.counters.connections.fetch_add(1, std::memory_order_relaxed);
    const Result<void> result = co_await Listen();
    context_.counters.connections.fetch_sub(1, std::memory_order_relaxed);
    Fall(result ? Error(Code::kDisconnected, "the peer ended the connection") : result.error());
  }

  rt::Task<Result<void>> Listen() {
    while (true) {
      const std::optional<Message> message = co_await socket_->Receive();
      if (!message) {
        co_return Result<void>();
      }
      PX_CO_CHECK_OK(Deal(*message));
    }
  }

  Result<void> Deal(const Message& message) {
    const auto key = static_cast<RegionKey>(message.region);
    switch (message.kind) {
      case Message::kBlock:
        return MapBlock(message);
      case Message::kRegion:
        return MapRegion(message);
      case Message::kNoRegion: {
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
      case Message::kGone: {
        rt::MutexLock lock(mutex_);
        regions_.erase(key);
        return {};
      }
      default:
        return Fail(Code::kDataCorrupt, fmt::format("a message of kind {}", message.kind));
    }
  }

  static bool Uses(const Transfer& transfer, RegionKey key) {
    return std::ranges::any_of(transfer.pairs,
                               [key](const Pair& pair) { return pair.remote.region == key; });
  }

  Result<void> MapBlock(const Message& message) {
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
    context_.LinkChanged(peer_, kChannel, nullptr);
    work_.WakeAll();
    return {};
  }

  Result<void> MapRegion(const Message& message) {
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

  /// Of all pairs; null if there are several, or it is not mapped.
  MappedPtr TheRegion(const Transfer& transfer) const PX_REQUIRES(mutex_) {
    if (transfer.pairs.empty()) {
      return nullptr;
    }
    const RegionKey key = transfer.pairs.front().remote.region;
    const auto found = regions_.find(key);
    const bool one =
        found != regions_.end() && std::ranges::all_of(transfer.pairs, [key](const Pair& pair) {
          return pair.remote.region == key;
        });
    return one ? found->second : nullptr;
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
              {.kind = Message::kAsk, .region = static_cast<std::uint64_t>(pair.remote.region)});
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

  /// Lane 0 is the loop's.
  std::optional<std::uint32_t> TakeLane() {
    std::uint32_t busy = lanes_busy_.load(std::memory_order_relaxed);
    while (true) {
      std::uint32_t lane = 1;
      while (lane < kShmLanes && (busy >> lane & 1U) != 0) {
        ++lane;
      }
      if (lane == kShmLanes) {
        return std::nullopt;
      }
      if (lanes_busy_.compare_exchange_weak(busy, busy | 1U << lane, std::memory_order_seq_cst)) {
        if (state_.load(std::memory_order_seq_cst) == PeerState::kConnected) {
          return lane;
        }
        LeaveLane(lane);  // after WaitForLanes looked
        return std::nullopt;
      }
    }
  }

  void LeaveLane(std::uint32_t lane) {
    lanes_busy_.fetch_and(~(1U << lane), std::memory_order_release);
  }

  /// While our socket is open the peer waits for our lanes: it closes only once nobody is in one.
  void WaitForLanes() {
    state_.store(PeerState::kBroken, std::memory_order_seq_cst);
    while (lanes_busy_.load(std::memory_order_seq_cst) != 0) {
      std::this_thread::yield();
    }
  }

  void Fall(const Error& why) {
    const bool broke = why.code() == Code::kDeadlineExceeded ||
                       why.code() == Code::kResourceExhausted || why.code() == Code::kNotFound;
    const Error error = broke ? Error(Code::kUnavailable, why.detail()) : why;
    {
      rt::MutexLock lock(mutex_);
      error_ = error;
      ring_.reset();
      regions_.clear();
    }
    if (error.code() == Code::kDataCorrupt) {
      context_.counters.frames_malformed.fetch_add(1, std::memory_order_relaxed);
    }
    WaitForLanes();
    if (socket_ != nullptr) {
      socket_->Close();
    }
    context_.LinkChanged(peer_, kChannel, &error);
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
  std::atomic<std::uint32_t> lanes_busy_{0};
  std::atomic<ShmBlock*> block_{nullptr};
  mutable rt::Mutex mutex_;
  std::optional<Error> error_ PX_GUARDED_BY(mutex_);
  std::unique_ptr<RingWriter> ring_ PX_GUARDED_BY(mutex_);
  std::unordered_map<RegionKey, MappedPtr> regions_ PX_GUARDED_BY(mutex_);
  std::unique_ptr<rt::MemoryFile> block_file_;  // once set it stays
  std::unique_ptr<MessageSocket> socket_;
  std::deque<Copy> copies_;
  rt::WaitList work_;
  rt::SpawnedTasks tasks_;
};

// ---- the transport

/// Names this boot of this machine: others' memory cannot be ours.
std::string BootId() {
  constexpr std::uint64_t kBytesMax = 64;
  Result<std::string> id = rt::ReadFile("/proc/sys/kernel/random/boot_id", kBytesMax);
  if (!id) {
    return {};
  }
  while (!id->empty() && id->back() == '\n') {
    id->pop_back();
  }
  return std::move(*id);
}

class ShmTransport final : public Transport {
 public:
  ShmTransport(AgentContext& context, rt::Net& net, ClusterKey key, ShmOptions options)
      : context_(context),
        net_(net),
        key_(key),
        options_(std::move(options)),
        prefix_(fmt::format("{}/", BootId())) {}

  Result<void> Listen() {
    const rt::Address address{.host = fmt::format("unix:{}/pixii-{:016x}", options_.folder,
                                                  context_.id.high ^ context_.id.low),
                              .port = 0};
    PX_TRY(listener_, net_.Listen(address, {}));
    tasks_.Start(RunAccept());
    return {};
  }

  ~ShmTransport() override {
    listener_->Close();
    tasks_.Clear();
    {
      rt::MutexLock lock(mutex_);
      served_.clear();
    }
    for (const std::weak_ptr<ShmLink>& each : links_) {
      if (const std::shared_ptr<ShmLink> link = each.lock()) {
        link->Shut();
      }
    }
  }

  std::string_view name() const override { return "shm"; }

  std::string address() const override { return prefix_ + listener_->address().ToString(); }

  bool Fits(std::string_view address) const override {
    const std::optional<std::string> path = PathOf(address);
    if (!path) {
      return false;
    }
    const Result<std::optional<rt::FileInfo>> info = rt::StatFile(*path);
    return info && *info;
  }

  std::shared_ptr<Link> Connect(std::string_view address, AgentId peer) override {
    const std::optional<std::string> path = PathOf(address);
    auto link = std::make_shared<ShmLink>(
        context_, net_, key_, rt::Address{.host = "unix:" + path.value_or(""), .port = 0}, peer);
    std::erase_if(links_, [](const auto& each) { return each.expired(); });
    links_.push_back(link);
    link->Open();
    return link;
  }

  bool TakeNotification(Notification& out) override {
    rt::MutexLock lock(mutex_);
    for (const std::unique_ptr<ShmConnection>& each : served_) {
      if (each->broken()) {
        continue;
      }
      if (each->Take(out)) {
        return true;
      }
      if (each->broken()) {
        EndSoon(each->number);
      }
    }
    return false;
  }

  void Forget(RegionKey region) override {
    rt::MutexLock lock(mutex_);
    for (const std::unique_ptr<ShmConnection>& each : served_) {
      each->Forget(region);
    }
  }

 private:
  /// Of an address of this host; nothing for others.
  std::optional<std::string> PathOf(std::string_view address) const {
    constexpr std::string_view kUnix = "unix:";
    if (!address.starts_with(prefix_)) {
      return std::nullopt;
    }
    address.remove_prefix(prefix_.size());
    if (!address.starts_with(kUnix)) {
      return std::nullopt;
    }
    return std::string(address.substr(kUnix.size()));
  }

  rt::Task<void> RunAccept() {
    while (true) {
      Result<std::unique_ptr<rt::Stream>> stream = co_await listener_->Accept();
      if (!stream && stream.error().code() == Code::kCancelled) {
        co_return;
      }
      if (!stream) {
        continue;  // no descriptors: the listener pauses by itself
      }
      const Result<rt::PeerCredentials> peer = rt::PartsOf(**stream)->credentials();
      if (!peer || peer->user != rt::OwnUser() || strangers_ >= options_.strangers_max ||
          CountServed() >= options_.connections_max) {
        context_.counters.strangers_refused.fetch_add(1, std::memory_order_relaxed);
        continue;
      }
      ++strangers_;
      tasks_.Start(Welcome(std::move(*stream)));
    }
  }

  rt::Task<void> Welcome(std::unique_ptr<rt::Stream> stream) {
    const HandshakeOptions options{.own = context_.id,
                                   .channel = kChannel,
                                   .checksums = false,
                                   .deadline = context_.loop.Now() + kHandshakeTime};
    const Result<Session> session = co_await ShakeAsServer(*stream, key_, options);
    --strangers_;
    Result<rt::MemoryFile> block = Fail(Code::kUnauthenticated, "");
    if (session) {
      block = rt::MemoryFile::Create(sizeof(ShmBlock), rt::Sharing::kOthersWrite);
    }
    if (!block) {
      context_.counters.strangers_refused.fetch_add(session ? 0 : 1, std::memory_order_relaxed);
      co_return;
    }
    context_.counters.connections.fetch_add(1, std::memory_order_relaxed);
    auto connection = std::make_unique<ShmConnection>(
        context_, std::move(stream), session->peer,
        std::make_shared<const rt::MemoryFile>(std::move(*block)), options_.polled, ++last_number_);
    ShmConnection& running = *connection;
    {
      rt::MutexLock lock(mutex_);
      served_.push_back(std::move(connection));
    }
    running.Run(
        [this] {
          Collect();
          context_.Wake();
        },
        [this](ShmConnection& over) { EndSoon(over.number); });
  }

  /// Also where nobody polls for long: rings are short.
  void Collect() {
    rt::MutexLock lock(mutex_);
    for (const std::unique_ptr<ShmConnection>& each : served_) {
      if (!each->broken()) {
        each->Collect();
      }
      if (each->broken()) {
        EndSoon(each->number);
      }
    }
  }

  /// Any thread.
  void EndSoon(std::uint64_t number) {
    context_.loop.Post([this, alive = std::weak_ptr<bool>(alive_), number] {
      if (!alive.expired()) {
        End(number);
      }
    });
  }

  /// Takes what it said last and destroys it.
  void End(std::uint64_t number) {
    std::unique_ptr<ShmConnection> ended;
    {
      rt::MutexLock lock(mutex_);
      const auto found = std::ranges::find_if(
          served_, [number](const auto& each) { return each->number == number; });
      if (found == served_.end()) {
        return;
      }
      ended = std::move(*found);
      served_.erase(found);
      Notification last;
      while (!ended->broken() && ended->Take(last)) {
        context_.Notified(last.from, last.bytes);
      }
    }
    context_.counters.connections.fetch_sub(1, std::memory_order_relaxed);
    context_.Wake();
  }

  std::size_t CountServed() const {
    rt::MutexLock lock(mutex_);
    return served_.size();
  }

  AgentContext& context_;
  rt::Net& net_;
  ClusterKey key_;
  ShmOptions options_;
  std::string prefix_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::unique_ptr<rt::Listener> listener_;
  std::uint32_t strangers_ = 0;
  std::uint64_t last_number_ = 0;
  mutable rt::Mutex mutex_;
  std::vector<std::unique_ptr<ShmConnection>> served_ PX_GUARDED_BY(mutex_);
  std::vector<std::weak_ptr<ShmLink>> links_;
  rt::SpawnedTasks tasks_;
};

}  // namespace

TransportFactory MakeShmTransport(rt::Net& net, ClusterKey key, ShmOptions options) {
  return [&net, key, options = std::move(options)](
             AgentContext& context) -> Result<std::unique_ptr<Transport>> {
    auto transport = std::make_unique<ShmTransport>(context, net, key, options);
    PX_CHECK_OK(transport->Listen());
    return transport;
  };
}

}  // namespace pixii::transport
