// What the program and libpixii_ucx.so or libpixii_libfabric.so say to each other: plain functions
// on plain values.
//
// The library reads from memory of other processes that these have exposed, one-sided, and knows
// nothing of peers' rights: who may have which key is decided here, over an authenticated channel.
// Thread: one.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pixii::transport::fabric_abi {

inline constexpr std::uint32_t kAbi = 2;
inline constexpr const char* kUcxLibraryName = "libpixii_ucx.so";
inline constexpr const char* kLibfabricLibraryName = "libpixii_libfabric.so";
inline constexpr const char* kEntryName = "pixii_fabric_library";

struct Bytes {
  const char* data = nullptr;
  std::size_t size = 0;
};

struct Options {
  const char* host = nullptr;  // that peers reach this process at: a numeric address
};

struct Fabric;  // of this process
struct Memory;  // of this process, that the fabric may touch
struct Peer;
struct Key;  // to memory of a peer

/// What became of a read or write that was begun. `done` is called once for each that runs, within
/// progress or disconnect, and for no other.
enum class Begun : std::int32_t {
  kDone = 0,
  kRuns = 1,
  kFailed = 2,
  kLater = 3,  // the queue is full: after some progress it may be begun anew
};

/// What one read moves: each piece from a place of its own to a place of its own.
struct Piece {
  Key* key = nullptr;
  std::uint64_t address = 0;
  void* to = nullptr;
  std::size_t size = 0;
  Memory* memory = nullptr;  // of `to`; null: the library has to see
};

using Done = void (*)(void* self, bool succeeded);

/// Functions that give a text give null, or what is wrong; it lives until the next call.
struct Library {
  std::uint32_t abi = 0;
  const char* name = nullptr;  // "ucx"
  const char* (*open)(const Options* options, Fabric** fabric) = nullptr;
  /// Pre: no peer and no memory is left.
  void (*close)(Fabric* fabric) = nullptr;
  /// Moves on what runs, and serves peers. How much was done; 0: nothing is to be done now.
  std::uint32_t (*progress)(Fabric* fabric) = nullptr;
  /// Readable when progress has something to do, if `arm` gave true since the last progress.
  int (*descriptor)(Fabric* fabric) = nullptr;
  bool (*arm)(Fabric* fabric) = nullptr;

  /// Peers that have its key may read it, until `withdraw`. `data` stays there until then.
  const char* (*expose)(Fabric* fabric, void* data, std::size_t size, Memory** memory) = nullptr;
  Bytes (*key)(Memory* memory) = nullptr;  // lives as long
  /// What peers call the first byte.
  std::uint64_t (*base)(Memory* memory) = nullptr;
  void (*withdraw)(Memory* memory) = nullptr;

  const char* (*begin_peer)(Fabric* fabric, Peer** peer) = nullptr;
  Bytes (*address)(Peer* peer) = nullptr;  // that it reaches us at; lives as long
  const char* (*connect)(Peer* peer, Bytes address) = nullptr;
  /// Everything that was begun with it is over when this returns. Then its keys are dropped.
  void (*disconnect)(Peer* peer) = nullptr;
  /// Pre: disconnected, and no key of it is left.
  void (*end_peer)(Peer* peer) = nullptr;
  const char* (*import_key)(Peer* peer, Bytes key, Key** out) = nullptr;
  void (*drop_key)(Key* key) = nullptr;
  /// How many pieces one read may have, at least 1.
  std::size_t (*pieces_max)(Fabric* fabric) = nullptr;
  /// Pre: 1 .. pieces_max, their keys of one peer.
  Begun (*read)(const Piece* pieces, std::size_t count, Done done, void* self) = nullptr;
};

using Entry = const Library* (*)();

}  // namespace pixii::transport::fabric_abi
