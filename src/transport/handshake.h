// How two agents prove to each other that they have the cluster key, before anything else is said.
//
// Thread: values; the two tasks run on the stream's loop. docs/formats/transfer.md
//   client  Hello      who, whom it wants, a nonce
//   server  Challenge  a nonce
//   client  proof      keyed hash of both
//   server  proof      likewise
// A server says nothing that depends on the key before the client has proved to have it. Both
// proofs and the session's keys cover every byte said before, so nobody between can take a session
// over.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/hash.h"
#include "base/result.h"
#include "rt/loop.h"
#include "rt/net.h"
#include "transport/agent.h"
#include "transport/cluster_key.h"

namespace pixii::transport {

inline constexpr std::size_t kHelloBytes = 76;
inline constexpr std::size_t kChallengeBytes = 60;
inline constexpr std::uint16_t kTransferVersion = 1;

using Nonce = std::array<char, 32>;

struct Hello {
  AgentId client;
  AgentId server;  // whom it wants to reach
  Nonce nonce{};
  bool checksums = false;  // wanted for payloads
};

struct Challenge {
  AgentId server;
  Nonce nonce{};
  bool checksums = false;  // made in both directions: either side wanted it
};

std::string EncodeHello(const Hello& hello);
/// Errors: kDataCorrupt, kUnsupported for a version that this program does not speak.
Result<Hello> DecodeHello(std::string_view bytes);
std::string EncodeChallenge(const Challenge& challenge);
Result<Challenge> DecodeChallenge(std::string_view bytes);

/// What both sides know once they have proved to be what they say.
struct Session {
  AgentId peer;
  bool checksums = false;
  Mac client_key{};  // of frames from client to server
  Mac server_key{};  // and back
};

/// Proofs and session keys of what was said. `channel`: "tcp" or "shm"; proofs of one are none of
/// the other.
struct Secrets {
  Mac client_proof{};
  Mac server_proof{};
  Mac client_key{};
  Mac server_key{};
};

Secrets DeriveSecrets(const ClusterKey& key, std::string_view channel, std::string_view hello,
                      std::string_view challenge);

struct HandshakeOptions {
  AgentId own;
  std::string_view channel;
  bool checksums = false;
  rt::Time deadline = rt::kNever;
};

/// Errors: kUnauthenticated if the server has another key; kUnavailable if another agent answers,
/// or ends the connection before it has seen a proof; those of the stream.
rt::Task<Result<Session>> ShakeAsClient(rt::Stream& stream, const ClusterKey& key,
                                        HandshakeOptions options, AgentId server);

/// Errors: kUnauthenticated, kDataCorrupt; those of the stream.
rt::Task<Result<Session>> ShakeAsServer(rt::Stream& stream, const ClusterKey& key,
                                        HandshakeOptions options);

}  // namespace pixii::transport
