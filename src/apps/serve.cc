#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <optional>
#include <string_view>
#include <utility>

#include "apps/command.h"
#include "apps/logits_processors.h"
#include "apps/mock_engine.h"
#include "apps/model_host.h"
#include "apps/model_source.h"
#include "apps/option_structs.h"
#include "apps/record_writer.h"
#include "apps/version.h"
#include "engine/engine_loop.h"
#include "frontend/frontend.h"
#include "frontend/grpc_server.h"
#include "obs/log.h"
#include "obs/metrics.h"
#include "rt/file.h"
#include "rt/loop.h"
#include "rt/net.h"
#include "rt/process.h"
#include "rt/thread.h"
#include "rt/tls.h"
#include "rt/work_pool.h"
#include "worker/local_link.h"

namespace pixii::apps {

namespace {

constexpr std::uint64_t kKeyFileSizeMax = 1 << 20;  // bytes
constexpr rt::Duration kReadyPoll = std::chrono::milliseconds(2);
constexpr rt::Duration kReadyPatience = std::chrono::seconds(5);  // then the log says what is wrong
constexpr rt::Duration kLoadingPeriod = std::chrono::seconds(1);

obs::Severity SeverityOf(const std::string& word) {
  return word == "debug"  ? obs::Severity::kDebug
         : word == "info" ? obs::Severity::kInfo
         : word == "warn" ? obs::Severity::kWarn
         : word == "off"  ? obs::Severity::kOff
                          : obs::Severity::kError;
}

frontend::FrontendOptions MakeFrontendOptions(const ServeFlags& flags, bool adapter_api) {
  frontend::FrontendOptions options;
  options.http.limits.body_bytes_max = static_cast<std::uint64_t>(flags.body_limit);
  options.http.connections_max = static_cast<std::uint32_t>(flags.max_connections);
  options.generations_max = static_cast<std::uint32_t>(flags.max_requests);
  options.adapter_api = adapter_api;
  options.engine_control = flags.engine_control;
  options.keep_alive_interval = rt::Duration(std::chrono::nanoseconds(flags.keep_alive_interval));
  options.stream_timeout = rt::Duration(std::chrono::nanoseconds(flags.stream_timeout));
  if (flags.overload_status >= 200 && flags.overload_status <= 999) {
    options.overload_status = static_cast<int>(flags.overload_status);
  }
  options.admin_api = !flags.disable_admin_api;
  options.rules = {.ignore_unknown = flags.ignore_unsupported_fields,
                   .ignore_nvext = flags.disable_nvext,
                   .force_usage = flags.force_include_usage};
  options.anthropic_api = flags.anthropic_api;
  options.anthropic.strip_preamble = flags.strip_anthropic_preamble;
  options.responses = {
      .count_max = static_cast<std::uint32_t>(flags.response_store_count),
      .bytes_max = static_cast<std::uint64_t>(flags.response_store_size),
      .lifetime = rt::Duration(std::chrono::nanoseconds(flags.response_store_time))};
  options.files.folder = flags.file_dir;
  options.files.bytes_max = static_cast<std::uint64_t>(flags.file_store_size);
  options.files.tenant_bytes_max = static_cast<std::uint64_t>(flags.file_tenant_size);
  options.files.lifetime_seconds =
      std::chrono::floor<std::chrono::seconds>(std::chrono::nanoseconds(flags.file_time)).count();
  options.batches.lines_running_max = static_cast<std::uint32_t>(flags.batch_lines);
  options.text_threads = 1;  // long prompts are tokenized off the loop
  return options;
}

// "chat,kserve" as names, each of which is one.
Result<std::vector<std::string>> ReadEndpoints(std::string_view list) {
  std::vector<std::string> out;
  const std::vector<std::string_view> known = frontend::Frontend::EndpointNames();
  while (!list.empty()) {
    const std::size_t end = std::min(list.find(','), list.size());
    const std::string_view name = list.substr(0, end);
    list.remove_prefix(std::min(end + 1, list.size()));
    if (std::ranges::find(known, name) == known.end()) {
      return Fail(
          Code::kInvalidArgument,
          fmt::format("disable-endpoints: \"{}\" is none of {}", name, fmt::join(known, ", ")),
          "disable-endpoints");
    }
    out.emplace_back(name);
  }
  return out;
}

// Everything a server is made of, built in the order it is used and taken down in the reverse.
class Server final {
 public:
  Server(ServeFlags serve, EngineFlags engine)
      : flags_(std::move(serve)),
        engine_flags_(std::move(engine)),
        registry_(flags_.metrics_prefix) {}

