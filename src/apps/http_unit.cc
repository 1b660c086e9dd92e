#include "apps/http_unit.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "apps/command.h"
#include "apps/page_assets.h"
#include "rt/file.h"

namespace pixii::apps {

namespace {

constexpr std::uint64_t kKeyFileSizeMax = 1 << 20;  // bytes
constexpr rt::Duration kReadyPoll = std::chrono::milliseconds(2);
constexpr rt::Duration kReadyPatience = std::chrono::seconds(5);  // then the log says what is wrong
constexpr rt::Duration kReadyWatch = std::chrono::milliseconds(250);  // between two looks later on

frontend::FrontendOptions MakeFrontendOptions(const HttpFlags& flags, bool adapter_api) {
  frontend::FrontendOptions options;
  options.http.limits.body_bytes_max = static_cast<std::uint64_t>(flags.body_limit);
  options.http.connections_max = static_cast<std::uint32_t>(flags.max_connections);
  options.generations_max = static_cast<std::uint32_t>(flags.max_requests);
  options.adapter_api = adapter_api;
  options.engine_control = flags.engine_control;
  options.keep_alive_interval = rt::Duration(std::chrono::nanoseconds(flags.keep_alive_interval));
  options.canary_interval = rt::Duration(std::chrono::nanoseconds(flags.canary_interval));
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
  options.media_threads = 4;       // they wait for decoders most of the time
  options.media_wait_threads = 8;  // and these for the network; each may hold a file of 64 MiB
  options.text_threads = 1;        // long prompts are tokenized off the loop
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

// A request that the model answers: path and body.
std::pair<std::string_view, std::string_view> Example(const wire::ModelCard& card) {
  switch (card.task) {
    case wire::ModelTask::kEmbed:
      return {"/v1/embeddings", R"({"input": "What is 17 + 25?"})"};
    case wire::ModelTask::kClassify:
      return card.feature_count == 1
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

Result<void> WritePort(const std::string& path, std::uint16_t port) {
  return path.empty() ? Result<void>() : rt::WriteFileAtomic(path, fmt::format("{}\n", port), 0644);
}

}  // namespace

HttpUnit::HttpUnit(rt::Loop& loop, rt::Net& net, obs::Log& log, const ProcessFlags& process,
                   const HttpFlags& flags)
    : loop_(loop), log_(log), process_(process), flags_(flags), net_(&net), plain_net_(&net) {}

Result<void> HttpUnit::Prepare() {
  PX_TRY(address_, ListenAddress());
  PX_CHECK_OK(UseTls());
  if (!flags_.api_key_file.empty()) {
    PX_TRY(std::string text, rt::ReadFile(flags_.api_key_file, kKeyFileSizeMax));
    PX_TRY(keys_, frontend::ApiKeys::Parse(text));
  }
  PX_CHECK_OK(ReadEndpoints(flags_.disable_endpoints));
  if (process_.otel_export) {
    PX_CHECK_OK(OtelTargetOf(process_));
  }
  PX_TRY(media::SourcePolicy policy, SourcePolicyOf(flags_));
  getters_ = MakeMediaGetters(std::move(policy));
  return {};
}

Result<void> HttpUnit::UseTls() {
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
  tls_net_ = rt::MakeTlsNet(loop_, *net_, std::shared_ptr<const rt::TlsSlot>(tls_), nullptr);
  net_ = tls_net_.get();
  return {};
}

rt::TlsFiles HttpUnit::TlsFiles() const {
  return {
      .certificate = flags_.tls_cert, .key = flags_.tls_key, .authorities = flags_.tls_client_ca};
}

/// What is read anew, on a thread.
struct HttpUnit::Reloaded {
  std::optional<Result<frontend::ApiKeys>> keys;
  std::optional<Result<std::shared_ptr<const rt::TlsContext>>> tls;
};

void HttpUnit::Reload() {
  if (!reload_pool_) {
    return;  // nothing is served yet: what will be read is new anyway
  }
  if (access_log_) {
    access_log_->Reopen();
  }
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
    obs::Event(log_, obs::EventId::kServeReloadFailed).kv("why", "it is read already");
  }
}

// Each file for itself: a broken one leaves what it is for as it was.
void HttpUnit::UseReloaded(Reloaded& fresh) {
  const auto say = [this](std::string_view what, const Error* error) {
    if (error == nullptr) {
      obs::Event(log_, obs::EventId::kServeReloaded).kv("what", what);
    } else {
      obs::Event(log_, obs::EventId::kServeReloadFailed)
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
Result<rt::Address> HttpUnit::ListenAddress() const {
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

Result<void> HttpUnit::UseParsers(frontend::ServedModel& served) const {
  if (served.text) {
    PX_TRY(served.chat, frontend::MakeChatAnswers({.tool_call_parser = flags_.tool_call_parser,
                                                   .reasoning_parser = flags_.reasoning_parser,
                                                   .reasoning_field = flags_.reasoning_field_name,
                                                   .exclude_tools_when_none = flags_.exclude_tools,
                                                   .tool_call_dispatch = flags_.tool_call_dispatch,
                                                   .reasoning_dispatch = flags_.reasoning_dispatch},
                                                  *served.text));
  }
  return {};
}

Result<frontend::ServiceId> HttpUnit::Serve(frontend::ServedModel served,
                                            std::shared_ptr<control::WorkerLink> link) {
  PX_CHECK_OK(UseParsers(served));
  served.images = getters_.images;
  served.files = getters_.files;
  served.films = getters_.films;
  if (model_name_.empty()) {
    card_ = link->card();
    model_name_ = served.name();
  }
  return frontend_->Serve(std::move(served), std::move(link));
}

Result<void> HttpUnit::ServeMedia(std::unique_ptr<frontend::MediaMaker> maker) {
  if (model_name_.empty()) {
    model_name_ = maker->model().name;
  }
  media_->rules.ignore_unknown = flags_.ignore_unsupported_fields;
  return frontend_->ServeMedia(*media_, std::move(maker));
}

Result<void> HttpUnit::Start(bool adapter_api, obs::Registry& registry,
                             std::function<std::vector<frontend::ShownInstance>()> instances) {
  frontend::FrontendEnvironment environment{.loop = loop_,
                                            .net = *net_,
                                            .registry = &registry,
                                            .record = {},
                                            .instances = std::move(instances)};
  if (!flags_.record.empty()) {
    PX_TRY(recorder_, RecordWriter::Create(flags_.record,
                                           static_cast<std::uint64_t>(flags_.record_limit), log_));
    environment.record = [this](frontend::RequestRecord record) {
      recorder_->Take(std::move(record));
    };
  }
  frontend::TraceStore::Options traces{.sample_ratio = process_.otel_sample_ratio};
  if (process_.otel_export) {
    PX_TRY(OtelTarget target, OtelTargetOf(process_));
    exporter_ = std::make_unique<TraceExporter>(std::move(target), log_);
  }
  traces.on_ended = [this](const frontend::EndedTrace& trace,
                           const std::shared_ptr<const frontend::TracePayload>& payload) {
    SayEnded(*trace);
    if (exporter_) {
      exporter_->Take(trace);
    }
    if (recorder_of_traces_) {
      recorder_of_traces_->Take(trace, payload);
    }
  };
  PX_TRY(recorder_of_traces_, RequestRecorder::Open({.loop = loop_,
                                                     .net = *plain_net_,
                                                     .log = log_,
                                                     .registry = registry,
                                                     .process = process_,
                                                     .flags = flags_}));
  if (recorder_of_traces_) {
    traces.wants_payload = true;
    traces.wants_bodies = recorder_of_traces_->wants_bodies();
  }
  traces_ = std::make_unique<frontend::TraceStore>(std::move(traces));
  environment.traces = traces_.get();
  frontend::FrontendOptions options = MakeFrontendOptions(flags_, adapter_api);
  PX_TRY(options.disabled_endpoints, ReadEndpoints(flags_.disable_endpoints));
  options.media_api = media_.has_value();
  options.page = PageAssets();
  PX_TRY(options.http.on_answered, AccessLogWriter::Open(flags_, loop_, log_, access_log_));
  frontend_.emplace(std::move(environment), options, std::move(keys_));
  PX_TRY(address_, frontend_->Start(address_));
  PX_CHECK_OK(ListenGrpc());
  reload_pool_ = std::make_unique<rt::WorkPool>(loop_, "reload", 1, 1);
  return {};
}

void HttpUnit::SayEnded(const frontend::RequestTrace& trace) {
  if (!log_.enabled(obs::EventId::kRequestEnded)) {
    return;
  }
  obs::Event event(log_, obs::EventId::kRequestEnded);
  event.kv("trace_id", obs::ToHex(trace.context.trace));
  if (!trace.label.empty()) {
    event.kv("x_request_id", trace.label);
  }
  event.kv("id", trace.id)
      .kv("model", trace.model)
      .kv("path", trace.path)
      .kv("prompt_tokens", trace.prompt_tokens)
      .kv("cached_tokens", trace.cached_tokens)
      .kv("output_tokens", trace.output_tokens)
      .kv("seconds", std::chrono::duration<double>(trace.answered - trace.begun).count());
  if (trace.error) {
    event.kv("error", trace.error->ToString());
  }
}

void HttpUnit::Export(obs::Registry& registry) const {
  if (getters_.figures) {
    apps::Export(*getters_.figures, registry);
  }
}

Result<frontend::GrpcOptions> GrpcOptionsOf(const HttpFlags& flags, std::string host,
                                            std::int64_t port) {
  frontend::GrpcOptions options;
  options.host = std::move(host);
  options.port = static_cast<std::uint16_t>(port);
  options.message_bytes_max = static_cast<std::uint32_t>(flags.body_limit);
  options.calls_max = static_cast<std::uint32_t>(flags.max_requests);
  for (const auto& [path, content] :
       {std::pair(&flags.tls_cert, &options.certificate), std::pair(&flags.tls_key, &options.key),
        std::pair(&flags.tls_client_ca, &options.authorities)}) {
    if (!path->empty()) {
      PX_TRY(*content, rt::ReadFile(*path, kKeyFileSizeMax));
    }
  }
  return options;
}

Result<void> HttpUnit::ListenGrpc() {
  if (!flags_.grpc) {
    return {};
  }
  PX_TRY(frontend::GrpcLibrary library, frontend::LoadGrpcLibrary({}));
  PX_TRY(const frontend::GrpcOptions options, GrpcOptionsOf(flags_, flags_.host, flags_.grpc_port));
  PX_TRY(grpc_,
         frontend::GrpcServer::Start(loop_, frontend_->handler(), std::move(library), options));
  return {};
}

void HttpUnit::AnnounceWhenReady(std::string_view note) {
  loop_.Spawn(Announce(std::string(note)));
}

rt::Task<void> HttpUnit::Announce(std::string note) {
  rt::Time complain_at = loop_.Now() + kReadyPatience;
  while (!frontend_->ready() && !draining_) {
    if (loop_.Now() >= complain_at) {
      obs::Event(log_, obs::EventId::kReadinessAwaited).kv("why", frontend_->readiness());
      complain_at += kReadyPatience;
    }
    auto sleep = loop_.SleepFor(kReadyPoll);
    co_await std::move(sleep);
  }
  if (draining_) {
    co_return;
  }
  const Result<void> written = WritePorts();
  if (!written) {
    exit_ = Complain(written.error());  // whoever waits for the file must not wait for ever
    loop_.Stop();
    co_return;
  }
  obs::Event(log_, obs::EventId::kServeReady)
      .kv("address", address_.ToString())
      .kv("model", model_name_);
  SayExample(note);
  auto watching = WatchReadiness();
  co_await std::move(watching);
}

// What /health says, for those who read logs.
rt::Task<void> HttpUnit::WatchReadiness() {
  std::optional<rt::Time> lost_at;
  while (!draining_) {
    const bool ready = frontend_->ready();
    if (!ready && !lost_at) {
      lost_at = loop_.Now();
      obs::Event(log_, obs::EventId::kReadinessLost).kv("why", frontend_->readiness());
    } else if (ready && lost_at) {
      const rt::Duration away = loop_.Now() - *std::exchange(lost_at, std::nullopt);
      obs::Event(log_, obs::EventId::kReadinessBack)
          .kv("lost_ms", std::chrono::duration_cast<std::chrono::milliseconds>(away).count());
    }
    auto sleep = loop_.SleepFor(kReadyWatch);
    co_await std::move(sleep);
  }
}

Result<void> HttpUnit::WritePorts() const {
  PX_CHECK_OK(WritePort(flags_.grpc_port_file, grpc_ ? grpc_->port() : 0));
  return WritePort(process_.port_file, address_.port);
}

void HttpUnit::SayExample(std::string_view note) const {
  const auto [path, body] = media_ && !card_
                                ? std::pair<std::string_view, std::string_view>(
                                      "/v1/videos", R"({"prompt": "a red circle moving left"})")
                                : Example(card_.value_or(wire::ModelCard{}));
  const bool file = address_.host.starts_with("unix:");
  const std::string scheme = flags_.tls_cert.empty() ? "http" : "https";
  Say("{}pixii serves {} on {}{}\n\n"
      "curl {}{}://{}{} -H 'Content-Type: application/json' \\\n  -d '{}'\n",
      note, model_name_, file ? "" : scheme + "://", address_.ToString(),
      file ? fmt::format("--unix-socket {} ", address_.host.substr(5)) : "", scheme,
      file ? "localhost" : address_.ToString(), path, body);
  std::fflush(stdout);
}

bool HttpUnit::Drain(std::function<void()> on_done) {
  if (is_started()) {
    loop_.Spawn(DrainAndStop(std::move(on_done)));
  }
  return is_started();
}

rt::Task<void> HttpUnit::DrainAndStop(std::function<void()> on_done) {
  draining_ = true;
  obs::Event(log_, obs::EventId::kServeDraining).kv("running", frontend_->generation_count());
  const rt::Time deadline = loop_.Now() + rt::Duration(process_.drain_timeout);
  if (grpc_) {
    grpc_->BeginDrain(deadline);
  }
  auto drain = frontend_->Drain(deadline);
  co_await std::move(drain);
  if (on_done) {
    on_done();
  } else {
    loop_.Stop();
  }
}

}  // namespace pixii::apps
