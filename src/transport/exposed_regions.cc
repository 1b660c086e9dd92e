#include "transport/exposed_regions.h"

#include <fmt/format.h>

#include <span>

namespace pixii::transport {

Result<ExposedRegions::Exposed> ExposedRegions::Of(RegionKey key) {
  const auto found = exposed_.find(key);
  if (found != exposed_.end()) {
    return found->second;
  }
  Exposed made;
  made.region = context_.regions.Find(key);
  if (made.region == nullptr) {
    return Fail(Code::kNotFound,
                fmt::format("there is no memory region {:016x}", static_cast<std::uint64_t>(key)));
  }
  PX_TRY(made.memory, fabric_.Expose(made.region->view().memory));
  const std::span<const std::byte> words = std::as_bytes(made.region->view().words);
  PX_TRY(made.words, fabric_.Expose({const_cast<std::byte*>(words.data()), words.size()}));
  exposed_.emplace(key, made);
  return made;
}

Result<ExposedRegions::Exposed> ExposedRegions::Around(const Transfer& transfer,
                                                       const std::byte* memory) {
  for (const Region* region : transfer.held) {
    const std::span<std::byte> whole = region->view().memory;
    if (memory >= whole.data() && memory < whole.data() + whole.size()) {
      return Of(region->view().key);
    }
  }
  return Fail(Code::kNotFound, "the memory lies in no region of the transfer");
}

}  // namespace pixii::transport