  Result<int> Run(const std::string& model) {
    PX_TRY(loop_, rt::MakeLoop());
    net_ = rt::MakeNet(*loop_);
    PX_TRY(address_, ListenAddress());
    PX_CHECK_OK(UseTls());
    obs::LogOptions log_options{
        .severity_min = SeverityOf(flags_.log_level),
        .format = flags_.log_format == "json" ? obs::LogFormat::kJson : obs::LogFormat::kLogfmt};
    log_.emplace(log_options, [this] { return loop_->WallNow(); }, obs::StderrSink());
    // Before any other thread: they inherit the mask.
    PX_TRY(signals_, rt::WatchSignals(*loop_, {SIGTERM, SIGINT, SIGUSR1, SIGHUP},
                                      [this](int signal) { OnSignal(signal); }));
    PX_CHECK_OK(ReadKeys());
    PX_CHECK_OK(ReadEndpoints(flags_.disable_endpoints));
    PX_CHECK_OK(Load(model));
    PX_CHECK_OK(Listen());
    loop_->Spawn(AnnounceWhenReady());
    registry_.OnExpose([this] { ExportEngineLoad(); });
    loop_->Run();
    StopEngine();
    obs::Event(*log_, obs::EventId::kServeStopped).kv("cancelled", cancelled_at_end_);
    return exit_;
  }

 private:
  // Before the model, as the keys: a wrong file is said at once.
  Result<void> UseTls() {
    if (flags_.tls_cert.empty() != flags_.tls_key.empty()) {
      const char* missing = flags_.tls_key.empty() ? "tls-key" : "tls-cert";
      return Fail(
          Code::kInvalidArgument,
          fmt::format("{}: tls-cert and tls-key belong together, and it is not given", missing),
          missing);
    }
    if (flags_.tls_cert.empty()) {
      if (!flags_.tls_client_ca.empty()) {
        return Fail(Code::kInvalidArgument, "tls-client-ca: needs tls-cert and tls-key",
                    "tls-client-ca");
      }
      return {};
    }
    PX_TRY(tls_->context, rt::TlsContext::ForServer(TlsFiles()));
    plain_net_ = std::move(net_);
    net_ = rt::MakeTlsNet(*loop_, *plain_net_, std::shared_ptr<const rt::TlsSlot>(tls_), nullptr);
    return {};
  }

  rt::TlsFiles TlsFiles() const {
    return {
        .certificate = flags_.tls_cert, .key = flags_.tls_key, .authorities = flags_.tls_client_ca};
  }

  /// What SIGHUP reads anew, on a thread.
  struct Reloaded {
    std::optional<Result<frontend::ApiKeys>> keys;
    std::optional<Result<std::shared_ptr<const rt::TlsContext>>> tls;
  };

  void Reload() {
    auto fresh = std::make_shared<Reloaded>();
    const bool taken = reload_pool_->Submit(
        [fresh, file = flags_.api_key_file, tls = TlsFiles()] {
          if (!file.empty()) {
            Result<std::string> text = rt::ReadFile(file, kKeyFileSizeMax);
            fresh->keys = text ? frontend::ApiKeys::Parse(*text)
                               : Result<frontend::ApiKeys>(Fail(text.error()));
          }
          if (!tls.certificate.empty()) {
            fresh->tls = rt::TlsContext::ForServer(tls);
          }
        },
        [this, fresh] { UseReloaded(*fresh); });
    if (!taken) {
      obs::Event(*log_, obs::EventId::kServeReloadFailed).kv("why", "it is read already");
    }
  }

