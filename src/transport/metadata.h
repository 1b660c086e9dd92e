// What an agent says of itself: who it is and where each of its transports is reached.
//
// Thread: values. docs/formats/transfer.md
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "transport/agent.h"

namespace pixii::transport {

struct TransportAddress {
  std::string transport;  // its name
  std::string address;

  friend bool operator==(const TransportAddress&, const TransportAddress&) = default;
};

struct AgentMetadata {
  AgentId id;
  std::vector<TransportAddress> transports;  // best first
};

inline constexpr std::size_t kMetadataBytesMax = 4096;

std::string EncodeMetadata(const AgentMetadata& metadata);
/// Errors: kDataCorrupt.
Result<AgentMetadata> DecodeMetadata(std::string_view bytes);

}  // namespace pixii::transport
