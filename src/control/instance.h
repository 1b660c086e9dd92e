// A worker as the rest of the cluster knows it.
//
// Thread: values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "wire/messages/generate.h"

namespace pixii::control {

/// Of one start of one worker; never used twice.
enum class InstanceId : std::uint64_t {};

/// What a worker does for its model.
enum class WorkerRole : std::uint8_t { kAggregated, kPrefill, kDecode, kEncode };

struct Instance {
  InstanceId id{};
  std::string ns = "dynamo";  // clusters of other namespaces do not see it
  std::string component = "backend";
  std::string endpoint = "generate";
  std::string address;  // host:port or unix:/path of its WorkerService
  WorkerRole role = WorkerRole::kAggregated;
  std::vector<std::vector<WorkerRole>>
      needs;                     // it serves if of one of these sets each role is there
  std::uint32_t rank_first = 0;  // data-parallel ranks it has
  std::uint32_t rank_count = 1;
  std::vector<std::string> taints;
  bool draining = false;         // takes nothing new
  std::uint64_t generation = 0;  // of what is said here: an older one is stale
  std::int64_t started_ms = 0;   // since 1970, by the worker's clock; 0: it does not say
  wire::ModelCard card;
  /// Digest of the files that its texts are read and written by; empty: it does not say.
  std::string texts;
};

}  // namespace pixii::control
