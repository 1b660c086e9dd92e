#include "transport/fabric_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <utility>

#include "base/checked.h"
#include "base/hash.h"
#include "transport/bytes.h"
#include "wire/messages/codec.h"

namespace pixii::transport {

namespace {

using rt::operator""ms;

constexpr std::size_t kServedMax = 16'384;        // writes of one connection at a time
constexpr std::size_t kUnsentBytesMax = 8 << 20;  // answers that a peer leaves unread
constexpr rt::Duration kPatience = 250ms;         // with the fabric, for what was cancelled
constexpr std::uint64_t kRegionBytesMax = std::uint64_t{1} << 62U;
constexpr std::size_t kTakenMax = 4096;  // regions that a peer tells of by itself
constexpr std::size_t kKeyBytesMax = 4096;

Error Stale(const Descriptor& descriptor) {
  return Error(Code::kNotFound,
               fmt::format("{} bytes at {} of region {:016x} are not open with generation {}",
                           descriptor.size_bytes, descriptor.offset,
                           static_cast<std::uint64_t>(descriptor.region), descriptor.generation));
}

std::string EncodeKey(RegionKey region) {
  std::string out;
  Append(out, static_cast<std::uint64_t>(region));
  return out;
}

/// Errors: kDataCorrupt.
Result<RegionKey> DecodeKey(std::string_view payload) {
  Reader reader(payload);
  const auto key = reader.Take<std::uint64_t>();
  if (!reader.complete()) {
    return Fail(Code::kDataCorrupt, "the key of a region has another size than 8 bytes");
  }
  return static_cast<RegionKey>(key);
}

bool LiesIn(const RemoteRegion& region, std::uint64_t offset, std::uint64_t size_bytes) {
  return offset <= region.size_bytes && size_bytes <= region.size_bytes - offset;
}

fabric_abi::Bytes View(std::string_view text) { return {text.data(), text.size()}; }

// Libraries end the process for bytes of theirs that are not whole: they only see what has its sum.
std::string WithSum(std::string_view opaque) {
  std::string out;
  Append(out, Hash64(std::as_bytes(std::span(opaque))));
  out += opaque;
  return out;
}

/// Nothing: the sum is another's.
std::optional<std::string_view> WithoutSum(std::string_view bytes) {
  Reader reader(bytes);
  const auto sum = reader.Take<std::uint64_t>();
  if (reader.missing() || reader.left().empty() ||
      sum != Hash64(std::as_bytes(std::span(reader.left())))) {
    return std::nullopt;
  }
  return reader.left();
}

}  // namespace

// ---- life

Result<std::unique_ptr<FabricSession>> FabricSession::Create(
    const Parts& parts, std::unique_ptr<rt::Stream> stream, const Session& session,
    rt::Function<void()> ready, rt::Function<void(const Error&)> ended) {
  fabric_abi::Peer* peer = nullptr;
  if (const char* wrong = parts.fabric.functions().begin_peer(parts.fabric.raw(), &peer)) {
    return Fail(Code::kUnavailable, fmt::format("{}: {}", parts.fabric.functions().name, wrong));
  }
  return std::unique_ptr<FabricSession>(new FabricSession(  // tidy: new the constructor is private
      parts, std::move(stream), session, peer, std::move(ready), std::move(ended)));
}

FabricSession::FabricSession(const Parts& parts, std::unique_ptr<rt::Stream> stream,
                             const Session& session, fabric_abi::Peer* peer,
                             rt::Function<void()> ready, rt::Function<void(const Error&)> ended)
    : context_(parts.context),
      fabric_(parts.fabric),
      exposed_(parts.exposed),
      client_(parts.client),
      peer_id_(session.peer),
      peer_(peer),
      fetches_(parts.fabric),
      ready_(std::move(ready)),
      ended_(std::move(ended)),
      patience_(parts.context.loop,
                [this] {
                  channel_.End(Error(Code::kDisconnected,
                                     "the peer's memory neither comes nor fails to come"));
                }),
      channel_(parts.context.loop, std::move(stream),
               {.send_key = parts.client ? session.client_key : session.server_key,
                .receive_key = parts.client ? session.server_key : session.client_key,
                .checksums = true,
                .pings = parts.client,
                .unsent_bytes_max = parts.client ? SIZE_MAX : kUnsentBytesMax},
               unused_lane_, *this) {
  fabric_.Add(*this);
}

void FabricSession::Run() {
  const fabric_abi::Bytes address = fabric_.functions().address(peer_);
  channel_.Send(FrameKind::kAddress, 0, WithSum({address.data, address.size}));
  channel_.Run();  // last: what has come already is dealt with at once
}

FabricSession::~FabricSession() {
  if (!over_) {
    Broken(Error(Code::kCancelled, "the agent ends"));
  }
  fabric_.Remove(*this);
}

void FabricSession::Broken(const Error& error) {
  if (std::exchange(over_, true)) {
    return;
  }
  if (error.code() == Code::kDataCorrupt) {
    context_.counters.frames_malformed.fetch_add(1, std::memory_order_relaxed);
  }
  patience_.Set(rt::kNever);
  const Error told =
      error.code() == Code::kCancelled ? error : Error(Code::kDisconnected, error.detail());
  // What runs is over now; its memory is not touched any more.
  fabric_.functions().disconnect(peer_);
  for (auto& [id, fetch] : served_) {
    fetches_.Stop(*fetch, told);
    fetch->ended = nullptr;
  }
  for (auto& [id, running] : running_) {
    if (running.fetch != nullptr) {
      fetches_.Stop(*running.fetch, told);
      running.fetch->ended = nullptr;
    }
  }
  while (fetches_.Settle()) {
  }
  served_.clear();
  for (const std::shared_ptr<WriteLane>& lane : std::exchange(lanes_, {})) {
    context_.regions.RemoveLane(lane.get());
  }
  for (const TransferPtr& transfer : std::exchange(waiting_, {})) {
    context_.Ended(transfer, Fail(told));
  }
  while (!running_.empty()) {
    Finish(running_.begin(),
           Fail(running_.begin()->second.cancelled ? Error(Code::kCancelled, "cancelled") : told));
  }
  taken_.clear();
  leaving_.clear();
  // What the peer had asked of our memory before it went is dealt with while that is there.
  fabric_.Drain();
  while (!given_.empty()) {
    TakeBack(given_.begin()->first);
  }
  fabric_.functions().end_peer(peer_);
  context_.loop.Post([ended = std::move(ended_), error] { ended(error); });
}

void FabricSession::Settle() {
  if (over_) {
    return;
  }
  while (fetches_.Settle() && !over_) {
  }
  std::erase_if(leaving_, [this](const auto& each) {
    if (each.second.use_count() > 1) {
      return false;
    }
    channel_.Send(FrameKind::kBack, 0, EncodeKey(each.first));
    return true;
  });
}

// ---- what the peer says

Result<void> FabricSession::Control(const FrameHeader& header, std::string_view payload) {
  if (!connected_ && header.kind != FrameKind::kAddress) {
    return Fail(Code::kDataCorrupt, "something is said before the fabric's address");
  }
  switch (header.kind) {
    case FrameKind::kAddress:
      return AddressCame(payload);
    case FrameKind::kAsk:
      return Asked(payload);
    case FrameKind::kRegion:
      return RegionCame(payload);
    case FrameKind::kGone:
      return GoneCame(payload);
    case FrameKind::kBack:
      return BackCame(payload);
    case FrameKind::kSources:
      if (client_ || sources_) {
        return Fail(Code::kDataCorrupt, "sources that nobody wants");
      }
      sources_.emplace(header.transfer, payload);
      return {};
    case FrameKind::kWrite:
      return client_ ? Fail(Code::kDataCorrupt, "a server wants to write")
                     : WriteAsked(header, payload);
    case FrameKind::kCancel: {
      const auto found = served_.find(header.transfer);
      if (found != served_.end()) {
        fetches_.Stop(*found->second, Error(Code::kCancelled, "cancelled"));
      }
      return {};
    }
    case FrameKind::kEnd:
      return EndCame(header.transfer, payload);
    case FrameKind::kNotify:
      if (client_ || payload.size() > kNotificationBytesMax) {
        return Fail(Code::kDataCorrupt, fmt::format("a notification of {} bytes", payload.size()));
      }
      context_.Notified(peer_id_, payload);
      context_.Wake();
      return {};
    default:
      return Fail(Code::kDataCorrupt, fmt::format("nobody sends a frame of kind {} here",
                                                  static_cast<int>(header.kind)));
  }
}

Result<void> FabricSession::AddressCame(std::string_view address) {
  const std::optional<std::string_view> whole = WithoutSum(address);
  if (connected_ || !whole) {
    return Fail(Code::kDataCorrupt, "the fabric's address comes twice, or is not whole");
  }
  if (const char* wrong = fabric_.functions().connect(peer_, View(*whole))) {
    return Fail(Code::kUnavailable, fmt::format("{}: {}", fabric_.functions().name, wrong));
  }
  connected_ = true;
  ready_();
  for (const TransferPtr& transfer : std::exchange(waiting_, {})) {
    Begin(transfer);
  }
  return {};
}

Result<void> FabricSession::Asked(std::string_view payload) {
  PX_TRY(const RegionKey key, DecodeKey(payload));
  const Result<ExposedRegions::Exposed> exposed = exposed_.Of(key);
  if (exposed) {
    return Give(*exposed, true);
  }
  std::string answer = EncodeKey(key);
  Append(answer, std::uint8_t{exposed.error().code() == Code::kUnsupported});
  channel_.Send(FrameKind::kGone, 0, answer);
  return {};
}

Result<void> FabricSession::Give(const ExposedRegions::Exposed& exposed, bool with_words) {
  const RegionView& view = exposed.region->view();
  std::string record;
  Append(record, static_cast<std::uint64_t>(view.key));
  Append(record, exposed.memory->base());
  Append(record, static_cast<std::uint64_t>(view.memory.size()));
  Append(record, view.window_bytes);
  Append(record, with_words ? exposed.words->base() : std::uint64_t{0});
  Append(record, with_words ? static_cast<std::uint64_t>(view.words.size()) : std::uint64_t{0});
  const std::string memory = WithSum(exposed.memory->key());
  const std::string words = with_words ? WithSum(exposed.words->key()) : std::string();
  Append(record, static_cast<std::uint16_t>(memory.size()));
  record += memory;
  Append(record, static_cast<std::uint16_t>(words.size()));
  record += words;
  if (given_.emplace(view.key, exposed).second) {
    exposed.region->uses().fetch_add(1, std::memory_order_acq_rel);
  }
  channel_.Send(FrameKind::kRegion, 0, record);
  return {};
}

Result<void> FabricSession::RegionCame(std::string_view payload) {
  Reader reader(payload);
  const auto key = static_cast<RegionKey>(reader.Take<std::uint64_t>());
  auto region = std::make_shared<RemoteRegion>(fabric_.functions(), key);
  region->base = reader.Take<std::uint64_t>();
  region->size_bytes = reader.Take<std::uint64_t>();
  region->window_bytes = reader.Take<std::uint64_t>();
  region->words_base = reader.Take<std::uint64_t>();
  region->words_count = reader.Take<std::uint64_t>();
  const std::string_view memory = reader.Take(reader.Take<std::uint16_t>());
  const std::string_view words = reader.Take(reader.Take<std::uint16_t>());
  const bool sane =
      reader.complete() && region->size_bytes > 0 && region->size_bytes <= kRegionBytesMax &&
      region->window_bytes > 0 && memory.size() <= kKeyBytesMax && words.size() <= kKeyBytesMax &&
      (words.empty() || region->words_count == CeilDiv(region->size_bytes, region->window_bytes));
  const bool is_wanted = client_ ? asked_.contains(key) : taken_.size() < kTakenMax;
  if (!sane || !is_wanted || (client_ && words.empty())) {
    return Fail(Code::kDataCorrupt, "the keys of a region cannot be read");
  }
  for (const auto& [bytes, out] :
       {std::pair(memory, &region->memory), std::pair(words, &region->words)}) {
    if (bytes.empty()) {
      continue;
    }
    const std::optional<std::string_view> whole = WithoutSum(bytes);
    const char* wrong = whole ? fabric_.functions().import_key(peer_, View(*whole), out)
                              : "a key that is not whole";
    if (wrong != nullptr) {
      return Fail(Code::kDataCorrupt, fmt::format("{}: {}", fabric_.functions().name, wrong));
    }
  }
  taken_[key] = std::move(region);
  asked_.erase(key);
  for (const TransferPtr& transfer : std::exchange(waiting_, {})) {
    Begin(transfer);
  }
  return {};
}

Result<void> FabricSession::GoneCame(std::string_view payload) {
  PX_TRY(const RegionKey key, DecodeKey(payload.substr(0, 8)));
  const bool out_of_reach = payload.size() > 8 && payload[8] == 1;
  asked_.erase(key);
  const auto found = taken_.find(key);
  if (found != taken_.end()) {
    leaving_.emplace_back(key, std::move(found->second));
    taken_.erase(found);
    fabric_.Kick();
  }
  for (const TransferPtr& transfer : std::exchange(waiting_, {})) {
    const bool hit = std::ranges::any_of(
        transfer->pairs, [key](const Pair& pair) { return pair.remote.region == key; });
    if (hit) {
      context_.Ended(transfer, out_of_reach
                                   ? Fail(Code::kUnsupported, "the fabric cannot reach the memory")
                                   : Fail(Code::kNotFound, "the peer has no such memory region"));
    } else {
      waiting_.push_back(transfer);
    }
  }
  return {};
}

Result<void> FabricSession::BackCame(std::string_view payload) {
  PX_TRY(const RegionKey key, DecodeKey(payload));
  TakeBack(key);
  return {};
}

void FabricSession::TakeBack(RegionKey region) {
  const auto found = given_.find(region);
  if (found != given_.end()) {
    found->second.region->uses().fetch_sub(1, std::memory_order_acq_rel);
    given_.erase(found);
  }
}

void FabricSession::Forget(RegionKey region) {
  if (given_.contains(region)) {
    std::string gone = EncodeKey(region);
    Append(gone, std::uint8_t{0});
    channel_.Send(FrameKind::kGone, 0, gone);
  }
}

// ---- transfers of ours

void FabricSession::Start(TransferPtr transfer) {
  if (over_) {
    context_.loop.Post([context = &context_, transfer = std::move(transfer)] {
      context->Ended(transfer, Fail(Code::kDisconnected, "the peer is gone"));
    });
    return;
  }
  if (!connected_) {
    waiting_.push_back(std::move(transfer));
    return;
  }
  Begin(transfer);
}

void FabricSession::Cancel(const TransferPtr& transfer) {
  if (std::erase(waiting_, transfer) > 0) {
    context_.Ended(transfer, Fail(Code::kCancelled, "cancelled"));
    return;
  }
  const auto found = running_.find(static_cast<std::uint64_t>(transfer->id));
  if (found == running_.end()) {
    return;
  }
  if (found->second.fetch != nullptr && found->second.fetch->running > 0) {
    // The fabric still writes to its memory. Where it does not end soon, the connection does.
    if (!WaitsForCancelled()) {
      patience_.Set(context_.loop.Now() + kPatience);
    }
    found->second.cancelled = true;
    fetches_.Stop(*found->second.fetch, Error(Code::kCancelled, "cancelled"));
    return;
  }
  if (found->second.fetch != nullptr) {
    found->second.fetch->ended = nullptr;
    fetches_.Stop(*found->second.fetch, Error(Code::kCancelled, "cancelled"));
  } else {
    channel_.Send(FrameKind::kCancel, found->first);
  }
  Finish(found, Fail(Code::kCancelled, "cancelled"));
}

bool FabricSession::WaitsForCancelled() const {
  return std::ranges::any_of(running_, [](const auto& each) { return each.second.cancelled; });
}

void FabricSession::Notify(std::string_view bytes) {
  channel_.Send(FrameKind::kNotify, 0, bytes);
  context_.counters.notifications_sent.fetch_add(1, std::memory_order_relaxed);
}

void FabricSession::Begin(const TransferPtr& transfer) {
  if (transfer->pairs.empty()) {
    const auto id = static_cast<std::uint64_t>(transfer->id);
    running_[id].transfer = transfer;
    running_[id].fetch = std::make_shared<Fetch>();
    running_[id].fetch->ended = [this, id](Result<void> result) {
      Finish(running_.find(id), std::move(result));
    };
    fetches_.Add(running_[id].fetch);
  } else if (transfer->operation == Operation::kWrite) {
    BeginWrite(transfer);
  } else if (HasKeys(transfer)) {
    BeginRead(transfer);
  } else {
    waiting_.push_back(transfer);
  }
}

bool FabricSession::HasKeys(const TransferPtr& transfer) {
  bool has_all = true;
  for (const Pair& pair : transfer->pairs) {
    if (taken_.contains(pair.remote.region)) {
      continue;
    }
    has_all = false;
    if (asked_.emplace(pair.remote.region, true).second) {
      channel_.Send(FrameKind::kAsk, 0, EncodeKey(pair.remote.region));
    }
  }
  return has_all;
}

void FabricSession::BeginRead(const TransferPtr& transfer) {
  const auto id = static_cast<std::uint64_t>(transfer->id);
  auto fetch = std::make_shared<Fetch>();
  fetch->parts.reserve(transfer->pairs.size());
  std::shared_ptr<const RemoteRegion> region;
  Result<ExposedRegions::Exposed> own = Fail(Code::kNotFound, "none yet");
  for (const Pair& pair : transfer->pairs) {
    if (region == nullptr || region->key != pair.remote.region) {
      region = taken_.at(pair.remote.region);
    }
    if (!LiesIn(*region, pair.remote.offset, pair.remote.size_bytes)) {
      fetch->error = Stale(pair.remote);
      context_.counters.stale_refused.fetch_add(1, std::memory_order_relaxed);
      break;
    }
    const auto inside = [&](const std::span<std::byte> whole) {
      return pair.local >= whole.data() && pair.local < whole.data() + whole.size();
    };
    if (!own || !inside(own->region->view().memory)) {
      own = exposed_.Around(*transfer, pair.local);
      if (!own) {
        fetch->error = own.error();
        break;
      }
    }
    fetch->parts.push_back({.to = pair.local,
                            .size_bytes = pair.remote.size_bytes,
                            .from = region->base + pair.remote.offset,
                            .key = region->memory,
                            .region = region,
                            .memory = own->memory,
                            .window = nullptr,
                            .descriptor = {}});
  }
  fetch->ended = [this, id](Result<void> result) {
    const auto found = running_.find(id);
    if (result && !found->second.cancelled) {
      LookAtWords(id);
    } else {
      Finish(found, std::move(result));
    }
  };
  running_[id] = {.transfer = transfer, .fetch = fetch, .words = nullptr, .cancelled = false};
  fetches_.Add(std::move(fetch));
}

// The bytes are here. They are what the descriptors say if their windows are still open.
void FabricSession::LookAtWords(std::uint64_t id) {
  Running& running = running_.at(id);
  running.words = std::make_unique<WindowWords>(running.transfer->pairs, running.fetch->parts);
  auto fetch = std::make_shared<Fetch>();
  fetch->parts = running.words->Parts();
  fetch->ended = [this, id](Result<void> result) {
    const auto found = running_.find(id);
    const Descriptor* stale = result ? found->second.words->FirstStale() : nullptr;
    if (stale != nullptr) {
      context_.counters.stale_refused.fetch_add(1, std::memory_order_relaxed);
      result = Fail(Stale(*stale));
    }
    Finish(found, std::move(result));
  };
  running.fetch = fetch;
  fetches_.Add(std::move(fetch));
}

void FabricSession::BeginWrite(const TransferPtr& transfer) {
  const auto id = static_cast<std::uint64_t>(transfer->id);
  running_[id].transfer = transfer;
  std::vector<Descriptor> windows;
  std::string sources;
  Append(sources, static_cast<std::uint32_t>(transfer->pairs.size()));
  for (const Pair& pair : transfer->pairs) {
    const Result<ExposedRegions::Exposed> own = exposed_.Around(*transfer, pair.local);
    if (!own) {
      context_.loop.Post(
          [this, alive = std::weak_ptr<bool>(alive_), transfer, error = own.error()] {
            if (alive.expired()) {
              return;
            }
            const auto found = running_.find(static_cast<std::uint64_t>(transfer->id));
            if (found != running_.end()) {
              Finish(found, Fail(error));
            }
          });
      return;
    }
    const RegionView& view = own->region->view();
    if (!given_.contains(view.key)) {
      PX_ASSERT(Give(*own, false).has_value());
    }
    Append(sources, static_cast<std::uint64_t>(view.key));
    Append(sources, static_cast<std::uint64_t>(pair.local - view.memory.data()));
    windows.push_back(pair.remote);
  }
  channel_.Send(FrameKind::kSources, id, sources);
  channel_.Send(FrameKind::kWrite, id, EncodeDescriptors(windows));
}

Result<void> FabricSession::EndCame(std::uint64_t transfer, std::string_view payload) {
  if (!client_) {
    return Fail(Code::kDataCorrupt, "a client ends a transfer");
  }
  const auto found = running_.find(transfer);
  if (found == running_.end() || found->second.fetch != nullptr) {
    return {};  // cancelled
  }
  if (payload.empty()) {
    Finish(found, {});
    return {};
  }
  const Result<Error> said = wire::DecodeError(payload);
  if (!said) {
    return Fail(Code::kDataCorrupt, "the end of a transfer cannot be read");
  }
  Finish(found, Fail(*said));
  return {};
}

void FabricSession::Finish(RunningAt at, Result<void> result) {
  const TransferPtr transfer = at->second.transfer;
  running_.erase(at);
  if (!WaitsForCancelled()) {
    patience_.Set(rt::kNever);
  }
  if (result && transfer->notification && !over_) {
    Notify(*transfer->notification);
  }
  context_.Ended(transfer, std::move(result));
}

// ---- writes of the peer's

Result<void> FabricSession::WriteAsked(const FrameHeader& header, std::string_view payload) {
  const std::uint64_t id = header.transfer;
  PX_TRY(const std::vector<Descriptor> windows, DecodeDescriptors(payload));
  if (!sources_ || sources_->first != id || served_.contains(id)) {
    return Fail(Code::kDataCorrupt, fmt::format("write {} begins twice or of nothing", id));
  }
  const std::string text = std::move(sources_->second);
  sources_.reset();
  Reader reader(text);
  if (reader.Take<std::uint32_t>() != windows.size() ||
      reader.left().size() != 16 * windows.size()) {
    return Fail(Code::kDataCorrupt, "a write has other sources than windows");
  }
  if (served_.size() >= kServedMax) {
    EndServed(id, Fail(Code::kResourceExhausted,
                       fmt::format("{} transfers run on this connection", kServedMax)));
    return {};
  }
  auto fetch = std::make_shared<Fetch>();
  std::shared_ptr<const Region> region;
  std::shared_ptr<FabricMemory> memory;
  for (const Descriptor& each : windows) {
    const auto from = taken_.find(static_cast<RegionKey>(reader.Take<std::uint64_t>()));
    const auto offset = reader.Take<std::uint64_t>();
    if (from == taken_.end() || !LiesIn(*from->second, offset, each.size_bytes)) {
      EndServed(id, Fail(Code::kNotFound, "the bytes of a write lie in no memory that was given"));
      return {};
    }
    if (region == nullptr || region->view().key != each.region) {
      const Result<ExposedRegions::Exposed> own = exposed_.Of(each.region);
      if (!own) {
        EndServed(id, Fail(own.error().code() == Code::kNotFound ? Stale(each) : own.error()));
        return {};
      }
      region = own->region;
      memory = own->memory;
    }
    if (!IsOpen(region->view(), each, Access::kWrite)) {
      EndServed(id, Fail(Stale(each)));
      return {};
    }
    fetch->parts.push_back({.to = region->view().memory.data() + each.offset,
                            .size_bytes = each.size_bytes,
                            .from = from->second->base + offset,
                            .key = from->second->memory,
                            .region = from->second,
                            .memory = memory,
                            .window = region,
                            .descriptor = each});
  }
  fetch->lane = std::make_shared<WriteLane>();
  context_.regions.AddLane(fetch->lane);
  lanes_.push_back(fetch->lane);
  fetch->ended = [this, id](Result<void> result) {
    const auto found = served_.find(id);
    const std::shared_ptr<Fetch> served = found->second;
    served_.erase(found);
    context_.regions.RemoveLane(served->lane.get());
    std::erase(lanes_, served->lane);
    if (result) {
      std::uint64_t size_bytes = 0;
      for (const Fetch::Part& part : served->parts) {
        size_bytes += part.size_bytes;
      }
      context_.counters.taken_bytes.fetch_add(size_bytes, std::memory_order_relaxed);
    }
    EndServed(id, result);
  };
  served_[id] = fetch;
  fetches_.Add(std::move(fetch));
  return {};
}

void FabricSession::EndServed(std::uint64_t transfer, const Result<void>& result) {
  if (!result && result.error().code() == Code::kNotFound) {
    context_.counters.stale_refused.fetch_add(1, std::memory_order_relaxed);
  }
  channel_.Send(FrameKind::kEnd, transfer,
                result ? std::string() : wire::EncodeError(result.error()));
}

}  // namespace pixii::transport
