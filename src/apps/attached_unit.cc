#include "apps/attached_unit.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <span>
#include <utility>

#include "apps/model_host.h"
#include "apps/model_source.h"
#include "base/hash.h"
#include "control/zmq_kv_source.h"
#include "frontend/served_model.h"
#include "model/checkpoint_folder.h"
#include "model/config.h"
#include "rt/file.h"
#include "rt/resolve.h"
#include "rt/tls.h"
#include "wire/json.h"

namespace pixii::apps {

using wire::Json;
using worker::EngineKind;

namespace {

constexpr std::uint64_t kKeyFileBytesMax = 16 * 1024;
constexpr std::uint64_t kTextBytesMax = 64U << 20;
constexpr rt::Duration kRetryPause = std::chrono::milliseconds(500);
constexpr std::uint32_t kBlockTokensUsual = 16;  // where neither engine nor user says

tl::unexpected<Error> Bad(const char* flag, std::string what) {
  return Fail(Code::kInvalidArgument, fmt::format("{}: {}", flag, what), flag);
}

std::int64_t IntOr(const Json* value, std::int64_t otherwise) {
  return value != nullptr && value->is_number() ? value->AsInt().value_or(otherwise) : otherwise;
}

std::string TextOr(const Json* value, std::string otherwise) {
  return value != nullptr && value->is_string() ? value->string() : std::move(otherwise);
}

std::uint64_t HashOf(std::string_view text, std::uint64_t seed) {
  return Hash64(std::as_bytes(std::span<const char>(text.data(), text.size())), seed);
}

worker::EngineText TextOf(std::shared_ptr<const frontend::TextProcessor> text) {
  return {.encode =
              [text](std::string_view piece) {
                return text->Encode(piece, {.add_special = false, .parse_special = true});
              },
          .decode =
              [text](std::span<const TokenId> tokens) {
                return frontend::DecodeAll(*text, tokens, false);
              }};
}

}  // namespace

std::string EngineUrl::ToString() const {
  const bool is_v6 = host.find(':') != std::string::npos;
  return fmt::format("{}://{}:{}{}", tls ? "https" : "http",
                     is_v6 ? fmt::format("[{}]", host) : host, port, prefix);
}

Result<EngineUrl> ParseEngineUrl(const std::string& text) {
  EngineUrl url;
  std::string_view rest = text;
  url.tls = rest.starts_with("https://");
  if (!url.tls && !rest.starts_with("http://")) {
    return Bad("attach", fmt::format("\"{}\" begins with neither http:// nor https://", text));
  }
  rest.remove_prefix(url.tls ? 8 : 7);
  const std::size_t slash = std::min(rest.find('/'), rest.size());
  url.prefix = rest.substr(slash);
  while (url.prefix.ends_with('/')) {
    url.prefix.pop_back();
  }
  if (url.prefix == "/v1" || url.prefix.ends_with("/v1")) {
    url.prefix.resize(url.prefix.size() - 3);  // as clients of OpenAI write it
  }
  std::string_view host = rest.substr(0, slash);
  const std::size_t colon = host.rfind(':');
  const bool has_port = colon != std::string_view::npos && !host.ends_with(']');
  url.port = url.tls ? 443 : 80;
  if (has_port) {
    const std::string_view digits = host.substr(colon + 1);
    const auto [end, fault] = std::from_chars(digits.begin(), digits.end(), url.port);
    if (fault != std::errc() || end != digits.end() || url.port == 0) {
      return Bad("attach", fmt::format("\"{}\" has no port that can be read", text));
    }
    host = host.substr(0, colon);
  }
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
  }
  url.host = host;
  const bool plain = url.prefix.find_first_of(" ?#\r\n") == std::string::npos &&
                     host.find_first_of("@ []\r\n") == std::string_view::npos;
  if (host.empty() || !plain) {
    return Bad("attach", fmt::format("\"{}\" is not http://HOST:PORT/PREFIX", text));
  }
  return url;
}

Result<std::unique_ptr<AttachedUnit>> AttachedUnit::Open(ProcessUnit& process,
                                                         const WorkerFlags& flags,
                                                         const std::string& model,
                                                         const std::string& cluster_key) {
  std::unique_ptr<AttachedUnit> unit(
      new AttachedUnit(process, flags));  // tidy: new the constructor is private
  PX_CHECK_OK(unit->Attach(model, cluster_key));
  return unit;
}

Result<worker::AttachedRole> AttachedUnit::RoleOf(const std::string& cluster_key) const {
  if (flags_.role == "agg") {
    return worker::AttachedRole();
  }
  if (!worker::CanHandOver(kind_)) {
    return Fail(Code::kUnsupported,
                fmt::format("role: {} does not go with --engine {}, which has no words for it",
                            flags_.role, NameOf(kind_)),
                "role");
  }
  return worker::AttachedRole{
      .prefills = flags_.role == "prefill",
      .key = cluster_key,
      .bootstrap = {
          .host = flags_.attach_bootstrap_host.empty() ? url_.host : flags_.attach_bootstrap_host,
          .port = static_cast<std::uint16_t>(flags_.attach_bootstrap_port)}};
}

