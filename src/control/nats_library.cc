// libpixii_nats.so: a stream of JetStream that carries bytes. The only file that sees libnats.
#include <nats/nats.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "control/nats_abi.h"

namespace pixii::control::nats_abi {

namespace {

using std::chrono::milliseconds;

constexpr std::int64_t kCallMilliseconds = 2'000;  // for an answer of the server
constexpr std::int64_t kConnectMilliseconds = 2'000;
constexpr std::int64_t kReconnectMilliseconds = 200;
constexpr std::int64_t kPingMilliseconds = 5'000;
constexpr int kPingsMax = 2;
constexpr std::int64_t kHeartbeatNs = 1'000'000'000;  // of a silent subscription
constexpr std::int64_t kInactiveNs = 10'000'000'000;  // after which the server forgets one
constexpr std::int64_t kNextMilliseconds = 200;       // between two looks at what else happened
constexpr milliseconds kPause{200};                   // between two tries
constexpr std::uint32_t kRevivePauses = 10;           // between two connections

std::string Copy(Bytes bytes) {
  return bytes.size == 0 ? std::string() : std::string(bytes.data, bytes.size);
}

struct Freer {
  void operator()(natsOptions* options) const { natsOptions_Destroy(options); }

  void operator()(natsConnection* connection) const { natsConnection_Destroy(connection); }

  void operator()(jsCtx* context) const { jsCtx_Destroy(context); }

  void operator()(natsSubscription* subscription) const { natsSubscription_Destroy(subscription); }

  void operator()(natsMsg* message) const { natsMsg_Destroy(message); }

  void operator()(jsStreamInfo* info) const { jsStreamInfo_Destroy(info); }

  void operator()(jsMsgMetaData* data) const { jsMsgMetaData_Destroy(data); }
};

template <class Thing>
using Owned = std::unique_ptr<Thing, Freer>;

struct Outgoing {
  std::string subject;
  std::string payload;

  std::size_t size() const { return subject.size() + payload.size(); }
};

/// A connection with what speaks over it; the library connects it again until it gives up.
struct Link {
  Owned<natsConnection> connection;
  Owned<jsCtx> context;

  bool IsConnected() const {
    return natsConnection_Status(connection.get()) == NATS_CONN_STATUS_CONNECTED;
  }

  /// As when the server refused who asks, twice.
  bool IsOver() const { return natsConnection_Status(connection.get()) == NATS_CONN_STATUS_CLOSED; }
};

using LinkPtr = std::shared_ptr<const Link>;

natsStatus Connect(Session& session, LinkPtr& out);

}  // namespace

// One thread publishes, another listens; both ask for the stream when it is not there, and for
// another connection when one is over.
struct Session {
  std::string url;
  std::string user;
  std::string password;
  std::string token;
  std::string credentials_file;
  std::string stream;
  std::string subject;
  std::string filter;  // empty: nothing is listened to
  Options options;
  void (*wake)(void* self) = nullptr;
  void* self = nullptr;

  std::atomic<std::uint64_t> breaks{0};  // of the connection or of what is listened to

  std::mutex revive_mutex;  // of one at a time; taken before the other
  std::uint32_t revive_calls = 0;

  std::mutex mutex;  // of everything below
  std::condition_variable changed;
  LinkPtr link;
  int connections = 0;  // that more may be heard of
  bool closing = false;
  std::deque<Outgoing> outgoing;
  std::size_t outgoing_bytes = 0;
  std::deque<Owned<natsMsg>> incoming;
  std::size_t incoming_bytes = 0;
  Owned<natsMsg> taken;  // lives until the next is
  Status status;

  std::thread publisher;
  std::thread listener;

  LinkPtr Current() {
    const std::lock_guard lock(mutex);
    return link;
  }

  /// Another connection, if this one is over and it was not long ago.
  void Revive() {
    const std::lock_guard one(revive_mutex);
    if (!Current()->IsOver() || ++revive_calls % kRevivePauses != 0) {
      return;
    }
    LinkPtr made;
    if (const natsStatus done = Connect(*this, made); done != NATS_OK) {
      Trouble("connect", done);
      return;
    }
    const std::lock_guard lock(mutex);
    if (closing) {
      natsConnection_Close(made->connection.get());
    }
    link = std::move(made);
  }

  /// Whether to go on.
  bool Pause() {
    std::unique_lock lock(mutex);
    changed.wait_for(lock, kPause, [this] { return closing; });
    return !closing;
  }

  bool IsClosing() {
    const std::lock_guard lock(mutex);
    return closing;
  }

  void Trouble(std::string_view what, natsStatus code) {
    SetTrouble(what, code, nats_GetLastError(nullptr));
  }

