#include "kv/tiers/disk_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/checked.h"
#include "kv/tiers/number_bytes.h"
#include "rt/file.h"

namespace pixii::kv {

namespace {

constexpr std::string_view kMagic = "PXKVDSK\n";
constexpr std::size_t kDiskHeaderBytes = kStoredBlockAlignment;
constexpr std::size_t kSizesOffset = 48;
constexpr std::size_t kFlagsOffset = 60;
constexpr std::uint32_t kSealed = 1;
constexpr std::size_t kNamesOffset = 64;
constexpr std::size_t kSumOffset = kDiskHeaderBytes - 8;
/// Room in a slot's header for a root, an adapter's name and a salt.
constexpr std::size_t kTextBytes = 1024;
constexpr int kFilesMax = 64;  // of one shape and model in a folder: one for each process
constexpr std::uint32_t kSlotsMax = 1U << 28;
// Of slots that are read or written at a time.
constexpr std::uint64_t kBatchBytesMax = 64 << 20;
constexpr std::uint64_t kBatchBlocksMax = 16;

std::uint64_t HashOfSlices(const BlockShape& shape) {
  return Hash64(std::as_bytes(std::span(shape.slices())));
}

}  // namespace

std::uint64_t DiskHeader::slot_bytes() const {
  return header_bytes + CeilDiv(payload_bytes, kStoredBlockAlignment) * kStoredBlockAlignment;
}

DiskHeader MakeDiskHeader(const BlockShape& shape, DiskModel model, bool sealed) {
  DiskHeader header;
  header.model = std::move(model);
  header.block_tokens = shape.block_tokens();
  header.slice_count = shape.slice_count();
  header.slices_hash = HashOfSlices(shape);
  header.payload_bytes = shape.payload_bytes();
  header.header_bytes = static_cast<std::uint32_t>(
      HeaderCapacity(shape, kTextBytes + (sealed ? BlockSealer::kPrefixBytes : 0)));
  header.sealed = sealed;
  return header;
}

bool EncodeDiskHeader(const DiskHeader& header, std::span<std::byte> out) {
  std::ranges::fill(out, std::byte{0});
  std::memcpy(out.data(), kMagic.data(), kMagic.size());
  Put(out, 8, kDiskFormatVersion);
  Put(out, 12, header.header_bytes);
  Put(out, 16, header.slot_bytes());
  Put(out, 24, header.payload_bytes);
  Put(out, 32, header.slices_hash);
  Put(out, 40, header.slice_count);
  Put(out, 44, header.block_tokens);
  Put(out, kFlagsOffset, header.sealed ? kSealed : 0U);
  std::size_t offset = kNamesOffset;
  std::size_t size_offset = kSizesOffset;
  for (const std::string* name :
       {&header.model.model_fingerprint, &header.model.numerics_id, &header.model.kv_dtype}) {
    if (offset + name->size() > kSumOffset) {
      return false;
    }
    Put(out, size_offset, static_cast<std::uint32_t>(name->size()));
    std::memcpy(out.data() + offset, name->data(), name->size());
    size_offset += 4;
    offset += name->size();
  }
  Put(out, kSumOffset, Hash64(out.first(kSumOffset)));
  return true;
}

BlockFault DecodeDiskHeader(std::span<const std::byte> bytes, DiskHeader& header) {
  if (bytes.size() < kDiskHeaderBytes ||
      std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0 ||
      Get<std::uint64_t>(bytes, kSumOffset) != Hash64(bytes.first(kSumOffset))) {
    return BlockFault::kHeader;
  }
  if (Get<std::uint32_t>(bytes, 8) != kDiskFormatVersion) {
    return BlockFault::kVersion;
  }
  header.header_bytes = Get<std::uint32_t>(bytes, 12);
  header.payload_bytes = Get<std::uint64_t>(bytes, 24);
  header.slices_hash = Get<std::uint64_t>(bytes, 32);
  header.slice_count = Get<std::uint32_t>(bytes, 40);
  header.block_tokens = Get<std::uint32_t>(bytes, 44);
  header.sealed = Get<std::uint32_t>(bytes, kFlagsOffset) == kSealed;
  std::size_t offset = kNamesOffset;
  std::size_t size_offset = kSizesOffset;
  for (std::string* name :
       {&header.model.model_fingerprint, &header.model.numerics_id, &header.model.kv_dtype}) {
    const std::size_t size = Get<std::uint32_t>(bytes, size_offset);
    if (size > kSumOffset - offset) {
      return BlockFault::kHeader;
    }
    name->assign(reinterpret_cast<const char*>(bytes.data()) + offset, size);
    size_offset += 4;
    offset += size;
  }
  const bool aligned = header.header_bytes > 0 && header.header_bytes % kStoredBlockAlignment == 0;
  const bool sane = header.payload_bytes > 0 && header.payload_bytes < (1ULL << 34) &&
                    header.header_bytes < (1U << 28) && header.block_tokens > 0;
  if (!aligned || !sane || Get<std::uint64_t>(bytes, 16) != header.slot_bytes()) {
    return BlockFault::kHeader;
  }
  return BlockFault::kNone;
}

DiskStore::DiskStore(std::string path, DiskHeader header, std::unique_ptr<rt::BlockFile> file)
    : path_(std::move(path)), header_(std::move(header)), file_(std::move(file)) {}

Result<std::unique_ptr<DiskStore>> DiskStore::Open(const BlockShape& shape, DiskModel model,
                                                   const DiskStoreOptions& options) {
  const DiskHeader header = MakeDiskHeader(shape, std::move(model), options.sealer != nullptr);
  rt::AlignedBytes encoded(kDiskHeaderBytes);
  if (!EncodeDiskHeader(header, encoded.bytes())) {
    return Fail(Code::kInvalidArgument, "the model's names are too long for a file of KV blocks");
  }
  if (options.size_bytes < kDiskHeaderBytes + header.slot_bytes()) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{} bytes hold no KV block; one takes {} and the file {} before them",
                            options.size_bytes, header.slot_bytes(), kDiskHeaderBytes));
  }
  const rt::BlockFileOpener& open = options.open ? options.open : rt::OpenBlockFile;
  // Who cannot make the folder may still be able to read what is in it.
  static_cast<void>(rt::CreateFolders(options.folder));
  const std::uint64_t name = Hash64(encoded.bytes());
  std::optional<Error> why;
  for (int number = 0; number < kFilesMax; ++number) {
    const std::string path = fmt::format("{}/kv-{:016x}-{}", options.folder, name, number);
    Result<rt::FileLock> lock = rt::FileLock::Take(path + ".lock");
    auto file = open(
        path + ".blocks",
        {.create = lock.has_value(), .write = true, .direct = options.direct, .batches = true});
    if (!lock) {
      why = lock.error();
      if (file || file.error().code() == Code::kNotFound) {
        continue;  // it is another process's
      }
    }
    const bool read_only = !file;
    if (read_only) {
      const Error error = file.error();
      file = open(path + ".blocks",
                  {.create = false, .write = false, .direct = options.direct, .batches = true});
      if (!file) {
        return Fail(error);
      }
    }
    auto store = std::unique_ptr<DiskStore>(new DiskStore(  // tidy: new the constructor is private
        path + ".blocks", header, std::move(*file)));
    if (lock) {
      store->lock_.emplace(std::move(*lock));
    }
    store->read_only_ = read_only;
    store->sealer_ = options.sealer;
    store->slot_count_ = static_cast<std::uint32_t>(std::min<std::uint64_t>(
        (options.size_bytes - kDiskHeaderBytes) / header.slot_bytes(), kSlotsMax));
    PX_CHECK_OK(store->Begin());
    return store;
  }
  return Fail(Code::kUnavailable,
              fmt::format("none of {} files of KV blocks can be had in '{}': {}", kFilesMax,
                          options.folder, why->detail()));
}

