#include "transport/region_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <new>
#include <thread>

#include "base/checked.h"

namespace pixii::transport {

namespace {

// How often Close looks whether a lane was left before it says that it was not. A lane is taken for
// one copy of kCopyBytesMax, tens of microseconds, unless its thread is not run.
constexpr int kLaneLooksMax = 20'000;

tl::unexpected<Error> NoRegion(RegionKey key) {
  return Fail(Code::kNotFound,
              fmt::format("there is no memory region {:016x}", static_cast<std::uint64_t>(key)));
}

Result<void> CheckRange(const Region& region, WindowRange windows) {
  const std::size_t count = region.view().words.size();
  if (windows.first > count || windows.count > count - windows.first) {
    return Fail(Code::kInvalidArgument,
                fmt::format("windows {} to {} of a region that has {}", windows.first,
                            std::uint64_t{windows.first} + windows.count, count),
                "windows");
  }
  return {};
}

}  // namespace

Result<std::shared_ptr<Region>> Region::Create(RegionKey key, std::span<std::byte> memory,
                                               const RegionOptions& options) {
  if (memory.empty()) {
    return Fail(Code::kInvalidArgument, "a region of 0 bytes", "memory");
  }
  const std::uint64_t window_bytes =
      options.window_bytes == 0 ? memory.size() : options.window_bytes;
  const std::uint64_t count = CeilDiv<std::uint64_t>(memory.size(), window_bytes);
  if (count > kWindowsMax) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{} windows of {} bytes; a region has at most {}", count, window_bytes,
                            kWindowsMax),
                "window_bytes");
  }
  auto region = std::shared_ptr<Region>(new Region);  // tidy: new the constructor is private
  if (options.file != nullptr) {
    const std::span<std::byte> whole = options.file->bytes();
    if (memory.data() < whole.data() ||
        memory.data() + memory.size() > whole.data() + whole.size()) {
      return Fail(Code::kInvalidArgument, "the memory does not lie in the file", "file");
    }
    PX_TRY(region->words_file_,
           rt::MemoryFile::Create(count * sizeof(WindowWord), rt::Sharing::kOthersRead));
    region->words_ = {reinterpret_cast<WindowWord*>(region->words_file_.bytes().data()), count};
    region->file_ = options.file;
    region->file_offset_ = static_cast<std::uint64_t>(memory.data() - whole.data());
  } else {
    region->own_words_ = std::vector<WindowWord>(count);
    region->words_ = region->own_words_;
  }
  region->view_ = {
      .key = key, .memory = memory, .window_bytes = window_bytes, .words = region->words_};
  return region;
}

Result<RegionKey> RegionTable::Register(std::span<std::byte> memory, const RegionOptions& options) {
  rt::MutexLock lock(mutex_);
  RegionKey key{};
  do {
    key = static_cast<RegionKey>(random_.Next());
  } while (key == RegionKey{} || regions_.contains(key));
  PX_TRY(std::shared_ptr<Region> region, Region::Create(key, memory, options));
  regions_.emplace(key, std::move(region));
  return key;
}

Result<void> RegionTable::Deregister(RegionKey key) {
  rt::MutexLock lock(mutex_);
  const auto found = regions_.find(key);
  if (found == regions_.end()) {
    return NoRegion(key);
  }
  Region& region = *found->second;
  PX_CHECK_OK(
      CloseWords(region, {.first = 0, .count = static_cast<std::uint32_t>(region.words_.size())}));
  if (const std::uint32_t uses = region.uses().load(std::memory_order_acquire); uses > 0) {
    return Fail(Code::kUnavailable,
                fmt::format("{} transfers still use the region as local memory", uses));
  }
  regions_.erase(found);
  return {};
}

Result<void> RegionTable::Open(RegionKey key, WindowRange windows, std::uint64_t generation,
                               Access access) {
  if (generation > kGenerationMax) {
    return Fail(Code::kInvalidArgument,
                fmt::format("generation {} is above {}", generation, kGenerationMax), "generation");
  }
  rt::MutexLock lock(mutex_);
  const auto found = regions_.find(key);
  if (found == regions_.end()) {
    return NoRegion(key);
  }
  PX_CHECK_OK(CheckRange(*found->second, windows));
  for (WindowWord& word : found->second->words_.subspan(windows.first, windows.count)) {
    word.store(PackWord(generation, access), std::memory_order_seq_cst);
  }
  return {};
}

Result<void> RegionTable::Close(RegionKey key, WindowRange windows) {
  rt::MutexLock lock(mutex_);
  const auto found = regions_.find(key);
  if (found == regions_.end()) {
    return NoRegion(key);
  }
  PX_CHECK_OK(CheckRange(*found->second, windows));
  return CloseWords(*found->second, windows);
}

Result<void> RegionTable::CloseWords(Region& region, WindowRange windows) const {
  for (WindowWord& word : region.words_.subspan(windows.first, windows.count)) {
    word.store(0, std::memory_order_seq_cst);
  }
  if (!WaitForLanes(region.view().key)) {
    return Fail(Code::kUnavailable,
                "a peer stands still in the midst of a write to this memory; it must not be used "
                "for anything else until that ends");
  }
  return {};
}

bool RegionTable::WaitForLanes(RegionKey key) const {
  for (const std::shared_ptr<const WriteLane>& lane : lanes_) {
    const std::uint64_t turn = lane->turn.load(std::memory_order_seq_cst);
    const std::uint64_t region = lane->region.load(std::memory_order_seq_cst);
    if (turn % 2 == 0 || (region != 0 && region != static_cast<std::uint64_t>(key))) {
      continue;
    }
    int looks = 0;
    while (lane->turn.load(std::memory_order_acquire) == turn) {
      if (++looks == kLaneLooksMax) {
        return false;
      }
      if (looks > 100) {
        std::this_thread::yield();
      }
    }
  }
  return true;
}

std::shared_ptr<const Region> RegionTable::Find(RegionKey key) const {
  rt::MutexLock lock(mutex_);
  const auto found = regions_.find(key);
  return found == regions_.end() ? nullptr : found->second;
}

const Region* RegionTable::Use(RegionKey key) const {
  rt::MutexLock lock(mutex_);
  const auto found = regions_.find(key);
  if (found == regions_.end()) {
    return nullptr;
  }
  found->second->uses().fetch_add(1, std::memory_order_acq_rel);
  return found->second.get();
}

void RegionTable::AddLane(std::shared_ptr<const WriteLane> lane) {
  rt::MutexLock lock(mutex_);
  lanes_.push_back(std::move(lane));
}

void RegionTable::RemoveLane(const WriteLane* lane) {
  rt::MutexLock lock(mutex_);
  std::erase_if(lanes_, [lane](const auto& each) { return each.get() == lane; });
}

std::uint64_t RegionTable::count() const {
  rt::MutexLock lock(mutex_);
  return regions_.size();
}

std::uint64_t RegionTable::size_bytes() const {
  rt::MutexLock lock(mutex_);
  std::uint64_t sum = 0;
  for (const auto& [key, region] : regions_) {
    sum += region->view().memory.size();
  }
  return sum;
}

}  // namespace pixii::transport
