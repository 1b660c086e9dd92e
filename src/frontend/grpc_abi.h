// What the program and libpixii_grpc.so say to each other: plain functions on plain values.
//
// The library speaks gRPC and knows no message: it carries bytes. Every call that it announces with
// `begin` is ended by the program with `finish`, also one that was cancelled, or by `free`, and is
// gone with `done`.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pixii::frontend::grpc_abi {

inline constexpr std::uint32_t kAbi = 1;
inline constexpr const char* kLibraryName = "libpixii_grpc.so";
inline constexpr const char* kEntryName = "pixii_grpc_library";

struct Bytes {
  const char* data = nullptr;
  std::size_t size = 0;
};

/// One entry of a call's metadata.
struct Field {
  Bytes name;
  Bytes value;
};

/// What the library tells the program, on threads of its own. Bytes live as long as the call.
struct Events {
  void* self = nullptr;
  /// A call of the method `path`. What follows is about it.
  void (*begin)(void* self, std::uint64_t call, Bytes path, const Field* fields,
                std::size_t field_count) = nullptr;
  /// The message that `read` asked for.
  void (*message)(void* self, std::uint64_t call, Bytes message) = nullptr;
  /// There is none: the client sends no more.
  void (*end)(void* self, std::uint64_t call) = nullptr;
  /// What `write` was given is on its way.
  void (*written)(void* self, std::uint64_t call) = nullptr;
  /// The client gave up, its deadline passed, or the server closes.
  void (*cancelled)(void* self, std::uint64_t call) = nullptr;
  /// Nothing more comes of this call.
  void (*done)(void* self, std::uint64_t call) = nullptr;
};

struct Options {
  const char* address = nullptr;  // "host:port"; port 0: the system picks one
  // PEM; all empty: no TLS. With authorities clients must show a certificate.
  Bytes certificate;
  Bytes key;
  Bytes authorities;
  std::uint32_t message_bytes_max = 0;  // of a request
  std::uint32_t streams_max = 0;        // calls at a time on one connection
};

struct Server;

/// Functions may be called on any thread. Texts of errors are static or live as long as the thread.
struct Library {
  std::uint32_t abi = 0;
  /// Null, or what is wrong.
  const char* (*start)(const Options* options, const Events* events, Server** server,
                       std::uint16_t* port) = nullptr;
  /// At most one of each under way for a call.
  void (*read)(Server* server, std::uint64_t call) = nullptr;
  void (*write)(Server* server, std::uint64_t call, Bytes message) = nullptr;
  /// With gRPC's number. No read or write of the call follows.
  void (*finish)(Server* server, std::uint64_t call, int status, Bytes message) = nullptr;
  /// Takes no new calls, and cancels those that have not ended after so long. Does not wait.
  void (*close)(Server* server, std::int64_t milliseconds) = nullptr;
  /// Ends every call that is left, waits until all are done, frees the server.
  void (*free)(Server* server) = nullptr;
};

using Entry = const Library* (*)();

}  // namespace pixii::frontend::grpc_abi
