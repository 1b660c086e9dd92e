// What the program and libpixii_nats.so say to each other: plain functions on plain values.
//
// The library keeps one connection to a NATS server and one JetStream stream on it; it knows no
// message: it carries bytes under subjects.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pixii::control::nats_abi {

inline constexpr std::uint32_t kAbi = 1;
inline constexpr const char* kLibraryName = "libpixii_nats.so";
inline constexpr const char* kEntryName = "pixii_nats_library";

struct Bytes {
  const char* data = nullptr;
  std::size_t size = 0;
};

struct Options {
  const char* url = nullptr;  // nats://HOST:PORT, with user and password if it wants them
  // Who asks, if the URL does not say; empty: nobody in particular.
  const char* user = "";
  const char* password = "";
  const char* token = "";
  const char* credentials_file = "";
  const char* stream = nullptr;   // made if it is not there
  const char* subject = nullptr;  // of the stream: all that it keeps
  const char* filter = nullptr;   // of what is listened to; null: nothing is
  std::int64_t stream_age_ns_max = 0;
  std::int64_t stream_bytes_max = 0;
  // Held for either side while the other does not take it.
  std::uint64_t queue_bytes_max = 0;
  std::uint32_t queue_messages_max = 0;
};

struct Message {
  Bytes subject;
  Bytes payload;
};

struct Status {
  bool connected = false;
  bool listening = false;           // what is published from now on arrives
  std::uint64_t published = 0;      // messages that the stream has
  std::uint64_t lost = 0;           // that it did not take, or that were too many to hold
  std::uint64_t subscriptions = 0;  // begun: beyond the first after a break
  char trouble[256] = {};           // the last one, ended by a zero
};

struct Session;

/// Functions may be called on any thread.
struct Library {
  std::uint32_t abi = 0;
  /// Begins; what is not there yet is waited for. `wake` is called on other threads when there is
  /// something to take. Null, or what is wrong, which lives as long as the thread.
  const char* (*open)(const Options* options, void (*wake)(void* self), void* self,
                      Session** session) = nullptr;
  /// Does not wait. What cannot be held is lost.
  void (*publish)(Session* session, Bytes subject, Bytes payload) = nullptr;
  /// The next message, which lives until the next call; false: there is none.
  bool (*take)(Session* session, Message* message) = nullptr;
  void (*status)(Session* session, Status* status) = nullptr;
  /// What was published shortly before may be lost. `wake` is not called any more.
  void (*close)(Session* session) = nullptr;
};

using Entry = const Library* (*)();

}  // namespace pixii::control::nats_abi
