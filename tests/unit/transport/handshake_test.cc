#include "transport/handshake.h"

#include <gtest/gtest.h>

#include "unit/transport/agents.h"

namespace pixii::transport {
namespace {

Hello SampleHello() {
  Hello hello{.client = {.high = 1, .low = 2},
              .server = {.high = 3, .low = 4},
              .nonce = {},
              .checksums = true};
  for (std::size_t i = 0; i < hello.nonce.size(); ++i) {
    hello.nonce[i] = static_cast<char>(i);
  }
  return hello;
}

TEST(Handshake, MessagesComeBackAsTheyWere) {
  const std::string bytes = EncodeHello(SampleHello());
  ASSERT_EQ(bytes.size(), kHelloBytes);
  const Result<Hello> hello = DecodeHello(bytes);
  ASSERT_TRUE(hello);
  EXPECT_EQ(hello->client, SampleHello().client);
  EXPECT_EQ(hello->server, SampleHello().server);
  EXPECT_EQ(hello->nonce, SampleHello().nonce);
  EXPECT_TRUE(hello->checksums);
  const std::string answer =
      EncodeChallenge({.server = {.high = 3, .low = 4}, .nonce = {}, .checksums = false});
  ASSERT_EQ(answer.size(), kChallengeBytes);
  const Result<Challenge> challenge = DecodeChallenge(answer);
  ASSERT_TRUE(challenge);
  EXPECT_EQ(challenge->server, (AgentId{.high = 3, .low = 4}));
  EXPECT_FALSE(challenge->checksums);
}

TEST(Handshake, OtherVersionsAndOtherBytesAreRefusedByName) {
  std::string bytes = EncodeHello(SampleHello());
  EXPECT_EQ(DecodeHello(bytes.substr(1)).error().code(), Code::kDataCorrupt);
  bytes[4] = 2;  // the lowest version
  bytes[6] = 9;
  EXPECT_EQ(DecodeHello(bytes).error().code(), Code::kUnsupported);
  EXPECT_EQ(DecodeChallenge("GET / HTTP/1.1").error().code(), Code::kDataCorrupt);
}

TEST(Handshake, ProofsAreOfOneKeyOneChannelAndEveryByte) {
  const ClusterKey key = TestKey();
  const ClusterKey other = *ClusterKey::FromSecret("another key of enough bytes");
  const std::string hello = EncodeHello(SampleHello());
  const std::string challenge = EncodeChallenge({});
  const Secrets secrets = DeriveSecrets(key, "tcp", hello, challenge);
  EXPECT_TRUE(
      SameMac(secrets.client_proof, DeriveSecrets(key, "tcp", hello, challenge).client_proof));
  EXPECT_FALSE(SameMac(secrets.client_proof, secrets.server_proof));
  EXPECT_FALSE(SameMac(secrets.client_key, secrets.server_key));
  EXPECT_FALSE(
      SameMac(secrets.client_proof, DeriveSecrets(other, "tcp", hello, challenge).client_proof));
  EXPECT_FALSE(
      SameMac(secrets.client_proof, DeriveSecrets(key, "shm", hello, challenge).client_proof));
  for (std::size_t i = 0; i < hello.size(); ++i) {
    std::string changed = hello;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    EXPECT_FALSE(
        SameMac(secrets.client_proof, DeriveSecrets(key, "tcp", changed, challenge).client_proof));
  }
}

TEST(Handshake, AKeyThatIsTooShortIsRefused) {
  EXPECT_EQ(ClusterKey::FromSecret("short").error().param(), "cluster_key");
  const Result<ClusterKey> with_end = ClusterKey::FromSecret("0123456789abcdef\n");
  ASSERT_TRUE(with_end);
  EXPECT_TRUE(SameMac(with_end->Derive("x", ""),
                      ClusterKey::FromSecret("0123456789abcdef")->Derive("x", "")));
  EXPECT_EQ(ClusterKey::FromSecret("0123456789abcde \n").error().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace pixii::transport