  // Each file for itself: a broken one leaves what it is for as it was.
  void UseReloaded(Reloaded& fresh) {
    const auto say = [this](std::string_view what, const Error* error) {
      if (error == nullptr) {
        obs::Event(*log_, obs::EventId::kServeReloaded).kv("what", what);
      } else {
        obs::Event(*log_, obs::EventId::kServeReloadFailed)
            .kv("what", what)
            .kv("why", error->ToString());
      }
    };
    if (fresh.keys) {
      say("api-key-file", *fresh.keys ? nullptr : &fresh.keys->error());
      if (*fresh.keys && frontend_) {
        frontend_->UseKeys(std::move(**fresh.keys));
      }
    }
    if (fresh.tls) {
      say("tls-cert", *fresh.tls ? nullptr : &fresh.tls->error());
      if (*fresh.tls) {
        tls_->context = **fresh.tls;
      }
    }
  }

  /// Where --listen or --host and --port say.
  Result<rt::Address> ListenAddress() const {
    if (flags_.listen.empty()) {
      return rt::Address{.host = flags_.host, .port = static_cast<std::uint16_t>(flags_.port)};
    }
    if (!flags_.listen.starts_with("unix:")) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("listen: \"{}\" must begin with unix:; --host and --port name a TCP "
                              "address",
                              flags_.listen),
                  "listen");
    }
    return rt::Address{.host = flags_.listen, .port = 0};
  }

  // Before the model: a wrong file is said at once.
  Result<void> ReadKeys() {
    if (!flags_.api_key_file.empty()) {
      PX_TRY(std::string text, rt::ReadFile(flags_.api_key_file, kKeyFileSizeMax));
      PX_TRY(keys_, frontend::ApiKeys::Parse(text));
    }
    return {};
  }

  Result<void> Load(const std::string& model) {
    rt::Time began = loop_->Now();
    loading_said_ = began;
    PX_TRY(std::string asked, WithRevision(model));
    PX_TRY(ModelSource source, ResolveModel(asked, flags_.offline));
    obs::Event(*log_, obs::EventId::kServeStarting)
        .kv("model", source.folder)
        .kv("version", kVersion)
        .kv("commit", kCommit);
    PX_CHECK_OK(LoadHost(source.folder));
    name_ = flags_.served_model_name.empty() ? source.name : flags_.served_model_name;
    PX_TRY(frontend::ServedModel served, LoadTexts(source.folder));
    if (served.text) {
      PX_TRY(served.chat, frontend::MakeChatAnswers(AnswerOptions(), *served.text));
    }
    served.created = loop_->WallNow().unix_seconds;
    PX_CHECK_OK(AddTestProcessor(host_->spec().eos_token_ids, host_->processors(), served));
    host_->UseGrammars(served.grammars);
    served_ = std::move(served);
    PX_TRY(std::unique_ptr<engine::Engine> engine, host_->MakeEngine());
    PX_TRY(engine_loop_, rt::MakeLoop());
    engine_.emplace(*engine_loop_, std::move(engine));
    worker::LocalLinkOptions link_options;
    link_options.name = name_;
    link_options.eos_token_ids = host_->spec().eos_token_ids;
    link_options.on_state = [this](engine::EngineState state) { SaySleep(state); };
    link_options.bos_token_id = host_->spec().bos_token_id;
    link_options.adapters = host_->MakeAdapterLink();
    if (link_options.adapters.read) {
      link_options.adapters.read = Logged(std::move(link_options.adapters.read));
    }
    link_.emplace(*loop_, *engine_, std::move(link_options));
    PX_CHECK_OK(CheckAdapterNames());
    const wire::ModelCard& card = link_->card();
    obs::Event(*log_, obs::EventId::kModelLoaded)
        .kv("architecture", host_->spec().architecture)
        .kv("parameters", host_->spec().parameter_count)
        .kv("numerics_id", host_->numerics_id())
        .kv("context_tokens", card.context_tokens_max)
        .kv("kv_blocks", card.block_count)
        .kv("seconds", std::chrono::duration<double>(loop_->Now() - began).count());
    return {};
  }