BlockFault DiskStore::FaultOf(const Error& error) {
  if (error.code() == Code::kNotFound) {
    return BlockFault::kTruncated;
  }
  SetTrouble(error.detail());
  return BlockFault::kIo;
}

// What stands in the file is kept if it is of the same shape and model.
Result<void> DiskStore::Begin() {
  slot_ = rt::AlignedBytes(header_.slot_bytes());
  PX_TRY(const std::uint64_t size, file_->Size());
  rt::AlignedBytes first(kDiskHeaderBytes);
  if (size > 0) {
    DiskHeader stands;
    const Result<void> read = file_->Read(0, first.bytes());
    foreign_ = read ? DecodeDiskHeader(first.bytes(), stands) : FaultOf(read.error());
    if (foreign_ == BlockFault::kNone && stands != header_) {
      foreign_ = stands.model == header_.model ? BlockFault::kShape : BlockFault::kRoot;
    }
    if (foreign_ == BlockFault::kNone) {
      const std::uint64_t size_max = header_.offset(slot_count_);
      return size > size_max && !read_only_ ? file_->Truncate(size_max) : Result<void>();
    }
  }
  if (read_only_) {
    return Fail(Code::kUnavailable,
                fmt::format("'{}' cannot be written and holds no KV blocks of this model", path_));
  }
  EncodeDiskHeader(header_, first.bytes());
  PX_CHECK_OK(file_->Truncate(0));
  return file_->Write(0, first.bytes());
}

