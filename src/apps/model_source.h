// From what a user calls a model to a folder on disk: a folder, a bundled name, or
// org/name[@revision] of a hub.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace pixii::apps {

struct ModelSource {
  std::string folder;
  std::string
      name;  // how requests may call it: the bundled name, org/name, or the folder's last part
};

/// The default of every command that takes a MODEL.
inline constexpr char kBundledModel[] = "tiny-chat";

/// Errors: kNotFound naming what was looked for and where; the hub's errors.
/// `offline`: never ask the hub (also by HF_HUB_OFFLINE=1). Progress goes to stderr if that is a
/// terminal.
Result<ModelSource> ResolveModel(const std::string& model, bool offline);

/// `model` with --revision. Errors: kInvalidArgument if it names one already.
Result<std::string> WithRevision(const std::string& model, const std::string& revision);

/// Where programs of this user keep what can be made again: XDG_CACHE_HOME, or .cache at home.
std::string CacheFolder();

/// Folders searched for bundled models, first match wins: PIXII_MODELS_DIR, beside the binary,
/// /usr/share/pixii/models.
std::vector<std::string> BundledModelFolders();

}  // namespace pixii::apps
