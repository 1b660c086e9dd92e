// Blocks as values of a Redis-compatible store, over TCP, TLS or a Unix socket.
//
// Thread: one at a time; calls block, for `call_time_max` at most.
// What goes when the store is full, and when, is the store's own rule (maxmemory-policy, and
// `expiry` of each value). Source: redis.io, commands AUTH, SELECT, SET, GET, UNLINK, SCAN.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "kv/tiers/object_store.h"
#include "rt/blocking_stream.h"
#include "rt/net.h"
#include "rt/time.h"
#include "rt/tls.h"
#include "wire/resp.h"

namespace pixii::kv {

struct RedisOptions {
  std::string url;          // redis://HOST:PORT[/DATABASE], rediss:// the same with TLS, unix:/PATH
  std::string user;         // empty: the store's default one
  std::string password;     // empty: nobody asks for it
  std::string authorities;  // PEM file: whose certificates it may have, for TLS
  rt::Duration expiry = rt::Duration{};  // of a value after it is written; 0: none
  rt::Duration call_time_max = std::chrono::seconds(4);
};

class RedisService final : public ObjectService {
 public:
  /// Does not connect: the store may come later. Errors: kInvalidArgument for a URL or a file that
  /// is none; `param` is then "authorities" if it was that file.
  static Result<std::unique_ptr<RedisService>> Create(const RedisOptions& options);

  /// Errors: kInvalidArgument for a URL that is none; what may be a password in it is not said.
  static Result<void> CheckUrl(std::string_view url);

  /// Errors of all: kUnavailable, kDeadlineExceeded, kUnauthenticated; of Put also
  /// kResourceExhausted if the store has no memory left.
  Result<void> Put(const std::string& name, std::string_view bytes) override;
  Result<std::string> Get(const std::string& name, std::uint64_t size_max) override;
  Result<void> Delete(const std::string& name) override;
  Result<void> List(const std::string& prefix, ListWatch& watch,
                    const std::function<bool(std::string_view)>& on_name) override;

 private:
  struct Place {
    rt::Address address;
    bool tls = false;
    std::uint32_t database = 0;
  };

  RedisService(RedisOptions options, Place place, std::shared_ptr<const rt::TlsContext> tls)
      : options_(std::move(options)), place_(std::move(place)), tls_(std::move(tls)) {}

  static Result<Place> ParseUrl(std::string_view url);

  Result<wire::RespValue> Call(std::span<const std::string_view> words, std::uint64_t bytes_max);
  Result<wire::RespValue> TryCall(std::string_view command, std::uint64_t bytes_max,
                                  rt::Duration limit);
  Result<void> Open(rt::Duration limit);
  Result<wire::RespValue> Exchange(std::string_view command);
  void Close();

  RedisOptions options_;
  Place place_;
  std::shared_ptr<const rt::TlsContext> tls_;   // null: without TLS
  std::unique_ptr<rt::BlockingStream> stream_;  // null: none, or one that is out of step
  wire::RespReader reader_{0};
};

}  // namespace pixii::kv
