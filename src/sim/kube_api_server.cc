#include "sim/kube_api_server.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "wire/json.h"

namespace pixii::kube {

namespace {

using wire::Json;

constexpr std::size_t kReadBytes = 64 * 1024;
constexpr std::int64_t kWatchSecondsDefault = 1800;

std::string LineOf(const Event& event) {
  Json line{Json::Object{}};
  line.Set("type", event.type);
  line.Set("object", event.object);
  return line.Dump() + "\n";
}

std::string ChunkOf(std::string_view text) {
  return text.empty() ? "" : fmt::format("{:x}\r\n{}\r\n", text.size(), text);
}

std::int64_t NumberOf(const Target& target, const std::string& name, std::int64_t otherwise) {
  const auto found = target.query.find(name);
  std::int64_t number = otherwise;
  if (found != target.query.end()) {
    const std::string& text = found->second;
    std::from_chars(text.data(), text.data() + text.size(), number);
  }
  return number;
}

std::string Serialize(const Reply& reply, int retry_after_s, bool keep_alive) {
  const std::string body = reply.body.Dump() + "\n";
  wire::HttpResponseHead head{.status = reply.status,
                              .content_type = "application/json",
                              .content_length = body.size(),
                              .keep_alive = keep_alive,
                              .fields = {}};
  if (retry_after_s > 0) {
    head.fields.push_back({.name = "Retry-After", .value = std::to_string(retry_after_s)});
  }
  std::string out;
  wire::AppendHttpHead(out, head);
  return out + body;
}

std::string FieldOf(const wire::HttpRequest& request, std::string_view name) {
  return std::string(request.Field(name).value_or(""));
}

}  // namespace

ApiServer::ApiServer(rt::Loop& loop, rt::Net& net, ServerOptions options)
    : loop_(loop), net_(net), options_(std::move(options)), changed_(loop) {}

ApiServer::~ApiServer() {
  Stop();
  loop_.CancelTimer(collection_);
}

Result<void> ApiServer::Start() {
  PX_TRY(listener_, net_.Listen(options_.listen, {}));
  options_.listen.port = listener_->address().port;
  accepting_.Start(AcceptLoop(*listener_));
  return {};
}

void ApiServer::Stop() {
  accepting_.Clear();
  serving_.Clear();
  listener_.reset();
  watches_open_ = 0;
}

// ---- faults

void ApiServer::EndWatches(WatchEnd how) {
  watch_end_ = how;
  watch_epoch_ = last_watch_;
  changed_.WakeAll();
}

void ApiServer::FreezeWatches() { frozen_epoch_ = last_watch_; }

void ApiServer::Hang(bool hangs) {
  hangs_ = hangs;
  changed_.WakeAll();
}

int ApiServer::CountOf(const std::string& verb, const std::string& plural) const {
  const auto found = counts_.find(verb + " " + plural);
  return found == counts_.end() ? 0 : found->second;
}

std::optional<Fault> ApiServer::TakeFault(const Target& target) {
  const auto fits = [&](const Fault& fault) {
    return (fault.verb.empty() || fault.verb == target.verb) &&
           (fault.plural.empty() || fault.plural == target.resource.plural);
  };
  const auto found = std::ranges::find_if(faults_, fits);
  if (found == faults_.end()) {
    return std::nullopt;
  }
  Fault fault = *found;
  if (--found->count <= 0) {
    faults_.erase(found);
  }
  return fault;
}

// ---- requests

void ApiServer::Changed() {
  changed_.WakeAll();
  if (on_change_) {
    loop_.Post([this] { on_change_(); });
  }
  if (collection_ == rt::TimerId::kNone) {
    collection_ = loop_.RunAt(loop_.Now() + options_.collect_after, [this] {
      collection_ = rt::TimerId::kNone;
      if (state_.CollectGarbage()) {
        Changed();
      }
    });
  }
}

Reply ApiServer::Handle(const Request& request) {
  const std::uint64_t before = state_.revision();
  Reply reply = state_.Handle(request, loop_.WallNow());
  if (state_.revision() != before) {
    Changed();
  }
  return reply;
}

rt::Task<void> ApiServer::AcceptLoop(rt::Listener& listener) {
  while (true) {
    auto accepting = listener.Accept();
    Result<std::unique_ptr<rt::Stream>> stream = co_await std::move(accepting);
    if (!stream) {
      co_return;
    }
    serving_.Start(Serve(std::move(*stream)));
  }
}

rt::Task<void> ApiServer::Serve(std::unique_ptr<rt::Stream> stream) {
  std::string unread;
  bool keep_alive = true;
  while (keep_alive) {
    auto serving = ServeOne(*stream, unread, keep_alive);
    const Result<void> served = co_await std::move(serving);
    if (!served) {
      co_return;
    }
  }
  stream->ShutdownWrite();
}

/// Who may not, and why: as a server says it.
std::optional<Reply> ApiServer::Refuse(const wire::HttpRequest& request,
                                       const std::optional<Target>& target) const {
  const std::string said = FieldOf(request, "Authorization");
  const bool known = said.starts_with("Bearer ") && options_.tokens.contains(said.substr(7));
  if (!options_.tokens.empty() && !known) {
    return Reply{.status = 401, .body = MakeStatus(401, "Unauthorized", "Unauthorized")};
  }
  if (target && options_.rules) {
    const auto verbs =
        options_.rules->find(target->resource.plural + (target->status ? "/status" : ""));
    if (verbs == options_.rules->end() || !verbs->second.contains(target->verb)) {
      return Reply{
          .status = 403,
          .body = MakeStatus(403, "Forbidden",
                             fmt::format("{} is forbidden: the account cannot {} it in "
                                         "the namespace \"{}\"",
                                         target->resource.plural, target->verb, target->space))};
    }
  }
  return std::nullopt;
}

rt::Task<Result<void>> ApiServer::ServeOne(rt::Stream& stream, std::string& unread,
                                           bool& keep_alive) {
  wire::HttpRequestParser parser{wire::HttpLimits()};
  std::string buffer(kReadBytes, '\0');
  while (true) {
    const tl::expected<std::size_t, wire::HttpFault> used = parser.Feed(unread);
    if (!used) {
      co_return Fail(Code::kInvalidArgument, used.error().detail);
    }
    unread.erase(0, *used);
    if (parser.complete()) {
      break;
    }
    auto reading = stream.Read(buffer, rt::kNever);
    PX_CO_TRY(const std::size_t size, co_await std::move(reading));
    if (size == 0) {
      co_return Fail(Code::kDisconnected, "the client ended");
    }
    unread.append(buffer, 0, size);
  }
  const wire::HttpRequest http = parser.Take();
  while (hangs_) {
    co_await changed_.Wait(rt::kNever);
  }
  const Request request{.method = http.method,
                        .path = http.path,
                        .query = http.query,
                        .accept = FieldOf(http, "Accept"),
                        .content_type = FieldOf(http, "Content-Type"),
                        .body = http.body};
  const std::optional<Target> target = state_.Locate(request);
  if (target) {
    const bool partial = request.accept.find("as=PartialObjectMetadata") != std::string::npos;
    ++counts_[target->verb + (partial ? "-metadata " : " ") + target->resource.plural];
  }
  std::optional<Reply> reply = Refuse(http, target);
  int retry_after_s = 0;
  if (const std::optional<Fault> fault = !reply && target ? TakeFault(*target) : std::nullopt) {
    if (fault->also_done) {
      (void)Handle(request);
    }
    reply = Reply{.status = fault->status,
                  .body = MakeStatus(fault->status, fault->reason, "a fault of the test")};
    retry_after_s = fault->retry_after_s;
  }
  if (!reply && target && target->verb == "watch") {
    keep_alive = false;
    auto watching = ServeWatch(stream, *target);
    co_return co_await std::move(watching);
  }
  if (!reply) {
    reply = Handle(request);
  }
  keep_alive = http.keep_alive;
  const std::string answer = Serialize(*reply, retry_after_s, keep_alive);
  auto writing = stream.Write(answer, rt::kNever);
  co_return co_await std::move(writing);
}

// ---- watches

rt::Task<Result<void>> ApiServer::ServeWatch(rt::Stream& stream, Target target) {
  std::string head;
  wire::AppendHttpHead(head, {.status = 200,
                              .content_type = "application/json",
                              .content_length = {},
                              .chunked = true,
                              .keep_alive = false,
                              .fields = {}});
  auto writing = stream.Write(head, rt::kNever);
  PX_CO_CHECK_OK(co_await std::move(writing));
  ++watches_open_;
  auto following = FollowChanges(stream, target);
  const Result<void> followed = co_await std::move(following);
  --watches_open_;
  if (!followed) {
    stream.Close();
    co_return followed;
  }
  auto ending = stream.Write(wire::kHttpLastChunk, rt::kNever);
  co_return co_await std::move(ending);
}

/// Writes what changed until the watch is over. Errors: it breaks.
rt::Task<Result<void>> ApiServer::FollowChanges(rt::Stream& stream, const Target& target) {
  const std::uint64_t watch = ++last_watch_;
  const rt::Time end_at =
      loop_.Now() + std::chrono::seconds(NumberOf(target, "timeoutSeconds", kWatchSecondsDefault));
  const bool bookmarks = target.query.contains("allowWatchBookmarks");
  auto revision = static_cast<std::uint64_t>(NumberOf(target, "resourceVersion", 0));
  if (revision == 0) {
    std::string text;
    for (const Event& event : state_.InitialEvents(target)) {
      text += LineOf(event);
    }
    revision = state_.revision();
    if (const std::string chunk = ChunkOf(text); !chunk.empty()) {
      auto writing = stream.Write(chunk, rt::kNever);
      PX_CO_CHECK_OK(co_await std::move(writing));
    }
  }
  rt::Time bookmark_at = loop_.Now() + options_.bookmark_every;
  while (loop_.Now() < end_at) {
    if (watch <= watch_epoch_ && watch_end_ == WatchEnd::kBroken) {
      co_return Fail(Code::kDisconnected, "a fault of the test");
    }
    if (watch <= watch_epoch_ && watch_end_ == WatchEnd::kClean) {
      co_return Result<void>();
    }
    const bool bookmark_due = loop_.Now() >= bookmark_at;
    bookmark_at = bookmark_due ? loop_.Now() + options_.bookmark_every : bookmark_at;
    if (!hangs_ && watch > frozen_epoch_) {
      const std::optional<std::string> lines =
          watch <= watch_epoch_ ? std::nullopt
                                : LinesAfter(target, revision, bookmarks && bookmark_due);
      const std::string chunk = ChunkOf(lines.value_or(LineOf(
          {.type = "ERROR", .object = MakeStatus(410, "Expired", "too old resource version")})));
      if (!chunk.empty()) {
        auto writing = stream.Write(chunk, rt::kNever);
        PX_CO_CHECK_OK(co_await std::move(writing));
      }
      if (!lines) {
        co_return Result<void>();
      }
      if (state_.revision() > revision) {
        continue;  // it changed while we wrote
      }
    }
    co_await changed_.Wait(std::min(end_at, bookmark_at));
  }
  co_return Result<void>();
}

/// Nothing if `revision` is too old.
std::optional<std::string> ApiServer::LinesAfter(const Target& target, std::uint64_t& revision,
                                                 bool bookmark) const {
  const std::optional<std::vector<Event>> events = state_.EventsAfter(target, revision);
  if (!events) {
    return std::nullopt;
  }
  std::string lines;
  for (const Event& event : *events) {
    lines += LineOf(event);
  }
  return bookmark ? lines + LineOf(state_.Bookmark(target, revision)) : lines;
}

}  // namespace pixii::kube
