// What a HandoverConnector does beside the engine: the transfer agent, leases, transfers, and what
// two such tell each other.
//
// Thread: a loop of its own, or one that it is given; but for what says otherwise.
// An offer may grow while its prompt is still computed: whoever has claimed it is told of each
// block that has become whole, so that at the first token only the last ones are missing.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "kv/handover_connector.h"
#include "transport/peer_book.h"

namespace pixii::kv {

/// What both sides of a hand-over must have in common, as this one is.
wire::HandoverRecord OwnRecord(const HandoverOptions& options);

/// Blocks of the prompt that the record stands for: those in it and those to come.
std::uint32_t HandoverBlockCount(const wire::HandoverRecord& record);

class HandoverConnector::Mover final {
 public:
  /// A prompt's blocks that the engine's side keeps pinned.
  struct Offer {
    std::uint64_t number = 0;
    RequestId request{};
    rt::Time deadline{};
    std::vector<BlockRef> blocks;
    std::vector<Hash128> chain;  // identities of the prompt's blocks
    bool whole = false;          // `blocks` are all of them; else more may come
    ConnectorRequestRef asked;   // null: nobody knows whose it is
  };

  struct Job {
    LoadId id{};
    std::shared_ptr<const wire::HandoverRecord> record;
    std::shared_ptr<const HandoverLayout> layout;  // null: their blocks are as ours
    std::uint32_t first = 0;
    std::vector<BlockMemory> targets;
    bool to_end = false;  // nothing of the record's comes behind them
    rt::Time deadline{};
    ConnectorRequestRef request;  // null: nobody knows whose it is
  };

  Mover(const HandoverOptions& options, const HashKey& key,
        std::shared_ptr<HandoverCounters> counters);
  Mover(const Mover&) = delete;
  Mover& operator=(const Mover&) = delete;
  ~Mover();

  Result<void> Open(const AgentMaker& make_agent);

  // ---- any thread

  /// What is left when it goes is not run.
  void Post(rt::Callback fn);
  void SetWake(rt::Function<void()> wake);
  void TakeDone(std::vector<LoadEnd>& ended, std::vector<std::uint64_t>& dropped);
  std::vector<HandoverSample> TakeSamples();
  std::string transport();

  const transport::Agent& agent() const { return *agent_; }

  // ---- its own thread: offers

  /// Keeps the blocks, in place of those of an earlier offer of the request, which they begin with.
  void Keep(Offer offer, std::byte* memory);
  /// The prompt's next blocks are computed; `number` is of the pins of all.
  void Grow(RequestId request, std::uint64_t number, const std::vector<BlockRef>& blocks);
  void WatchEarly(RequestId request, EarlyNews news);
  void Watch(RequestId request, News news);
  void Forget(RequestId request);
  void ForgetAll();

  // ---- its own thread: loads

  void Begin(Job job);
  void CancelLoad(LoadId id);
  /// A record that came later than a load of its transfer began: it knows of all blocks.
  void Supply(const std::shared_ptr<const wire::HandoverRecord>& record);

 private:
  /// Who is told of blocks that come.
  struct Reader {
    transport::PeerId peer{};
    std::uint32_t told = 0;  // of the prompt's blocks
  };

  struct Kept {
    Offer offer;
    std::size_t opened = 0;  // the first ones of its blocks
    std::vector<HandoverBlock> rows;
    std::string record;
    News news;
    std::vector<Reader> readers;
    bool released = false;  // by one who read while it grew
  };

  /// Their blocks on their way.
  struct Staging {
    Interval blocks;  // of the record
    std::unique_ptr<std::vector<std::byte>> memory;
    transport::RegionKey region{};
  };

  struct Fetch {
    Job job;
    std::vector<HandoverBlock> rows;  // of the prompt's blocks that are known, from the first on
    transport::PeerId peer{};
    rt::Time begun{};
    rt::Time deadline{};
    bool claimed = false;
    std::map<std::uint32_t, std::pair<transport::TransferId, std::uint32_t>>
        chunks;                                 // by first: and blocks
    std::map<std::uint32_t, Staging> stagings;  // likewise, where their blocks are not as ours

    bool grows() const { return job.record->block_count > 0; }

    bool knows_all() const { return rows.size() == HandoverBlockCount(*job.record); }
  };

