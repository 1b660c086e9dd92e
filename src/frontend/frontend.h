// The HTTP surface of served models: OpenAI's API, health, metrics. The app wires it and the
// simulator runs it. Models come and go while it runs.
//
// Thread: one loop. Several frontends on several loops can share a port and a worker link each.
// docs/subsystems/frontend.md, docs/api.md
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "control/worker_link.h"
#include "frontend/api_keys.h"
#include "frontend/batch_runner.h"
#include "frontend/cluster_view.h"
#include "frontend/exchange.h"
#include "frontend/file_store.h"
#include "frontend/frontend_metrics.h"
#include "frontend/generation.h"
#include "frontend/http_server.h"
#include "frontend/model_service.h"
#include "frontend/model_table.h"
#include "frontend/next_turns.h"
#include "frontend/options.h"
#include "frontend/pooling_plan.h"
#include "frontend/quota.h"
#include "frontend/receipt.h"
#include "frontend/request_trace.h"
#include "frontend/response_store.h"
#include "frontend/responses.h"
#include "frontend/served_model.h"
#include "obs/metrics.h"
#include "rt/loop.h"
#include "rt/net.h"
#include "rt/sync.h"
#include "rt/work_pool.h"

namespace pixii::frontend {

struct MediaJob;
class MediaMaker;
class MediaService;
struct MediaServiceOptions;

/// Whether a process whose requests come another way takes them.
struct SystemHealth {
  bool ready = false;
  std::string message;   // a sentence
  std::string endpoint;  // that it answers, or will
  rt::Duration uptime{};
};

/// What such a process shows in place of a frontend's own. The registry outlives the frontend.
struct SystemView {
  std::function<SystemHealth()> health;
  obs::Registry& registry;
};

/// What a frontend stands on; all outlive it.
struct FrontendEnvironment {
  rt::Loop& loop;
  rt::Net& net;
  obs::Registry* registry = nullptr;  // null: one of its own
  RecordSink record = {};             // empty: nobody records
  /// The workers that /health and /v1/cluster show; empty: it has none of other processes.
  std::function<std::vector<ShownInstance>()> instances = {};
  std::optional<SystemView> system = {};  // nothing: it is a frontend for clients
  TraceStore* traces = nullptr;           // null: one of its own
};

class Frontend final : private ExchangeHandler, private ServiceHost, private BatchHost {
 public:
  Frontend(FrontendEnvironment environment, const FrontendOptions& options, ApiKeys keys);
  /// Pre: the loop does not run any more, or Drain() has ended.
  ~Frontend() override;

  /// From now on requests that name `model` or one of its adapters go to `link`; those of a model
  /// that has one of its names do no more. Test requests begin at once; /ready says when one
  /// succeeded.
  ServiceId Serve(ServedModel model, std::shared_ptr<control::WorkerLink> link);
  /// `link` outlives the frontend.
  ServiceId Serve(ServedModel model, control::WorkerLink& link);

  /// From now on requests for videos and pictures go to `maker`. Pre: Start, with
  /// FrontendOptions::media_api. Blocks: at the start. Errors: those of the media folder.
  Result<void> ServeMedia(MediaServiceOptions options, std::unique_ptr<MediaMaker> maker);

  /// Takes nothing new for a model; what runs of it ends, then its link is let go. No effect if
  /// another one has taken its name.
  void Retire(ServiceId service);

  /// Models that are known and cannot serve yet, to why: a request for one is told so (503), not
  /// that there is no such model.
  void SetPending(std::map<std::string, std::string> pending) {
    models_.SetPending(std::move(pending));
  }

  /// Listens and returns the bound address.
  Result<rt::Address> Start(const rt::Address& address, const rt::ListenOptions& listen = {});

  /// What FrontendOptions::disabled_endpoints may name.
  static std::vector<std::string_view> EndpointNames();

  /// Takes requests that came another way than over its own port; gone with the frontend.
  ExchangeHandler& handler() { return *this; }

  /// Whether a model answers.
  bool ready();

