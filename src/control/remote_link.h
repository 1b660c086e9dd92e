// A worker in another process as a WorkerLink.
//
// Thread: one loop.
// Every request that Generate took gets the end of each choice exactly once: if the worker, the
// connection or the worker's process goes, with kError and kDisconnected. A handler may destroy the
// link; then none is called any more.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "control/event_plane.h"
#include "control/kv_event_reader.h"
#include "control/mux_client.h"
#include "control/worker_link.h"

namespace pixii::control {

/// Names of calls; their messages are in wire/messages/. docs/formats/messages.md
inline constexpr std::string_view kGenerateMethod = "generate";
inline constexpr std::string_view kReportMethod = "report";
inline constexpr std::string_view kMemoryMethod = "memory";
inline constexpr std::string_view kClearCacheMethod = "clear_cache";
inline constexpr std::string_view kClearTiersMethod = "clear_tiers";
inline constexpr std::string_view kLoadAdapterMethod = "load_adapter";
inline constexpr std::string_view kUnloadAdapterMethod = "unload_adapter";
inline constexpr std::string_view kModelFilesMethod = "model_files";
inline constexpr std::string_view kKvEventsMethod = "kv_events";

class RemoteLink final : public WorkerLink, private EventPlane::Listener {
 public:
  enum class State : std::uint8_t {
    kAway,  // no connection, or what is there has not said that it is this worker
    kHere,
  };

  static constexpr std::uint32_t kChoiceCountMax = 65536;  // of one request
  static constexpr std::uint32_t kRankCountMax = KvEventReader::kRankCountMax;

  /// `card`: as discovery knows it. What name, fingerprint, numerics_id and block_tokens it has,
  /// the worker's own report must have, too: another worker at its address is not believed to be
  /// this one. `on_change` hears that state, card or load changed. All outlive the link.
  RemoteLink(rt::Loop& loop, rt::Net& net, MuxClientOptions options, wire::ModelCard card,
             std::function<void()> on_change);

  RemoteLink(const RemoteLink&) = delete;
  RemoteLink& operator=(const RemoteLink&) = delete;
  ~RemoteLink() override;

  const wire::ModelCard& card() const override { return card_; }

  Result<void> Generate(wire::GenerateRequest request, FrameHandler on_frame) override;
  void Cancel(const wire::CancelRequest& cancel) override;
  void ReleaseMemory(const MemoryTags& tags, rt::Duration patience, MemoryHandler on_done) override;
  void ResumeMemory(const MemoryTags& tags, MemoryHandler on_done) override;
  void ClearCache(CacheDepth depth, MemoryHandler on_done) override;

  WorkerLoad load() const override { return load_; }

  std::vector<WorkerLoad> rank_loads() const override {
    return rank_loads_.empty() ? std::vector<WorkerLoad>{load_} : rank_loads_;
  }

  void LoadAdapter(wire::LoadAdapterRequest request, AdapterHandler on_done) override;
  void UnloadAdapter(std::string name, AdapterHandler on_done) override;

  using FilesHandler = std::function<void(Result<wire::ModelFiles>)>;

  /// The files that a frontend needs of the model. Errors: kUnsupported, kDisconnected.
  void FetchFiles(FilesHandler on_done);

  State state() const { return state_; }

  /// From now on KV events and load are heard of `plane`, too, which outlives the link; the worker
  /// is asked for what the plane does not bring. `worker`: its name there. Call once.
  void UsePlane(EventPlane& plane, std::string worker);

  /// Of the card that the worker said last; 0: none yet.
  std::uint64_t card_number() const { return card_number_; }

  /// The worker's process takes no new calls: it is about to end.
  bool goes_away() const { return client_.peer_goes_away(); }

  /// Only what the peer has: if the worker has no KV events, the handler is never called.
  Result<void> WatchKvEvents(KvEventHandler on_events) override;

  /// Why it is away, for logs.
  const std::string& trouble() const { return trouble_.empty() ? client_.trouble() : trouble_; }

  /// The worker said that it has none.
  bool kv_unsupported() const { return kv_unsupported_; }

  /// Times that events were missed and asked for again.
  std::uint64_t kv_gap_count() const { return kv_reader_.counters().gaps; }

  const KvEventReader& kv_reader() const { return kv_reader_; }

  /// The worker itself tells its KV events now, whatever the plane does.
  bool asks_for_kv_events() const { return kv_call_.has_value(); }

  std::size_t outstanding_count() const { return requests_.size(); }

  /// Nobody waits for an answer: the link may go.
  bool idle() const { return requests_.empty() && asked_ == 0; }

 private:
  struct Outstanding {
    RequestId id{};
    MuxClient::CallKey call{};
    FrameHandler on_frame;
    std::vector<bool> ended;
    std::uint32_t live_choices = 0;
    std::size_t prompt_size = 0;  // tokens
  };

  using Request = std::shared_ptr<Outstanding>;

  MuxClientOptions WithGoingAway(MuxClientOptions options);
  void OnConnected(bool connected);
  void MarkDraining();
  void OnReport(const std::string& message);
  void SetAway(std::string trouble);
  void AbandonAll(const Error& error);
  std::string Mismatch(const wire::ModelCard& card) const;
  Result<wire::TokenFrame> ReadFrame(const Outstanding& request, const std::string& message) const;
  void OnFrame(const Request& request, const std::string& message);
  void EndAll(const Request& request, const Error& error);
  void Forget(const Request& request);
  void AskForKvEvents();
  void OnKvEvents(const std::string& message);
  void OnPlane(EventPlane::Kind kind, std::string_view message) override;
  void OnPlaneKvEvents(std::string_view message);
  void WatchPlane();
  void OnPlaneLoad(std::string_view message);
  void TellKvEvents(std::vector<wire::KvEvent> heard);
  template <class Message>
  void CallForOne(std::string_view method, std::string message,
                  std::function<void(Result<Message>)> on_done);
  void CallForNothing(std::string_view method, std::string message, MemoryHandler on_done);

  rt::Loop& loop_;
  std::function<void()> on_change_;
  wire::ModelCard card_;
  WorkerLoad load_;
  std::vector<WorkerLoad> rank_loads_;
  State state_ = State::kAway;
  std::uint64_t card_number_ = 0;
  std::string trouble_;         // of a peer that is connected
  wire::ModelCard known_card_;  // of discovery
  std::unordered_map<RequestId, Request> requests_;
  KvEventHandler on_kv_events_;
  std::optional<MuxClient::CallKey> kv_call_;
  bool kv_unsupported_ = false;  // by the worker at the other end
  KvEventReader kv_reader_;
  EventPlane* plane_ = nullptr;  // null: none
  rt::TimerId plane_timer_ = rt::TimerId::kNone;
  std::string plane_name_;  // of the worker there
  std::size_t asked_ = 0;   // for one answer each, that did not come yet
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // on the loop alone
  MuxClient client_;  // last: its handlers use what stands above
};

}  // namespace pixii::control