  struct OpenedBlock {
    std::uint32_t generation = 0;
    std::uint32_t count = 0;  // offers that want it open
  };

  static std::byte* BaseOf(const BlockMemory& block) {
    return block.bytes.data() - std::size_t{Raw(block.ref.id)} * block.bytes.size();
  }

  std::span<std::byte> Bytes(std::uint32_t block) const {
    return {memory_ + std::size_t{block} * block_bytes_, block_bytes_};
  }

  void Say(obs::EventId id, const Error& error, const ConnectorRequestRef& of = nullptr) const;
  wire::HandoverRecord Own() const;
  Result<void> UseMemory(std::byte* memory);
  Result<transport::PeerId> PeerOf(const std::string& agent);
  void OnAgent();
  void OnNote(const std::string& bytes);
  void SetTimer();
  void OnTime();

  // handover_mover.cc: offers
  void Refuse(const Offer& offer, const Error& error);
  Result<void> OpenBlocks(Kept& kept);
  Result<void> OpenBlock(const BlockRef& ref);
  bool CloseBlocks(Kept& kept);
  std::string RecordOf(const Hash128& transfer, const Kept& kept) const;
  bool Continue(const Hash128& transfer, Offer& offer);
  void TellEarly(const Kept& kept);
  void OnClaim(const wire::HandoverClaim& claim);
  void OnRelease(const wire::HandoverRelease& release);
  void TellReaders();
  bool Tell(const Hash128& transfer, const Kept& kept, Reader& reader);
  bool HasUntold() const;
  void EndOffers();
  void MakeRoom(const Hash128& newest);
  void Drop(std::vector<std::uint64_t> numbers);

  // handover_loads.cc
  Fetch* FetchOf(const Hash128& transfer);
  std::uint32_t AvailableOf(const Fetch& fetch) const;
  void OnMore(const wire::HandoverMore& more);
  void AddRows(LoadId id, Fetch& fetch, std::vector<HandoverBlock> rows);
  void Claim(Fetch& fetch);
  bool HasUnclaimed() const;
  void PollChunks(LoadId id, Fetch& fetch);
  std::uint32_t Unpack(const Fetch& fetch, std::uint32_t first, std::uint32_t count);
  void DropStaging(Fetch& fetch, std::uint32_t first);
  std::uint32_t ProvenOf(const Fetch& fetch, std::uint32_t first, std::uint32_t count);
  void Act();
  void PostChunk(const FetchTable::Action& action);
  Result<void> Stage(Fetch& fetch, const FetchTable::Action& action,
                     std::vector<transport::Descriptor>& local,
                     std::vector<transport::Descriptor>& remote);
  void EndLoad(FetchTable::Action end);

  const HandoverOptions& options_;
  const HashKey& key_;
  std::shared_ptr<HandoverCounters> counters_;
  std::unique_ptr<rt::Loop> own_loop_;  // null: it is somebody else's
  rt::Loop* loop_ = nullptr;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::atomic<bool> woken_{false};
  std::shared_ptr<transport::Agent> agent_;
  Hash128 instance_;
  std::optional<transport::RegionKey> region_;
  std::byte* memory_ = nullptr;  // of the region
  const std::size_t block_bytes_;
  OfferTable offers_;
  std::unordered_map<Hash128, Kept, Hash128Hasher> kept_;
  std::unordered_map<RequestId, Hash128> by_request_;
  std::unordered_map<RequestId, EarlyNews> expected_;
  std::vector<Kept> closing_;  // that have ended, with windows that could not be closed yet
  std::unordered_map<std::uint32_t, OpenedBlock> open_;
  FetchTable fetch_;
  std::map<LoadId, Fetch> fetches_;
  std::vector<Staging> kept_stagings_;
  std::optional<transport::PeerBook> peers_;  // of the agent
  rt::TimerId timer_ = rt::TimerId::kNone;
  rt::Mutex mutex_;
  rt::Function<void()> wake_ PX_GUARDED_BY(mutex_);
  std::vector<LoadEnd> ended_ PX_GUARDED_BY(mutex_);
  std::vector<std::uint64_t> dropped_ PX_GUARDED_BY(mutex_);
  std::vector<HandoverSample> samples_ PX_GUARDED_BY(mutex_);
  std::string transport_ PX_GUARDED_BY(mutex_);
  rt::Thread thread_;
};

}  // namespace pixii::kv