  Result<void> LoadHost(const std::string& folder) {
    PX_TRY(const std::optional<engine::MockOptions> mock, MockOptionsOf(flags_, engine_flags_));
    if (mock) {
      obs::Event(*log_, obs::EventId::kEngineMocked).kv("model", folder);
      PX_TRY(host_, ModelHost::LoadMock(folder, engine_flags_, *mock));
      return {};
    }
    PX_TRY(host_,
           ModelHost::Load(folder, engine_flags_, [this](double done) { SayLoading(done); }));
    return {};
  }

  frontend::ChatAnswerOptions AnswerOptions() const {
    return {.tool_call_parser = flags_.tool_call_parser,
            .reasoning_parser = flags_.reasoning_parser,
            .reasoning_field = flags_.reasoning_field_name,
            .exclude_tools_when_none = flags_.exclude_tools,
            .tool_call_dispatch = flags_.tool_call_dispatch,
            .reasoning_dispatch = flags_.reasoning_dispatch};
  }

  // At most once a second: small models are there before anybody could read it.
  void SayLoading(double done) {
    const rt::Time now = loop_->Now();
    if (now - loading_said_ < kLoadingPeriod) {
      return;
    }
    loading_said_ = now;
    obs::Event(*log_, obs::EventId::kModelLoading).kv("percent", static_cast<int>(done * 100));
  }

