#include "apps/trtllm_flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

namespace pixii::apps {

namespace {

constexpr std::string_view kEndpointScheme = "dyn://";

// Of --modality: those that a process of its own serves.
bool IsDiffusion(const TrtllmFlags& given) { return given.modality.ends_with("_diffusion"); }

std::vector<std::string> SplitWords(std::string_view words) {
  std::vector<std::string> out;
  while (!words.empty()) {
    const std::size_t comma = std::min(words.find(','), words.size());
    out.emplace_back(words.substr(0, comma));
    words.remove_prefix(std::min(comma + 1, words.size()));
  }
  return out;
}

// What all of Dynamo's processes read is DYN_NAME; the worker's own, DYN_TRTLLM_NAME.
std::string VariableOf(std::string_view name) {
  static const std::set<std::string_view> kShared = {
      "endpoint-types",        "media-output-fs-url",
      "media-output-http-url", "exclude-tools-when-tool-choice-none",
      "custom-jinja-template", "output-modalities",
      "health-check-payload",  "engine-request-limit",
      "durable-kv-events"};
  std::string out = kShared.contains(name) || name.starts_with("dyn-") ? "DYN_" : "DYN_TRTLLM_";
  name.remove_prefix(name.starts_with("dyn-") ? 4 : 0);
  for (const char c : name) {
    out.push_back(c == '-' ? '_' : c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c);
  }
  return out;
}

config::Option Row(const char* name, config::Field field, const char* unit, const char* help) {
  config::Option option;
  option.name = name;
  option.field = std::move(field);
  option.unit = unit;
  option.help = help;
  option.environment_aliases.push_back(VariableOf(option.name));
  if (option.name == "model") {
    option.old_names.emplace_back("model-path");
    option.environment_aliases.emplace_back("DYN_TRTLLM_MODEL_PATH");
  }
  return option;
}

// What a flag asks for that is not done, or done by somebody else.
struct Case {
  bool asked;
  const char* flag;
  const char* why;
};

Result<void> CheckRefused(const TrtllmFlags& given) {
  const TrtllmFlags usual;
  const bool sized = given.default_height != usual.default_height ||
                     given.default_width != usual.default_width ||
                     given.default_num_inference_steps != usual.default_num_inference_steps ||
                     given.default_guidance_scale != usual.default_guidance_scale ||
                     given.default_num_frames != usual.default_num_frames ||
                     given.default_num_images_per_prompt != usual.default_num_images_per_prompt;
  const Case cases[] = {
      {given.expert_parallel_size != 1, "expert-parallel-size",
       "experts are split with the rest of a layer, by --tensor-parallel-size"},
      {given.load_format == "gms", "load-format",
       "weights of GPUs are not shared between processes; POST "
       "/engine/control/release_memory_occupation works without gms"},
      {given.load_format == "dummy", "load-format",
       "weights are not made up; --engine mock needs none"},
      {!given.model_loader_extra_config.empty(), "model-loader-extra-config",
       "there is one loader, which takes nothing"},
      {given.quant_algo != "none", "quant-algo",
       "weights are as the checkpoint has them; pixii quantize writes others"},
      {given.enable_teacache, "enable-teacache", "a server computes every step of a diffusion"},
      {given.enable_cuda_graph, "enable-cuda-graph", "diffusion runs without graphs"},
      {given.dit_ring_size != 1, "dit-ring-size",
       "long sequences are split by --dit-ulysses-size alone"},
      {given.enable_layerwise_nvtx_marker, "enable-layerwise-nvtx-marker",
       "there are no NVTX markers"},
      {given.torch_dtype != usual.torch_dtype, "torch-dtype", "--dtype says it"},
      {sized,
       "default-height, -width, -num-inference-steps, -guidance-scale, -num-frames, "
       "-num-images-per-prompt",
       "requests that say none get what the model's own files say"},
      {!given.media_output_fs_url.empty(), "media-output-fs-url",
       "pixii serve MODEL makes pictures and videos and keeps them"},
      {!given.media_output_http_url.empty(), "media-output-http-url",
       "pixii serve MODEL makes pictures and videos and keeps them"},
      {given.endpoint_types != usual.endpoint_types, "endpoint-types",
       "frontends offer what a model can do; their --disable-endpoints takes surfaces away"},
      {given.dyn_default_thinking_mode != "none", "dyn-default-thinking-mode",
       "requests say it by chat_template_kwargs.enable_thinking"},
      {!given.custom_jinja_template.empty(), "custom-jinja-template",
       "--tokenizer FOLDER brings a chat_template.jinja with its tokenizer"},
      {given.output_modalities != "text", "output-modalities",
       "workers answer with text; pixii serve MODEL makes pictures and videos"},
      {!given.health_check_payload.empty(), "health-check-payload",
       "the worker proves the engine by requests of its own, every --canary-interval"},
      {given.engine_request_limit != 0, "engine-request-limit",
       "--max-batch says how many requests run, --queue-length how many wait"},
      {given.durable_kv_events, "durable-kv-events",
       "deprecated; --event-plane nats keeps KV events in JetStream"},
  };
  for (const Case& one : cases) {
    if (one.asked) {
      return Fail(Code::kUnsupported, fmt::format("{}: {}", one.flag, one.why), one.flag);
    }
  }
  return {};
}

void SayWhose(const TrtllmFlags& given, std::vector<std::string>& notices) {
  const TrtllmFlags usual;
  const Case cases[] = {
      {!given.allowed_local_media_path.empty(), "allowed-local-media-path",
       "frontends read media: pixii frontend --media-folder"},
      {given.max_file_size_mb != usual.max_file_size_mb, "max-file-size-mb",
       "frontends read media: pixii frontend --max-file-size-mb"},
      {!given.dyn_tool_call_parser.empty(), "dyn-tool-call-parser",
       "frontends read answers: pixii frontend --tool-call-parser"},
      {!given.dyn_reasoning_parser.empty(), "dyn-reasoning-parser",
       "frontends read answers: pixii frontend --reasoning-parser"},
      {!given.exclude_tools_when_tool_choice_none, "exclude-tools-when-tool-choice-none",
       "frontends render chats: their flag of this name"},
  };
  for (const Case& one : cases) {
    if (one.asked) {
      notices.push_back(fmt::format("{} changes nothing here; {}", one.flag, one.why));
    }
  }
}

Result<void> ReadEndpoint(WorkerFlags& worker) {
  if (!worker.endpoint.starts_with(kEndpointScheme)) {
    return {};
  }
  const std::string text = worker.endpoint.substr(kEndpointScheme.size());
  const std::size_t first = text.find('.');
  const std::size_t second = first == std::string::npos ? first : text.find('.', first + 1);
  if (second == std::string::npos || text.find('.', second + 1) != std::string::npos) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("endpoint: \"{}\" is not dyn://NAMESPACE.COMPONENT.ENDPOINT", worker.endpoint),
        "endpoint");
  }
  worker.ns = text.substr(0, first);
  worker.component = text.substr(first + 1, second - first - 1);
  worker.endpoint = text.substr(second + 1);
  return {};
}

}  // namespace

