// A worker in another process as a WorkerLink.
//
// Thread: one loop.
// Every request that Generate took gets the end of each choice exactly once: if the worker, the
// connection or the worker's process goes, with kError and kDisconnected.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "base/result.h"
#include "control/mux_client.h"
#include "control/worker_link.h"

namespace pixii::control {

/// Names of calls; their messages are in wire/messages/. docs/formats/messages.md
inline constexpr std::string_view kGenerateMethod = "generate";
inline constexpr std::string_view kReportMethod = "report";
inline constexpr std::string_view kMemoryMethod = "memory";
inline constexpr std::string_view kClearCacheMethod = "clear_cache";
inline constexpr std::string_view kLoadAdapterMethod = "load_adapter";
inline constexpr std::string_view kUnloadAdapterMethod = "unload_adapter";
inline constexpr std::string_view kModelFilesMethod = "model_files";

class RemoteLink final : public WorkerLink {
 public:
  enum class State : std::uint8_t {
    kAway,  // no connection, or the worker has not said what it is
    kHere,
  };

  /// `card`: as discovery knows it, until the worker says more. `on_change` hears that state, card
  /// or load changed; it may not destroy the link. All outlive the link.
  RemoteLink(rt::Loop& loop, rt::Net& net, MuxClientOptions options, wire::ModelCard card,
             std::function<void()> on_change);

  const wire::ModelCard& card() const override { return card_; }

  Result<void> Generate(wire::GenerateRequest request, FrameHandler on_frame) override;
  void Cancel(const wire::CancelRequest& cancel) override;
  void ReleaseMemory(const MemoryTags& tags, rt::Duration patience, MemoryHandler on_done) override;
  void ResumeMemory(const MemoryTags& tags, MemoryHandler on_done) override;
  void ClearCache(MemoryHandler on_done) override;

  WorkerLoad load() const override { return load_; }

  void LoadAdapter(wire::LoadAdapterRequest request, AdapterHandler on_done) override;
  void UnloadAdapter(std::string name, AdapterHandler on_done) override;

  using FilesHandler = std::function<void(Result<wire::ModelFiles>)>;

  /// The files that a frontend needs of the model. Errors: kUnsupported, kDisconnected.
  void FetchFiles(FilesHandler on_done);

  State state() const { return state_; }

  /// Why it is away, for logs.
  const std::string& trouble() const { return client_.trouble(); }

  std::size_t outstanding_count() const { return requests_.size(); }

 private:
  struct Outstanding {
    MuxClient::CallKey call{};
    FrameHandler on_frame;
    std::vector<bool> ended;
    std::uint32_t live_choices = 0;
  };

  void OnConnected(bool connected);
  void OnReport(const std::string& message);
  void OnFrame(RequestId id, const std::string& message);
  void EndAll(RequestId id, const Error& error);
  template <class Message>
  void CallForOne(std::string_view method, std::string message,
                  std::function<void(Result<Message>)> on_done);
  void CallForNothing(std::string_view method, std::string message, MemoryHandler on_done);

  std::function<void()> on_change_;
  wire::ModelCard card_;
  WorkerLoad load_;
  State state_ = State::kAway;
  std::unordered_map<RequestId, std::shared_ptr<Outstanding>> requests_;
  MuxClient client_;  // last: its handlers use what stands above
};

}  // namespace pixii::control