Result<std::unique_ptr<DiskStore>> DiskStore::OpenFile(const std::string& path, bool write,
                                                       std::shared_ptr<const BlockSealer> sealer) {
  PX_TRY(std::unique_ptr<rt::BlockFile> file,
         rt::OpenBlockFile(path, {.create = false, .write = write, .batches = write}));
  PX_TRY(const std::uint64_t size, file->Size());
  rt::AlignedBytes first(kDiskHeaderBytes);
  if (size < kDiskHeaderBytes) {
    return Fail(Code::kDataCorrupt, fmt::format("'{}' is no file of KV blocks", path));
  }
  PX_CHECK_OK(file->Read(0, first.bytes()));
  DiskHeader header;
  const BlockFault fault = DecodeDiskHeader(first.bytes(), header);
  if (fault != BlockFault::kNone) {
    return Fail(Code::kDataCorrupt, fmt::format("'{}' is no file of KV blocks of version {}: {}",
                                                path, kDiskFormatVersion, FaultName(fault)));
  }
  // The last one may be torn.
  const std::uint64_t slots = CeilDiv(size - kDiskHeaderBytes, header.slot_bytes());
  if (slots > kSlotsMax) {
    return Fail(Code::kDataCorrupt,
                fmt::format("'{}' would hold {} KV blocks of {} bytes; a file has at most {}", path,
                            slots, header.slot_bytes(), kSlotsMax));
  }
  auto store = std::unique_ptr<DiskStore>(new DiskStore(  // tidy: new the constructor is private
      path, std::move(header), std::move(file)));
  if (store->header_.sealed && !sealer) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("the blocks of '{}' are sealed; name the file with their secret", path));
  }
  store->sealer_ = store->header_.sealed ? std::move(sealer) : nullptr;
  store->slot_ = rt::AlignedBytes(store->header_.slot_bytes());
  store->slot_count_ = static_cast<std::uint32_t>(slots);
  store->read_only_ = !write;
  return store;
}

Result<std::unique_ptr<DiskStore>> DiskStore::CreateFile(
    const std::string& path, const DiskHeader& header, std::shared_ptr<const BlockSealer> sealer) {
  PX_TRY(const std::optional<rt::FileInfo> found, rt::StatFile(path));
  if (found) {
    return Fail(Code::kInvalidArgument, fmt::format("'{}' is there already", path));
  }
  PX_TRY(std::unique_ptr<rt::BlockFile> file,
         rt::OpenBlockFile(path, {.create = true, .write = true}));
  rt::AlignedBytes first(kDiskHeaderBytes);
  EncodeDiskHeader(header, first.bytes());
  PX_CHECK_OK(file->Write(0, first.bytes()));
  return OpenFile(path, true, std::move(sealer));
}

Result<void> DiskStore::Compose(std::span<std::byte> slot, StoredBlock block,
                                std::span<const std::byte> payload) const {
  const std::span<std::byte> header = slot.first(header_.header_bytes);
  const std::span<std::byte> copy = slot.subspan(header_.header_bytes);
  if (block.checksums.empty()) {
    block.checksums.resize(block.shape.slice_count());
    CopyAndSum(block.shape, payload, copy, block.checksums);
  } else {
    std::memcpy(copy.data(), payload.data(), payload.size());
  }
  std::ranges::fill(copy.subspan(payload.size()), std::byte{0});
  if (!EncodeHeader(block, PlainHeader(sealer_, header))) {
    return Fail(Code::kTooLarge,
                fmt::format("the header of a KV block takes more than {} bytes", header.size()));
  }
  if (sealer_) {
    sealer_->Seal(block, header, copy);
  }
  return {};
}

Result<void> DiskStore::Write(std::uint32_t slot, StoredBlock block,
                              std::span<const std::byte> payload) {
  if (read_only_) {
    return Fail(Code::kUnavailable, fmt::format("'{}' is read-only", path_));
  }
  PX_CHECK_OK(Compose(slot_.bytes(), std::move(block), payload));
  const std::uint64_t offset = header_.offset(slot);
  if (direct()) {
    const Result<void> written = file_->Write(offset, slot_.bytes());
    if (!written) {
      Empty(slot);
    }
    return written;
  }
  rt::AlignedBytes zeros(kStoredBlockAlignment);
  PX_CHECK_OK(file_->Write(offset, zeros.bytes()));
  PX_CHECK_OK(
      file_->Write(offset + kStoredBlockAlignment, slot_.bytes().subspan(kStoredBlockAlignment)));
  return file_->Write(offset, slot_.bytes().first(kStoredBlockAlignment));
}

