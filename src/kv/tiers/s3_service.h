// Objects in a bucket of an S3-compatible store, by path ("http://host/bucket/name").
//
// Thread: one at a time; calls block, for the client's limits at most.
// Source: Amazon S3 API Reference: GetObject, PutObject, DeleteObject, ListObjectsV2.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "kv/tiers/object_store.h"
#include "rt/http_client.h"
#include "wire/s3_signature.h"

namespace pixii::kv {

struct S3Options {
  std::string endpoint;  // http://host:port or https://host
  std::string bucket;
  wire::S3Credentials credentials;
};

class S3Service final : public ObjectService {
 public:
  /// `unix_now`: seconds since 1970. Errors: kInvalidArgument for an endpoint that is no URL.
  static Result<std::unique_ptr<S3Service>> Create(const S3Options& options,
                                                   std::unique_ptr<rt::HttpClient> client,
                                                   std::function<std::int64_t()> unix_now);

  Result<void> Put(const std::string& name, std::string_view bytes) override;
  Result<std::string> Get(const std::string& name, std::uint64_t size_max) override;
  Result<void> Delete(const std::string& name) override;
  Result<void> List(const std::string& prefix, ListWatch& watch,
                    const std::function<bool(std::string_view)>& on_name) override;

 private:
  S3Service(S3Options options, std::string host, std::unique_ptr<rt::HttpClient> client,
            std::function<std::int64_t()> unix_now)
      : options_(std::move(options)),
        host_(std::move(host)),
        client_(std::move(client)),
        unix_now_(std::move(unix_now)) {}

  struct Call {
    std::string method;
    std::string name;  // empty: the bucket
    std::vector<std::pair<std::string, std::string>> query;
    std::string_view body;
    std::uint64_t size_max = 1 << 20;
  };

  Result<rt::HttpFetchResponse> Send(const Call& call);

  S3Options options_;
  std::string host_;
  std::unique_ptr<rt::HttpClient> client_;
  std::function<std::int64_t()> unix_now_;
};

}  // namespace pixii::kv
