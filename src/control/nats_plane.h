// An event plane over a stream of NATS JetStream, spoken by libpixii_nats.so.
//
// Thread: one loop. What the library has is taken there, a few messages in a turn.
// Subjects: pixii.NAMESPACE.kv.WORKER and pixii.NAMESPACE.load.WORKER of the stream
// pixii-NAMESPACE; a '.' of the namespace is written '~'. docs/formats/kv_events.md
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "control/event_plane.h"
#include "control/nats_abi.h"
#include "rt/loop.h"
#include "rt/shared_library.h"

namespace pixii::control {

/// Who a client is to the server, if its URL does not say; what is empty is not said.
struct NatsUser {
  std::string name;
  std::string password;
  std::string token;
  std::string credentials_file;
};

struct NatsPlaneOptions {
  std::string url;  // nats://HOST:PORT, with user:password@ if the server wants them
  std::string ns;   // namespace of the workers: letters, digits, '-', '_' and '.'
  NatsUser user = {};
  bool listens = true;  // to workers; a worker itself listens to nobody
  // Of the stream, if it is made here.
  std::chrono::nanoseconds stream_age_max = std::chrono::hours(1);
  std::int64_t stream_bytes_max = 256 << 20;
  // Held by the library in either direction.
  std::uint64_t queue_bytes_max = 16U << 20;
  std::uint32_t queue_messages_max = 8192;
};

/// libpixii_nats.so, which is loaded when it is asked for.
struct NatsLibrary {
  std::unique_ptr<rt::SharedLibrary> file;  // null: the functions are elsewhere, as in a test
  const nats_abi::Library* functions = nullptr;
};

/// `path` empty: beside the program, or in the folder above it. Errors: kUnsupported.
Result<NatsLibrary> LoadNatsLibrary(std::string path);

struct PlaneSubject {
  EventPlane::Kind kind{};
  std::string_view worker;
};

std::string SubjectOf(std::string_view ns, EventPlane::Kind kind, std::string_view worker);

/// Nothing: it is no subject of this namespace.
std::optional<PlaneSubject> ReadSubject(std::string_view ns, std::string_view subject);

class NatsPlane final : public EventPlane {
  struct Key {};

 public:
  /// A server that is not there is waited for. Errors: kInvalidArgument with what the library says
  /// of the URL.
  static Result<std::unique_ptr<NatsPlane>> Open(rt::Loop& loop, NatsLibrary library,
                                                 NatsPlaneOptions options);
  /// For Open.
  NatsPlane(Key key, rt::Loop& loop, NatsLibrary library, NatsPlaneOptions options);
  ~NatsPlane() override;

  void Publish(std::string_view worker, Kind kind, std::string message) override;
  Counters counters() const override;

  /// There is a connection, and what is published arrives here if it shall.
  bool ready() const;

  /// Why it is not, or was not; empty: nothing is known.
  std::string trouble() const;

 private:
  void TakeSome();
  void TakeLater();

  rt::Loop& loop_;
  NatsLibrary library_;
  const NatsPlaneOptions options_;
  nats_abi::Session* session_ = nullptr;
  std::uint64_t foreign_ = 0;         // subjects that are none of ours
  std::atomic<bool> taking_ = false;  // it is posted
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // posts hold it weakly
};

}  // namespace pixii::control
