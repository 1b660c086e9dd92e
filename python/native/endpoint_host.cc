#include "endpoint_host.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <span>
#include <string_view>
#include <utility>

#include "apps/cluster_net.h"
#include "apps/cluster_unit.h"
#include "apps/model_host.h"
#include "apps/model_source.h"
#include "base/hash.h"
#include "control/instance_codec.h"
#include "flags.h"
#include "model/checkpoint_folder.h"
#include "model/config.h"

namespace pixii::python {

namespace {

constexpr std::uint64_t kTextBytesMax = 64U << 20;
constexpr rt::Duration kDrainPoll = std::chrono::milliseconds(5);

rt::Duration Seconds(double seconds) {
  return std::chrono::duration_cast<rt::Duration>(std::chrono::duration<double>(seconds));
}

std::uint32_t Sized(std::int64_t given, std::int64_t usual) {
  const std::int64_t value = given > 0 ? given : usual;
  return static_cast<std::uint32_t>(
      std::clamp<std::int64_t>(value, 0, std::numeric_limits<std::uint32_t>::max()));
}

std::uint64_t HashOf(std::string_view text, std::uint64_t seed) {
  return Hash64(std::as_bytes(std::span<const char>(text.data(), text.size())), seed);
}

}  // namespace

EndpointHost::EndpointHost(EndpointOptions options, std::function<void()> wake)
    : options_(std::move(options)), inbox_(std::move(wake)) {}

EndpointHost::~EndpointHost() {
  Stop(false);
  Join();
}

Result<void> EndpointHost::Start() {
  PX_CHECK_OK(Read());
  thread_ = rt::Thread("endpoint", [this] {
    Result<void> opened = Open();
    const bool runs = opened.has_value();
    {
      const rt::MutexLock lock(mutex_);
      loop_ = runs ? &process_->loop() : nullptr;
      opened_ = std::move(opened);
      begun_.NotifyAll();
    }
    if (runs) {
      process_->loop().Run();
    }
    {
      const rt::MutexLock lock(mutex_);
      loop_ = nullptr;
    }
    Close();
    stopped_ = true;
    inbox_.Put({.kind = Task::Kind::kPing});  // wakes who waits for the end
  });
  const rt::MutexLock lock(mutex_);
  while (!opened_) {
    begun_.Wait(mutex_);
  }
  return *opened_;
}

// All that needs no loop.
Result<void> EndpointHost::Read() {
  std::vector<config::Option> flags = apps::RowsOf(flags_);
  for (config::Option& option : apps::RowsOf(engine_flags_)) {
    flags.push_back(std::move(option));
  }
  PX_CHECK_OK(ParseFlags("worker", std::move(flags), options_.arguments));
  PX_CHECK_OK(control::CheckName("namespace", flags_.ns));
  PX_CHECK_OK(control::CheckName("component", flags_.component));
  PX_CHECK_OK(control::CheckName("endpoint", flags_.endpoint));
  PX_CHECK_OK(apps::CheckPublished("worker-host", flags_.worker_host));
  PX_TRY(
      const apps::ModelSource source,
      apps::ResolveModel(options_.model.model.empty() ? apps::kBundledModel : options_.model.model,
                         flags_.offline));
  folder_ = source.folder;
  if (options_.model.name.empty()) {
    options_.model.name = source.name;
  }
  return MakeCard(folder_);
}

// Workers of one fingerprint give way to one another: the same texts, and the same configuration.
Result<void> EndpointHost::MakeCard(const std::string& folder) {
  PX_TRY(const model::CheckpointFolder files, model::CheckpointFolder::Open(folder));
  PX_TRY(const model::ModelConfig config, model::LoadConfig(files));
  PX_TRY(const model::ModelSpec spec, model::MakeTextSpec(config));
  const ModelFacts& facts = options_.model;
  PX_TRY(const frontend::ServedModel served, apps::LoadServedModel(folder, spec, facts.name));
  text_ = served.text;
  std::uint64_t fingerprint = HashOf(facts.name, 0);
  for (const std::string_view name : {"config.json", "tokenizer.json"}) {
    if (files.Has(name)) {
      PX_TRY(const std::string content, files.ReadText(name, kTextBytesMax));
      fingerprint = HashOf(content, fingerprint);
    }
  }
  card_.name = facts.name;
  card_.fingerprint = fmt::format("handler-{:016x}", fingerprint);
  card_.numerics_id = fmt::format("handler-{}.{}", flags_.component, flags_.endpoint);
  card_.vocab_size = static_cast<std::uint32_t>(spec.vocab_size);
  card_.context_tokens_max = Sized(facts.context_tokens, spec.context_tokens_max);
  card_.block_tokens = Sized(facts.block_tokens, engine_flags_.block_size);
  card_.block_count = Sized(facts.block_count, 0);
  card_.batch_sequences_max = Sized(facts.batch_sequences, options_.choices_max);
  card_.batch_tokens_max = Sized(facts.batch_tokens, card_.context_tokens_max);
  card_.eos_token_ids = spec.eos_token_ids;
  card_.bos_token_id = spec.bos_token_id;
  return {};
}

Result<void> EndpointHost::Open() {
  registry_.emplace(flags_.metrics_prefix);
  process_.emplace();
  PX_CHECK_OK(process_->Open(flags_, {}));  // signals are the interpreter's
  PX_TRY(tls_net_, apps::OpenWorkerNet(process_->loop(), process_->net(), flags_));
  PX_TRY(discovery_, apps::OpenDiscovery(*process_, flags_));
  PX_TRY(plane_, apps::PlaneUnit::Open(*process_, flags_, false));
  system_.emplace(*process_, flags_, *registry_);
  PX_CHECK_OK(system_->Start(false));
  link_.emplace(process_->loop(), inbox_,
                HandlerLinkOptions{.card = card_,
                                   .choices_max = options_.choices_max,
                                   .silence_max = Seconds(options_.silence_s),
                                   .proves = options_.proves,
                                   .prove_interval = Seconds(options_.prove_interval_s),
                                   .prove_timeout = Seconds(options_.prove_timeout_s)});
  const control::InstanceId id = discovery_->NewInstanceId();
  const apps::ModelTexts texts{.folder = folder_, .text_folder = folder_};
  service_.emplace(
      process_->loop(), tls_net_ ? *tls_net_ : process_->net(), *link_,
      worker::WorkerServiceOptions{
          .mux = {.name = control::InstanceName(id)},
          .files = [texts] { return apps::ReadModelFiles(texts); },
          .watches_kv_events = true,
          .plane = plane_ ? &plane_->plane() : nullptr,
          // Canaries are the link's own affair: only it knows the handler's payload.
          .health = control::ReadinessOptions{.canary_interval = rt::Duration::zero(),
                                              .canary_timeout = rt::Duration(flags_.canary_timeout),
                                              .stall_limit = rt::Duration(flags_.stall_limit)},
          .on_health =
              [this](bool healthy, const std::string& why) {
                obs::Event(process_->log(),
                           healthy ? obs::EventId::kWorkerHealthy : obs::EventId::kWorkerUnhealthy)
                    .kv("why", why);
              }});
  PX_TRY(const rt::Address bound,
         service_->Start(
             {.host = flags_.worker_host, .port = static_cast<std::uint16_t>(flags_.worker_port)}));
  PX_TRY(control::Instance instance,
         apps::InstanceOf(flags_, id, bound, card_, texts, process_->loop().WallNow()));
  PX_TRY(registration_, discovery_->Register(std::move(instance)));
  registration_->TellTrouble(process_->log());
  system_->Show(*service_, *link_, registration_->instance(), [] {});
  instance_ = static_cast<std::uint64_t>(id);
  obs::Event(process_->log(), obs::EventId::kWorkerReady)
      .kv("address", bound.ToString())
      .kv("model", card_.name)
      .kv("instance", fmt::format("{:x}", instance_));
  return {};
}

// In the reverse order of Open.
void EndpointHost::Close() {
  if (system_) {
    system_->Close();
  }
  registration_.reset();
  service_.reset();
  link_.reset();
  plane_.reset();
  discovery_.reset();
  system_.reset();
  tls_net_.reset();
  process_.reset();
}

void EndpointHost::Stop(bool patiently) {
  const rt::MutexLock lock(mutex_);
  if (loop_ != nullptr) {
    loop_->Post([this, patiently] {
      if (!draining_ || !patiently) {
        draining_ = true;
        process_->loop().Spawn(DrainAndStop(patiently));
      }
    });
  }
}

rt::Task<void> EndpointHost::DrainAndStop(bool patiently) {
  rt::Loop& loop = process_->loop();
  obs::Event(process_->log(), obs::EventId::kServeDraining).kv("running", link_->running_count());
  registration_->Drain();
  service_->Drain();
  const rt::Time deadline = loop.Now() + rt::Duration(patiently ? flags_.drain_timeout : 0);
  while (service_->request_count() > 0 && loop.Now() < deadline) {
    auto pause = loop.SleepFor(kDrainPoll);
    co_await std::move(pause);
  }
  link_->Close(Error(Code::kShuttingDown, "the worker ends"));
  discovery_->Close([this] { process_->loop().Stop(); });
}

void EndpointHost::Give(std::vector<Output> outputs) {
  const rt::MutexLock lock(mutex_);
  if (loop_ != nullptr) {
    loop_->Post([this, outputs = std::move(outputs)]() mutable {
      if (link_) {
        link_->OnOutputs(std::move(outputs));
      }
    });
  }
}

void EndpointHost::TellKvEvents(std::vector<wire::KvEvent> events) {
  const rt::MutexLock lock(mutex_);
  if (loop_ != nullptr) {
    loop_->Post([this, events = std::move(events)]() mutable {
      if (link_) {
        link_->TellKvEvents(std::move(events));
      }
    });
  }
}

}  // namespace pixii::python
