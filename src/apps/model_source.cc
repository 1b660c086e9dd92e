#include "apps/model_source.h"

#include "apps/command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "model/hub.h"
#include "rt/http_client.h"

namespace pixii::apps {

namespace fs = std::filesystem;

namespace {

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

bool IsTruthy(const std::string& value) {
  return value == "1" || value == "ON" || value == "YES" || value == "TRUE" || value == "true" ||
         value == "on" || value == "yes";
}

// The same variables, in the same order of precedence, as Hugging Face's client reads.
model::HubOptions HubOptionsFromEnvironment(bool offline) {
  model::HubOptions options;
  std::string home = Environment("HF_HOME");
  if (home.empty()) {
    home = CacheFolder() + "/huggingface";
  }
  if (std::string endpoint = Environment("HF_ENDPOINT"); !endpoint.empty()) {
    options.endpoint = endpoint;
    while (options.endpoint.ends_with('/')) {
      options.endpoint.pop_back();
    }
  }
  options.cache_folder = Environment("HF_HUB_CACHE");
  if (options.cache_folder.empty()) {
    options.cache_folder = home + "/hub";
  }
  options.token = Environment("HF_TOKEN");
  if (options.token.empty()) {
    std::string path = Environment("HF_TOKEN_PATH");
    std::ifstream in(path.empty() ? home + "/token" : path);
    in >> options.token;
  }
  options.offline = offline || IsTruthy(Environment("HF_HUB_OFFLINE"));
  return options;
}

rt::HttpClientOptions ClientOptionsFromEnvironment() {
  rt::HttpClientOptions options;
  std::string seconds = Environment("HF_HUB_DOWNLOAD_TIMEOUT");
  std::uint32_t value = 0;
  auto [end, error] = std::from_chars(seconds.data(), seconds.data() + seconds.size(), value);
  if (error == std::errc{} && value > 0) {
    options.stall_timeout_s = value;
  }
  return options;
}

// One line, redrawn in place.
void DrawProgress(const model::HubProgress& progress) {
  constexpr int kWidth = 30;
  double share = progress.total_bytes == 0 ? 1.0
                                           : static_cast<double>(progress.done_bytes) /
                                                 static_cast<double>(progress.total_bytes);
  int filled = static_cast<int>(share * kWidth);
  std::string bar(static_cast<std::size_t>(filled), '#');
  bar.resize(kWidth, '.');
  SayError("\r[{}/{}] {} [{}] {:.1f}/{:.1f} MiB\x1b[K{}", progress.file_index + 1,
           progress.file_count, progress.file, bar,
           static_cast<double>(progress.done_bytes) / (1 << 20),
           static_cast<double>(progress.total_bytes) / (1 << 20),
           progress.done_bytes == progress.total_bytes ? "\n" : "");
}

Result<ModelSource> FromHub(const std::string& model, bool offline) {
  PX_TRY(model::HubName name, model::ParseHubName(model));
  model::HubOptions options = HubOptionsFromEnvironment(offline);
  std::unique_ptr<rt::HttpClient> client = rt::MakeCurlClient(ClientOptionsFromEnvironment());
  bool terminal = isatty(STDERR_FILENO) == 1;
  PX_TRY(std::string folder,
         model::FetchModel(name, *client, options, [&](const model::HubProgress& progress) {
           if (terminal) {
             DrawProgress(progress);
           }
         }));
  return ModelSource{.folder = std::move(folder), .name = name.repository};
}

}  // namespace

std::vector<std::string> BundledModelFolders() {
  std::vector<std::string> folders;
  if (std::string given = Environment("PIXII_MODELS_DIR"); !given.empty()) {
    folders.push_back(std::move(given));
  }
  std::error_code failed;
  fs::path binary = fs::read_symlink("/proc/self/exe", failed);
  if (!failed) {
    fs::path folder = binary.parent_path();
    folders.push_back((folder / "../share/pixii/models").lexically_normal());
    folders.push_back(
        (folder / "../../models").lexically_normal());  // build/PRESET/pixii of a source tree
  }
  folders.emplace_back("/usr/share/pixii/models");
  return folders;
}

std::string CacheFolder() {
  const std::string base = Environment("XDG_CACHE_HOME");
  return base.empty() ? Environment("HOME") + "/.cache" : base;
}

Result<ModelSource> ResolveModel(const std::string& model, bool offline) {
  std::error_code ignored;
  if (fs::is_directory(model, ignored)) {
    fs::path path = fs::path(model).lexically_normal();
    std::string name = path.filename().empty() ? path.parent_path().filename() : path.filename();
    return ModelSource{.folder = model, .name = name.empty() || name == "." ? "model" : name};
  }
  if (fs::is_regular_file(model, ignored)) {
    return ModelSource{.folder = model, .name = fs::path(model).stem().string()};  // a GGUF file
  }
  bool plain = model.find('/') == std::string::npos && !model.empty();
  if (plain) {
    for (const std::string& folder : BundledModelFolders()) {
      if (fs::is_directory(fs::path(folder) / model, ignored)) {
        return ModelSource{.folder = (fs::path(folder) / model).string(), .name = model};
      }
    }
    return Fail(Code::kNotFound,
                fmt::format("\"{}\" is neither a folder, a GGUF file nor a bundled model; bundled "
                            "models are looked for in {}",
                            model, fmt::join(BundledModelFolders(), ", ")),
                "MODEL");
  }
  if (model.starts_with('/') || model.starts_with('.') || model.starts_with('~')) {
    return Fail(Code::kNotFound, fmt::format("there is no folder {}", model), "MODEL");
  }
  return FromHub(model, offline);
}

Result<std::string> WithRevision(const std::string& model, const std::string& revision) {
  if (revision.empty()) {
    return model;
  }
  if (model.find('@') != std::string::npos) {
    return Fail(Code::kInvalidArgument,
                fmt::format("revision: \"{}\" names one already, --revision {} is a second", model,
                            revision),
                "revision");
  }
  return fmt::format("{}@{}", model, revision);
}

}  // namespace pixii::apps
