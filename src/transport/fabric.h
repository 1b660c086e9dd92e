// A library that reads memory of other processes, loaded when it is asked for: UCX, libfabric.
//
// Thread: one loop, but for what says "any".
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "rt/alarm.h"
#include "rt/fd_watch.h"
#include "rt/function.h"
#include "rt/loop.h"
#include "rt/shared_library.h"
#include "transport/fabric_abi.h"
#include "transport/region_table.h"

namespace pixii::transport {

inline constexpr std::size_t kPiecesMax = 16;  // of one read

enum class FabricKind : std::uint8_t { kUcx, kLibfabric };

/// "ucx", "libfabric": the transport's name.
std::string_view FabricName(FabricKind kind);

struct FabricLibrary {
  std::shared_ptr<rt::SharedLibrary> file;  // null: the functions are elsewhere, as in a test
  const fabric_abi::Library* functions = nullptr;
};

/// `path` empty: beside the program, or in the folder above it. Errors: kUnsupported, naming the
/// package that is missing.
Result<FabricLibrary> LoadFabricLibrary(FabricKind kind, std::string path = {});

/// Memory that the fabric may touch, while it lives.
class FabricMemory final {
 public:
  FabricMemory(const fabric_abi::Library& functions, fabric_abi::Memory* memory)
      : functions_(functions), memory_(memory) {}

  ~FabricMemory() { functions_.withdraw(memory_); }

  FabricMemory(const FabricMemory&) = delete;
  FabricMemory& operator=(const FabricMemory&) = delete;

  fabric_abi::Memory* raw() const { return memory_; }

  std::uint64_t base() const { return functions_.base(memory_); }

  std::string_view key() const {
    const fabric_abi::Bytes bytes = functions_.key(memory_);
    return {bytes.data, bytes.size};
  }

 private:
  const fabric_abi::Library& functions_;
  fabric_abi::Memory* memory_;
};

class Fabric final {
 public:
  /// Who has something to do after some progress.
  class User {
   public:
    virtual void Settle() = 0;

   protected:
    ~User() = default;
  };

  /// Errors: kUnavailable with what the library says.
  static Result<std::unique_ptr<Fabric>> Open(rt::Loop& loop, FabricLibrary library,
                                              const std::string& host);
  ~Fabric();
  Fabric(const Fabric&) = delete;
  Fabric& operator=(const Fabric&) = delete;

  const fabric_abi::Library& functions() const { return *library_.functions; }

  fabric_abi::Fabric* raw() const { return fabric_; }

  /// Of one read.
  std::size_t pieces_max() const { return pieces_max_; }

  /// Errors: kUnsupported with what the library says.
  Result<std::shared_ptr<FabricMemory>> Expose(std::span<std::byte> memory);

  void Add(User& user) { users_.push_back(&user); }

  void Remove(User& user) { std::erase(users_, &user); }

  /// Some progress, and Settle, soon.
  void Kick();
  /// The same a moment later: the fabric takes nothing now, and nothing runs whose end would tell.
  void KickLater();
  /// What has come already is dealt with.
  void Drain();

 private:
  Fabric(rt::Loop& loop, FabricLibrary library)
      : loop_(loop), library_(std::move(library)), later_(loop, [this] { Turn(); }) {}

  void Turn();
  void SettleAll();

  rt::Loop& loop_;
  FabricLibrary library_;
  fabric_abi::Fabric* fabric_ = nullptr;
  std::size_t pieces_max_ = 1;
  std::unique_ptr<rt::FdWatch> watch_;
  rt::Alarm later_;
  std::vector<User*> users_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  bool kicked_ = false;
  rt::Time busy_until_ = rt::Time::min();
};

}  // namespace pixii::transport
