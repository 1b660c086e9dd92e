// Blobs as objects of an S3-compatible store, below a prefix that one server alone writes to.
//
// Thread: as BlobPlace.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "frontend/blob_store.h"
#include "kv/tiers/object_store.h"
#include "rt/loop.h"

namespace pixii::apps {

/// What lies there now, and a store over it. Blocks: at the start. `prefix`: "media/videos/".
/// Errors: those of the service.
Result<frontend::OpenedBlobs> OpenObjectBlobStore(rt::Loop& loop,
                                                  std::unique_ptr<kv::ObjectService> service,
                                                  const std::string& prefix,
                                                  std::uint64_t blob_bytes_max);

}  // namespace pixii::apps
