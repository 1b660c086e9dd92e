// etcd's JSON gateway: what a lease store needs of it. docs/formats/discovery.md
//
// Thread: one loop. Source: etcd 3.4, api_grpc_gateway.md and rpc.proto: bytes are base64, 64-bit
// integers are texts, zeros are left out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "control/http_call.h"
#include "rt/net.h"
#include "rt/time.h"
#include "wire/json.h"

namespace pixii::control {

enum class EtcdLease : std::int64_t { kNone = 0 };

inline constexpr std::size_t kEtcdKeysMax = 100;  // of 128 conditions a transaction may have

struct EtcdKey {
  std::string key;
  std::int64_t revision = 0;
};

struct EtcdRange {
  std::map<std::string, std::string> values;
  std::int64_t revision = 0;  // of the whole store
};

/// Something that changed under a watched prefix.
struct EtcdEvent {
  bool deleted = false;
  std::string key;
  std::string value;
};

struct EtcdEvents {
  std::vector<EtcdEvent> events;
  std::int64_t revision = 0;
};

/// Errors of every call: kUnavailable and kDeadlineExceeded if the server did not answer, and its
/// own: kNotFound (no such lease), kUnavailable (no leader), kUnauthenticated, kDataCorrupt.
class EtcdClient final {
 public:
  /// `endpoints`: at least one; another is tried after a failure.
  EtcdClient(rt::Net& net, std::vector<rt::Address> endpoints);

  rt::Task<Result<EtcdLease>> Grant(rt::Duration ttl, rt::Time deadline);
  /// Errors: kNotFound if the lease is over.
  rt::Task<Result<void>> KeepAlive(EtcdLease lease, rt::Time deadline);
  rt::Task<Result<void>> Revoke(EtcdLease lease, rt::Time deadline);
  /// The revision that the key has from then on.
  rt::Task<Result<std::int64_t>> Put(std::string key, std::string value, EtcdLease lease,
                                     rt::Time deadline);
  /// Whether each key was changed last at its revision. At most kEtcdKeysMax keys.
  rt::Task<Result<bool>> AreAt(std::vector<EtcdKey> keys, rt::Time deadline);
  /// If `key` hangs on `lease`.
  rt::Task<Result<void>> Delete(std::string key, EtcdLease lease, rt::Time deadline);
  rt::Task<Result<EtcdRange>> Range(std::string prefix, rt::Time deadline);

  /// The store's revision, and whether a key that is there under `prefix` changed after `after`.
  struct News {
    std::int64_t revision = 0;
    bool any = false;
  };

  rt::Task<Result<News>> NewsAfter(std::string prefix, std::int64_t after, rt::Time deadline);

  /// Events from `revision` on, piece by piece as HttpStream::Read gives them.
  rt::Task<Result<std::unique_ptr<HttpStream>>> Watch(std::string prefix, std::int64_t revision,
                                                      rt::Time deadline);
  /// A line of a watch. Errors: kUnavailable if the watch is over (also: the revision was
  /// compacted), kDataCorrupt.
  static Result<EtcdEvents> ReadWatchLine(std::string_view line);

 private:
  HttpCall CallOf(std::string_view target, const wire::Json& body) const;
  rt::Task<Result<wire::Json>> Call(std::string target, wire::Json body, rt::Time deadline);

  rt::Net& net_;
  std::vector<rt::Address> endpoints_;
  std::size_t current_ = 0;
};

}  // namespace pixii::control