  Result<std::string> WithRevision(const std::string& model) const {
    if (flags_.revision.empty()) {
      return model;
    }
    if (model.find('@') != std::string::npos) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("revision: \"{}\" names one already, --revision {} is a second",
                              model, flags_.revision),
                  "revision");
    }
    return fmt::format("{}@{}", model, flags_.revision);
  }

  // Tokenizer and template of the model, or those that --tokenizer names.
  Result<frontend::ServedModel> LoadTexts(const std::string& model_folder) const {
    if (flags_.tokenizer.empty()) {
      return LoadServedModel(model_folder, host_->spec(), name_);
    }
    PX_TRY(ModelSource source, ResolveModel(flags_.tokenizer, flags_.offline));
    PX_TRY(frontend::ServedModel served, LoadServedModel(source.folder, host_->spec(), name_));
    if (!served.text) {
      return Fail(Code::kNotFound,
                  fmt::format("tokenizer: {} has no tokenizer.json", source.folder), "tokenizer");
    }
    return served;
  }

  /// Said by whichever thread reads.
  worker::AdapterLinkOptions::Reader Logged(worker::AdapterLinkOptions::Reader read) {
    return [this, read = std::move(read)](const std::string& source) {
      auto weights = read(source);
      if (weights) {
        obs::Event(*log_, obs::EventId::kAdapterRead)
            .kv("source", source)
            .kv("bytes", (*weights)->size_bytes());
      } else {
        obs::Event(*log_, obs::EventId::kAdapterRefused)
            .kv("source", source)
            .kv("why", weights.error().ToString());
      }
      return weights;
    };
  }

  // Such an adapter could never be asked for.
  Result<void> CheckAdapterNames() const {
    const auto& adapters = link_->card().adapters;
    const auto found = std::ranges::find(adapters, name_, &wire::AdapterCard::name);
    if (found == adapters.end()) {
      return {};
    }
    const std::string flag = found->is_loaded() ? "lora" : "lora-dir";
    return Fail(Code::kInvalidArgument,
                fmt::format("{}: the adapter {} in {} has the model's own name; rename it, or give "
                            "the model another with --served-model-name",
                            flag, name_, found->source),
                flag);
  }

  Result<void> Listen() {
    frontend::FrontendEnvironment environment{
        .loop = *loop_, .net = *net_, .link = *link_, .registry = &registry_, .record = {}};
    if (!flags_.record.empty()) {
      PX_TRY(recorder_, RecordWriter::Create(
                            flags_.record, static_cast<std::uint64_t>(flags_.record_limit), *log_));
      environment.record = [this](frontend::RequestRecord record) {
        recorder_->Take(std::move(record));
      };
    }
    frontend::FrontendOptions options = MakeFrontendOptions(flags_, engine_flags_.enable_lora);
    PX_TRY(options.disabled_endpoints, ReadEndpoints(flags_.disable_endpoints));
    frontend_.emplace(environment, options, std::move(*served_), std::move(keys_));
    PX_TRY(address_, frontend_->Start(address_));
    PX_CHECK_OK(ListenGrpc());
    reload_pool_ = std::make_unique<rt::WorkPool>(*loop_, "reload", 1, 1);
    engine_thread_ = rt::Thread("engine", [this] { engine_loop_->Run(); });
    return {};
  }

  Result<void> ListenGrpc() {
    if (!flags_.grpc) {
      return {};
    }
    PX_TRY(frontend::GrpcLibrary library, frontend::LoadGrpcLibrary({}));
    frontend::GrpcOptions options;
    options.host = flags_.host;
    options.port = static_cast<std::uint16_t>(flags_.grpc_port);
    options.message_bytes_max = static_cast<std::uint32_t>(flags_.body_limit);
    options.calls_max = static_cast<std::uint32_t>(flags_.max_requests);
    for (const auto& [path, content] : {std::pair(&flags_.tls_cert, &options.certificate),
                                        std::pair(&flags_.tls_key, &options.key),
                                        std::pair(&flags_.tls_client_ca, &options.authorities)}) {
      if (!path->empty()) {
        PX_TRY(*content, rt::ReadFile(*path, kKeyFileSizeMax));
      }
    }
    PX_TRY(grpc_,
           frontend::GrpcServer::Start(*loop_, frontend_->handler(), std::move(library), options));
    return {};
  }

  // A request that the model answers: path and body.
  std::pair<std::string_view, std::string_view> Example() const {
    switch (link_->card().task) {
      case wire::ModelTask::kEmbed:
        return {"/v1/embeddings", R"({"input": "What is 17 + 25?"})"};
      case wire::ModelTask::kClassify:
        return link_->card().feature_count == 1
                   ? std::pair<std::string_view, std::string_view>(
                         "/v1/rerank",
                         R"({"query": "What is 17 + 25?", "documents": ["42", "a fish"]})")
                   : std::pair<std::string_view, std::string_view>(
                         "/classify", R"({"input": "What is 17 + 25?"})");
      case wire::ModelTask::kGenerate:
        break;
    }
    return {"/v1/chat/completions",
            R"({"messages": [{"role": "user", "content": "What is 17 + 25?"}]})"};
  }

  static Result<void> WritePort(const std::string& path, std::uint16_t port) {
    return path.empty() ? Result<void>()
                        : rt::WriteFileAtomic(path, fmt::format("{}\n", port), 0644);
  }

  rt::Task<void> AnnounceWhenReady() {
    rt::Time complain_at = loop_->Now() + kReadyPatience;
    while (!frontend_->ready() && !draining_) {
      if (loop_->Now() >= complain_at) {
        obs::Event(*log_, obs::EventId::kReadinessLost).kv("why", frontend_->readiness());
        complain_at += kReadyPatience;
      }
      auto sleep = loop_->SleepFor(kReadyPoll);
      co_await std::move(sleep);
    }
    if (draining_) {
      co_return;
    }
    Result<void> written = WritePort(flags_.grpc_port_file, grpc_ ? grpc_->port() : 0);
    if (written) {
      written = WritePort(flags_.port_file, address_.port);
    }
    if (!written) {
      exit_ = Complain(written.error());  // whoever waits for the file must not wait for ever
      loop_->Stop();
      co_return;
    }
    obs::Event(*log_, obs::EventId::kServeReady)
        .kv("address", address_.ToString())
        .kv("model", name_);
    auto [path, body] = Example();
    const bool file = address_.host.starts_with("unix:");
    const std::string scheme = flags_.tls_cert.empty() ? "http" : "https";
    if (flags_.engine == "mock") {
      Say("The engine is a mock: its answers mean nothing.\n");
    }
    Say("pixii serves {} on {}{}\n\n"
        "curl {}{}://{}{} -H 'Content-Type: application/json' \\\n  -d '{}'\n",
        name_, file ? "" : scheme + "://", address_.ToString(),
        file ? fmt::format("--unix-socket {} ", address_.host.substr(5)) : "", scheme,
        file ? "localhost" : address_.ToString(), path, body);
    std::fflush(stdout);
  }

  // The engine's counters change on its own thread; the last step's figures come with its frames.
  void ExportEngineLoad() {
    using obs::MetricId;
    const engine::EngineLoad& load = link_->engine_load();
    auto total = [&](MetricId id, std::uint64_t value) {
      registry_.GetCounter(id, {name_}).SetTotal(value);
    };
    auto now = [&](MetricId id, double value) { registry_.GetGauge(id, {name_}).Set(value); };
    total(MetricId::kEngineStepsTotal, load.steps);
    total(MetricId::kEngineDecodeTokensTotal, load.engine.sampled_tokens);
    total(MetricId::kEnginePreemptionsTotal, load.scheduler.preemptions);
    total(MetricId::kEngineSwappedOutBlocksTotal, load.scheduler.swapped_out_blocks);
    total(MetricId::kEngineSwappedInBlocksTotal, load.scheduler.swapped_in_blocks);
    total(MetricId::kEngineSwapRefusalsTotal, load.scheduler.swap_refusals);
    total(MetricId::kEngineSwapFailuresTotal, load.scheduler.swap_failures);
    total(MetricId::kEnginePrefixWaitsTotal, load.scheduler.prefix_waits);
    total(MetricId::kEngineStepsAheadTotal, load.engine.steps_ahead);
    total(MetricId::kEngineRetriedChunksTotal, load.engine.retried_chunks);
    total(MetricId::kEngineExpiredRequestsTotal, load.engine.expired_requests);
    total(MetricId::kEnginePrefixHitTokensTotal, load.scheduler.cached_tokens);
    total(MetricId::kEngineDraftsTotal, load.engine.drafts);
    total(MetricId::kEngineDraftedTokensTotal, load.engine.drafted_tokens);
    total(MetricId::kEngineAcceptedTokensTotal, load.engine.accepted_tokens);
    now(MetricId::kEngineAsleep, load.state == engine::EngineState::kAsleep ? 1 : 0);
    total(MetricId::kEngineFaultsTotal, load.engine.failed_requests);
    total(MetricId::kAdapterEvictionsTotal, load.adapter_evictions);
    now(MetricId::kAdaptersLoaded, load.adapters_loaded);
    now(MetricId::kAdaptersResident, load.adapters_resident);
    total(MetricId::kKvEvictionsTotal, load.blocks.evictions);
    total(MetricId::kKvCollisionsTotal, load.blocks.collisions);
    now(MetricId::kEngineRunning, load.running);
    now(MetricId::kEngineWaiting, load.queued);
    now(MetricId::kEngineBlocksPinned, load.blocks_used);
    now(MetricId::kEngineBlocksCached, load.blocks_cached);
    now(MetricId::kEngineBlocksFree, load.blocks_total - load.blocks_used - load.blocks_cached);
    ExportProcessors();
    registry_.GetCounter(MetricId::kErrorEventsTotal).SetTotal(log_->error_count());
  }

  void SaySleep(engine::EngineState state) {
    using engine::EngineState;
    Result<rt::ProcessUsage> usage = rt::ReadProcessUsage();
    obs::Event(*log_, state == EngineState::kAwake    ? obs::EventId::kEngineAwake
                      : state == EngineState::kAsleep ? obs::EventId::kEngineAsleep
                                                      : obs::EventId::kEngineDraining)
        .kv("resident_bytes", usage ? usage->resident_bytes : 0);
  }

  void ExportProcessors() {
    using obs::MetricId;
    const engine::ProcessorSet& processors = host_->processors();
    for (std::size_t i = 0; i < processors.size(); ++i) {
      const engine::ProcessorCounters& counters = processors.counters(i);
      auto total = [&](MetricId id, std::uint64_t value) {
        registry_.GetCounter(id, {name_, processors.name(i)}).SetTotal(value);
      };
      total(MetricId::kLogitsProcessorRowsTotal, counters.rows.load(std::memory_order_relaxed));
      total(MetricId::kLogitsProcessorFailuresTotal,
            counters.failures.load(std::memory_order_relaxed));
      total(MetricId::kLogitsProcessorMicrosecondsTotal,
            counters.nanoseconds.load(std::memory_order_relaxed) / 1000);
    }
  }

  void OnSignal(int signal) {
    if (signal == SIGUSR1) {
      DumpState();
    } else if (signal == SIGHUP) {
      if (frontend_) {
        Reload();
      }
    } else if (!draining_ && frontend_) {
      draining_ = true;
      loop_->Spawn(DrainAndStop());
    } else {
      loop_->Stop();  // before there is anything to drain, or asked twice
    }
  }

  rt::Task<void> DrainAndStop() {
    obs::Event(*log_, obs::EventId::kServeDraining).kv("running", frontend_->generation_count());
    rt::Time deadline = loop_->Now() + rt::Duration(flags_.drain_timeout);
    if (grpc_) {
      grpc_->BeginDrain(deadline);
    }
    auto drain = frontend_->Drain(deadline);
    co_await std::move(drain);
    loop_->Stop();
  }

  void DumpState() {
    const engine::EngineLoad& load = link_->engine_load();
    obs::Event(*log_, obs::EventId::kStateDump)
        .kv("requests", frontend_->generation_count())
        .kv("connections", frontend_->connection_count())
        .kv("running", load.running)
        .kv("waiting", load.queued)
        .kv("blocks_pinned", load.blocks_used)
        .kv("blocks_cached", load.blocks_cached)
        .kv("blocks_total", load.blocks_total)
        .kv("steps", load.steps)
        .kv("preemptions", load.scheduler.preemptions);
  }

  void StopEngine() {
    cancelled_at_end_ = link_->outstanding_count();
    reload_pool_.reset();
    grpc_.reset();
    frontend_.reset();
    link_.reset();
    engine_loop_->Stop();
    engine_thread_.Join();
    engine_.reset();
    recorder_.reset();
  }

  ServeFlags flags_;
  EngineFlags engine_flags_;
  std::string name_;
  obs::Registry registry_;
  std::unique_ptr<rt::Loop> loop_;
  std::unique_ptr<rt::Net> plain_net_;  // below net_ if that is TLS
  std::unique_ptr<rt::Net> net_;
  const std::shared_ptr<rt::TlsSlot> tls_ = std::make_shared<rt::TlsSlot>();
  std::unique_ptr<rt::WorkPool> reload_pool_;
  std::optional<obs::Log> log_;
  std::unique_ptr<rt::SignalWatch> signals_;
  std::unique_ptr<ModelHost> host_;
  std::optional<frontend::ServedModel> served_;
  std::unique_ptr<rt::Loop> engine_loop_;
  std::optional<engine::EngineLoop> engine_;
  std::optional<worker::LocalLink> link_;
  std::optional<frontend::Frontend> frontend_;
  std::unique_ptr<frontend::GrpcServer> grpc_;  // asks the frontend
  std::unique_ptr<RecordWriter> recorder_;
  rt::Thread engine_thread_;
  rt::Address address_;  // asked for, then bound
  frontend::ApiKeys keys_;
  rt::Time loading_said_{};
  bool draining_ = false;
  int exit_ = kExitDone;
  std::size_t cancelled_at_end_ = 0;
};

}  // namespace

int RunServe(const Arguments& arguments) {
  ServeFlags serve;
  EngineFlags engine;
  config::Command command;
  command.name = "serve";
  command.summary = "Answers the OpenAI API with a model.";
  command.positionals = {
      {.name = "MODEL",
       .help = "folder, bundled name or org/name[@revision]; tiny-chat if none is given",
       .required = false,
       .repeated = false}};
  command.options = RowsOf(serve);
  for (config::Option& option : RowsOf(engine)) {
    command.options.push_back(std::move(option));
  }
  command.takes_engine_args = true;
  auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  Server server(std::move(serve), std::move(engine));
  Result<int> done = server.Run(parsed.positionals.empty() ? kBundledModel : parsed.positionals[0]);
  return done ? *done : Complain(done.error());
}

}  // namespace pixii::apps
