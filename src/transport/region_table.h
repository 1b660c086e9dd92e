// The regions of one agent: who may touch which window now, and who is at it.
//
// Thread: any.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "rt/memory_file.h"
#include "rt/random.h"
#include "rt/thread.h"
#include "transport/agent.h"
#include "transport/window.h"

namespace pixii::transport {

class Region final {
 public:
  static Result<std::shared_ptr<Region>> Create(RegionKey key, std::span<std::byte> memory,
                                                const RegionOptions& options);

  const RegionView& view() const { return view_; }

  /// Null if peers cannot map it.
  const rt::MemoryFile* file() const { return file_.get(); }

  std::uint64_t file_offset() const { return file_offset_; }

  /// The words, for peers that map the memory.
  const rt::MemoryFile& words_file() const { return words_file_; }

  /// Transfers of ours that use it as local memory.
  std::atomic<std::uint32_t>& uses() const { return uses_; }

 private:
  friend class RegionTable;

  Region() = default;

  std::span<WindowWord> words_;
  RegionView view_;
  std::vector<WindowWord> own_words_;
  rt::MemoryFile words_file_;
  std::shared_ptr<const rt::MemoryFile> file_;
  std::uint64_t file_offset_ = 0;
  mutable std::atomic<std::uint32_t> uses_{0};
};

class RegionTable final {
 public:
  /// `random` draws the keys.
  explicit RegionTable(rt::Random random) : random_(random) {}

  /// As Agent's verbs.
  Result<RegionKey> Register(std::span<std::byte> memory, const RegionOptions& options);
  Result<void> Deregister(RegionKey key);
  Result<void> Open(RegionKey key, WindowRange windows, std::uint64_t generation, Access access);
  Result<void> Close(RegionKey key, WindowRange windows);

  /// Null if there is none.
  std::shared_ptr<const Region> Find(RegionKey key) const;

  /// The same for a transfer of ours, counted in its uses: it stays until they are taken back.
  const Region* Use(RegionKey key) const;

  /// From now on Close waits for `lane`, until it is removed: nobody takes it any more then.
  void AddLane(std::shared_ptr<const WriteLane> lane);
  void RemoveLane(const WriteLane* lane);

  std::uint64_t count() const;
  std::uint64_t size_bytes() const;

 private:
  Result<void> CloseWords(Region& region, WindowRange windows) const PX_REQUIRES(mutex_);
  /// Until whoever was in a lane has left it.
  bool WaitForLanes(RegionKey key) const PX_REQUIRES(mutex_);

  mutable rt::Mutex mutex_;
  rt::Random random_ PX_GUARDED_BY(mutex_);
  std::unordered_map<RegionKey, std::shared_ptr<Region>> regions_ PX_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<const WriteLane>> lanes_ PX_GUARDED_BY(mutex_);
};

}  // namespace pixii::transport
