// Requests to S3-compatible stores, signed with AWS Signature Version 4.
//
// Thread: functions. Source: "Authenticating Requests: Using the Authorization Header (AWS
// Signature Version 4)", Amazon S3 API Reference.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pixii::wire {

struct S3Credentials {
  std::string access_key;
  std::string secret_key;
  std::string region = "us-east-1";
};

struct S3Request {
  std::string method = "GET";
  std::string host;                                          // with the port, if it is no default
  std::string path;                                          // encoded, begins with '/'
  std::vector<std::pair<std::string, std::string>> query;    // not encoded
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case, to be signed
  std::string_view body;
};

/// The request's headers with those that sign it: x-amz-date, x-amz-content-sha256, authorization.
/// `host` is signed and not among them. `unix_seconds`: now.
std::vector<std::pair<std::string, std::string>> SignS3(const S3Request& request,
                                                        const S3Credentials& credentials,
                                                        std::int64_t unix_seconds);

/// Percent-encoded as a signature wants it: all but letters, digits, '-', '.', '_', '~' and, if
/// `keep_slash`, '/'.
std::string S3Encode(std::string_view text, bool keep_slash);

/// "a=1&b=2", sorted and encoded.
std::string S3Query(std::vector<std::pair<std::string, std::string>> query);

}  // namespace pixii::wire