  /// Of tries to connect, which are told to nobody. That it gave up says not why.
  void NoteLastError(natsConnection* connection) {
    const char* detail = nullptr;
    const natsStatus last = natsConnection_GetLastError(connection, &detail);
    if (last != NATS_OK && last != NATS_NO_SERVER) {
      SetTrouble("connect", last, detail);
    }
  }

  void SetTrouble(std::string_view what, natsStatus code, const char* detail) {
    std::string text = std::string(what) + ": " + natsStatus_GetText(code);
    if (detail != nullptr && *detail != '\0') {
      text += std::string(" (") + detail + ")";
    }
    const std::lock_guard lock(mutex);
    const std::size_t size = std::min(text.size(), sizeof(status.trouble) - 1);
    std::memcpy(status.trouble, text.data(), size);
    status.trouble[size] = '\0';
  }

  /// The stream as it is, made if it is not there; null: it cannot be had.
  Owned<jsStreamInfo> FindStream(const Link& on) {
    jsStreamInfo* info = nullptr;
    jsErrCode code{};
    natsStatus done = js_GetStreamInfo(&info, on.context.get(), stream.c_str(), nullptr, &code);
    if (done == NATS_NOT_FOUND) {
      const char* subjects[] = {subject.c_str()};
      jsStreamConfig config;
      jsStreamConfig_Init(&config);
      config.Name = stream.c_str();
      config.Subjects = subjects;
      config.SubjectsLen = 1;
      config.MaxAge = options.stream_age_ns_max;
      config.MaxBytes = options.stream_bytes_max;
      config.Storage = js_FileStorage;
      config.Discard = js_DiscardOld;
      done = js_AddStream(&info, on.context.get(), &config, nullptr, &code);
    }
    if (done != NATS_OK) {
      Trouble("stream " + stream, done);
      return nullptr;
    }
    return Owned<jsStreamInfo>(info);
  }

  bool PublishOne(const Link& on, const Outgoing& message) {
    jsPubOptions how;
    jsPubOptions_Init(&how);
    how.MaxWait = kCallMilliseconds;
    const natsStatus done =
        js_Publish(nullptr, on.context.get(), message.subject.c_str(), message.payload.data(),
                   static_cast<int>(message.payload.size()), &how, nullptr);
    if (done != NATS_OK) {
      Trouble("publish", done);
    }
    return done == NATS_OK;
  }

  void PublishLoop() {
    bool has_stream = false;
    while (true) {
      Outgoing message;
      {
        std::unique_lock lock(mutex);
        changed.wait(lock, [this] { return closing || !outgoing.empty(); });
        if (closing) {
          return;
        }
      }
      const LinkPtr on = Current();
      if (!on->IsConnected() || (!has_stream && FindStream(*on) == nullptr)) {
        if (!Pause()) {
          return;
        }
        Revive();
        continue;  // what waits is bounded
      }
      has_stream = true;
      {
        const std::lock_guard lock(mutex);
        if (outgoing.empty()) {
          continue;
        }
        message = std::move(outgoing.front());
        outgoing.pop_front();
        outgoing_bytes -= message.size();
      }
      has_stream = PublishOne(*on, message);
      const std::lock_guard lock(mutex);
      ++(has_stream ? status.published : status.lost);
    }
  }

  /// What is listened to goes on behind `last` of the stream that was made at `created`.
  Owned<natsSubscription> Subscribe(const Link& on, const jsStreamInfo& info, std::uint64_t last,
                                    std::int64_t created) {
    jsSubOptions how;
    jsSubOptions_Init(&how);
    how.Stream = stream.c_str();
    how.Config.AckPolicy = js_AckNone;
    how.Config.FlowControl = true;
    how.Config.Heartbeat = kHeartbeatNs;
    how.Config.InactiveThreshold = kInactiveNs;
    how.Config.MemoryStorage = true;
    if (created == 0) {
      how.Config.DeliverPolicy = js_DeliverNew;
    } else if (info.Created != created || info.State.LastSeq < last) {
      how.Config.DeliverPolicy = js_DeliverAll;  // it is another one
    } else {
      how.Config.DeliverPolicy = js_DeliverByStartSequence;
      how.Config.OptStartSeq = last + 1;
    }
    natsSubscription* out = nullptr;
    const natsStatus done =
        js_SubscribeSync(&out, on.context.get(), filter.c_str(), nullptr, &how, nullptr);
    if (done != NATS_OK) {
      Trouble("subscribe", done);
      return nullptr;
    }
    return Owned<natsSubscription>(out);
  }

