#include "transport/handshake.h"

#include <fmt/format.h>

#include <span>

#include "rt/random.h"
#include "transport/bytes.h"

namespace pixii::transport {

namespace {

constexpr std::string_view kHelloMagic = "PxTc";
constexpr std::string_view kChallengeMagic = "PxTs";
constexpr std::uint32_t kFlagChecksums = 1;

void AppendId(std::string& out, AgentId id) {
  Append(out, id.high);
  Append(out, id.low);
}

AgentId TakeId(Reader& reader) {
  const auto high = reader.Take<std::uint64_t>();
  return {.high = high, .low = reader.Take<std::uint64_t>()};
}

void TakeNonce(Reader& reader, Nonce& nonce) {
  const std::string_view bytes = reader.Take(nonce.size());
  bytes.copy(nonce.data(), nonce.size());
}

Nonce DrawNonce() {
  Nonce nonce{};
  rt::FillFromSystem(std::as_writable_bytes(std::span(nonce)));
  return nonce;
}

std::string_view Text(const Mac& mac) {
  return {reinterpret_cast<const char*>(mac.data()), mac.size()};
}

rt::Task<Result<void>> ReadAll(rt::Stream& stream, std::span<char> out, rt::Time deadline) {
  while (!out.empty()) {
    const Result<std::size_t> count = co_await stream.Read(out, deadline);
    if (!count) {
      co_return Fail(count.error());
    }
    if (*count == 0) {
      co_return Fail(Code::kUnauthenticated,
                     "the peer ended the connection during the handshake; it may have another "
                     "cluster key");
    }
    out = out.subspan(*count);
  }
  co_return Result<void>();
}

Result<void> CheckMac(const Mac& wanted, std::span<const char> got) {
  Mac mac{};
  std::memcpy(mac.data(), got.data(), mac.size());
  if (!SameMac(wanted, mac)) {
    return Fail(Code::kUnauthenticated, "the peer does not have our cluster key");
  }
  return {};
}

}  // namespace

std::string EncodeHello(const Hello& hello) {
  std::string out(kHelloMagic);
  Append(out, kTransferVersion);
  Append(out, kTransferVersion);
  AppendId(out, hello.client);
  AppendId(out, hello.server);
  out.append(hello.nonce.data(), hello.nonce.size());
  Append(out, hello.checksums ? kFlagChecksums : std::uint32_t{0});
  return out;
}

Result<Hello> DecodeHello(std::string_view bytes) {
  Reader reader(bytes);
  if (bytes.size() != kHelloBytes || reader.Take(kHelloMagic.size()) != kHelloMagic) {
    return Fail(Code::kDataCorrupt, "these bytes begin no transfer connection");
  }
  const auto lowest = reader.Take<std::uint16_t>();
  const auto highest = reader.Take<std::uint16_t>();
  if (lowest > kTransferVersion || highest < kTransferVersion) {
    return Fail(Code::kUnsupported,
                fmt::format("the peer speaks versions {} to {} of the transfer protocol, we {}",
                            lowest, highest, kTransferVersion));
  }
  Hello hello;
  hello.client = TakeId(reader);
  hello.server = TakeId(reader);
  TakeNonce(reader, hello.nonce);
  hello.checksums = (reader.Take<std::uint32_t>() & kFlagChecksums) != 0;
  return hello;
}

std::string EncodeChallenge(const Challenge& challenge) {
  std::string out(kChallengeMagic);
  Append(out, kTransferVersion);
  Append(out, std::uint16_t{0});
  AppendId(out, challenge.server);
  out.append(challenge.nonce.data(), challenge.nonce.size());
  Append(out, challenge.checksums ? kFlagChecksums : std::uint32_t{0});
  return out;
}

Result<Challenge> DecodeChallenge(std::string_view bytes) {
  Reader reader(bytes);
  const bool sized = bytes.size() == kChallengeBytes;
  if (!sized || reader.Take(kChallengeMagic.size()) != kChallengeMagic ||
      reader.Take<std::uint16_t>() != kTransferVersion) {
    return Fail(Code::kDataCorrupt, "who answers does not speak the transfer protocol");
  }
  reader.Take<std::uint16_t>();
  Challenge challenge;
  challenge.server = TakeId(reader);
  TakeNonce(reader, challenge.nonce);
  challenge.checksums = (reader.Take<std::uint32_t>() & kFlagChecksums) != 0;
  return challenge;
}

Secrets DeriveSecrets(const ClusterKey& key, std::string_view channel, std::string_view hello,
                      std::string_view challenge) {
  std::string said(channel);
  said += '\0';
  said += hello;
  said += challenge;
  return {.client_proof = key.Derive("transfer client proof", said),
          .server_proof = key.Derive("transfer server proof", said),
          .client_key = key.Derive("transfer client frames", said),
          .server_key = key.Derive("transfer server frames", said)};
}

rt::Task<Result<Session>> ShakeAsClient(rt::Stream& stream, const ClusterKey& key,
                                        HandshakeOptions options, AgentId server) {
  const std::string hello = EncodeHello({.client = options.own,
                                         .server = server,
                                         .nonce = DrawNonce(),
                                         .checksums = options.checksums});
  PX_CO_CHECK_OK(co_await stream.Write(hello, options.deadline));
  std::array<char, kChallengeBytes> answer{};
  const Result<void> came = co_await ReadAll(stream, answer, options.deadline);
  if (!came && came.error().code() == Code::kUnauthenticated) {
    co_return Fail(Code::kUnavailable, "the peer takes no connection from us now");
  }
  PX_CO_CHECK_OK(came);
  const std::string_view said(answer.data(), answer.size());
  PX_CO_TRY(const Challenge challenge, DecodeChallenge(said));
  if (!(challenge.server == server)) {
    co_return Fail(Code::kUnavailable,
                   "another agent answers at this address: the one we want has ended");
  }
  const Secrets secrets = DeriveSecrets(key, options.channel, hello, said);
  const std::string_view proof = Text(secrets.client_proof);
  PX_CO_CHECK_OK(co_await stream.Write(proof, options.deadline));
  std::array<char, sizeof(Mac)> theirs{};
  PX_CO_CHECK_OK(co_await ReadAll(stream, theirs, options.deadline));
  PX_CO_CHECK_OK(CheckMac(secrets.server_proof, theirs));
  co_return Session{.peer = server,
                    .checksums = challenge.checksums,
                    .client_key = secrets.client_key,
                    .server_key = secrets.server_key};
}

rt::Task<Result<Session>> ShakeAsServer(rt::Stream& stream, const ClusterKey& key,
                                        HandshakeOptions options) {
  std::array<char, kHelloBytes> first{};
  PX_CO_CHECK_OK(co_await ReadAll(stream, first, options.deadline));
  const std::string_view said(first.data(), first.size());
  PX_CO_TRY(const Hello hello, DecodeHello(said));
  const std::string challenge =
      EncodeChallenge({.server = options.own,
                       .nonce = DrawNonce(),
                       .checksums = hello.checksums || options.checksums});
  PX_CO_CHECK_OK(co_await stream.Write(challenge, options.deadline));
  const Secrets secrets = DeriveSecrets(key, options.channel, said, challenge);
  std::array<char, sizeof(Mac)> theirs{};
  PX_CO_CHECK_OK(co_await ReadAll(stream, theirs, options.deadline));
  PX_CO_CHECK_OK(CheckMac(secrets.client_proof, theirs));
  if (!(hello.server == options.own)) {
    co_return Fail(Code::kUnavailable, "the peer wants another agent than this one");
  }
  const std::string_view proof = Text(secrets.server_proof);
  PX_CO_CHECK_OK(co_await stream.Write(proof, options.deadline));
  co_return Session{.peer = hello.client,
                    .checksums = hello.checksums || options.checksums,
                    .client_key = secrets.client_key,
                    .server_key = secrets.server_key};
}

}  // namespace pixii::transport
