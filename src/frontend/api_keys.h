// Who may use the API and how much: keys, known only by their SHA-256, compared in constant time.
//
// Thread: immutable. docs/trust.md has the file's form.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pixii::wire {
class Json;
struct HttpRequest;
}  // namespace pixii::wire

namespace pixii::frontend {

/// What one key may do.
struct ApiKey {
  std::string digest;               // SHA-256 of the key, hexadecimal
  std::string tenant;               // says nothing about the key; equal for keys that share a cache
  std::vector<std::string> models;  // names it may ask for; empty: every one
  std::uint32_t requests_per_minute = 0;  // 0: no limit, as below
  std::uint64_t tokens_per_minute = 0;    // of prompts and answers
  std::uint32_t requests_max = 0;         // at a time
  bool admin = false;  // may load adapters, put the engine to sleep, clear caches

  bool MayUse(std::string_view model) const;

  /// Says which key this is, without its digest: what may be written to a disk.
  std::string Owner() const;

  bool limited() const {
    return requests_per_minute != 0 || tokens_per_minute != 0 || requests_max != 0;
  }
};

class ApiKeys final {
 public:
  /// Everybody may use the API.
  ApiKeys();

  /// The content of a key file. Either a line for each key, the key itself or "sha256:" and its
  /// digest (empty lines and lines with "#" in front are skipped): such keys may do everything. Or
  /// a JSON object {"keys": [{"sha256" or "key", "tenant", "models", "requests_per_minute",
  /// "tokens_per_minute", "max_requests", "admin"}]}. Errors: kInvalidArgument naming the line or
  /// the key's place and field: a key has 8 to 256 visible ASCII characters; at least one key.
  static Result<ApiKeys> Parse(std::string_view file);

  bool open() const { return open_; }

  /// The key of a request, in "Authorization: Bearer KEY" or "x-api-key: KEY"; null if refused.
  const ApiKey* Authenticate(const wire::HttpRequest& request) const;

  /// All of them; one that may do everything if everybody may use the API.
  const std::vector<ApiKey>& all() const { return keys_; }

 private:
  static Result<ApiKeys> ParseLines(std::string_view file);
  static Result<ApiKeys> ParseObject(std::string_view file);
  Result<void> Add(ApiKey key, std::string_view where);

  std::vector<ApiKey> keys_;
  bool open_ = false;
};

}  // namespace pixii::frontend
