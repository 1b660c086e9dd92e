#include "control/nats_plane.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace pixii::control {

namespace {

using nats_abi::Bytes;

constexpr int kMessagesOfATurn = 256;
constexpr std::string_view kKv = "kv";
constexpr std::string_view kLoad = "load";

Bytes View(std::string_view text) { return {text.data(), text.size()}; }

std::string_view View(Bytes bytes) {
  return bytes.size == 0 ? std::string_view() : std::string_view(bytes.data, bytes.size);
}

// '.' parts subjects, and no stream's name has one.
std::string Token(std::string_view ns) {
  std::string out(ns);
  std::ranges::replace(out, '.', '~');
  return out;
}

}  // namespace

Result<NatsLibrary> LoadNatsLibrary(std::string path) {
  if (path.empty()) {
    PX_TRY(path,
           rt::SharedLibrary::FindBesideProgram(
               nats_abi::kLibraryName, "build the target pixii_nats, which needs libnats-dev"));
  }
  PX_TRY(rt::SharedLibrary file, rt::SharedLibrary::Open(path));
  PX_TRY(void* symbol, file.Symbol(nats_abi::kEntryName));
  NatsLibrary out;
  out.functions = reinterpret_cast<nats_abi::Entry>(symbol)();
  if (out.functions->abi != nats_abi::kAbi) {
    return Fail(Code::kUnsupported,
                fmt::format("{} speaks ABI {}, this program {}: build both of one version", path,
                            out.functions->abi, nats_abi::kAbi));
  }
  out.file = std::make_unique<rt::SharedLibrary>(std::move(file));
  return out;
}

std::string SubjectOf(std::string_view ns, EventPlane::Kind kind, std::string_view worker) {
  return fmt::format("pixii.{}.{}.{}", Token(ns), kind == EventPlane::Kind::kKvEvents ? kKv : kLoad,
                     worker);
}

std::optional<PlaneSubject> ReadSubject(std::string_view ns, std::string_view subject) {
  const std::string prefix = fmt::format("pixii.{}.", Token(ns));
  if (!subject.starts_with(prefix)) {
    return std::nullopt;
  }
  subject.remove_prefix(prefix.size());
  const std::size_t point = subject.find('.');
  const std::string_view kind = subject.substr(0, point);
  if (point == std::string_view::npos || point + 1 == subject.size() ||
      subject.find('.', point + 1) != std::string_view::npos || (kind != kKv && kind != kLoad)) {
    return std::nullopt;
  }
  return PlaneSubject{kind == kKv ? EventPlane::Kind::kKvEvents : EventPlane::Kind::kLoad,
                      subject.substr(point + 1)};
}

NatsPlane::NatsPlane(Key /*key*/, rt::Loop& loop, NatsLibrary library, NatsPlaneOptions options)
    : loop_(loop), library_(std::move(library)), options_(std::move(options)) {}

NatsPlane::~NatsPlane() {
  *alive_ = false;
  if (session_ != nullptr) {
    library_.functions->close(session_);
  }
}

Result<std::unique_ptr<NatsPlane>> NatsPlane::Open(rt::Loop& loop, NatsLibrary library,
                                                   NatsPlaneOptions options) {
  auto plane = std::make_unique<NatsPlane>(Key{}, loop, std::move(library), std::move(options));
  const std::string stream = "pixii-" + Token(plane->options_.ns);
  const std::string subject = fmt::format("pixii.{}.>", Token(plane->options_.ns));
  const nats_abi::Options given{.url = plane->options_.url.c_str(),
                                .user = plane->options_.user.name.c_str(),
                                .password = plane->options_.user.password.c_str(),
                                .token = plane->options_.user.token.c_str(),
                                .credentials_file = plane->options_.user.credentials_file.c_str(),
                                .stream = stream.c_str(),
                                .subject = subject.c_str(),
                                .filter = plane->options_.listens ? subject.c_str() : nullptr,
                                .stream_age_ns_max = plane->options_.stream_age_max.count(),
                                .stream_bytes_max = plane->options_.stream_bytes_max,
                                .queue_bytes_max = plane->options_.queue_bytes_max,
                                .queue_messages_max = plane->options_.queue_messages_max};
  const char* const problem = plane->library_.functions->open(
      &given, [](void* self) { static_cast<NatsPlane*>(self)->TakeLater(); }, plane.get(),
      &plane->session_);
  if (problem != nullptr) {
    return Fail(Code::kInvalidArgument, problem);  // without the URL, which may have a password
  }
  return plane;
}

// Called on the library's threads, too.
void NatsPlane::TakeLater() {
  if (!taking_.exchange(true)) {
    loop_.Post([this, alive = std::weak_ptr<bool>(alive_)] {
      if (const auto here = alive.lock(); here && *here) {
        TakeSome();
      }
    });
  }
}

// Others on the loop have their turn between two rows of messages.
void NatsPlane::TakeSome() {
  taking_ = false;  // first: what comes from now on wakes again
  nats_abi::Message message;
  for (int i = 0; i < kMessagesOfATurn; ++i) {
    if (!library_.functions->take(session_, &message)) {
      return;
    }
    const std::optional<PlaneSubject> subject = ReadSubject(options_.ns, View(message.subject));
    if (subject) {
      Deliver(subject->worker, subject->kind, View(message.payload));
    } else {
      ++foreign_;
    }
  }
  TakeLater();
}

void NatsPlane::Publish(std::string_view worker, Kind kind, std::string message) {
  const std::string subject = SubjectOf(options_.ns, kind, worker);
  const std::string sealed = Seal(std::move(message));
  library_.functions->publish(session_, View(subject), View(sealed));
}

EventPlane::Counters NatsPlane::counters() const {
  Counters out = EventPlane::counters();
  nats_abi::Status status;
  library_.functions->status(session_, &status);
  out.unknown += foreign_;
  out.published = status.published;
  out.lost = status.lost;
  out.breaks = status.subscriptions > 0 ? status.subscriptions - 1 : 0;
  return out;
}

bool NatsPlane::ready() const {
  nats_abi::Status status;
  library_.functions->status(session_, &status);
  return status.connected && (status.listening || !options_.listens);
}

std::string NatsPlane::trouble() const {
  nats_abi::Status status;
  library_.functions->status(session_, &status);
  return status.trouble;
}

}  // namespace pixii::control
