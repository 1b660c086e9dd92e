#include "apps/option_structs.h"

#include <string_view>

namespace pixii::apps {

namespace {

std::vector<std::string> SplitWords(std::string_view words) {
  std::vector<std::string> out;
  while (!words.empty()) {
    std::size_t comma = std::min(words.find(','), words.size());
    out.emplace_back(words.substr(0, comma));
    words.remove_prefix(std::min(comma + 1, words.size()));
  }
  return out;
}

config::Option Row(const char* name, config::Field field, const char* unit, const char* help) {
  config::Option option;
  option.name = name;
  option.field = std::move(field);
  option.unit = unit;
  option.help = help;
  return option;
}

// Names that deployments of Dynamo already use.
void AddAliases(std::vector<config::Option>& options) {
  struct Alias {
    std::string_view name;
    const char* flag;
    const char* variable;
    bool old = false;  // the flag holds, and says that it is old
  };

  constexpr Alias kAliases[] = {
      {"log-level", nullptr, "DYN_LOG"},
      {"log-format", nullptr, "DYN_LOGGING_CONSOLE_FORMAT"},
      {"log-jsonl", nullptr, "DYN_LOGGING_JSONL"},
      {"otel-export", nullptr, "OTEL_EXPORT_ENABLED"},
      {"otel-endpoint", nullptr, "OTEL_EXPORTER_OTLP_ENDPOINT"},
      {"otel-traces-endpoint", nullptr, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"},
      {"otel-logs-endpoint", nullptr, "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"},
      {"request-trace", nullptr, "DYN_REQUEST_TRACE"},
      {"request-trace-sinks", nullptr, "DYN_REQUEST_TRACE_SINKS"},
      {"request-trace-records", nullptr, "DYN_REQUEST_TRACE_RECORDS"},
      {"request-trace-file", nullptr, "DYN_REQUEST_TRACE_FILE_PATH"},
      {"request-trace-format", nullptr, "DYN_REQUEST_TRACE_FILE_FORMAT"},
      {"request-trace-roll-bytes", nullptr, "DYN_REQUEST_TRACE_FILE_ROLL_BYTES"},
      {"request-trace-capacity", nullptr, "DYN_REQUEST_TRACE_CAPACITY"},
      {"request-trace-nats-subject", nullptr, "DYN_REQUEST_TRACE_NATS_SUBJECT"},
      {"request-trace-tool-events", nullptr, "DYN_REQUEST_TRACE_TOOL_EVENTS_ZMQ_ENDPOINT"},
      {"request-trace-tool-topic", nullptr, "DYN_REQUEST_TRACE_TOOL_EVENTS_ZMQ_TOPIC"},
      {"otel-protocol", nullptr, "OTEL_EXPORTER_OTLP_PROTOCOL"},
      {"otel-headers", nullptr, "OTEL_EXPORTER_OTLP_HEADERS"},
      {"otel-service-name", nullptr, "OTEL_SERVICE_NAME"},
      {"otel-sample-ratio", nullptr, "OTEL_TRACES_SAMPLE_RATIO"},
      {"host", "http-host", "DYN_HTTP_HOST"},
      {"port", "http-port", "DYN_HTTP_PORT"},
      {"tls-cert", "tls-cert-path", "DYN_TLS_CERT_PATH"},
      {"tls-key", "tls-key-path", "DYN_TLS_KEY_PATH"},
      {"kserve-grpc-server", nullptr, "DYN_KSERVE_GRPC_SERVER"},
      {"enable-anthropic-api", nullptr, "DYN_ENABLE_ANTHROPIC_API"},
      {"strip-anthropic-preamble", nullptr, "DYN_STRIP_ANTHROPIC_PREAMBLE"},
      {"ignore-unsupported-fields", nullptr, "DYN_IGNORE_OPENAI_FE_UNSUPPORTED_FIELDS"},
      {"disable-frontend-nvext", nullptr, "DYN_DISABLE_FRONTEND_NVEXT"},
      {"force-include-usage", nullptr, "DYN_ENABLE_FORCE_INCLUDE_USAGE"},
      {"overload-status-code", nullptr, "DYN_HTTP_OVERLOAD_STATUS_CODE"},
      {"backend-stream-timeout", nullptr, "DYN_HTTP_BACKEND_STREAM_TIMEOUT_SECS"},
      {"disable-frontend-admin-api", nullptr, "DYN_DISABLE_FRONTEND_ADMIN_API"},
      {"media-allow-internal", nullptr, "DYN_MM_ALLOW_INTERNAL"},
      {"media-folder", "allowed-local-media-path", "DYN_MM_LOCAL_PATH"},
      {"media-folder", nullptr, "DYN_TRTLLM_ALLOWED_LOCAL_MEDIA_PATH"},
      {"media-output-fs-url", nullptr, "DYN_MEDIA_OUTPUT_FS_URL"},
      {"media-output-http-url", nullptr, "DYN_MEDIA_OUTPUT_HTTP_URL"},
      {"max-file-size-mb", nullptr, "DYN_TRTLLM_MAX_FILE_SIZE_MB"},
      {"encode-endpoint", nullptr, "DYN_TRTLLM_ENCODE_ENDPOINT"},
      {"media-s3-endpoint", nullptr, "AWS_ENDPOINT_URL_S3"},
      {"media-s3-region", nullptr, "AWS_REGION"},
      {"media-s3-access-key", nullptr, "AWS_ACCESS_KEY_ID"},
      {"media-s3-secret-key", nullptr, "AWS_SECRET_ACCESS_KEY"},
      {"multimodal-embedding-cache-capacity-gb", nullptr,
       "DYN_MULTIMODAL_EMBEDDING_CACHE_CAPACITY_GB"},
      {"served-model-name", "model-name", "DYN_MODEL_NAME"},
      {"block-size", "kv-cache-block-size", "DYN_KV_CACHE_BLOCK_SIZE"},
      {"extra-engine-args", nullptr, "DYN_TRTLLM_EXTRA_ENGINE_ARGS"},
      {"override-engine-args", nullptr, "DYN_TRTLLM_OVERRIDE_ENGINE_ARGS"},
      {"metrics-prefix", nullptr, "DYN_METRICS_PREFIX"},
      {"tool-call-parser", "dyn-tool-call-parser", "DYN_TOOL_CALL_PARSER"},
      {"reasoning-parser", "dyn-reasoning-parser", "DYN_REASONING_PARSER"},
      {"reasoning-field-name", nullptr, "DYN_REASONING_FIELD_NAME"},
      {"exclude-tools-when-tool-choice-none", nullptr, "DYN_EXCLUDE_TOOLS_WHEN_TOOL_CHOICE_NONE"},
      {"streaming-tool-dispatch", nullptr, "DYN_ENABLE_STREAMING_TOOL_DISPATCH"},
      {"streaming-reasoning-dispatch", nullptr, "DYN_ENABLE_STREAMING_REASONING_DISPATCH"},
      {"router-mode", nullptr, "DYN_ROUTER_MODE"},
      {"router-kv-overlap-score-credit", nullptr, "DYN_ROUTER_KV_OVERLAP_SCORE_CREDIT"},
      {"router-kv-overlap-score-credit-decay", nullptr, "DYN_ROUTER_KV_OVERLAP_SCORE_CREDIT_DECAY"},
      {"router-prefill-load-scale", nullptr, "DYN_ROUTER_PREFILL_LOAD_SCALE"},
      {"router-host-cache-hit-weight", nullptr, "DYN_ROUTER_HOST_CACHE_HIT_WEIGHT"},
      {"router-disk-cache-hit-weight", nullptr, "DYN_ROUTER_DISK_CACHE_HIT_WEIGHT"},
      {"shared-cache-multiplier", nullptr, "DYN_SHARED_CACHE_MULTIPLIER"},
      {"router-decode-active-request-weight", nullptr, "DYN_ROUTER_DECODE_ACTIVE_REQUEST_WEIGHT"},
      {"router-temperature", nullptr, "DYN_ROUTER_TEMPERATURE"},
      {"router-approximate-cache-policy", nullptr, "DYN_ROUTER_APPROXIMATE_CACHE_POLICY"},
      {"router-ttl-secs", nullptr, "DYN_ROUTER_TTL_SECS"},
      {"router-predicted-ttl-secs", nullptr, "DYN_ROUTER_PREDICTED_TTL_SECS"},
      {"router-track-output-blocks", nullptr, "DYN_ROUTER_TRACK_OUTPUT_BLOCKS"},
      {"router-active-request-expiry-secs", nullptr, "DYN_ROUTER_ACTIVE_REQUEST_EXPIRY_SECS"},
      {"router-queue-threshold", nullptr, "DYN_ROUTER_QUEUE_THRESHOLD"},
      {"router-queue-policy", nullptr, "DYN_ROUTER_QUEUE_POLICY"},
      {"router-policy-config", nullptr, "DYN_ROUTER_POLICY_CONFIG"},
      {"active-decode-blocks-threshold", nullptr, "DYN_ACTIVE_DECODE_BLOCKS_THRESHOLD"},
      {"active-prefill-tokens-threshold", nullptr, "DYN_ACTIVE_PREFILL_TOKENS_THRESHOLD"},
      {"active-prefill-tokens-threshold-frac", nullptr, "DYN_ACTIVE_PREFILL_TOKENS_THRESHOLD_FRAC"},
      {"router-session-affinity-ttl-secs", nullptr, "DYN_ROUTER_SESSION_AFFINITY_TTL_SECS"},
      {"router-session-affinity-mode", nullptr, "DYN_ROUTER_SESSION_AFFINITY_MODE"},
      {"router-kv-events", nullptr, "DYN_ROUTER_USE_KV_EVENTS"},
      {"system-port", nullptr, "DYN_SYSTEM_PORT"},
      {"system-host", nullptr, "DYN_SYSTEM_HOST"},
      {"system-health-path", nullptr, "DYN_SYSTEM_HEALTH_PATH"},
      {"system-live-path", nullptr, "DYN_SYSTEM_LIVE_PATH"},
      {"canary-interval", nullptr, "DYN_CANARY_WAIT_TIME"},
      {"canary-timeout", nullptr, "DYN_HEALTH_CHECK_REQUEST_TIMEOUT"},
      {"served-model-name", nullptr, "DYN_TRTLLM_SERVED_MODEL_NAME"},
      {"revision", nullptr, "DYN_TRTLLM_REVISION"},
      {"max-context", "max-seq-len", "DYN_TRTLLM_MAX_SEQ_LEN"},
      {"max-batch", "max-batch-size", "DYN_TRTLLM_MAX_BATCH_SIZE"},
      {"max-batched-tokens", "max-num-tokens", "DYN_TRTLLM_MAX_NUM_TOKENS"},
      {"kv-memory-fraction", "free-gpu-memory-fraction", "DYN_TRTLLM_FREE_GPU_MEMORY_FRACTION"},
      {"publish-kv-events", nullptr, "DYN_TRTLLM_PUBLISH_KV_EVENTS"},
      {"publish-kv-events", "publish-events-and-metrics", "DYN_TRTLLM_PUBLISH_EVENTS_AND_METRICS",
       true},
      {"dit-cfg-size", nullptr, "DYN_TRTLLM_DIT_CFG_SIZE"},
      {"dit-ulysses-size", nullptr, "DYN_TRTLLM_DIT_ULYSSES_SIZE"},
      {"connector", nullptr, "DYN_CONNECTOR"},
      {"endpoint", nullptr, "DYN_ENDPOINT"},
      {"discovery-backend", nullptr, "DYN_DISCOVERY_BACKEND"},
      {"request-plane", nullptr, "DYN_REQUEST_PLANE"},
      {"enable-lora", nullptr, "DYN_LORA_ENABLED"},
      {"lora-slots", "max-loras", nullptr},
      {"lora-count", "max-cpu-loras", nullptr},
      {"lora-rank", "max-lora-rank", nullptr},
      {"max-batch", "max-num-seqs", nullptr},
      {"max-batched-tokens", "max-num-batched-tokens", nullptr},
      {"prefix-cache", "enable-prefix-caching", nullptr},
      {"mock-blocks", "num-gpu-blocks-override", nullptr},
      {"mock-profile", "planner-profile-data", nullptr},
      {"mock-speedup", "speedup", nullptr},
      {"mock-speedup", "speedup-ratio", nullptr},
      {"mock-decode-speedup", "decode-speedup-ratio", nullptr},
      {"enable-attention-dp", nullptr, "DYN_TRTLLM_ENABLE_ATTENTION_DP"},
      {"tensor-parallel-size", "tp-size", "DYN_TRTLLM_TENSOR_PARALLEL_SIZE"},
      {"tensor-parallel-size", "dp-size", nullptr},
      {"tensor-parallel-size", "tp", nullptr},
      {"pipeline-parallel-size", "pp", "DYN_TRTLLM_PIPELINE_PARALLEL_SIZE"},
      {"pipeline-parallel-size", "pp-size", nullptr},
      {"kv-block-size", nullptr, "DYN_TRTLLM_KV_BLOCK_SIZE"},
      {"conversation-affinity", nullptr, "DYN_ENGINE_CONV_AFFINITY"},
      {"conversation-affinity-dp-rank-source", nullptr, "DYN_ENGINE_CONV_AFFINITY_DP_RANK_SOURCE"},
      {"kvbm-cpu-cache-gb", nullptr, "DYN_KVBM_CPU_CACHE_GB"},
      {"kv-host-blocks", nullptr, "DYN_KVBM_CPU_CACHE_OVERRIDE_NUM_BLOCKS"},
      {"kvbm-disk-cache-gb", nullptr, "DYN_KVBM_DISK_CACHE_GB"},
      {"kv-disk-blocks", nullptr, "DYN_KVBM_DISK_CACHE_OVERRIDE_NUM_BLOCKS"},
      {"kv-disk", nullptr, "DYN_KVBM_DISK_CACHE_DIR"},
      {"kv-disk-buffered", nullptr, "DYN_KVBM_DISK_DISABLE_O_DIRECT"},
      {"kv-offload-all", nullptr, "DYN_KVBM_DISABLE_DISK_OFFLOAD_FILTER"},
      {"kv-object", nullptr, "DYN_KVBM_OBJECT_ENABLED"},
      {"kv-object-bucket", nullptr, "DYN_KVBM_OBJECT_BUCKET"},
      {"kv-object-endpoint", nullptr, "DYN_KVBM_OBJECT_ENDPOINT"},
      {"kv-object-region", nullptr, "DYN_KVBM_OBJECT_REGION"},
      {"kv-object-access-key", nullptr, "DYN_KVBM_OBJECT_ACCESS_KEY"},
      {"kv-object-secret-key", nullptr, "DYN_KVBM_OBJECT_SECRET_KEY"},
      {"kv-object-blocks", nullptr, "DYN_KVBM_OBJECT_NUM_BLOCKS"},
      {"kv-remote-store", nullptr, "LMCACHE_REMOTE_URL"},
      {"kv-events-tiers", nullptr, "DYN_KVBM_KV_EVENTS_CONSOLIDATOR_MODE"},
      {"kv-transfer-batch", nullptr, "DYN_KVBM_TRANSFER_BATCH_SIZE"},
      {"namespace", nullptr, "DYN_NAMESPACE"},
      {"event-plane", nullptr, "DYN_EVENT_PLANE"},
      {"router-mode", nullptr, "DYN_ROUTER_MODE"},
      {"role", "disaggregation-mode", "DYN_TRTLLM_DISAGGREGATION_MODE"},
      {"kv-transfer-nixl-backend", nullptr, "TRTLLM_NIXL_KVCACHE_BACKEND"},
      {"kv-transfer-legacy-ucx", nullptr, "TRTLLM_USE_UCX_KVCACHE"},
      {"decode-fallback", nullptr, "DYN_DECODE_FALLBACK"},
      {"router-conditional-disagg", nullptr, "DYN_ROUTER_CONDITIONAL_DISAGG"},
      {"router-conditional-disagg-policy", nullptr, "DYN_ROUTER_CONDITIONAL_DISAGG_POLICY"},
      {"router-conditional-disagg-eff-isl-threshold", nullptr,
       "DYN_ROUTER_CONDITIONAL_DISAGG_EFF_ISL_THRESHOLD"},
      {"router-conditional-disagg-eff-isl-ratio-threshold", nullptr,
       "DYN_ROUTER_CONDITIONAL_DISAGG_EFF_ISL_RATIO_THRESHOLD"},
      {"router-conditional-disagg-prefill-busy-threshold", nullptr,
       "DYN_ROUTER_CONDITIONAL_DISAGG_PREFILL_BUSY_THRESHOLD"},
      {"router-conditional-disagg-decode-busy-threshold", nullptr,
       "DYN_ROUTER_CONDITIONAL_DISAGG_DECODE_BUSY_THRESHOLD"},
      {"migration-limit", nullptr, "DYN_MIGRATION_LIMIT"},
      {"migration-max-seq-len", nullptr, "DYN_MIGRATION_MAX_SEQ_LEN"},
  };
  for (config::Option& option : options) {
    for (const Alias& alias : kAliases) {
      if (option.name != alias.name) {
        continue;
      }
      if (alias.flag != nullptr) {
        (alias.old ? option.old_names : option.flag_aliases).emplace_back(alias.flag);
      }
      if (alias.variable != nullptr) {
        option.environment_aliases.emplace_back(alias.variable);
      }
    }
  }
}

}  // namespace

#define PX_BOOL(field, name, value, help) \
  options.push_back(Row(name, config::BoolField{&flags.field}, "", help));
#define PX_INT(field, name, value, min, max, unit, help) \
  options.push_back(Row(name, config::IntegerField{&flags.field, {min, max}}, unit, help));
#define PX_SIZE(field, name, value, min, max, help) \
  options.push_back(Row(name, config::SizeField{&flags.field, {min, max}}, "", help));
#define PX_DURATION(field, name, value, min, max, help) \
  options.push_back(Row(name, config::DurationField{&flags.field, {min, max}}, "", help));
#define PX_REAL(field, name, value, min, max, unit, help) \
  options.push_back(Row(name, config::RealField{&flags.field, {min, max}}, unit, help));
#define PX_TEXT(field, name, value, help) \
  options.push_back(Row(name, config::TextField{&flags.field, {}}, "", help));
#define PX_WORD(field, name, value, words, help) \
  options.push_back(Row(name, config::WordField{&flags.field, {SplitWords(words)}}, "", help));
#define PX_LIST(field, name, help) \
  options.push_back(Row(name, config::ListField{&flags.field, {}}, "", help));

std::vector<config::Option> RowsOf(EngineFlags& flags) {
  std::vector<config::Option> options;
#include "apps/engine_options.def"
  AddAliases(options);
  return options;
}

std::vector<config::Option> RowsOf(ServeFlags& flags) {
  std::vector<config::Option> options;
#include "apps/access_options.def"
#include "apps/fleet_options.def"
#include "apps/http_options.def"
#include "apps/kv_zmq_options.def"
#include "apps/media_options.def"
#include "apps/mock_options.def"
#include "apps/model_options.def"
#include "apps/process_options.def"
#include "apps/router_options.def"
#include "apps/serve_options.def"
  AddAliases(options);
  return options;
}

std::vector<config::Option> RowsOf(UpFlags& flags) {
  std::vector<config::Option> options;
#include "apps/process_options.def"
#include "apps/up_options.def"
  AddAliases(options);
  return options;
}

std::vector<config::Option> RowsOf(OperatorFlags& flags) {
  std::vector<config::Option> options;
#include "apps/operator_options.def"
#include "apps/process_options.def"
  AddAliases(options);
  return options;
}

std::vector<config::Option> RowsOf(WorkerFlags& flags) {
  std::vector<config::Option> options;
#include "apps/access_options.def"
#include "apps/attach_options.def"
#include "apps/cluster_options.def"
#include "apps/kv_zmq_options.def"
#include "apps/mock_options.def"
#include "apps/model_options.def"
#include "apps/process_options.def"
#include "apps/worker_options.def"
#include "apps/worker_tls_options.def"
  AddAliases(options);
  return options;
}

std::vector<config::Option> RowsOf(FrontendFlags& flags) {
  std::vector<config::Option> options;
#include "apps/access_options.def"
#include "apps/cluster_options.def"
#include "apps/fleet_options.def"
#include "apps/fleet_tls_options.def"
#include "apps/frontend_options.def"
#include "apps/http_options.def"
#include "apps/process_options.def"
#include "apps/remote_router_options.def"
#include "apps/replica_options.def"
#include "apps/router_options.def"
  AddAliases(options);
  return options;
}

std::vector<config::Option> RowsOf(EppFlags& flags) {
  std::vector<config::Option> options;
#include "apps/access_options.def"
#include "apps/cluster_options.def"
#include "apps/epp_options.def"
#include "apps/fleet_options.def"
#include "apps/fleet_tls_options.def"
#include "apps/frontend_options.def"
#include "apps/http_options.def"
#include "apps/process_options.def"
#include "apps/remote_router_options.def"
#include "apps/replica_options.def"
#include "apps/router_options.def"
  AddAliases(options);
  return options;
}

std::vector<config::Option> RowsOf(RouterProcessFlags& flags) {
  std::vector<config::Option> options;
#include "apps/access_options.def"
#include "apps/cluster_options.def"
#include "apps/fleet_tls_options.def"
#include "apps/process_options.def"
#include "apps/replica_options.def"
#include "apps/router_options.def"
#include "apps/router_process_options.def"
#include "apps/worker_tls_options.def"
  AddAliases(options);
  return options;
}

std::vector<config::Option> RowsOf(PlannerFlags& flags) {
  std::vector<config::Option> options;
#include "apps/cluster_options.def"
#include "apps/planner_options.def"
#include "apps/process_options.def"
  AddAliases(options);
  return options;
}

std::vector<config::Option> RowsOf(ScaleFlags& flags) {
  std::vector<config::Option> options;
#include "apps/cluster_options.def"
#include "apps/scale_options.def"
  AddAliases(options);
  return options;
}

std::vector<config::Option> RowsOf(ProfileFlags& flags) {
  std::vector<config::Option> options;
#include "apps/mock_options.def"
#include "apps/model_options.def"
#include "apps/profile_options.def"
  AddAliases(options);
  return options;
}

std::vector<config::Option> RowsOf(ChatFlags& flags) {
  std::vector<config::Option> options;
#include "apps/chat_options.def"
  return options;
}

std::vector<config::Option> RowsOf(ReplayFlags& flags) {
  std::vector<config::Option> options;
#include "apps/replay_options.def"
  return options;
}

std::vector<config::Option> RowsOf(ConformanceFlags& flags) {
  std::vector<config::Option> options;
#include "apps/conformance_options.def"
  return options;
}

std::vector<config::Option> RowsOf(BenchServeFlags& flags) {
  std::vector<config::Option> options;
#include "apps/bench_serve_options.def"
  return options;
}

std::vector<config::Option> RowsOf(BenchEngineFlags& flags) {
  std::vector<config::Option> options;
#include "apps/bench_engine_options.def"
  return options;
}

std::vector<config::Option> RowsOf(BenchFrontendFlags& flags) {
  std::vector<config::Option> options;
#include "apps/bench_frontend_options.def"
  return options;
}

std::vector<config::Option> RowsOf(BenchKvFlags& flags) {
  std::vector<config::Option> options;
#include "apps/bench_kv_options.def"
  return options;
}

std::vector<config::Option> RowsOf(BenchDiffusionFlags& flags) {
  std::vector<config::Option> options;
#include "apps/bench_diffusion_options.def"
  return options;
}

std::vector<config::Option> RowsOf(BenchMediaFlags& flags) {
  std::vector<config::Option> options;
#include "apps/bench_media_options.def"
  return options;
}

std::vector<config::Option> RowsOf(BenchVideosFlags& flags) {
  std::vector<config::Option> options;
#include "apps/bench_videos_options.def"
  return options;
}

std::vector<config::Option> RowsOf(BenchTokenizerFlags& flags) {
  std::vector<config::Option> options;
#include "apps/bench_tokenizer_options.def"
  return options;
}

std::vector<config::Option> RowsOf(BenchRouterFlags& flags) {
  std::vector<config::Option> options;
#include "apps/bench_router_options.def"
  return options;
}

std::vector<config::Option> RowsOf(BenchClusterFlags& flags) {
  std::vector<config::Option> options;
#include "apps/bench_cluster_options.def"
  return options;
}

std::vector<config::Option> RowsOf(BenchTransferFlags& flags) {
  std::vector<config::Option> options;
#include "apps/bench_transfer_options.def"
  return options;
}

std::vector<config::Option> RowsOf(RouterFlags& flags) {
  std::vector<config::Option> options;
#include "apps/router_options.def"
  AddAliases(options);
  return options;
}

std::vector<config::Option> RowsOf(RenderFlags& flags) {
  std::vector<config::Option> options;
#include "apps/render_options.def"
  return options;
}

std::vector<config::Option> RowsOf(VideoFlags& flags) {
  std::vector<config::Option> options;
#include "apps/video_options.def"
  return options;
}

std::vector<config::Option> PictureRowsOf(VideoFlags& flags) {
  flags.out = "image.png";
  flags.frames = 1;
  std::vector<config::Option> options = RowsOf(flags);
  std::erase_if(options, [](const config::Option& option) {
    return option.name == "frames" || option.name == "fps" || option.name == "quality" ||
           option.name == "image";
  });
  for (config::Option& option : options) {
    if (option.name == "out") {
      option.help = "file to write: .png, .jpg, .jpeg or .webp";
    }
    if (option.name == "model") {
      option.help = "diffusers folder of a FLUX or Wan pipeline, or a bundled name";
    }
  }
  return options;
}

std::vector<config::Option> RowsOf(SimulateFlags& flags) {
  std::vector<config::Option> options;
#include "apps/simulate_options.def"
  return options;
}

std::vector<config::Option> RowsOf(TraceFlags& flags) {
  std::vector<config::Option> options;
#include "apps/router_options.def"
#include "apps/trace_options.def"
  AddAliases(options);
  return options;
}

}  // namespace pixii::apps
