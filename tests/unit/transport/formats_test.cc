// The vectors of docs/formats/transfer.md are what this program says.
#include <gtest/gtest.h>

#include <cstddef>
#include <map>
#include <sstream>
#include <string>

#include "base/hash.h"
#include "support/golden.h"
#include "transport/frame.h"
#include "transport/handshake.h"
#include "transport/metadata.h"
#include "transport/shm_block.h"
#include "unit/transport/agents.h"

namespace pixii::transport {
namespace {

std::map<std::string, std::string> Vectors() {
  const std::string page =
      testing::ReadFileOrFail(testing::SourceDir() + "/docs/formats/transfer.md");
  const std::size_t begin = page.rfind("```\nmetadata");
  std::istringstream lines(page.substr(begin + 4, page.rfind("```") - begin - 4));
  std::map<std::string, std::string> out;
  std::string name;
  std::string hex;
  while (lines >> name >> hex) {
    out[name] = hex;
  }
  return out;
}

std::string Hex(std::string_view bytes) {
  std::string out;
  for (const char byte : bytes) {
    constexpr char kDigits[] = "0123456789abcdef";
    out += kDigits[static_cast<unsigned char>(byte) >> 4U];
    out += kDigits[static_cast<unsigned char>(byte) & 15U];
  }
  return out;
}

template <class Bytes>
std::string HexOf(const Bytes& bytes) {
  return Hex({reinterpret_cast<const char*>(&bytes), sizeof(bytes)});
}

TEST(TransferFormats, TheVectorsOfThePageAreWhatWeSay) {
  std::map<std::string, std::string> vectors = Vectors();
  ASSERT_EQ(vectors.size(), 10u);
  EXPECT_EQ(
      Hex(EncodeMetadata({.id = {.high = 0x0123456789ABCDEF, .low = 0xFEDCBA9876543210},
                          .transports = {{.transport = "shm", .address = "b007/unix:/tmp/pixii-1"},
                                         {.transport = "tcp", .address = "127.0.0.1:7000"}}})),
      vectors["metadata"]);
  Hello hello{.client = {.high = 1, .low = 2},
              .server = {.high = 3, .low = 4},
              .nonce = {},
              .checksums = true};
  Challenge challenge{.server = {.high = 3, .low = 4}, .nonce = {}, .checksums = true};
  for (std::size_t i = 0; i < hello.nonce.size(); ++i) {
    hello.nonce[i] = static_cast<char>(i);
    challenge.nonce[i] = static_cast<char>(32 + i);
  }
  EXPECT_EQ(Hex(EncodeHello(hello)), vectors["hello"]);
  EXPECT_EQ(Hex(EncodeChallenge(challenge)), vectors["challenge"]);
  const Secrets secrets =
      DeriveSecrets(TestKey(), "tcp", EncodeHello(hello), EncodeChallenge(challenge));
  EXPECT_EQ(HexOf(secrets.client_proof), vectors["client_proof"]);
  EXPECT_EQ(HexOf(secrets.server_proof), vectors["server_proof"]);
  EXPECT_EQ(HexOf(secrets.client_key), vectors["client_frames"]);
  EXPECT_EQ(HexOf(secrets.server_key), vectors["server_frames"]);
  const std::string descriptors = EncodeDescriptors(
      {{{.region = RegionKey{9}, .offset = 4096, .size_bytes = 65'536, .generation = 7}}});
  EXPECT_EQ(Hex(descriptors), vectors["descriptors"]);
  const FrameHeaderBytes header =
      PackFrameHeader({.payload_bytes = static_cast<std::uint32_t>(descriptors.size()),
                       .kind = FrameKind::kRead,
                       .checked = true,
                       .transfer = 1,
                       .checksum = Hash64(std::as_bytes(std::span(descriptors)))},
                      FrameKey(secrets.client_key), 0);
  EXPECT_EQ(HexOf(header), vectors["frame_header"]);
  const ShmMessage message{.kind = ShmMessage::kRegion,
                           .region = 9,
                           .file_bytes = 1 << 20,
                           .offset = 4096,
                           .size_bytes = 65'536,
                           .window_bytes = 4096,
                           .words = 16,
                           .code = 0};
  EXPECT_EQ(HexOf(message), vectors["region_message"]);
}

TEST(TransferFormats, TheSharedBlockLiesAsThePageSays) {
  EXPECT_EQ(offsetof(ShmBlock, magic), 0u);
  EXPECT_EQ(offsetof(ShmBlock, polled), 8u);
  EXPECT_EQ(offsetof(ShmBlock, taken), 64u);
  EXPECT_EQ(offsetof(ShmBlock, sleeping), 128u);
  EXPECT_EQ(offsetof(ShmBlock, lanes), 192u);
  EXPECT_EQ(offsetof(ShmBlock, ring), 704u);
  EXPECT_EQ(sizeof(ShmBlock), 704u + 1024 * 64);
  EXPECT_EQ(offsetof(RingLine, bytes), 8u);
  EXPECT_EQ(offsetof(WriteLane, region), 8u);
}

}  // namespace
}  // namespace pixii::transport
