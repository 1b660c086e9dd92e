// An outside engine, reached over HTTP, as a WorkerLink.
//
// Thread: one loop. docs/attached_engines.md says which promises hold behind which engine.
// Each choice is one streamed request of its own, so that it can be ended by closing its
// connection. Whatever the engine does (hangs, refuses, breaks off, says nonsense, ends twice),
// each choice ends exactly once.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "control/http_call.h"
#include "control/worker_link.h"
#include "control/zmq_kv_source.h"
#include "rt/loop.h"
#include "rt/net.h"
#include "worker/engine_dialect.h"
#include "worker/engine_handover.h"
#include "worker/engine_load.h"
#include "worker/trtllm_kv_reader.h"

namespace pixii::worker {

/// Its part in requests that two engines answer.
struct AttachedRole {
  bool prefills = false;  // else it decodes, or answers whole requests
  std::string key;        // the cluster's secret; empty: it hands nothing over and takes nothing
  BootstrapPlace bootstrap = {};  // of a prefill engine of SGLang's
};

struct AttachedOptions {
  rt::Address address;
  std::string host;         // as the engine knows itself; empty: the address
  std::string path_prefix;  // before every path, "/base"; empty: none
  std::string api_key;      // sent as a bearer token; empty: none
  EngineDialect dialect;
  AttachedRole role = {};
  wire::ModelCard card;
  std::vector<control::ZmqKvSourceOptions> kv_events;  // one of each rank
  bool drains_kv_events = false;                       // asks POST /kv_cache_events
  std::uint32_t outstanding_max = 4096;                // choices
  rt::Duration connect_timeout = std::chrono::seconds(5);
  rt::Duration silence_max = std::chrono::seconds(120);  // of the engine while a choice runs
  rt::Duration load_period = std::chrono::milliseconds(500);
  rt::Duration drain_period = std::chrono::milliseconds(200);
};

class AttachedLink final : public control::WorkerLink {
 public:
  /// Both outlive it. `net` is one of TLS if the engine is.
  AttachedLink(rt::Loop& loop, rt::Net& net, AttachedOptions options);

  AttachedLink(const AttachedLink&) = delete;
  AttachedLink& operator=(const AttachedLink&) = delete;
  /// Closes what runs; no handler is called any more.
  ~AttachedLink() override;

  const wire::ModelCard& card() const override { return options_.card; }

  /// Errors: also kUnsupported, naming what the engine cannot be told; kUnavailable while it does
  /// not answer.
  Result<void> Generate(wire::GenerateRequest request, FrameHandler on_frame) override;
  void Cancel(const wire::CancelRequest& cancel) override;
  void ClearCache(control::CacheDepth depth, MemoryHandler on_done) override;
  /// Away engines are kAsleep.
  control::WorkerLoad load() const override;
  Result<void> WatchKvEvents(KvEventHandler on_events) override;
  void LoadAdapter(wire::LoadAdapterRequest request, AdapterHandler on_done) override;
  void UnloadAdapter(std::string name, AdapterHandler on_done) override;

  /// New requests are refused with kShuttingDown.
  void Drain() { draining_ = true; }

  /// Ends what runs with `error`, later in the loop, and takes nothing more.
  void Close(const Error& error);

  std::size_t outstanding_count() const { return requests_.size(); }

  bool engine_is_here() const { return here_; }

 private:
  struct Outstanding;

  /// A choice under way; kept by its coroutine too.
  struct Choice {
    Choice(const EngineDialect& dialect, const wire::GenerateRequest& request, std::uint32_t index)
        : number(index), reader(dialect, request, index) {}

    std::uint32_t number;
    EngineAnswerReader reader;
    std::shared_ptr<Outstanding> request;
    control::HttpStream* stream = nullptr;  // while there is one
    bool ended = false;
    bool first_frame = true;
  };

  struct Outstanding {
    RequestId id{};
    FrameHandler on_frame;
    std::string adapter_version;
    rt::Time deadline = rt::kNever;
    std::vector<wire::HttpField> trace = {};  // fields by which the engine knows its trace
    bool wants_logprobs = false;
    std::vector<std::shared_ptr<Choice>> choices;
    std::size_t live_choices = 0;
    std::vector<std::string> words;  // [choice] of a prefill: what its engine said
    std::size_t words_missing = 0;
  };

  using ChoicePtr = std::shared_ptr<Choice>;

  control::HttpCall CallOf(std::string method, std::string_view target, std::string body) const;
  control::HttpCall CallOf(const Outstanding& request, EngineCall call) const;
  Result<std::string> AdapterVersionOf(const wire::GenerateRequest& request) const;
  Result<std::vector<EngineCall>> CallsOf(const wire::GenerateRequest& request) const;
  Result<std::vector<std::string>> WordsFor(const wire::GenerateRequest& request) const;
  bool Prefills(const wire::GenerateRequest& request) const;
  void StartPrefill(const std::shared_ptr<Outstanding>& outstanding,
                    const wire::GenerateRequest& request, std::vector<EngineCall> calls);
  rt::Task<void> RunPrefill(ChoicePtr choice, EngineCall call);
  void GiveHandover(const std::shared_ptr<Outstanding>& request);
  rt::Task<void> Run(ChoicePtr choice, EngineCall call);
  rt::Task<Result<void>> Stream(ChoicePtr choice, EngineCall call);
  rt::Task<Result<void>> ReadAnswer(ChoicePtr choice, control::HttpStream& stream);
  rt::Task<Error> ReadRefusal(control::HttpStream& stream, rt::Time deadline);
  void OnPiece(const ChoicePtr& choice, EnginePiece piece);
  void End(const ChoicePtr& choice, wire::FinishReason finish, std::optional<Error> error);
  void EndLater(const ChoicePtr& choice, wire::FinishReason finish, std::optional<Error> error);
  void Give(const ChoicePtr& choice, wire::TokenFrame frame);
  Error WhyEnded(const Choice& choice, const Error& error) const;
  rt::Task<void> LoadLoop();
  rt::Task<void> DrainLoop();
  rt::Task<void> ChangeAdapter(wire::AdapterCard card, bool load, AdapterHandler on_done);
  rt::Task<void> CallForNothing(control::HttpCall call, MemoryHandler on_done);
  void ForgetAdapter(std::string_view name);
  void Hear(std::vector<wire::KvEvent> events);

  rt::Loop& loop_;
  rt::Net& net_;
  AttachedOptions options_;
  HashKey key_;
  std::unordered_map<RequestId, std::shared_ptr<Outstanding>> requests_;
  std::uint32_t live_choices_ = 0;
  std::uint64_t events_ = 0;  // of the engine's answers, so far
  EngineLoad load_;
  bool here_ = true;
  std::uint32_t failed_polls_ = 0;
  bool draining_ = false;
  std::optional<Error> closed_;
  KvEventHandler on_kv_events_;
  std::uint32_t kv_watches_ = 0;
  TrtllmKvReader drained_;
  std::vector<std::unique_ptr<control::ZmqKvSource>> kv_sources_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // on the loop alone
  rt::SpawnedTasks tasks_;  // last: their frames use what stands above
};

}  // namespace pixii::worker
