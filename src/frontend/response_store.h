// Answers of /v1/responses that clients may come back to, by tenant: bounded in count, bytes and
// time.
//
// Thread: the frontend's loop; what it gives out is immutable.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "rt/time.h"
#include "wire/json.h"

namespace pixii::frontend {

struct ResponseStoreOptions {
  std::uint32_t count_max = 4096;                     // the oldest goes first
  std::uint64_t bytes_max = std::uint64_t{64} << 20;  // of bodies and conversations
  rt::Duration lifetime = rt::Duration(std::chrono::hours(1));
};

struct StoredResponse {
  std::string body;              // as GET gives it
  wire::Json::Array messages;    // the conversation with the answer, without instructions
  std::uint64_t size_bytes = 0;  // of both
};

class ResponseStore final {
 public:
  explicit ResponseStore(const ResponseStoreOptions& options) : options_(options) {}

  /// What is larger than all the room is not kept.
  void Put(const std::string& tenant, const std::string& id, StoredResponse response, rt::Time now);
  /// Null: unknown, expired, dropped, or another tenant's.
  std::shared_ptr<const StoredResponse> Get(std::string_view tenant, std::string_view id,
                                            rt::Time now);
  /// Whether it was there.
  bool Erase(std::string_view tenant, std::string_view id, rt::Time now);

  std::uint64_t size_bytes() const { return size_bytes_; }

 private:
  using Key = std::pair<std::string, std::string>;  // tenant, id

  struct Entry {
    Key key;
    rt::Time expires;
    std::shared_ptr<const StoredResponse> response;
  };

  using Entries = std::list<Entry>;

  void DropExpired(rt::Time now);
  void Drop(Entries::iterator entry);

  const ResponseStoreOptions options_;
  Entries entries_;  // oldest first
  std::map<Key, Entries::iterator, std::less<>> index_;
  std::uint64_t size_bytes_ = 0;
};

}  // namespace pixii::frontend