Result<void> AttachedUnit::Attach(const std::string& model, const std::string& cluster_key) {
  const std::optional<EngineKind> kind = worker::EngineKindOf(flags_.engine);
  if (!kind) {
    return Bad("engine", fmt::format("{} is none that can be attached: vllm, sglang, trtllm or "
                                     "openai",
                                     flags_.engine));
  }
  kind_ = *kind;
  PX_TRY(url_, ParseEngineUrl(flags_.attach));
  PX_TRY(worker::AttachedRole role, RoleOf(cluster_key));
  if (!flags_.attach_key_file.empty()) {
    PX_TRY(api_key_, rt::ReadFile(flags_.attach_key_file, kKeyFileBytesMax));
    while (!api_key_.empty() && (api_key_.back() == '\n' || api_key_.back() == '\r')) {
      api_key_.pop_back();
    }
    if (api_key_.empty() || api_key_.find_first_of("\r\n") != std::string::npos) {
      return Bad("attach-key-file", "must hold one line");
    }
  }
  PX_TRY(const ModelSource source,
         ResolveModel(flags_.tokenizer.empty() ? model : flags_.tokenizer, flags_.offline));
  folder_ = source.folder;
  PX_TRY(const model::CheckpointFolder files, model::CheckpointFolder::Open(folder_));
  PX_TRY(const model::ModelConfig config, model::LoadConfig(files));
  PX_TRY(const model::ModelSpec spec, model::MakeTextSpec(config));
  PX_TRY(const frontend::ServedModel served, LoadServedModel(folder_, spec, source.name));
  if (!served.text) {
    return Fail(Code::kNotFound, fmt::format("tokenizer: {} has no tokenizer.json", folder_),
                "tokenizer");
  }
  const std::unique_ptr<rt::HttpClient> client =
      rt::MakeCurlClient({.connect_timeout_ms = 5000, .stall_timeout_s = 30});
  PX_CHECK_OK(AskModels(*client));
  AskSizes(*client);
  PX_CHECK_OK(Probe(*client));
  worker::AttachedOptions options;
  options.role = std::move(role);
  PX_TRY(const std::string host, rt::ResolveHost(url_.host));
  options.address = {.host = host, .port = url_.port};
  const std::string url = url_.ToString();
  options.host = url.substr(url.find("//") + 2);
  options.host.resize(options.host.size() - url_.prefix.size());
  options.path_prefix = url_.prefix;
  options.api_key = api_key_;
  options.silence_max = rt::Duration(flags_.attach_silence);
  PX_TRY(options.card, MakeCard(spec));
  options.dialect = {.kind = kind_,
                     .model = facts_.model,
                     .token_prompts = facts_.token_prompts,
                     .token_answers = facts_.token_answers,
                     .vocab_size = options.card.vocab_size,
                     .bos_token_id = spec.bos_token_id,
                     .text = TextOf(served.text)};
  PX_CHECK_OK(SetKvEvents(options));
  if (url_.tls) {
    PX_TRY(auto context, rt::TlsContext::ForClient({.authorities = flags_.attach_ca}, url_.host));
    tls_net_ = rt::MakeTlsNet(process_.loop(), process_.net(),
                              std::shared_ptr<const rt::TlsContext>(), std::move(context));
  }
  obs::Event(process_.log(), obs::EventId::kEngineAttached)
      .kv("engine", NameOf(kind_))
      .kv("url", url)
      .kv("model", facts_.model)
      .kv("token_prompts", facts_.token_prompts)
      .kv("token_answers", facts_.token_answers)
      .kv("block_tokens", options.card.block_tokens);
  link_.emplace(process_.loop(), tls_net_ ? *tls_net_ : process_.net(), std::move(options));
  return {};
}

void AttachedUnit::DumpState(std::size_t requests) const {
  const control::WorkerLoad load = link_->load();
  obs::Event(process_.log(), obs::EventId::kStateDump)
      .kv("requests", requests)
      .kv("running", link_->outstanding_count())
      .kv("engine_running", load.running)
      .kv("engine_waiting", load.queued)
      .kv("engine_is_here", link_->engine_is_here());
}

Result<rt::HttpFetchResponse> AttachedUnit::Fetch(rt::HttpClient& client, const std::string& path,
                                                  std::string post_body) const {
  rt::HttpFetchRequest request;
  request.url = url_.ToString() + path;
  request.post_body = std::move(post_body);
  request.follow_redirects = false;
  if (!api_key_.empty()) {
    request.headers.emplace_back("Authorization", fmt::format("Bearer {}", api_key_));
  }
  return client.Fetch(request);
}

