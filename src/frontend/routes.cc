// The table of routes, and /openapi.json, which is made of it.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "frontend/frontend.h"

namespace pixii::frontend {

using wire::Json;

const std::vector<Frontend::Route>& Frontend::Routes() {
  static const std::vector<Route> kRoutes = {
      {.path = "/v1/chat/completions",
       .method = "POST",
       .handle = &Frontend::HandleChat,
       .summary = "A chat completion",
       .needs = Needs::kGenerate},
      {.path = "/v1/completions",
       .method = "POST",
       .handle = &Frontend::HandleCompletions,
       .summary = "A text completion",
       .needs = Needs::kGenerate},
      {.path = "/v1/messages",
       .method = "POST",
       .handle = &Frontend::HandleMessages,
       .summary = "A message (Anthropic)",
       .dialect = Dialect::kAnthropic,
       .enabled = &FrontendOptions::anthropic_api,
       .needs = Needs::kGenerate},
      {.path = "/v1/messages/count_tokens",
       .method = "POST",
       .handle = &Frontend::HandleCountTokens,
       .summary = "The tokens of a message",
       .dialect = Dialect::kAnthropic,
       .enabled = &FrontendOptions::anthropic_api,
       .needs = Needs::kGenerate},
      {.path = "/v1/responses",
       .method = "POST",
       .handle = &Frontend::HandleResponses,
       .summary = "A response",
       .needs = Needs::kGenerate},
      {.path = "/v1/responses/input_tokens",
       .method = "POST",
       .handle = &Frontend::HandleResponsesCount,
       .summary = "The tokens of a response",
       .needs = Needs::kGenerate},
      {.path = "/v1/responses/",
       .method = "GET",
       .handle = &Frontend::HandleResponse,
       .summary = "A stored response",
       .parameter = "response_id"},
      {.path = "/v1/responses/",
       .method = "DELETE",
       .handle = &Frontend::HandleDeleteResponse,
       .summary = "Forget a stored response",
       .parameter = "response_id"},
      {.path = "/v1/files",
       .method = "GET",
       .handle = &Frontend::HandleFiles,
       .summary = "Uploaded files and what batches wrote"},
      {.path = "/v1/files",
       .method = "POST",
       .handle = &Frontend::HandleUploadFile,
       .summary = "Upload a file for a batch"},
      {.path = "/v1/files/",
       .method = "GET",
       .handle = &Frontend::HandleFileContent,
       .summary = "The bytes of a file",
       .parameter = "file_id",
       .suffix = "/content"},
      {.path = "/v1/files/",
       .method = "GET",
       .handle = &Frontend::HandleFile,
       .summary = "A file",
       .parameter = "file_id"},
      {.path = "/v1/files/",
       .method = "DELETE",
       .handle = &Frontend::HandleDeleteFile,
       .summary = "Delete a file",
       .parameter = "file_id"},
      {.path = "/v1/batches",
       .method = "GET",
       .handle = &Frontend::HandleBatches,
       .summary = "Batches"},
      {.path = "/v1/batches",
       .method = "POST",
       .handle = &Frontend::HandleCreateBatch,
       .summary = "Run the requests of a file when there is room"},
      {.path = "/v1/batches/",
       .method = "POST",
       .handle = &Frontend::HandleCancelBatch,
       .summary = "Cancel a batch",
       .parameter = "batch_id",
       .suffix = "/cancel"},
      {.path = "/v1/batches/",
       .method = "GET",
       .handle = &Frontend::HandleBatch,
       .summary = "A batch",
       .parameter = "batch_id"},
      {.path = "/v1/videos",
       .method = "GET",
       .handle = &Frontend::HandleVideos,
       .summary = "Jobs that make videos",
       .enabled = &FrontendOptions::media_api},
      {.path = "/v1/videos",
       .method = "POST",
       .handle = &Frontend::HandleCreateVideo,
       .summary = "Make a video",
       .enabled = &FrontendOptions::media_api},
      {.path = "/v1/videos/sync",
       .method = "POST",
       .handle = &Frontend::HandleVideoSync,
       .summary = "Make a video and answer with the file",
       .enabled = &FrontendOptions::media_api},
      {.path = "/v1/videos/generations",
       .method = "POST",
       .handle = &Frontend::HandleVideoGenerations,
       .summary = "Make a video and answer with its URL or bytes",
       .enabled = &FrontendOptions::media_api},
      {.path = "/v1/videos/generations/stream",
       .method = "POST",
       .handle = &Frontend::HandleVideoAbsent,
       .summary = "Refused: a video is made whole",
       .enabled = &FrontendOptions::media_api},
      {.path = "/v1/videos/edits",
       .method = "POST",
       .handle = &Frontend::HandleVideoAbsent,
       .summary = "Refused: a video is made anew, not from another one",
       .enabled = &FrontendOptions::media_api},
      {.path = "/v1/videos/extensions",
       .method = "POST",
       .handle = &Frontend::HandleVideoAbsent,
       .summary = "Refused: a video is made anew, not from another one",
       .enabled = &FrontendOptions::media_api},
      {.path = "/v1/videos/characters",
       .method = "POST",
       .handle = &Frontend::HandleVideoAbsent,
       .summary = "Refused: a video is made anew, not from another one",
       .enabled = &FrontendOptions::media_api},
      {.path = "/v1/videos/",
       .method = "POST",
       .handle = &Frontend::HandleVideoAbsent,
       .summary = "Refused: a video is made anew, not from another one",
       .parameter = "video_id",
       .suffix = "/remix",
       .enabled = &FrontendOptions::media_api},
      {.path = "/v1/videos/",
       .method = "GET",
       .handle = &Frontend::HandleVideoContent,
       .summary = "The file of a video",
       .parameter = "video_id",
       .suffix = "/content",
       .enabled = &FrontendOptions::media_api},
      {.path = "/v1/videos/",
       .method = "GET",
       .handle = &Frontend::HandleVideo,
       .summary = "A job that makes a video",
       .parameter = "video_id",
       .enabled = &FrontendOptions::media_api},
      {.path = "/v1/videos/",
       .method = "DELETE",
       .handle = &Frontend::HandleDeleteVideo,
       .summary = "Cancel a job and delete its video",
       .parameter = "video_id",
       .enabled = &FrontendOptions::media_api},
      {.path = "/v1/images/generations",
       .method = "POST",
       .handle = &Frontend::HandleImages,
       .summary = "Make pictures",
       .enabled = &FrontendOptions::media_api},
      {.path = "/v1/images/edits",
       .method = "POST",
       .handle = &Frontend::HandleImageAbsent,
       .summary = "Refused: a picture is made anew, not from another one",
       .enabled = &FrontendOptions::media_api},
      {.path = "/v1/images/variations",
       .method = "POST",
       .handle = &Frontend::HandleImageAbsent,
       .summary = "Refused: a picture is made anew, not from another one",
       .enabled = &FrontendOptions::media_api},
      {.path = "/v1/images/",
       .method = "GET",
       .handle = &Frontend::HandleImageContent,
       .summary = "The file of a picture",
       .parameter = "image_id",
       .suffix = "/content",
       .enabled = &FrontendOptions::media_api},
      {.path = "/v1/images/",
       .method = "DELETE",
       .handle = &Frontend::HandleDeleteImage,
       .summary = "Delete the pictures of a request",
       .parameter = "image_id",
       .enabled = &FrontendOptions::media_api},
      {.path = "/inference/v1/generate",
       .method = "POST",
       .handle = &Frontend::HandleGenerateTokens,
       .summary = "Token ids to token ids",
       .needs = Needs::kGenerate},
      {.path = "/v2/models/",
       .method = "POST",
       .handle = &Frontend::HandleKserveInfer,
       .summary = "Tensors to tensors (KServe)",
       .parameter = "model",
       .suffix = "/infer",
       .dialect = Dialect::kKserve,
       .needs = Needs::kGenerate},
      {.path = "/v2/models/",
       .method = "POST",
       .handle = &Frontend::HandleKserveGenerate,
       .summary = "Text to text (KServe)",
       .parameter = "model",
       .suffix = "/generate",
       .dialect = Dialect::kKserve,
       .needs = Needs::kGenerate},
      {.path = "/v2/models/",
       .method = "POST",
       .handle = &Frontend::HandleKserveStream,
       .summary = "Text to text in pieces (KServe)",
       .parameter = "model",
       .suffix = "/generate_stream",
       .dialect = Dialect::kKserve,
       .needs = Needs::kGenerate},
      {.path = "/v2/models/",
       .method = "GET",
       .handle = &Frontend::HandleKserveModelReady,
       .summary = "Whether a model answers (KServe)",
       .parameter = "model",
       .suffix = "/ready",
       .dialect = Dialect::kKserve,
       .needs = Needs::kGenerate},
      {.path = "/v2/models/",
       .method = "GET",
       .handle = &Frontend::HandleKserveModel,
       .summary = "The tensors of a model (KServe)",
       .parameter = "model",
       .dialect = Dialect::kKserve,
       .needs = Needs::kGenerate},
      {.path = "/v2",
       .method = "GET",
       .handle = &Frontend::HandleKserveServer,
       .summary = "The server (KServe)",
       .dialect = Dialect::kKserve},
      {.path = "/v2/health/live",
       .method = "GET",
       .handle = &Frontend::HandleKserveLive,
       .summary = "Whether the process turns (KServe)",
       .access = Access::kOpen,
       .dialect = Dialect::kKserve},
      {.path = "/v2/health/ready",
       .method = "GET",
       .handle = &Frontend::HandleKserveReady,
       .summary = "Whether generations succeed (KServe)",
       .access = Access::kOpen,
       .dialect = Dialect::kKserve},
      {.path = "/v1/embeddings",
       .method = "POST",
       .handle = &Frontend::HandleEmbeddings,
       .summary = "Vectors of texts",
       .needs = Needs::kEmbed},
      {.path = "/v1/score",
       .method = "POST",
       .handle = &Frontend::HandleScore,
       .summary = "How well texts go together",
       .needs = Needs::kScore},
      {.path = "/score",
       .method = "POST",
       .handle = &Frontend::HandleScore,
       .summary = "How well texts go together",
       .needs = Needs::kScore},
      {.path = "/v1/rerank",
       .method = "POST",
       .handle = &Frontend::HandleRerank,
       .summary = "Documents in the order of a query",
       .needs = Needs::kScore},
      {.path = "/v2/rerank",
       .method = "POST",
       .handle = &Frontend::HandleRerank,
       .summary = "Documents in the order of a query",
       .needs = Needs::kScore},
      {.path = "/rerank",
       .method = "POST",
       .handle = &Frontend::HandleRerank,
       .summary = "Documents in the order of a query",
       .needs = Needs::kScore},
      {.path = "/v1/classify",
       .method = "POST",
       .handle = &Frontend::HandleClassify,
       .summary = "Classes of texts",
       .needs = Needs::kClassify},
      {.path = "/classify",
       .method = "POST",
       .handle = &Frontend::HandleClassify,
       .summary = "Classes of texts",
       .needs = Needs::kClassify},
      {.path = "/v1/models",
       .method = "GET",
       .handle = &Frontend::HandleModels,
       .summary = "The served models"},
      {.path = "/v1/models/",
       .method = "GET",
       .handle = &Frontend::HandleModel,
       .summary = "A served model",
       .parameter = "model"},
      {.path = "/v1/loras",
       .method = "GET",
       .handle = &Frontend::HandleAdapters,
       .summary = "Loaded adapters",
       .access = Access::kAdmin},
      {.path = "/v1/loras",
       .method = "POST",
       .handle = &Frontend::HandleLoadAdapter,
       .summary = "Load an adapter",
       .access = Access::kAdmin},
      {.path = "/v1/loras/",
       .method = "DELETE",
       .handle = &Frontend::HandleDeleteAdapter,
       .summary = "Unload an adapter",
       .access = Access::kAdmin,
       .parameter = "lora_name"},
      {.path = "/v1/load_lora_adapter",
       .method = "POST",
       .handle = &Frontend::HandleLoadLoraAdapter,
       .summary = "Load an adapter (vLLM)",
       .access = Access::kAdmin},
      {.path = "/v1/unload_lora_adapter",
       .method = "POST",
       .handle = &Frontend::HandleUnloadLoraAdapter,
       .summary = "Unload an adapter (vLLM)",
       .access = Access::kAdmin},
      {.path = "/tokenize",
       .method = "POST",
       .handle = &Frontend::HandleTokenize,
       .summary = "Text to token ids"},
      {.path = "/detokenize",
       .method = "POST",
       .handle = &Frontend::HandleDetokenize,
       .summary = "Token ids to text"},
      {.path = "/engine/control/release_memory_occupation",
       .method = "POST",
       .handle = &Frontend::HandleReleaseMemory,
       .summary = "Sleep",
       .access = Access::kAdmin},
      {.path = "/engine/control/resume_memory_occupation",
       .method = "POST",
       .handle = &Frontend::HandleResumeMemory,
       .summary = "Wake up",
       .access = Access::kAdmin},
      {.path = "/engine/control/clear_kv_blocks",
       .method = "POST",
       .handle = &Frontend::HandleClearBlocks,
       .summary = "Forget the prefix cache",
       .access = Access::kAdmin},
      {.path = "/health",
       .method = "GET",
       .handle = &Frontend::HandleHealth,
       .summary = "Whether generations succeed",
       .access = Access::kOpen},
      {.path = "/live",
       .method = "GET",
       .handle = &Frontend::HandleLive,
       .summary = "Whether the process turns",
       .access = Access::kOpen},
      {.path = "/ready",
       .method = "GET",
       .handle = &Frontend::HandleReady,
       .summary = "Whether generations succeed",
       .access = Access::kOpen},
      {.path = "/metrics",
       .method = "GET",
       .handle = &Frontend::HandleMetrics,
       .summary = "Prometheus text",
       .access = Access::kOpen},
      {.path = "/v1/traces/",
       .method = "GET",
       .handle = &Frontend::HandleTrace,
       .summary = "The timeline of an ended request",
       .access = Access::kAdmin,
       .parameter = "request_id",
       .enabled = &FrontendOptions::admin_api},
      {.path = "/v1/requests",
       .method = "GET",
       .handle = &Frontend::HandleEndedRequests,
       .summary = "What requests came, and how those that ended were served",
       .access = Access::kAdmin,
       .enabled = &FrontendOptions::admin_api},
      {.path = "/router/explain",
       .method = "POST",
       .handle = &Frontend::HandleExplainRoute,
       .summary = "Where a request would go, and why",
       .access = Access::kAdmin,
       .enabled = &FrontendOptions::admin_api,
       .needs = Needs::kGenerate},
      {.path = "/v1/cluster",
       .method = "GET",
       .handle = &Frontend::HandleCluster,
       .summary = "Models, workers and what they do now",
       .access = Access::kAdmin,
       .enabled = &FrontendOptions::admin_api},
      {.path = "/busy_threshold",
       .method = "GET",
       .handle = &Frontend::HandleBusyThreshold,
       .summary = "When the server counts as busy",
       .access = Access::kAdmin,
       .dialect = Dialect::kKserve,
       .enabled = &FrontendOptions::admin_api},
      {.path = "/busy_threshold",
       .method = "POST",
       .handle = &Frontend::HandleSetBusyThreshold,
       .summary = "Set when the server counts as busy",
       .access = Access::kAdmin,
       .dialect = Dialect::kKserve,
       .enabled = &FrontendOptions::admin_api},
      {.path = "/clear_kv_blocks",
       .method = "POST",
       .handle = &Frontend::HandleClearCache,
       .summary = "Forget the prefix cache",
       .access = Access::kAdmin,
       .enabled = &FrontendOptions::admin_api},
      {.path = "/openapi.json",
       .method = "GET",
       .handle = &Frontend::HandleOpenApi,
       .summary = "This list",
       .access = Access::kOpen},
      {.path = "/",
       .method = "GET",
       .handle = &Frontend::HandlePage,
       .summary = "The web page",
       .access = Access::kOpen},
      {.path = "/page/",
       .method = "GET",
       .handle = &Frontend::HandlePage,
       .summary = "A file of the web page",
       .access = Access::kOpen,
       .parameter = "file"},
  };
  return kRoutes;
}

namespace {

struct EndpointGroup {
  std::string_view name;
  std::string_view path;  // that its routes begin with
};

// The first that fits counts.
constexpr auto kGroups = std::to_array<EndpointGroup>({
    {"chat", "/v1/chat/"},
    {"completions", "/v1/completions"},
    {"responses", "/v1/responses"},
    {"messages", "/v1/messages"},
    {"embeddings", "/v1/embeddings"},
    {"score", "/v1/score"},
    {"score", "/score"},
    {"rerank", "/v1/rerank"},
    {"rerank", "/v2/rerank"},
    {"rerank", "/rerank"},
    {"classify", "/v1/classify"},
    {"classify", "/classify"},
    {"batches", "/v1/files"},
    {"batches", "/v1/batches"},
    {"videos", "/v1/videos"},
    {"images", "/v1/images"},
    {"kserve", "/v2"},
    {"generate", "/inference/v1/generate"},
    {"tokenize", "/tokenize"},
    {"tokenize", "/detokenize"},
    {"router", "/router/"},
    {"router", "/busy_threshold"},
    {"page", "/page/"},
});

std::string_view GroupOf(std::string_view path) {
  if (path == "/") {
    return "page";
  }
  for (const EndpointGroup& group : kGroups) {
    if (path.starts_with(group.path)) {
      return group.name;
    }
  }
  return {};
}

}  // namespace

std::vector<std::string_view> Frontend::EndpointNames() {
  std::vector<std::string_view> out;
  for (const EndpointGroup& group : kGroups) {
    if (std::ranges::find(out, group.name) == out.end()) {
      out.push_back(group.name);
    }
  }
  return out;
}

std::vector<const Frontend::Route*> Frontend::ServedRoutes(const FrontendOptions& options) {
  std::vector<const Route*> out;
  for (const Route& route : Routes()) {
    const bool off = (route.enabled != nullptr && !(options.*route.enabled)) ||
                     std::ranges::find(options.disabled_endpoints, GroupOf(route.path)) !=
                         options.disabled_endpoints.end();
    if (!off) {
      out.push_back(&route);
    }
  }
  return out;
}

bool Frontend::Matches(const Route& route, const wire::HttpRequest& request) const {
  if (route.parameter.empty()) {
    return request.path == (route.path == "/health" ? std::string_view(options_.health_path)
                            : route.path == "/live" ? std::string_view(options_.live_path)
                                                    : route.path);
  }
  return request.path.size() > route.path.size() + route.suffix.size() &&
         request.path.starts_with(route.path) && request.path.ends_with(route.suffix);
}

std::string Frontend::AllowedMethods(const wire::HttpRequest& request) const {
  std::string out;
  for (const Route* route : routes_) {
    if (Matches(*route, request)) {
      out += out.empty() ? "" : ", ";
      out += route->method == "GET" ? "GET, HEAD" : route->method;
    }
  }
  return out;
}

std::string_view Frontend::ParameterOf(const Route& route, const wire::HttpRequest& request) {
  std::string_view out(request.path);
  out.remove_prefix(route.path.size());
  out.remove_suffix(route.suffix.size());
  return out;
}

bool Frontend::Answers(const ModelService& service, Needs needs) {
  const wire::ModelCard& card = service.card();
  const bool generates = card.task == wire::ModelTask::kGenerate;
  const bool classifies = card.task == wire::ModelTask::kClassify;
  switch (needs) {
    case Needs::kNothing:
      return true;
    case Needs::kGenerate:
      return generates;
    case Needs::kEmbed:
      return card.task == wire::ModelTask::kEmbed;
    case Needs::kClassify:
      return classifies;
    case Needs::kScore:
      return generates ? service.model().pooling.score.has_value()
                       : !classifies || card.feature_count == 1;
  }
  return false;
}

// Whether a route does anything with the models that are served, and the page that was built.
bool Frontend::Answers(const Route& route) const {
  if (route.handle == &Frontend::HandlePage && options_.page.empty()) {
    return false;
  }
  return route.needs == Needs::kNothing ||
         std::ranges::any_of(models_.serving(),
                             [&](const auto& service) { return Answers(*service, route.needs); });
}

void Frontend::HandleOpenApi(Call& call) {
  Json paths{Json::Object{}};
  for (const Route* served : routes_) {
    const Route& route = *served;
    if (!Answers(route)) {
      continue;
    }
    const std::string path = route.parameter.empty() ? std::string(route.path)
                                                     : fmt::format("{}{{{}}}{}", route.path,
                                                                   route.parameter, route.suffix);
    Json done{Json::Object{}};
    done.Set("description", "done");
    Json responses{Json::Object{}};
    responses.Set("200", std::move(done));
    Json operation{Json::Object{}};
    operation.Set("summary", route.summary);
    std::string method(route.method == "GET"      ? "get"
                       : route.method == "DELETE" ? "delete"
                                                  : "post");
    operation.Set("operationId", fmt::format("{} {}", method, path));
    if (!route.parameter.empty()) {
      Json schema{Json::Object{}};
      schema.Set("type", "string");
      Json parameter{Json::Object{}};
      parameter.Set("name", route.parameter);
      parameter.Set("in", "path");
      parameter.Set("required", true);
      parameter.Set("schema", std::move(schema));
      operation.Set("parameters", Json::Array{std::move(parameter)});
    }
    operation.Set("responses", std::move(responses));
    const Json* before = paths.Find(path);
    Json methods = before == nullptr ? Json(Json::Object{}) : *before;
    methods.Set(method, std::move(operation));
    paths.Set(path, std::move(methods));
  }
  Json info{Json::Object{}};
  info.Set("title", "Pixii");
  info.Set("version", "1");
  Json out{Json::Object{}};
  out.Set("openapi", "3.1.0");
  out.Set("info", std::move(info));
  out.Set("paths", std::move(paths));
  Answer(call, out.Dump());
}

}  // namespace pixii::frontend