void AddRows(TrtllmFlags& flags, std::vector<config::Option>& options) {
  std::set<std::string> known;
  for (const config::Option& option : options) {
    known.insert(option.name);
    known.insert(option.flag_aliases.begin(), option.flag_aliases.end());
    known.insert(option.old_names.begin(), option.old_names.end());
  }
  const auto add = [&](config::Option option) {
    if (!known.contains(option.name)) {
      options.push_back(std::move(option));
    }
  };
#define PX_BOOL(field, name, value, help) add(Row(name, config::BoolField{&flags.field}, "", help));
#define PX_INT(field, name, value, min, max, unit, help) \
  add(Row(name, config::IntegerField{&flags.field, {min, max}}, unit, help));
#define PX_REAL(field, name, value, min, max, unit, help) \
  add(Row(name, config::RealField{&flags.field, {min, max}}, unit, help));
#define PX_TEXT(field, name, value, help) \
  add(Row(name, config::TextField{&flags.field, {}}, "", help));
#define PX_WORD(field, name, value, words, help) \
  add(Row(name, config::WordField{&flags.field, {SplitWords(words)}}, "", help));
#include "apps/trtllm_options.def"
#undef PX_BOOL
#undef PX_INT
#undef PX_REAL
#undef PX_TEXT
#undef PX_WORD
}

Result<void> Settle(const TrtllmFlags& given, config::Parsed& parsed) {
  if (given.enable_multimodal && IsDiffusion(given)) {
    return Fail(Code::kInvalidArgument,
                fmt::format("enable-multimodal: does not go with --modality {}", given.modality),
                "enable-multimodal");
  }
  PX_CHECK_OK(CheckRefused(given));
  SayWhose(given, parsed.notices);
  if (given.model.empty()) {
    return {};
  }
  if (!parsed.positionals.empty() && parsed.positionals[0] != given.model) {
    return Fail(Code::kInvalidArgument,
                fmt::format("model: \"{}\" and the word \"{}\" are two models", given.model,
                            parsed.positionals[0]),
                "model");
  }
  parsed.positionals = {given.model};
  return {};
}

Result<void> Settle(const TrtllmFlags& given, WorkerFlags& worker) {
  if (IsDiffusion(given)) {
    return Fail(Code::kUnsupported,
                fmt::format("modality: {} has no workers; pixii serve MODEL answers /v1/videos and "
                            "/v1/images itself",
                            given.modality),
                "modality");
  }
  worker.role = worker.role == "pd" ? "agg" : worker.role;
  return ReadEndpoint(worker);
}

}  // namespace pixii::apps
