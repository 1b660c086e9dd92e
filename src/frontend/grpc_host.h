// libpixii_grpc.so on a port, and its calls on a loop: bytes in, bytes out.
//
// Thread: one loop; what the library says on its threads is posted there. docs/adr/0017
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "frontend/grpc_abi.h"
#include "rt/loop.h"
#include "rt/shared_library.h"
#include "wire/http.h"

namespace pixii::frontend {

/// gRPC's numbers of statuses.
inline constexpr int kGrpcOk = 0;
inline constexpr int kGrpcCancelled = 1;
inline constexpr int kGrpcInvalidArgument = 3;
inline constexpr int kGrpcNotFound = 5;
inline constexpr int kGrpcResourceExhausted = 8;
inline constexpr int kGrpcUnimplemented = 12;
inline constexpr int kGrpcUnavailable = 14;

struct GrpcOptions {
  std::string host = "127.0.0.1";
  std::uint16_t port = 0;   // 0: the system picks one
  std::string certificate;  // PEM; empty: no TLS
  std::string key;          // likewise
  std::string authorities;  // that sign clients' certificates; empty: none is asked for
  std::uint32_t message_bytes_max = 16U << 20;
  std::uint32_t calls_max = 1024;              // at a time; further ones get RESOURCE_EXHAUSTED
  std::uint32_t stream_bytes_max = 64U << 10;  // held for a client that does not read
};

/// libpixii_grpc.so, which is loaded when it is asked for.
struct GrpcLibrary {
  std::unique_ptr<rt::SharedLibrary> file;  // null: the functions are elsewhere, as in a test
  const grpc_abi::Library* functions = nullptr;
};

/// `path` empty: beside the program, or in the folder above it. Errors: kUnsupported.
Result<GrpcLibrary> LoadGrpcLibrary(std::string path);

/// What happens to calls, on the loop. Each that begins is ended by GrpcHost::Finish, and is gone
/// with OnGrpcDone.
class GrpcHandler {
 public:
  virtual ~GrpcHandler() = default;
  /// `fields`: the call's metadata, all of it.
  virtual void OnGrpcBegin(std::uint64_t id, const std::string& path,
                           std::vector<wire::HttpField> fields) = 0;
  virtual void OnGrpcMessage(std::uint64_t id, const std::string& message) = 0;
  /// The client sends no more.
  virtual void OnGrpcEnd(std::uint64_t id) = 0;
  virtual void OnGrpcWritten(std::uint64_t id) = 0;
  virtual void OnGrpcCancelled(std::uint64_t id) = 0;
  virtual void OnGrpcDone(std::uint64_t id) = 0;
};

class GrpcHost final {
  struct Key {};

 public:
  /// `loop` and `handler` outlive it. Errors: kUnavailable with what the library says.
  static Result<std::unique_ptr<GrpcHost>> Start(rt::Loop& loop, GrpcHandler& handler,
                                                 GrpcLibrary library, const GrpcOptions& options);
  /// For Start.
  GrpcHost(Key key, rt::Loop& loop, GrpcHandler& handler, GrpcLibrary library);

  GrpcHost(const GrpcHost&) = delete;
  GrpcHost& operator=(const GrpcHost&) = delete;
  /// Ends every call; the handler hears no more.
  ~GrpcHost();

  std::uint16_t port() const { return port_; }

  // At most one of each under way for a call.
  void Read(std::uint64_t id) { library_.functions->read(server_, id); }

  void Write(std::uint64_t id, std::string_view message) {
    library_.functions->write(server_, id, {message.data(), message.size()});
  }

  /// No read or write of the call follows.
  void Finish(std::uint64_t id, int status, std::string_view message) {
    library_.functions->finish(server_, id, status, {message.data(), message.size()});
  }

  /// Takes no new calls; those that are there may go on until `deadline`. Does not wait.
  void Close(rt::Time deadline);

 private:
  /// Posts `use` of the handler.
  template <class Use>
  void Post(Use use);

  rt::Loop& loop_;
  GrpcHandler& handler_;
  GrpcLibrary library_;
  const std::shared_ptr<bool> alive_;  // posts hold it weakly
  grpc_abi::Server* server_ = nullptr;
  std::uint16_t port_ = 0;
};

}  // namespace pixii::frontend
