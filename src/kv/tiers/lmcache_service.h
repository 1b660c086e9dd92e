// The server of LMCache (`lm://host:port`) as a store of bytes by name. docs/lmcache.md
//
// Thread: one at a time; calls block, for the limits below at most.
// The protocol has no names, no deletion that it serves and no answer to a put: nothing is listed,
// Delete does nothing, and a put that got lost is a miss later.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "kv/tiers/object_store.h"
#include "rt/blocking_stream.h"
#include "rt/net.h"
#include "rt/time.h"
#include "wire/lmcache.h"

namespace pixii::kv {

struct LmcacheOptions {
  rt::Address address;
  rt::Duration connect_time_max = std::chrono::seconds(1);
  rt::Duration call_time_max = std::chrono::seconds(2);  // of a put or get, connecting aside
};

class LmcacheService final : public ObjectService {
 public:
  explicit LmcacheService(LmcacheOptions options) : options_(std::move(options)) {}

  /// "lm://HOST:PORT". Errors: kInvalidArgument naming what is wrong.
  static Result<rt::Address> ParseUrl(std::string_view url);

  Result<void> Put(const std::string& name, std::string_view bytes) override;
  Result<std::string> Get(const std::string& name, std::uint64_t size_max) override;
  Result<void> Delete(const std::string& name) override;
  Result<void> List(const std::string& prefix, ListWatch& watch,
                    const std::function<bool(std::string_view)>& on_name) override;

 private:
  Result<void> Connect();
  Result<void> Send(wire::LmcacheCommand command, const std::string& name, std::string_view bytes);
  Result<std::string> Receive(std::uint64_t size_max);

  LmcacheOptions options_;
  std::unique_ptr<rt::BlockingStream> stream_;  // null: none, or one that is out of step
};

}  // namespace pixii::kv