  /// From now on these are the keys: whoever asked with one that is gone is still answered. Pre:
  /// the frontend was made with keys, and not for everybody.
  void UseKeys(ApiKeys keys);

  /// A sentence: ready, or what is in the way.
  std::string readiness();

  /// Takes no new generations (503 with Retry-After), lets running ones end until `deadline`, fails
  /// the rest with kShuttingDown, then closes every connection. Call once.
  rt::Task<void> Drain(rt::Time deadline);

  /// Generations and poolings whose client waits or whose engine work has not ended.
  std::size_t generation_count() const { return work_.size(); }

  std::size_t connection_count() const { return server_ ? server_->connection_count() : 0; }

  /// Of those, how many Drain did not let end by themselves.
  std::size_t cut_count() const { return cut_count_; }

  /// Requests for models that are served which their clients gave up.
  std::uint64_t cancelled_count() const;

 private:
  struct Route;

  /// One request below Handle.
  struct Call {
    Exchange& exchange;
    std::vector<wire::HttpField> fields = {};  // of its response: the client's x-request-id, ...
    const ApiKey* key = nullptr;               // null only on open routes
    QuotaTicket ticket = {};                   // once its key's limits let it in
    std::uint32_t retry_after_seconds = 0;     // with a refusal; 0: the option's
    const Route* route = nullptr;
    ModelService* service = nullptr;  // whose model it means, once that is known
    bool background = false;          // it has time: whatever clients wait for goes first
    bool ahead = false;               // nobody asked for it: a turn to come is prepared
    std::unique_ptr<RequestTrace> trace = nullptr;  // null: none is made
  };

  /// Who may use a route.
  enum class Access : std::uint8_t { kOpen, kKey, kAdmin };

  /// What the model must do for a route to make sense.
  enum class Needs : std::uint8_t { kNothing, kGenerate, kEmbed, kClassify, kScore };

  struct Route {
    std::string_view path;
    std::string_view method;
    void (Frontend::*handle)(Call&);
    std::string_view summary;
    Access access = Access::kKey;
    std::string_view parameter =
        {};  // name of what stands between `path` and `suffix`; empty: none
    std::string_view suffix = {};
    Dialect dialect = Dialect::kOpenAi;         // of refusals
    bool FrontendOptions::* enabled = nullptr;  // null: always; switched off it does not exist
    Needs needs = Needs::kNothing;              // for the list of routes
  };

  static const std::vector<Route>& Routes();

  // ExchangeHandler
  void Handle(Exchange& exchange) override;
  Response Refusal(const wire::HttpFault& fault) override;

  // Routes.
  void HandleChat(Call& call);
  void HandleCompletions(Call& call);
  void HandleEmbeddings(Call& call);
  void HandleScore(Call& call);
  void HandleRerank(Call& call);
  void HandleClassify(Call& call);
  void HandleMessages(Call& call);
  void HandleCountTokens(Call& call);
  void HandleResponses(Call& call);
  void HandleResponsesCount(Call& call);
  void HandleResponse(Call& call);
  void HandleDeleteResponse(Call& call);
  void HandleFiles(Call& call);
  void HandleUploadFile(Call& call);
  void HandleFile(Call& call);
  void HandleFileContent(Call& call);
  void HandleDeleteFile(Call& call);
  void HandleVideos(Call& call);
  void HandleVideoSync(Call& call);
  void HandleVideoGenerations(Call& call);
  void HandleImageAbsent(Call& call);
  void HandleCreateVideo(Call& call);
  void HandleVideo(Call& call);
  void HandleDeleteVideo(Call& call);
  void HandleDeleteImage(Call& call);
  void HandleVideoContent(Call& call);
  void HandleVideoAbsent(Call& call);
  void HandleImages(Call& call);
  void HandleImageContent(Call& call);
  void HandleBatches(Call& call);
  void HandleCreateBatch(Call& call);
  void HandleBatch(Call& call);
  void HandleCancelBatch(Call& call);
  void HandleGenerateTokens(Call& call);
  void HandleKserveServer(Call& call);
  void HandleKserveLive(Call& call);
  void HandleKserveReady(Call& call);
  void HandleKserveModel(Call& call);
  void HandleKserveModelReady(Call& call);
  void HandleKserveInfer(Call& call);
  void HandleKserveGenerate(Call& call);
  void HandleKserveStream(Call& call);
  void HandleOpenApi(Call& call);
  void HandleExplainRoute(Call& call);
  void HandleBusyThreshold(Call& call);
  void HandleSetBusyThreshold(Call& call);
  Result<control::CacheDepth> ReadCacheDepth(const Call& call) const;
  void HandleClearCache(Call& call);
  void HandleModels(Call& call);
  void HandleModel(Call& call);
  void HandleAdapters(Call& call);
  void HandleLoadAdapter(Call& call);
  void HandleDeleteAdapter(Call& call);
  void HandleLoadLoraAdapter(Call& call);
  void HandleUnloadLoraAdapter(Call& call);
  void HandleTokenize(Call& call);
  void HandleDetokenize(Call& call);
  void HandleReleaseMemory(Call& call);
  void HandleResumeMemory(Call& call);
  void HandleClearBlocks(Call& call);
  void HandleHealth(Call& call);
  void HandleLive(Call& call);
  void HandleReady(Call& call);
  void HandleMetrics(Call& call);
  void HandleTrace(Call& call);
  void HandleEndedRequests(Call& call);
  void HandleCluster(Call& call);
  void HandlePage(Call& call);

