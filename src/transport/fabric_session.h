// One authenticated connection between two agents of a fabric: keys of memory go over it, and who
// wants what; the bytes go through the fabric.
//
// Thread: one loop. docs/formats/transfer.md
// A read: the client fetches the bytes, then the words of their windows, and believes the bytes
// only if all were open. A write: the client says where the bytes are, and the owner of the windows
// fetches them, so that nothing of a peer's ever writes into memory here.
// A key that was given is taken back before its memory goes: Deregister fails until the peer has
// said that it has forgotten it, or is gone.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "rt/alarm.h"
#include "transport/exposed_regions.h"
#include "transport/fabric.h"
#include "transport/fetch.h"
#include "transport/frame_channel.h"
#include "transport/handshake.h"
#include "transport/link.h"
#include "transport/window_words.h"

namespace pixii::transport {

class FabricSession final : public FrameChannel::Owner, private Fabric::User {
 public:
  struct Parts {
    AgentContext& context;
    Fabric& fabric;
    ExposedRegions& exposed;
    bool client = false;
  };

  /// `ready`: transfers may be started; `ended`: the connection is over, once, and not within a
  /// call. Errors: kUnavailable with what the fabric says. Run follows.
  static Result<std::unique_ptr<FabricSession>> Create(const Parts& parts,
                                                       std::unique_ptr<rt::Stream> stream,
                                                       const Session& session,
                                                       rt::Function<void()> ready,
                                                       rt::Function<void(const Error&)> ended);
  /// Everything that runs has ended when it returns.
  ~FabricSession();

  void Run();

  void Start(TransferPtr transfer);
  void Cancel(const TransferPtr& transfer);
  void Notify(std::string_view bytes);

  /// Asks the peer to forget the key of a region of ours.
  void Forget(RegionKey region);

  /// No more.
  void Break(Error error) { channel_.End(std::move(error)); }

 private:
  struct Running {
    TransferPtr transfer;
    std::shared_ptr<Fetch> fetch;        // of a read
    std::unique_ptr<WindowWords> words;  // likewise, once its bytes are here
    bool cancelled = false;
  };

  using RunningAt = std::unordered_map<std::uint64_t, Running>::iterator;

  FabricSession(const Parts& parts, std::unique_ptr<rt::Stream> stream, const Session& session,
                fabric_abi::Peer* peer, rt::Function<void()> ready,
                rt::Function<void(const Error&)> ended);

  void Settle() override;

  std::shared_ptr<InStream> Incoming(std::uint64_t /*transfer*/) override { return nullptr; }

  void ChunkCame(const std::shared_ptr<InStream>& /*stream*/) override {}

  void OutEnded(const std::shared_ptr<OutStream>& /*stream*/) override {}

  Result<void> Control(const FrameHeader& header, std::string_view payload) override;
  void Broken(const Error& error) override;

  Result<void> AddressCame(std::string_view address);
  Result<void> Asked(std::string_view payload);
  Result<void> RegionCame(std::string_view payload);
  Result<void> GoneCame(std::string_view payload);
  Result<void> BackCame(std::string_view payload);
  Result<void> WriteAsked(const FrameHeader& header, std::string_view payload);
  Result<void> EndCame(std::uint64_t transfer, std::string_view payload);

  Result<void> Give(const ExposedRegions::Exposed& exposed, bool with_words);
  void TakeBack(RegionKey region);

  void Begin(const TransferPtr& transfer);
  /// False: a key is still missing, it waits.
  bool HasKeys(const TransferPtr& transfer);
  void BeginRead(const TransferPtr& transfer);
  void BeginWrite(const TransferPtr& transfer);
  void LookAtWords(std::uint64_t transfer);
  void Finish(RunningAt at, Result<void> result);
  bool WaitsForCancelled() const;
  void EndServed(std::uint64_t transfer, const Result<void>& result);

  AgentContext& context_;
  Fabric& fabric_;
  ExposedRegions& exposed_;
  const bool client_;
  const AgentId peer_id_;
  fabric_abi::Peer* peer_;
  FetchQueue fetches_;
  rt::Function<void()> ready_;
  rt::Function<void(const Error&)> ended_;
  bool connected_ = false;
  bool over_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);

  // Keys: of the peer's regions, those that it wants back, and of ours.
  std::unordered_map<RegionKey, std::shared_ptr<const RemoteRegion>> taken_;
  std::unordered_map<RegionKey, bool> asked_;
  std::vector<std::pair<RegionKey, std::shared_ptr<const RemoteRegion>>> leaving_;
  std::unordered_map<RegionKey, ExposedRegions::Exposed> given_;

  std::deque<TransferPtr> waiting_;  // for keys
  std::unordered_map<std::uint64_t, Running> running_;
  // Writes that the peer wants.
  std::optional<std::pair<std::uint64_t, std::string>> sources_;  // of the one that follows
  std::unordered_map<std::uint64_t, std::shared_ptr<Fetch>> served_;
  std::vector<std::shared_ptr<WriteLane>> lanes_;  // of fetches, removed at their end

  rt::Alarm patience_;  // with reads that were cancelled
  std::shared_ptr<WriteLane> unused_lane_ = std::make_shared<WriteLane>();
  FrameChannel channel_;  // last: its tasks use what stands above
};

}  // namespace pixii::transport