// The loop runs meanwhile, so that signals are heard.
Result<void> AttachedUnit::Pause() {
  bool passed = false;
  process_.loop().RunAt(process_.loop().Now() + kRetryPause, [this, &passed] {
    passed = true;
    process_.loop().Stop();
  });
  process_.loop().Run();
  return passed ? Result<void>() : Fail(Code::kShuttingDown, "ended before the engine was there");
}

// The first one without a parent is the model, those that have it are its adapters.
Result<void> AttachedUnit::AskModels(rt::HttpClient& client) {
  const rt::Time give_up = process_.loop().Now() + rt::Duration(flags_.attach_wait);
  Result<rt::HttpFetchResponse> answer = Fetch(client, "/v1/models");
  while ((!answer || answer->status != 200) && process_.loop().Now() < give_up) {
    PX_CHECK_OK(Pause());
    answer = Fetch(client, "/v1/models");
  }
  if (!answer || answer->status != 200) {
    return Fail(
        Code::kUnavailable,
        fmt::format("attach: the engine at {} does not answer /v1/models: {}", url_.ToString(),
                    answer ? fmt::format("status {}", answer->status) : answer.error().detail()),
        "attach");
  }
  const Result<Json> models = wire::ParseJson(answer->body);
  const Json* data = models ? models->Find("data") : nullptr;
  if (data == nullptr || !data->is_array()) {
    return Fail(Code::kDataCorrupt, "attach: the engine's /v1/models is no list", "attach");
  }
  for (const Json& model : data->array()) {
    const std::string id = TextOr(model.Find("id"), "");
    const std::string parent = TextOr(model.Find("parent"), "");
    if (parent.empty() && facts_.model.empty()) {
      facts_.model = id;
      facts_.context_tokens = IntOr(model.Find("max_model_len"), 0);
    } else if (!parent.empty()) {
      wire::AdapterCard& card = facts_.adapters.emplace_back();
      card.name = id;
      card.source = TextOr(model.Find("root"), "");
      card.version = fmt::format("{:016x}", HashOf(card.source, HashOf(id, 0)) | 1U);
      card.id = HashOf(card.version, 0) | 1U;
    }
  }
  std::ranges::sort(facts_.adapters, {}, &wire::AdapterCard::name);
  return facts_.model.empty()
             ? Fail(Code::kNotFound, "attach: the engine serves no model", "attach")
             : Result<void>();
}

// Whatever it says; what it does not say has a usual value.
void AttachedUnit::AskSizes(rt::HttpClient& client) {
  if (kind_ == EngineKind::kSglang) {
    const auto answer = Fetch(client, "/get_server_info");
    const Result<Json> info =
        answer && answer->status == 200 ? wire::ParseJson(answer->body) : Result<Json>(Json());
    if (info && info->is_object()) {
      facts_.block_tokens = IntOr(info->Find("page_size"), 0);
      facts_.context_tokens = IntOr(info->Find("context_length"), facts_.context_tokens);
      facts_.batch_sequences = IntOr(info->Find("max_running_requests"), 0);
      const std::int64_t tokens = IntOr(info->Find("max_total_num_tokens"), 0);
      facts_.block_count = facts_.block_tokens > 0 ? tokens / facts_.block_tokens : 0;
    }
    return;
  }
  const auto answer = Fetch(client, std::string(worker::LoadTarget(kind_)));
  if (!answer || answer->status != 200) {
    return;
  }
  if (const auto load = worker::ReadEngineLoad(kind_, answer->body)) {
    facts_.block_tokens = load->block_tokens.value_or(0);
    facts_.block_count = load->block_count.value_or(0);
  }
}

// One token from a prompt of one: whether it takes tokens, and whether it says which it gives.
Result<void> AttachedUnit::Probe(rt::HttpClient& client) {
  if (kind_ == EngineKind::kSglang) {
    if (flags_.attach_prompts == "text") {
      return Bad("attach-prompts", "sglang is asked by its own interface, which takes tokens");
    }
    facts_.token_prompts = facts_.token_answers = true;
    return {};
  }
  if (flags_.attach_prompts == "text") {
    return {};
  }
  Json body{Json::Object{}};
  body.Set("model", facts_.model);
  body.Set("prompt", Json::Array{Json(1)});
  body.Set("max_tokens", 1);
  const bool plain = kind_ == EngineKind::kTrtllm;
  body.Set(plain ? "detokenize" : "return_token_ids", !plain);
  Result<rt::HttpFetchResponse> answer = Fetch(client, "/v1/completions", body.Dump());
  if (answer && answer->status == 400) {  // it may know the prompt and not the field
    body.object().pop_back();
    answer = Fetch(client, "/v1/completions", body.Dump());
  }
  facts_.token_prompts = answer && answer->status == 200;
  if (!facts_.token_prompts && flags_.attach_prompts == "tokens") {
    return Bad("attach-prompts", fmt::format("the engine takes no tokens: {}",
                                             answer ? fmt::format("status {}", answer->status)
                                                    : answer.error().detail()));
  }
  const Result<Json> said =
      facts_.token_prompts ? wire::ParseJson(answer->body) : Result<Json>(Json());
  const Json* choices = said ? said->Find("choices") : nullptr;
  if (choices != nullptr && choices->is_array() && !choices->array().empty()) {
    const Json* ids = choices->array().front().Find("token_ids");
    facts_.token_answers = ids != nullptr && ids->is_array();
  }
  return {};
}

