// Downloads a model as Hugging Face's client does: same endpoint, token, cache layout, so both
// share one cache.
//
// Thread: blocks its caller; runs before the server's loops.
// Cache: CACHE/models--ORG--NAME/{refs/REV, snapshots/COMMIT/FILE -> ../../blobs/ETAG, blobs/ETAG}.
// Source: the HTTP answers of a hub (X-Repo-Commit, X-Linked-Etag, X-Linked-Size,
// /api/models/…/revision/…) and the
//         cache layout as huggingface_hub's documentation describes them. docs/formats/hub_cache.md
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "rt/http_client.h"

namespace pixii::model {

struct HubOptions {
  std::string endpoint = "https://huggingface.co";
  std::string token;         // empty: anonymous
  std::string cache_folder;  // HF_HUB_CACHE, or HF_HOME/hub
  bool offline = false;
  std::uint32_t attempts_max = 5;  // of one file, each resuming where the last one stopped
};

struct HubProgress {
  std::string_view file;
  std::uint32_t file_index = 0;  // from 0
  std::uint32_t file_count = 0;
  std::uint64_t done_bytes = 0;   // of this file
  std::uint64_t total_bytes = 0;  // of this file
};

struct HubName {
  std::string repository;  // "org/name"
  std::string revision;    // branch, tag or commit; "main" by default
};

/// Reads "org/name[@revision]". Errors: kInvalidArgument naming what is not allowed in such a name.
Result<HubName> ParseHubName(std::string_view text);

/// Makes the model's files present and returns the snapshot's folder. Every file's bytes are proven
/// by the digest that the hub names (SHA-256 for large files, git's SHA-1 for small ones) before
/// they appear under their name. Errors: kNotFound (repository, revision or file), kUnauthenticated
/// (gated or private), kDataCorrupt (the bytes are not what the hub says), kUnavailable and
/// kDeadlineExceeded (network, after attempts_max), kUnavailable when offline and not cached.
Result<std::string> FetchModel(const HubName& name, rt::HttpClient& client,
                               const HubOptions& options,
                               const std::function<void(const HubProgress&)>& on_progress);

}  // namespace pixii::model
