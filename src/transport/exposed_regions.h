// Memory of an agent that a fabric may touch, and the words of its windows.
//
// Thread: one loop.
#pragma once

#include <cstddef>
#include <memory>
#include <unordered_map>

#include "base/result.h"
#include "transport/fabric.h"
#include "transport/link.h"

namespace pixii::transport {

/// Regions of this agent that a fabric may touch, each registered once.
class ExposedRegions final {
 public:
  struct Exposed {
    std::shared_ptr<const Region> region;
    std::shared_ptr<FabricMemory> memory;
    std::shared_ptr<FabricMemory> words;
  };

  ExposedRegions(AgentContext& context, Fabric& fabric) : context_(context), fabric_(fabric) {}

  /// Errors: kNotFound; kUnsupported if the fabric does not take such memory.
  Result<Exposed> Of(RegionKey key);

  /// Of the local memory of a transfer.
  Result<Exposed> Around(const Transfer& transfer, const std::byte* memory);

  void Forget(RegionKey key) { exposed_.erase(key); }

 private:
  AgentContext& context_;
  Fabric& fabric_;
  std::unordered_map<RegionKey, Exposed> exposed_;
};

}  // namespace pixii::transport
