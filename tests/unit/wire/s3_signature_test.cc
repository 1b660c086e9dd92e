#include "wire/s3_signature.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace pixii::wire {
namespace {

const S3Credentials kExample{.access_key = "AKIAIOSFODNN7EXAMPLE",
                             .secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                             .region = "us-east-1"};
constexpr std::int64_t kExampleTime = 1'369'353'600;  // 2013-05-24T00:00:00Z

std::string SignatureOf(const S3Request& request) {
  const auto headers = SignS3(request, kExample, kExampleTime);
  const auto found =
      std::ranges::find(headers, "authorization", &std::pair<std::string, std::string>::first);
  return found->second.substr(found->second.find("Signature=") + 10);
}

// The examples of the S3 API Reference.
TEST(S3SignatureTest, ExamplesOfTheReferenceHaveItsSignatures) {
  const std::string host = "examplebucket.s3.amazonaws.com";
  EXPECT_EQ(SignatureOf({.method = "GET",
                         .host = host,
                         .path = "/test.txt",
                         .query = {},
                         .headers = {{"range", "bytes=0-9"}},
                         .body = ""}),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
  EXPECT_EQ(SignatureOf({.method = "PUT",
                         .host = host,
                         .path = "/" + S3Encode("test$file.text", true),
                         .query = {},
                         .headers = {{"date", "Fri, 24 May 2013 00:00:00 GMT"},
                                     {"x-amz-storage-class", "REDUCED_REDUNDANCY"}},
                         .body = "Welcome to Amazon S3."}),
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
  EXPECT_EQ(SignatureOf({.method = "GET",
                         .host = host,
                         .path = "/",
                         .query = {{"lifecycle", ""}},
                         .headers = {},
                         .body = ""}),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
  EXPECT_EQ(SignatureOf({.method = "GET",
                         .host = host,
                         .path = "/",
                         .query = {{"prefix", "J"}, {"max-keys", "2"}},
                         .headers = {},
                         .body = ""}),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

TEST(S3SignatureTest, QueriesAreSortedAndEncoded) {
  EXPECT_EQ(S3Query({{"b", "x y"}, {"a", "1/2"}}), "a=1%2F2&b=x%20y");
  EXPECT_EQ(S3Encode("a/b~c", true), "a/b~c");
}

}  // namespace
}  // namespace pixii::wire