  /// A request that waits for the disk.
  struct Waiting;
  std::shared_ptr<Waiting> Wait(Call& call);
  void AnswerLater(Waiting& waiting, Result<std::string> body);
  using FileAnswer =
      std::function<Response(const std::string& bytes, const wire::HttpRequest& request)>;
  void AnswerFile(Waiting& waiting, const Result<BlobStore::Bytes>& bytes,
                  const FileAnswer& answer);
  Result<StoredFile> ReadUpload(const Call& call, std::string& content);
  static Result<void> CheckOrigin(const wire::HttpRequest& request);

  /// A request that waits for a video or pictures.
  struct MediaWaiting;
  Result<wire::Json> ReadMediaBody(const Call& call) const;
  /// How a request that makes something is answered.
  enum class MediaAnswer : std::uint8_t {
    kAsAsked,  // with the job, or as Dynamo does if the body has one of its fields
    kJson,     // as Dynamo does
    kFile,     // with the file itself, unless response_format is there
  };
  void CreateMedia(Call& call, wire::MediaKind kind, MediaAnswer answer);
  void OnMediaEnded(const std::shared_ptr<MediaWaiting>& waiting, const MediaJob& job);
  void SendBareMedia(const std::shared_ptr<MediaWaiting>& waiting, const MediaJob& job,
                     const std::string& bytes);
  void AddMediaFile(const std::shared_ptr<MediaWaiting>& waiting, const MediaJob& job);
  void SendMediaFile(Call& call, wire::MediaKind kind, std::size_t index);
  void DeleteMedia(Call& call, wire::MediaKind kind);
  Result<void> CheckMedia(const Call& call) const;
  /// The caller's job of the route's id. Errors: kNotFound; those of CheckMedia.
  Result<const MediaJob*> FindMedia(const Call& call, wire::MediaKind kind) const;
  Error MediaOnly() const;

  std::int64_t UnixNow() const { return environment_.loop.WallNow().unix_seconds; }

  Result<void> OpenFiles();
  void WarmUp(const ServedModel& model);

  // BatchHost
  void RunLine(Exchange& exchange, const std::string& owner) override;
  void RunLocal(Call& call, const std::string& owner);
  void Offload(std::function<void()> work, std::function<void()> done) override;

  std::string NewLineId() override { return NewId("batch_req_"); }

  bool TakesLines() const override { return !draining_; }

  /// A request that waits for the worker to give its memory back or to take it.
  struct MemoryJob;
  Result<wire::Json> ReadControlBody(const Call& call) const;
  using MemoryCall =
      std::function<void(control::WorkerLink& link, control::WorkerLink::MemoryHandler on_done)>;

