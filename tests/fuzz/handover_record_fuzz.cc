// Whatever comes as the record of a hand-over, unsigned and signed with the right key: it is
// refused, or says what can be read, compared and written again.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/assert.h"
#include "kv/handover_layout.h"
#include "kv/handover_record.h"

namespace {

using namespace pixii::kv;  // NOLINT(google-build-using-namespace): all of its verbs

// As a peer that has the cluster's key and has gone mad would send it.
std::string Signed(std::string_view message, const pixii::HashKey& key) {
  std::string out = "PXHO";
  out.push_back(static_cast<char>(kHandoverAbi));
  out += message;
  const pixii::Hash128 digest = key.Digest(std::as_bytes(std::span(out)));
  out.append(reinterpret_cast<const char*>(&digest.low), sizeof digest.low);
  out.append(reinterpret_cast<const char*>(&digest.high), sizeof digest.high);
  return out;
}

void Check(std::string_view bytes, const pixii::HashKey& key) {
  const pixii::Result<pixii::wire::HandoverRecord> read = DecodeHandover(bytes, key);
  if (!read) {
    return;
  }
  std::uint64_t sum = 0;
  for (std::uint32_t i = 0; i < PackedBlockCount(*read); ++i) {
    sum += PackedBlock(*read, i).block;
  }
  PX_ASSERT(sum <= std::uint64_t{PackedBlockCount(*read)} << 32U);
  PX_ASSERT(CheckHandover(*read, *read));
  (void)CheckHandover(*read, pixii::wire::HandoverRecord());
  const BlockGeometry ours{.block_count = 8,
                           .block_tokens = 16,
                           .block_size_bytes = 4096,
                           .slices = {4096},
                           .layout = {},
                           .model_fingerprint = "m",
                           .numerics_id = "n",
                           .kv_dtype = "bf16"};
  (void)HandoverLayout::Create(read->layout, ours);
  const std::string again = EncodeHandover(*read, key);
  const pixii::Result<pixii::wire::HandoverRecord> back = DecodeHandover(again, key);
  PX_ASSERT(back && EncodeHandover(*back, key) == again);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const pixii::HashKey key("key");
  Check(bytes, key);
  Check(Signed(bytes, key), key);
  return 0;
}
