// Adapters: what a worker says of its own, and what it is asked to load.
//
// Thread: values.
#pragma once

#include <cstdint>
#include <string>

namespace pixii::wire {

/// An adapter that requests may name.
struct AdapterCard {
  std::string name;
  std::string source;            // the folder it is read from; empty: unknown
  std::string version;           // fingerprint of its files; empty: not loaded yet
  std::uint64_t id = 0;          // of the version, never used twice; 0: not loaded yet
  std::uint64_t size_bytes = 0;  // in the host's memory
  bool pinned = false;           // no other adapter takes its place

  bool is_loaded() const { return id != 0; }
};

struct LoadAdapterRequest {
  std::string name;
  std::string source;  // a folder
  bool pinned = false;
  bool replace = true;  // a loaded one of this name; false: it is refused
};

}  // namespace pixii::wire