  /// What a job that was done is answered with.
  struct ControlDone {
    std::string_view status;
    std::string_view message;
  };

  void ControlMemory(Call& call, std::string_view model, ControlDone done, const MemoryCall& ask);

  /// A request that waits for the worker to load or unload an adapter.
  struct AdapterJob;
  using AdapterAnswer = Response (*)(const wire::AdapterCard& card);

  /// Those that are not switched off.
  static std::vector<const Route*> ServedRoutes(const FrontendOptions& options);
  bool Matches(const Route& route, const wire::HttpRequest& request) const;
  bool Answers(const Route& route) const;
  static bool Answers(const ModelService& service, Needs needs);
  /// What stands in a path for the route's parameter, not decoded.
  static std::string_view ParameterOf(const Route& route, const wire::HttpRequest& request);
  std::string AllowedMethods(const wire::HttpRequest& request) const;
  Result<void> CheckAdapterApi() const;
  Result<wire::LoadAdapterRequest> ReadLoadRequest(Call& call, bool dynamo) const;
  void LoadAdapter(Call& call, bool dynamo, AdapterAnswer answer);
  void UnloadAdapter(Call& call, Result<std::string> name, AdapterAnswer answer);
  control::WorkerLink::AdapterHandler MakeAdapterHandler(Call& call, AdapterAnswer answer);

  /// A request whose prompt is parsed and tokenized on another thread.
  struct Preparation;

  /// What reads a body, on any thread; nothing it uses changes.
  /// `abandoned`: nobody waits for it any more.
  using BodyReader =
      std::function<void(const std::string& body, const ServedModel& model,
                         const wire::ModelCard& card, std::function<bool()> abandoned)>;
  /// What goes on with the call behind it, or with why nothing was read.
  using AfterBody = std::function<void(Call& call, Result<void> read)>;

  /// Makes the common request of a body, on any thread.
  using SurfaceReader = std::function<Result<SurfaceRequest>(const wire::Json& body)>;

  /// What is done with a request that was read.
  using PlanUse = void (Frontend::*)(Call& call, Surface surface, bool stream,
                                     Result<GenerationPlan> plan);

  void Generate(Call& call, Surface surface, SurfaceReader reader, PlanUse use = &Frontend::Begin);
  Result<void> Complete(const Call& call, GenerationPlan& plan) const;
  void Explain(Call& call, Surface surface, bool stream, Result<GenerationPlan> plan);
  void AnswerQuery(Call& call, Surface surface, const GenerationPlan& plan);
  struct HandedOver;
  void HandOver(Call& call, Surface surface, const GenerationPlan& plan);
  Result<std::string> KserveModel(Call& call) const;
  void GenerateKserve(Call& call, bool stream);
  Result<ResponsesContext> MakeResponsesContext(const Call& call);
  Result<std::string> CountTokens(const Call& call, const OpenAiRequest& request,
                                  std::string_view opening) const;
  Result<ModelService*> ChooseModel(const Call& call) const;
  void Pool(Call& call, Surface surface);
  Result<void> Admit(Call& call);
  Result<void> AdmitByQuota(Call& call);
  void CountRejection(const Call& call, Surface surface);
  static std::string BusyThreshold(std::string_view model,
                                   const control::BusyThresholds& thresholds);
  Result<void> CheckMayUse(const Call& call, const std::string& adapter) const;

  /// What a request names.
  struct Named {
    ModelService* service;
    const wire::AdapterCard* adapter;  // null: the model itself
  };

  Result<Named> FindAllowed(const Call& call, std::string_view name) const;
  /// `ahead`: as GenerationRecord.
  void Take(ModelService& service, std::unique_ptr<ClientWork> work, bool ahead = false);
  void Prepare(Call& call, Surface surface, BodyReader reader, AfterBody after);
  void PrepareOnThread(Call& call, Surface surface, BodyReader reader, AfterBody after,
                       rt::WorkPool& pool);
  void Begin(Call& call, Surface surface, bool stream, Result<GenerationPlan> plan);
  void BeginPooling(Call& call, Surface surface, Result<PoolingPlan> plan);
  void RefuseWork(Call& call, Surface surface, bool stream, const Error& error);
  std::string NewId(std::string_view prefix);
  static std::int32_t PriorityOf(std::int32_t asked, bool background);