  /// Waits for a place: the server then holds back what is not taken.
  bool Give(Owned<natsMsg> message) {
    const auto size = static_cast<std::size_t>(natsMsg_GetDataLength(message.get()));
    bool first = false;
    {
      std::unique_lock lock(mutex);
      changed.wait(lock, [this] {
        return closing || incoming.empty() ||
               (incoming.size() < options.queue_messages_max &&
                incoming_bytes < options.queue_bytes_max);
      });
      if (closing) {
        return false;
      }
      first = incoming.empty();
      incoming_bytes += size;
      incoming.push_back(std::move(message));
    }
    if (first) {
      wake(self);
    }
    return true;
  }

  /// What was listened to is no more: the server forgets it with the connection.
  void Break() {
    const std::lock_guard lock(mutex);
    ++breaks;
    status.listening = false;
  }

  void SetListening(std::uint64_t seen_breaks) {
    const std::lock_guard lock(mutex);
    status.listening = breaks == seen_breaks;
    ++status.subscriptions;
  }

  void ListenLoop() {
    std::uint64_t last = 0;  // sequence in the stream
    std::int64_t created = 0;
    do {
      const std::uint64_t seen_breaks = breaks;
      Revive();
      const LinkPtr on = Current();
      const Owned<jsStreamInfo> info = on->IsConnected() ? FindStream(*on) : nullptr;
      const Owned<natsSubscription> subscription =
          info == nullptr ? nullptr : Subscribe(*on, *info, last, created);
      if (subscription == nullptr) {
        continue;
      }
      if (created != info->Created) {
        last = created == 0 ? info->State.LastSeq : 0;
        created = info->Created;
      }
      SetListening(seen_breaks);
      ReadAll(*subscription, seen_breaks, last);
      Break();
      if (IsClosing()) {
        return;
      }
    } while (Pause());
  }

