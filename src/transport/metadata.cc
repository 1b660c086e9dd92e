#include "transport/metadata.h"

#include <fmt/format.h>

#include "transport/bytes.h"

namespace pixii::transport {

namespace {

constexpr std::string_view kMagic = "PxAg";
constexpr std::uint8_t kVersion = 1;

}  // namespace

std::string EncodeMetadata(const AgentMetadata& metadata) {
  std::string out(kMagic);
  Append(out, kVersion);
  Append(out, metadata.id.high);
  Append(out, metadata.id.low);
  Append(out, static_cast<std::uint8_t>(metadata.transports.size()));
  for (const TransportAddress& each : metadata.transports) {
    Append(out, static_cast<std::uint8_t>(each.transport.size()));
    out += each.transport;
    Append(out, static_cast<std::uint16_t>(each.address.size()));
    out += each.address;
  }
  return out;
}

Result<AgentMetadata> DecodeMetadata(std::string_view bytes) {
  Reader reader(bytes);
  AgentMetadata metadata;
  const std::string_view magic = reader.Take(kMagic.size());
  const auto version = reader.Take<std::uint8_t>();
  if (bytes.size() > kMetadataBytesMax || magic != kMagic || version != kVersion) {
    return Fail(
        Code::kDataCorrupt,
        fmt::format("{} bytes are no metadata of an agent of version {}", bytes.size(), kVersion));
  }
  metadata.id.high = reader.Take<std::uint64_t>();
  metadata.id.low = reader.Take<std::uint64_t>();
  const auto count = reader.Take<std::uint8_t>();
  for (std::uint32_t i = 0; i < count && !reader.missing(); ++i) {
    TransportAddress each;
    each.transport = reader.Take(std::size_t{reader.Take<std::uint8_t>()});
    each.address = reader.Take(std::size_t{reader.Take<std::uint16_t>()});
    metadata.transports.push_back(std::move(each));
  }
  if (!reader.complete()) {
    return Fail(Code::kDataCorrupt, "metadata of an agent that are cut off or go on");
  }
  return metadata;
}

}  // namespace pixii::transport
