// The Kubernetes API: what a lease store needs of it, objects as JSON. docs/formats/discovery.md
//
// Thread: one loop. Source: Kubernetes API concepts ("Efficient detection of changes", "Resource
// versions", "Server-side preconditions"); RFC 7386 (merge patch).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "control/http_call.h"
#include "control/kube_objects.h"
#include "rt/loop.h"
#include "rt/net.h"
#include "rt/time.h"
#include "rt/tls.h"
#include "wire/json.h"

namespace pixii::control {

/// Where a server is, and as whom we ask.
struct KubeAccess {
  rt::Address server;
  std::string space = "default";                   // namespace of all objects
  std::string token_file;                          // bearer token; empty: none
  std::shared_ptr<const rt::TlsContext> tls = {};  // null: plain HTTP
};

/// 2xx, or what a caller has to react to: 404 (not there), 409 (there already, changed meanwhile,
/// another one than the precondition says), 410 (too old a resource version).
struct KubeAnswer {
  int status = 0;
  wire::Json body;

  bool ok() const { return status < 300; }
};

struct KubeListOptions {
  std::string selector = std::string(kKubeSelector);  // empty: all
  std::uint32_t limit = 0;                            // objects; 0: all
  bool metadata_only = false;                         // without spec and data
};

struct KubeEvent {
  enum class Type : std::uint8_t { kPut, kDeleted, kBookmark } type = Type::kPut;
  wire::Json object;
};

/// Errors of every call: kUnavailable and kDeadlineExceeded if the server did not answer or cannot
/// now (429, 5xx), kUnauthenticated (401), kForbidden (403, with what the server says is missing),
/// kDataCorrupt, kInvalidArgument (any other status).
class KubeClient final {
 public:
  /// `loop` and `net` outlive it.
  KubeClient(rt::Loop& loop, rt::Net& net, KubeAccess access);

  rt::Task<Result<KubeAnswer>> Create(KubeKind kind, wire::Json object, rt::Time deadline);
  rt::Task<Result<KubeAnswer>> Get(KubeKind kind, std::string name, rt::Time deadline);
  /// Only if the object is still what its metadata.resourceVersion and uid say.
  rt::Task<Result<KubeAnswer>> Replace(KubeKind kind, std::string name, wire::Json object,
                                       rt::Time deadline);
  /// The same of its status alone, which Replace leaves as it is where a kind has one apart.
  rt::Task<Result<KubeAnswer>> ReplaceStatus(KubeKind kind, std::string name, wire::Json object,
                                             rt::Time deadline);
  rt::Task<Result<KubeAnswer>> MergePatch(KubeKind kind, std::string name, wire::Json patch,
                                          rt::Time deadline);
  /// Only if the object is still `version`; an empty resource version means any.
  rt::Task<Result<KubeAnswer>> Delete(KubeKind kind, std::string name, KubeVersion version,
                                      rt::Time deadline);
  rt::Task<Result<KubeAnswer>> List(KubeKind kind, KubeListOptions options, rt::Time deadline);

  /// Lines of events after `resource_version`, until the server ends it after about `length`.
  /// Errors: also kNotFound if the version is too old.
  rt::Task<Result<std::unique_ptr<HttpStream>>> Watch(
      KubeKind kind, std::string resource_version, rt::Duration length, rt::Time deadline,
      std::string selector = std::string(kKubeSelector));
  /// A line of a watch. Errors: kNotFound if the version became too old, kUnavailable for other
  /// errors of the server, kDataCorrupt.
  static Result<KubeEvent> ReadWatchLine(std::string_view line);

  /// The server asked for silence until then.
  rt::Time not_before() const { return not_before_; }

 private:
  HttpCall CallOf(std::string method, std::string target, std::string body) const;
  std::string PathOf(KubeKind kind, std::string_view name) const;
  Result<void> RefreshToken();
  bool TokenChanged();
  rt::Task<Result<KubeAnswer>> Call(HttpCall call, rt::Time deadline);
  Result<void> AddToken(HttpCall& call);
  rt::Task<Result<HttpAnswer>> CallWithToken(HttpCall call, rt::Time deadline);
  rt::Task<Result<std::unique_ptr<HttpStream>>> OpenWithToken(HttpCall call, rt::Time deadline);
  Error ErrorOf(int status, std::string_view body) const;
  void HeedRetryAfter(int status, std::string_view retry_after);

  rt::Loop& loop_;
  KubeAccess access_;
  std::unique_ptr<rt::Net> tls_net_;
  rt::Net& net_;
  std::string token_;
  rt::Time token_read_at_{};
  rt::Time not_before_{};
};

}  // namespace pixii::control
