#include "kv/tiers/peer_files.h"

#include <utility>
#include <vector>

#include "rt/file.h"

namespace pixii::kv {

namespace {

constexpr std::size_t kEntriesMax = 4096;
constexpr std::size_t kPlacesMax = 1U << 24;
constexpr std::string_view kEnding = ".blocks";

}  // namespace

Result<void> PeerFiles::Write(std::uint32_t /*slot*/, StoredBlock /*block*/,
                              std::span<const std::byte> /*payload*/) {
  return Fail(Code::kUnsupported, "the files of other processes are not written");
}

// A file that is gone or of something else is forgotten; one that came is opened.
void PeerFiles::FindFiles() {
  const std::string folder = options_.own_path.substr(0, options_.own_path.rfind('/'));
  const auto entries = rt::ListFolder(folder, kEntriesMax);
  if (!entries) {
    return;
  }
  std::map<std::string, File> files;
  for (const rt::FolderEntry& entry : *entries) {
    std::string path = folder + "/" + entry.name;
    if (!entry.name.ends_with(kEnding) || path == options_.own_path) {
      continue;
    }
    auto known = files_.find(path);
    if (known != files_.end()) {
      files.insert(files_.extract(known));
      continue;
    }
    auto store = DiskStore::OpenFile(path, false, options_.sealer);
    if (store && (*store)->header() == options_.header) {
      files.emplace(std::move(path), File{.store = std::move(*store)});
    }
  }
  files_ = std::move(files);
}

void PeerFiles::Scan(const std::function<bool(Found)>& on_found,
                     const std::function<void(BlockFault)>& /*on_fault*/) {
  FindFiles();
  for (auto& [path, file] : files_) {
    file.next_slot = file.store->ScanSlots(
        file.next_slot, options_.slots_of_scan,
        [&](Found found) {
          if (places_.size() >= kPlacesMax) {
            places_.clear();
          }
          places_.insert_or_assign(
              found.block.hash,
              Place{.path = path, .slot = found.place.slot, .generation = found.place.generation});
          Found name;
          name.block.hash = found.block.hash;
          return on_found(std::move(name));
        },
        [](BlockFault) {});  // its owner counts
  }
}

BlockFault PeerFiles::Read(std::uint32_t /*slot*/, const Hash128& hash, StoredBlock& block,
                           std::span<const std::byte>& payload) {
  const auto place = places_.find(hash);
  if (place == places_.end()) {
    return BlockFault::kMissing;
  }
  const auto file = files_.find(place->second.path);
  if (file == files_.end()) {
    return BlockFault::kMissing;
  }
  DiskStore& store = *file->second.store;
  const std::uint32_t slot = place->second.slot;
  const BlockFault fault = store.Read(slot, hash, block, payload);
  const bool is_there = fault == BlockFault::kNone && block.hash == hash &&
                        block.generation == place->second.generation;
  if (is_there && CheckPayload(block, payload) == BlockFault::kNone) {
    return BlockFault::kNone;
  }
  if (is_there) {  // spoilt, unless its owner has begun to write another one there
    StoredBlock again;
    if (store.Read(slot, hash, again, payload) == BlockFault::kNone && again.hash == hash &&
        again.generation == block.generation) {
      return BlockFault::kNone;  // as it is: whoever asked proves it, and counts
    }
  }
  places_.erase(place);
  if (fault != BlockFault::kIo) {
    return BlockFault::kMissing;
  }
  SetTrouble(store.trouble());
  return BlockFault::kIo;
}

}  // namespace pixii::kv