void DiskStore::Commit(std::span<const std::uint32_t> slots, std::span<const std::size_t> buffers,
                       std::span<Result<void>> results) {
  rt::AlignedBytes zeros(kStoredBlockAlignment);
  enum class Step : std::uint8_t { kNoHeader, kRest, kHeader };
  for (const Step step : {Step::kNoHeader, Step::kRest, Step::kHeader}) {
    std::vector<rt::BlockPiece> pieces;
    std::vector<std::size_t> owners;
    for (const std::size_t i : buffers) {
      if (!results[i]) {
        continue;
      }
      const std::span<std::byte> slot = batch_[i].bytes();
      const std::uint64_t offset = header_.offset(slots[i]);
      if (step == Step::kRest) {
        pieces.push_back({.offset = offset + kStoredBlockAlignment,
                          .bytes = slot.subspan(kStoredBlockAlignment)});
      } else {
        pieces.push_back(
            {.offset = offset,
             .bytes = step == Step::kNoHeader ? zeros.bytes() : slot.first(kStoredBlockAlignment)});
      }
      owners.push_back(i);
    }
    file_->RunAll(rt::BlockOperation::kWrite, pieces);
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      results[owners[i]] = pieces[i].result;
    }
  }
}

std::vector<Result<void>> DiskStore::WriteMany(std::span<const std::uint32_t> slots,
                                               const Source& source) {
  if (read_only_ || !MakeBatch(slots.size())) {
    return BlockStore::WriteMany(slots, source);
  }
  return direct() ? WriteWhole(slots, source) : WriteInSteps(slots, source);
}

std::vector<Result<void>> DiskStore::WriteWhole(std::span<const std::uint32_t> slots,
                                                const Source& source) {
  std::vector<Result<void>> results(slots.size());
  std::vector<std::size_t> owners(batch_.size());
  rt::BlockWindow window(*file_, rt::BlockOperation::kWrite, batch_.size());
  const auto end_some = [&] {
    window.AwaitSome([&](std::size_t buffer, const rt::BlockPiece& piece) {
      results[owners[buffer]] = piece.result;
      if (!piece.result) {
        Empty(slots[owners[buffer]]);
      }
    });
  };
  for (std::size_t i = 0; i < slots.size(); ++i) {
    if (window.full()) {
      end_some();
    }
    const std::size_t buffer = window.next();
    const std::span<std::byte> bytes = batch_[buffer].bytes();
    StoredBlock block;
    std::span<const std::byte> payload;
    results[i] = source(i, block, payload)
                     ? Compose(bytes, std::move(block), payload)
                     : Fail(Code::kTooLarge, "the block is not there any more");
    if (results[i]) {
      owners[buffer] = i;
      window.Begin(header_.offset(slots[i]), bytes);
    }
  }
  while (!window.empty()) {
    end_some();
  }
  return results;
}

std::vector<Result<void>> DiskStore::WriteInSteps(std::span<const std::uint32_t> slots,
                                                  const Source& source) {
  std::vector<Result<void>> all;
  for (std::size_t first = 0; first < slots.size(); first += batch_.size()) {
    const std::size_t count = std::min(batch_.size(), slots.size() - first);
    std::vector<Result<void>> results(count);
    std::vector<std::size_t> composed;
    for (std::size_t i = 0; i < count; ++i) {
      StoredBlock block;
      std::span<const std::byte> payload;
      results[i] = source(first + i, block, payload)
                       ? Compose(batch_[i].bytes(), std::move(block), payload)
                       : Fail(Code::kTooLarge, "the block is not there any more");
      if (results[i]) {
        composed.push_back(i);
      }
    }
    Commit(slots.subspan(first, count), composed, results);
    all.insert(all.end(), results.begin(), results.end());
  }
  return all;
}

std::size_t DiskStore::batch_blocks() const {
  return std::clamp<std::uint64_t>(kBatchBytesMax / header_.slot_bytes(), 1, kBatchBlocksMax);
}

bool DiskStore::MakeBatch(std::size_t slots) {
  const std::size_t count = batch_blocks();
  if (count < 2 || slots < 2) {
    return false;
  }
  if (batch_.empty()) {
    std::vector<std::span<std::byte>> buffers;
    for (std::size_t i = 0; i < count; ++i) {
      buffers.push_back(batch_.emplace_back(header_.slot_bytes()).bytes());
    }
    file_->Expect(buffers);
  }
  return true;
}