  void ReadAll(natsSubscription& subscription, std::uint64_t seen_breaks, std::uint64_t& last) {
    while (breaks == seen_breaks && !IsClosing()) {
      natsMsg* raw = nullptr;
      const natsStatus done = natsSubscription_NextMsg(&raw, &subscription, kNextMilliseconds);
      if (done == NATS_TIMEOUT) {
        continue;
      }
      if (done != NATS_OK) {
        Trouble("listen", done);
        return;
      }
      Owned<natsMsg> message(raw);
      jsMsgMetaData* data = nullptr;
      if (natsMsg_GetMetaData(&data, message.get()) != NATS_OK) {
        continue;  // nobody's message of the stream
      }
      last = Owned<jsMsgMetaData>(data)->Sequence.Stream;
      if (!Give(std::move(message))) {
        return;
      }
    }
  }
};

namespace {

natsStatus Connect(Session& session, LinkPtr& out) {
  natsOptions* raw = nullptr;
  natsStatus done = natsOptions_Create(&raw);
  const Owned<natsOptions> options(raw);
  const auto set = [&](natsStatus next) { done = done == NATS_OK ? next : done; };
  set(natsOptions_SetURL(raw, session.url.c_str()));
  set(natsOptions_SetName(raw, "pixii"));
  if (!session.user.empty()) {
    set(natsOptions_SetUserInfo(raw, session.user.c_str(), session.password.c_str()));
  }
  if (!session.token.empty()) {
    set(natsOptions_SetToken(raw, session.token.c_str()));
  }
  if (!session.credentials_file.empty()) {
    set(natsOptions_SetUserCredentialsFromFiles(raw, session.credentials_file.c_str(), nullptr));
  }
  set(natsOptions_SetTimeout(raw, kConnectMilliseconds));
  set(natsOptions_SetMaxReconnect(raw, -1));
  set(natsOptions_SetReconnectWait(raw, kReconnectMilliseconds));
  set(natsOptions_SetReconnectJitter(raw, kReconnectMilliseconds, kReconnectMilliseconds));
  set(natsOptions_SetPingInterval(raw, kPingMilliseconds));
  set(natsOptions_SetMaxPingsOut(raw, kPingsMax));
  set(natsOptions_SetFailRequestsOnDisconnect(raw, true));
  // Without one the library writes to stderr.
  set(natsOptions_SetErrorHandler(
      raw,
      [](natsConnection*, natsSubscription* subscription, natsStatus code, void* self) {
        static_cast<Session*>(self)->Trouble("connection", code);
        if (subscription != nullptr) {  // its heartbeats or numbers are missing
          static_cast<Session*>(self)->Break();
        }
      },
      &session));
  set(natsOptions_SetDisconnectedCB(
      raw, [](natsConnection*, void* self) { static_cast<Session*>(self)->Break(); }, &session));
  set(natsOptions_SetClosedCB(
      raw,
      [](natsConnection*, void* self) {
        auto* const session = static_cast<Session*>(self);
        const std::lock_guard lock(session->mutex);
        --session->connections;
        session->changed.notify_all();
      },
      &session));
  // A server that is not there yet is waited for, by its own threads.
  set(natsOptions_SetRetryOnFailedConnect(raw, true, [](natsConnection*, void*) {}, nullptr));
  if (done != NATS_OK) {
    return done;
  }
  const auto made = std::make_shared<Link>();
  natsConnection* connection = nullptr;
  {
    const std::lock_guard lock(session.mutex);
    ++session.connections;  // first: it may be over at once
  }
  done = natsConnection_Connect(&connection, raw);
  made->connection.reset(connection);
  if (connection == nullptr) {
    const std::lock_guard lock(session.mutex);
    --session.connections;
  }
  if (done != NATS_OK && done != NATS_NOT_YET_CONNECTED) {
    return done;
  }
  session.NoteLastError(connection);
  jsOptions how;
  jsOptions_Init(&how);
  how.Wait = kCallMilliseconds;
  jsCtx* context = nullptr;
  done = natsConnection_JetStream(&context, connection, &how);
  made->context.reset(context);
  out = made;
  return done;
}

const char* Open(const Options* options, void (*wake)(void*), void* self, Session** out) {
  auto session = std::make_unique<Session>();
  session->url = options->url;
  session->stream = options->stream;
  session->subject = options->subject;
  session->filter = options->filter == nullptr ? "" : options->filter;
  session->user = options->user;
  session->password = options->password;
  session->token = options->token;
  session->credentials_file = options->credentials_file;
  session->options = *options;
  session->wake = wake;
  session->self = self;
  if (const natsStatus done = Connect(*session, session->link); done != NATS_OK) {
    static thread_local std::string problem;
    problem = natsStatus_GetText(done);
    if (session->connections > 0) {
      (void)session.release();  // the library may still call
    }
    return problem.c_str();
  }
  Session* raw = session.release();
  raw->publisher = std::thread([raw] { raw->PublishLoop(); });
  if (!raw->filter.empty()) {
    raw->listener = std::thread([raw] { raw->ListenLoop(); });
  }
  *out = raw;
  return nullptr;
}

// The oldest give way together: what they were missed for is asked for once.
void Publish(Session* session, Bytes subject, Bytes payload) {
  Outgoing message{Copy(subject), Copy(payload)};
  const std::lock_guard lock(session->mutex);
  if (session->outgoing.size() >= session->options.queue_messages_max ||
      session->outgoing_bytes + message.size() > session->options.queue_bytes_max) {
    session->status.lost += session->outgoing.size();
    session->outgoing.clear();
    session->outgoing_bytes = 0;
  }
  session->outgoing_bytes += message.size();
  session->outgoing.push_back(std::move(message));
  session->changed.notify_all();
}

bool Take(Session* session, Message* out) {
  const std::lock_guard lock(session->mutex);
  session->taken.reset();
  if (session->incoming.empty()) {
    return false;
  }
  session->taken = std::move(session->incoming.front());
  session->incoming.pop_front();
  const natsMsg* message = session->taken.get();
  const char* subject = natsMsg_GetSubject(message);
  const auto size = static_cast<std::size_t>(natsMsg_GetDataLength(message));
  session->incoming_bytes -= size;
  out->subject = {subject, std::strlen(subject)};
  out->payload = {natsMsg_GetData(message), size};
  session->changed.notify_all();
  return true;
}

void GetStatus(Session* session, Status* status) {
  const LinkPtr on = session->Current();
  const bool connected = on->IsConnected();
  if (!connected) {
    session->NoteLastError(on->connection.get());
  }
  const std::lock_guard lock(session->mutex);
  *status = session->status;
  status->connected = connected;
  status->listening = connected && session->status.listening;
}

void Close(Session* session) {
  {
    const std::lock_guard lock(session->mutex);
    session->closing = true;
    session->changed.notify_all();
  }
  natsConnection_Close(session->Current()->connection.get());  // who waits gets no answer
  session->publisher.join();
  if (session->listener.joinable()) {
    session->listener.join();
  }
  std::unique_ptr<Session> owned(session);
  std::unique_lock lock(session->mutex);
  if (!session->changed.wait_for(lock, milliseconds(kCallMilliseconds),
                                 [session] { return session->connections == 0; })) {
    (void)owned.release();  // the library may still call: better kept than gone
  }
}

constexpr Library kLibrary{.abi = kAbi,
                           .open = Open,
                           .publish = Publish,
                           .take = Take,
                           .status = GetStatus,
                           .close = Close};

}  // namespace

}  // namespace pixii::control::nats_abi

extern "C" __attribute__((visibility("default"))) const pixii::control::nats_abi::Library*
pixii_nats_library() {
  return &pixii::control::nats_abi::kLibrary;
}