  std::size_t admitted_count() const { return work_.size() - done_.size() + preparing_count_; }

  Result<std::string> Tokenize(const Call& call);
  Result<std::string> Detokenize(const Call& call);
  Result<wire::Json> ParseBody(const wire::HttpRequest& request) const;
  void Answer(Call& call, Result<std::string> body);
  /// That the `object` ("file", "response") named `id` is gone.
  void AnswerDeleted(Call& call, std::string_view object, std::string_view id);
  void Refuse(Call& call, const Error& error);
  /// What clients may ask of it, by the first of its routes.
  static std::string_view TaskName(const wire::ModelCard& card, const ServedModel& model);
  static std::string ModelObject(const ModelService& service);
  static std::string AdapterObject(const ModelService& service, const wire::AdapterCard& card);
  static std::string SystemHealthBody(const SystemHealth& health);
  std::string HealthBody(bool healthy, std::string_view status, std::string_view message) const;

  // ServiceHost
  rt::Loop& loop() override { return environment_.loop; }

  const FrontendOptions& options() const override { return options_; }

  bool draining() const override { return draining_; }

  RequestId NextRequestId() override { return RequestId{++last_request_id_}; }

  void OnTraced(std::unique_ptr<RequestTrace> trace) override;

  void BeginTrace(Call& call, Surface surface);
  void KeepForTrace(Call& call, GenerationPlan& plan) const;
  void RunAhead(Exchange& exchange, const std::string& owner);

  void OnRecorded(RequestRecord record) override { environment_.record(std::move(record)); }

  void OnDone(ClientWork& work) override;

  rt::Time Now() const { return environment_.loop.Now(); }

  rt::Duration TickInterval() const;
  rt::Task<void> TickLoop();
  rt::Task<void> ReapLoop();

  /// What runs, and whose it is.
  struct Work {
    std::unique_ptr<ClientWork> work;
    ModelService* service;  // held
  };

  FrontendEnvironment environment_;
  FrontendOptions options_;
  std::vector<const Route*> routes_;
  std::shared_ptr<const ApiKeys> keys_;
  QuotaLedger quotas_;
  std::shared_ptr<ResponseStore> responses_;
  obs::Registry own_registry_;  // used if the environment has none
  obs::Registry& registry_;     // that one, or the environment's
  TraceStore own_traces_;       // used if the environment has none
  TraceStore& traces_;          // that one, or the environment's
  NextTurns next_turns_;
  std::uint64_t trace_count_ = 0;
  std::uint64_t trace_origin_ = 0;  // random: no other process has it
  ModelTable models_;
  std::uint64_t last_service_id_ = 0;
  std::unordered_map<ClientWork*, Work> work_;
  std::vector<ClientWork*> done_;
  std::uint64_t last_request_id_;
  std::size_t preparing_count_ = 0;
  bool draining_ = false;
  bool ever_ready_ = false;  // some model has answered
  std::size_t cut_count_ = 0;
  rt::WaitList reap_;
  rt::WaitList idle_;
  std::unique_ptr<FileStore> files_;  // from Start on, as what follows
  std::unique_ptr<BatchRunner> batches_;
  std::unique_ptr<MediaService> media_;  // null: nobody makes videos here
  std::unique_ptr<HttpServer> server_;
  std::shared_ptr<std::atomic<bool>> closing_ = std::make_shared<std::atomic<bool>>(false);
  std::unique_ptr<rt::WorkPool> media_pool_;       // of requests that may show pictures; null: none
  std::unique_ptr<rt::WorkPool> media_wait_pool_;  // of those whose pictures others have to send
  std::unique_ptr<rt::WorkPool> pool_;             // null: none
  rt::SpawnedTasks tasks_;                         // last: their frames use what stands above
};

}  // namespace pixii::frontend