void DiskStore::Empty(std::uint32_t slot) {
  rt::AlignedBytes zeros(kStoredBlockAlignment);
  static_cast<void>(file_->Write(header_.offset(slot), zeros.bytes()));  // else it is found again
}

BlockFault DiskStore::Read(std::uint32_t slot, const Hash128& /*hash*/, StoredBlock& block,
                           std::span<const std::byte>& payload) {
  if (const Result<void> read = file_->Read(header_.offset(slot), slot_.bytes()); !read) {
    return FaultOf(read.error());
  }
  return Parse(slot_.bytes(), block, payload);
}

// Some are looked at while those behind them are read.
void DiskStore::ReadMany(std::span<const Ask> asks, const Wanted& wanted, const OnRead& on_read) {
  if (!MakeBatch(asks.size())) {
    BlockStore::ReadMany(asks, wanted, on_read);
    return;
  }
  std::vector<std::size_t> owners(batch_.size());
  rt::BlockWindow window(*file_, rt::BlockOperation::kRead, batch_.size());
  const auto end_some = [&] {
    window.AwaitSome([&](std::size_t buffer, const rt::BlockPiece& piece) {
      StoredBlock block;
      std::span<const std::byte> payload;
      const BlockFault fault =
          piece.result ? Parse(piece.bytes, block, payload) : FaultOf(piece.result.error());
      on_read(owners[buffer], fault, block, payload);
    });
  };
  for (std::size_t i = 0; i < asks.size(); ++i) {
    if (window.full()) {
      end_some();
    }
    if (wanted(i)) {
      const std::size_t buffer = window.next();
      owners[buffer] = i;
      window.Begin(header_.offset(asks[i].slot), batch_[buffer].bytes());
    }
  }
  while (!window.empty()) {
    end_some();
  }
}

BlockFault DiskStore::Parse(std::span<std::byte> slot, StoredBlock& block,
                            std::span<const std::byte>& payload) const {
  const std::span<std::byte> header = slot.first(header_.header_bytes);
  const std::span<std::byte> bytes = slot.subspan(header_.header_bytes);
  BlockFault fault = ReadHeader(sealer_, header, block);
  if (fault == BlockFault::kNone && !IsOfFile(block.shape)) {
    fault = BlockFault::kShape;
  }
  if (fault == BlockFault::kNone && sealer_) {
    fault = sealer_->OpenPayload(header, block, bytes);
  }
  if (fault != BlockFault::kNone) {
    return fault;
  }
  if (!IsZero(bytes.subspan(header_.payload_bytes))) {
    return BlockFault::kChecksum;
  }
  payload = bytes.first(header_.payload_bytes);
  return BlockFault::kNone;
}

bool DiskStore::IsOfFile(const BlockShape& shape) const {
  return shape.block_tokens() == header_.block_tokens &&
         shape.payload_bytes() == header_.payload_bytes &&
         HashOfSlices(shape) == header_.slices_hash;
}

void DiskStore::Drop(std::uint32_t slot, const Hash128& /*hash*/) {
  if (!read_only_) {
    Empty(slot);
  }
}

void DiskStore::Scan(const std::function<bool(Found)>& on_found,
                     const std::function<void(BlockFault)>& on_fault) {
  ScanSlots(0, slot_count_, on_found, on_fault);
}

std::uint32_t DiskStore::ScanSlots(std::uint32_t first, std::uint32_t count,
                                   const std::function<bool(Found)>& on_found,
                                   const std::function<void(BlockFault)>& on_fault) {
  const Result<std::uint64_t> size = file_->Size();
  if (!size) {
    on_fault(FaultOf(size.error()));
    return 0;
  }
  const std::span<std::byte> bytes = slot_.bytes().first(header_.header_bytes);
  for (std::uint32_t slot = first; slot < first + count; ++slot) {
    if (stopping()) {
      return slot;
    }
    if (header_.offset(slot) >= *size) {
      return 0;
    }
    Found found;
    found.place.slot = slot;
    if (const Result<void> read = file_->Read(header_.offset(slot), bytes); !read) {
      on_fault(FaultOf(read.error()));
      continue;
    }
    if (IsZero(bytes.first(kStoredBlockAlignment))) {
      continue;  // never written, or not to its end
    }
    const BlockFault fault = ReadHeader(sealer_, bytes, found.block);
    if (fault != BlockFault::kNone || !IsOfFile(found.block.shape)) {
      on_fault(fault != BlockFault::kNone ? fault : BlockFault::kShape);
      continue;
    }
    found.place.generation = found.block.generation;
    if (!on_found(std::move(found))) {
      return slot + 1;
    }
  }
  return first + count;
}

}  // namespace pixii::kv