Result<void> AttachedUnit::SetKvEvents(worker::AttachedOptions& options) const {
  const auto& events = flags_.attach_kv_events;
  const auto& replays = flags_.attach_kv_replay;
  if (events.size() == 1 && events.front() == "drain") {
    if (kind_ != EngineKind::kTrtllm) {
      return Bad("attach-kv-events", "drain is of trtllm");
    }
    options.drains_kv_events = true;
    return {};
  }
  if (!replays.empty() && replays.size() != events.size()) {
    return Bad("attach-kv-replay", fmt::format("{} addresses for {} of attach-kv-events",
                                               replays.size(), events.size()));
  }
  const auto address = [](const std::string& text, const char* flag) -> Result<rt::Address> {
    Result<rt::Address> parsed = control::ParseZmqEndpoint(text);
    if (!parsed) {
      return Bad(flag, parsed.error().detail());
    }
    if (!parsed->host.starts_with("unix:")) {
      PX_TRY(parsed->host, rt::ResolveHost(parsed->host));
    }
    return parsed;
  };
  for (std::size_t rank = 0; rank < events.size(); ++rank) {
    control::ZmqKvSourceOptions source;
    PX_TRY(source.events, address(events[rank], "attach-kv-events"));
    if (!replays.empty()) {
      PX_TRY(source.replay, address(replays[rank], "attach-kv-replay"));
    }
    source.topic = flags_.attach_kv_topic;
    source.stream.rank = static_cast<std::uint32_t>(rank);
    source.stream.translator.block_tokens = options.card.block_tokens;
    options.kv_events.push_back(std::move(source));
  }
  return {};
}

// Workers of one fingerprint give way to one another: the same texts, and the same configuration.
Result<wire::ModelCard> AttachedUnit::MakeCard(const model::ModelSpec& spec) const {
  wire::ModelCard card;
  card.name = flags_.served_model_name.empty() ? facts_.model : flags_.served_model_name;
  PX_TRY(const model::CheckpointFolder files, model::CheckpointFolder::Open(folder_));
  std::uint64_t fingerprint = HashOf(facts_.model, 0);
  for (const std::string_view name : {"config.json", "tokenizer.json"}) {
    if (files.Has(name)) {
      PX_TRY(const std::string content, files.ReadText(name, kTextBytesMax));
      fingerprint = HashOf(content, fingerprint);
    }
  }
  card.fingerprint = fmt::format("attached-{:016x}", fingerprint);
  // Of this engine alone: nobody knows whether another one computes with the same bits.
  card.numerics_id = fmt::format("outside-{}-{:08x}", NameOf(kind_),
                                 static_cast<std::uint32_t>(HashOf(flags_.attach, 0)));
  card.vocab_size = static_cast<std::uint32_t>(spec.vocab_size);
  const std::int64_t context = spec.context_tokens_max;
  card.context_tokens_max = static_cast<std::uint32_t>(
      facts_.context_tokens > 0 ? std::min(context, facts_.context_tokens) : context);
  const std::int64_t block_tokens =
      flags_.attach_block_size > 0 ? flags_.attach_block_size : facts_.block_tokens;
  card.block_tokens =
      block_tokens > 0 ? static_cast<std::uint32_t>(block_tokens) : kBlockTokensUsual;
  card.block_count = static_cast<std::uint32_t>(
      std::clamp<std::int64_t>(facts_.block_count, 0, std::numeric_limits<std::uint32_t>::max()));
  card.batch_sequences_max = static_cast<std::uint32_t>(
      facts_.batch_sequences > 0 ? std::min<std::int64_t>(facts_.batch_sequences, 65536) : 256);
  card.batch_tokens_max = card.context_tokens_max;
  card.eos_token_ids = spec.eos_token_ids;
  card.bos_token_id = spec.bos_token_id;
  card.adapters = facts_.adapters;
  return card;
}

}  // namespace pixii::apps
