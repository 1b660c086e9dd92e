#include "bench/disk_transfers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/checked.h"
#include "kv/block_identity.h"
#include "rt/child_process.h"
#include "rt/file.h"
#include "rt/random.h"

namespace pixii::bench {

namespace {

constexpr std::uint32_t kSliceBytes = 4096;  // as of 16 tokens of a head of 128
constexpr std::uint32_t kTokens = 16;

}  // namespace

Result<std::unique_ptr<DiskTransfers>> DiskTransfers::Create(const std::string& folder,
                                                             std::uint64_t block_bytes,
                                                             std::uint32_t count) {
  auto made =
      std::unique_ptr<DiskTransfers>(new DiskTransfers);  // tidy: new the constructor is private
  made->path_ = fmt::format("{}/pixii-bench-{}-{}", folder, rt::OwnPid(), block_bytes);
  made->block_bytes_ = block_bytes;
  made->count_ = count;
  made->shape_ =
      kv::BlockShape(kTokens, std::vector<std::uint32_t>(block_bytes / kSliceBytes, kSliceBytes));
  made->root_ = kv::BlockIdentity("a key").MakeRoot({.model_fingerprint = "model",
                                                     .numerics_id = "numerics",
                                                     .kv_dtype = "bf16",
                                                     .adapter = {},
                                                     .tenant = {},
                                                     .salt = {},
                                                     .public_seed = 0,
                                                     .public_adapter = {}});
  made->RemoveFiles();
  PX_TRY(made->store_,
         kv::DiskStore::CreateFile(made->path_ + ".store",
                                   kv::MakeDiskHeader(made->shape_, {"model", "numerics", "bf16"}),
                                   nullptr));
  made->bytes_ = rt::AlignedBytes(made->store_->batch_blocks() * block_bytes);
  rt::Random random(1);
  for (std::size_t i = 0; i < made->bytes_.size(); i += sizeof(std::uint64_t)) {
    const std::uint64_t word = random.Next();
    std::memcpy(made->bytes_.bytes().data() + i, &word, sizeof(word));
  }
  made->sums_.resize(made->shape_.slice_count());
  kv::SumSlices(made->shape_, made->bytes_.bytes().first(block_bytes), made->sums_);
  PX_TRY(made->raw_,
         rt::OpenBlockFile(made->path_ + ".raw", {.create = true, .write = true, .batches = true}));
  const std::span<std::byte> buffers[] = {made->bytes_.bytes()};
  made->raw_->Expect(buffers);
  return made;
}

DiskTransfers::~DiskTransfers() { RemoveFiles(); }

void DiskTransfers::RemoveFiles() const {
  for (const char* each : {".raw", ".store"}) {
    (void)rt::RemoveFile(path_ + each);
  }
}

// With as many blocks under way as the store has, and nothing to do but that.
Result<void> DiskTransfers::RunRaw(rt::BlockOperation operation) {
  Result<void> all;
  rt::BlockWindow window(*raw_, operation, store_->batch_blocks());
  const auto end_some = [&] {
    window.AwaitSome([&](std::size_t /*buffer*/, const rt::BlockPiece& piece) {
      all = piece.result ? all : piece.result;
    });
  };
  for (std::uint32_t i = 0; i < count_; ++i) {
    if (window.full()) {
      end_some();
    }
    window.Begin(i * block_bytes_,
                 bytes_.bytes().subspan(window.next() * block_bytes_, block_bytes_));
  }
  while (!window.empty()) {
    end_some();
  }
  return all;
}

kv::StoredBlock DiskTransfers::BlockOf(std::uint32_t number) const {
  kv::StoredBlock block;
  block.hash = {.low = number, .high = 1};
  block.parent = root_->hash;
  block.root = root_;
  block.generation = 1;
  block.shape = shape_;
  block.tokens.assign(kTokens, 1);
  return block;
}

Result<void> DiskTransfers::WriteStore(bool checked) {
  std::vector<std::uint32_t> slots(count_);
  for (std::uint32_t i = 0; i < count_; ++i) {
    slots[i] = i;
  }
  const std::vector<Result<void>> results = store_->WriteMany(
      slots, [&](std::size_t i, kv::StoredBlock& block, std::span<const std::byte>& payload) {
        block = BlockOf(static_cast<std::uint32_t>(i));
        if (!checked) {
          block.checksums = sums_;
        }
        payload = bytes_.bytes().first(block_bytes_);
        return true;
      });
  for (const Result<void>& each : results) {
    PX_CHECK_OK(each);
  }
  return {};
}

Result<void> DiskTransfers::ReadStore(bool checked) {
  std::vector<kv::BlockStore::Ask> asks(count_);
  for (std::uint32_t i = 0; i < count_; ++i) {
    asks[i] = {.slot = i, .hash = BlockOf(i).hash};
  }
  kv::BlockFault worst = kv::BlockFault::kNone;
  store_->ReadMany(
      asks, [](std::size_t /*number*/) { return true; },
      [&](std::size_t /*number*/, kv::BlockFault fault, const kv::StoredBlock& block,
          std::span<const std::byte> payload) {
        if (fault == kv::BlockFault::kNone && checked) {
          fault = kv::CheckPayload(block, payload);
        }
        worst = std::max(worst, fault);
      });
  return worst == kv::BlockFault::kNone
             ? Result<void>()
             : Fail(Code::kDataCorrupt, fmt::format("a block on disk: {}", kv::FaultName(worst)));
}

}  // namespace pixii::bench
