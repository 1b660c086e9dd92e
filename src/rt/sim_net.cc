#include "rt/sim_net.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace pixii::rt {
namespace {

// Kinds of noted events; node turns use the node's index.
constexpr std::uint64_t kNoteArrival = 1U << 20U;
constexpr std::uint64_t kNoteConnect = 2U << 20U;

Error Broken() { return Error(Code::kUnavailable, "the connection broke: reset by the peer"); }

Error Closed() { return Error(Code::kCancelled, "the connection was closed on our side"); }

/// Makes `fn` happen at `when`; while `to` is cut off from `from` it waits for the healing.
void Transport(SimState& world, const std::string& from, const std::string& to, Time when,
               Callback fn) {
  world.events.Add(when, [&world, pair = HostPair(from, to), call = std::move(fn)]() mutable {
    const auto cut = world.held.find(pair);
    if (cut != world.held.end()) {
      cut->second.push_back(std::move(call));
    } else {
      call();
    }
  });
}

}  // namespace

void SimConnection::Send(int side, SimStreamEnd::Piece piece) {
  SimStreamEnd& from = *ends[side];
  const SimOptions& options = world.options;
  if (options.reset_probability > 0 && world.random.Chance(options.reset_probability)) {
    from.broken = true;
    from.readers.WakeAll();
    from.writers.WakeAll();
    piece = {.kind = SimStreamEnd::Piece::Kind::kReset, .bytes = {}};
  }
  if (const double corrupt = world.CorruptProbability(from.net.host(), ends[1 - side]->net.host());
      corrupt > 0 && !piece.bytes.empty() && world.random.Chance(corrupt)) {
    piece.bytes[world.random.Below(piece.bytes.size())] ^=
        static_cast<char>(1U << world.random.Below(8));
  }
  const auto transfer = Duration(static_cast<std::int64_t>(piece.bytes.size() * 1'000'000'000 /
                                                           options.bandwidth_bytes_per_s));
  from.line_free_at = std::max(from.line_free_at, world.now) + transfer;
  Time arrival = from.line_free_at + world.RandomBetween(options.latency_min, options.latency_max);
  if (options.delay_probability > 0 && world.random.Chance(options.delay_probability)) {
    arrival += world.RandomBetween(Duration::zero(), options.delay_max);
  }
  from.last_arrival = std::max(from.last_arrival, arrival);
  from.under_way.push_back(std::move(piece));
  world.events.Add(from.last_arrival, [self = shared_from_this(), side] { self->Arrive(side); });
}

void SimConnection::Arrive(int side) {
  SimStreamEnd& from = *ends[side];
  SimStreamEnd& to = *ends[1 - side];
  if (world.IsCut(from.net.host(), to.net.host())) {
    world.held[{from.net.host(), to.net.host()}].push_back(
        [self = shared_from_this(), side] { self->Arrive(side); });
    return;
  }
  using Kind = SimStreamEnd::Piece::Kind;
  SimStreamEnd::Piece piece = std::move(from.under_way.front());
  from.under_way.pop_front();
  world.Note(kNoteArrival + id,
             (std::uint64_t{piece.bytes.size()} << 8U) ^ static_cast<std::uint64_t>(piece.kind));
  if (to.broken) {
    return;
  }
  if (piece.kind == Kind::kReset) {
    to.broken = true;
    to.writers.WakeAll();
  } else if (!to.open) {
    if (piece.kind == Kind::kBytes) {  // nobody will read them: say so
      to.broken = true;
      Send(1 - side, {.kind = Kind::kReset, .bytes = {}});
    }
    return;
  } else if (piece.kind == Kind::kEnd) {
    to.peer_ended = true;
  } else {
    if (to.unread_bytes() == 0) {
      to.inbox = std::move(piece.bytes);
      to.inbox_begin = 0;
    } else {
      to.inbox.append(piece.bytes);
    }
  }
  to.readers.WakeAll();
}

void SimConnection::Close(int side, bool abruptly) {
  using Kind = SimStreamEnd::Piece::Kind;
  SimStreamEnd& mine = *ends[side];
  if (!mine.open) {
    return;
  }
  mine.open = false;
  mine.readers.WakeAll();
  mine.writers.WakeAll();
  if (mine.broken) {
    return;
  }
  if (abruptly || mine.unread_bytes() > 0) {
    mine.broken = true;
    Send(side, {.kind = Kind::kReset, .bytes = {}});
  } else if (!mine.ended) {
    mine.ended = true;
    Send(side, {.kind = Kind::kEnd, .bytes = {}});
  }
}

SimStream::SimStream(std::shared_ptr<SimConnection> connection, int side)
    : connection_(std::move(connection)), side_(side) {
  mine().net.streams().PushBack(*this);
}

std::size_t SimStream::Take(std::span<char> out) {
  SimStreamEnd& end = mine();
  SimState& world = connection_->world;
  std::size_t count = std::min(out.size(), end.unread_bytes());
  if (count > 1 && world.random.Chance(world.options.partial_read_probability)) {
    count = 1 + world.random.Below(count);
  }
  std::memcpy(out.data(), end.inbox.data() + end.inbox_begin, count);
  end.inbox_begin += count;
  if (end.inbox_begin > 64 * 1024) {
    end.inbox.erase(0, std::exchange(end.inbox_begin, 0));
  }
  theirs().outstanding_bytes -= count;
  theirs().writers.WakeAll();
  return count;
}

Task<Result<std::size_t>> SimStream::Read(std::span<char> out, Time deadline) {
  SimStreamEnd& end = mine();
  PX_ASSERT(!out.empty() && !end.readers.has_waiters());
  while (true) {
    if (!end.open) {
      co_return Fail(Closed());
    }
    const bool ready = end.unread_bytes() > 0 || end.peer_ended || end.broken;
    if (ready && !end.net.loop().SpendBudget()) {
      co_await end.net.loop().Yield();
      continue;
    }
    if (end.unread_bytes() > 0) {
      co_return Take(out);
    }
    if (end.broken) {
      co_return Fail(Broken());
    }
    if (end.peer_ended) {
      co_return std::size_t{0};
    }
    const bool woken = co_await end.readers.Wait(deadline);
    if (!woken && end.open && end.unread_bytes() == 0 && !end.peer_ended && !end.broken) {
      co_return Fail(Code::kDeadlineExceeded, "no bytes came before the deadline");
    }
  }
}

Result<std::size_t> SimStream::TryWrite(std::string_view bytes) {
  SimStreamEnd& end = mine();
  if (!end.open) {
    return Fail(Closed());
  }
  if (end.broken || end.ended) {
    return Fail(Broken());
  }
  SimState& world = connection_->world;
  std::size_t count = std::min(bytes.size(), end.window_bytes - end.outstanding_bytes);
  if (count > 1 && world.random.Chance(world.options.partial_write_probability)) {
    count = 1 + world.random.Below(count);
  }
  if (count > 0) {
    end.outstanding_bytes += count;
    connection_->Send(side_, {.bytes = std::string(bytes.substr(0, count))});
  }
  return count;
}

Task<Result<void>> SimStream::Write(std::string_view bytes, Time deadline) {
  SimStreamEnd& end = mine();
  PX_ASSERT(!end.writers.has_waiters());
  if (!end.net.loop().SpendBudget()) {
    co_await end.net.loop().Yield();
  }
  while (true) {
    Result<std::size_t> done = TryWrite(bytes);
    if (!done) {
      co_return Fail(done.error());
    }
    bytes.remove_prefix(*done);
    if (bytes.empty()) {
      co_return Result<void>();
    }
    if (*done > 0) {
      continue;
    }
    const bool woken = co_await end.writers.Wait(deadline);
    if (!woken && end.open && !end.broken && end.outstanding_bytes == end.window_bytes) {
      co_return Fail(Code::kDeadlineExceeded, "the peer took no bytes before the deadline");
    }
  }
}

void SimStream::ShutdownWrite() {
  SimStreamEnd& end = mine();
  if (end.open && !end.broken && !end.ended) {
    end.ended = true;
    connection_->Send(side_, {.kind = SimStreamEnd::Piece::Kind::kEnd, .bytes = {}});
  }
}

void SimStream::Close() {
  Unlink();
  if (mine().open) {  // a closed one may outlive its world
    connection_->Close(side_, !mine().net.loop().alive());
  }
}

std::string SimStream::peer() const { return theirs().address.ToString(); }

SimListener::SimListener(SimNet& net, Address address, std::size_t backlog_max)
    : net_(net), address_(std::move(address)), backlog_max_(backlog_max), waiters_(net.loop()) {
  net_.listeners().PushBack(*this);
  net_.world().listeners[{address_.host, address_.port}] = this;
}

Task<Result<std::unique_ptr<Stream>>> SimListener::Accept() {
  while (true) {
    if (!open_) {
      co_return Fail(Code::kCancelled, "the listener was closed");
    }
    if (!backlog_.empty()) {
      if (!net_.loop().SpendBudget()) {
        co_await net_.loop().Yield();
        continue;
      }
      std::unique_ptr<Stream> stream = std::move(backlog_.front());
      backlog_.pop_front();
      co_return stream;
    }
    co_await waiters_.Wait(kNever);
  }
}

void SimListener::Close() {
  if (!open_) {
    return;
  }
  open_ = false;
  Unlink();
  net_.world().listeners.erase({address_.host, address_.port});
  backlog_.clear();
  waiters_.WakeAll();
}

bool SimListener::Offer(std::unique_ptr<Stream> stream) {
  if (backlog_.size() >= backlog_max_) {
    return false;
  }
  backlog_.push_back(std::move(stream));
  waiters_.WakeAll();
  return true;
}

struct SimNet::Attempt {
  Attempt(SimNet& net_in, Address target_in)
      : net(net_in), target(std::move(target_in)), waiters(net_in.loop()) {}

  SimNet& net;
  Address target;
  WaitList waiters;
  bool abandoned = false;
  std::optional<Result<std::unique_ptr<Stream>>> answer;
};

std::string SimNet::Resolve(const std::string& host) const {
  constexpr std::array<std::string_view, 5> kSelf = {"127.0.0.1", "0.0.0.0", "localhost",
                                                     "::", "::1"};
  if (host.starts_with("unix:")) {
    return host_ + "/" + host;  // a socket file is seen on its own machine only
  }
  return std::find(kSelf.begin(), kSelf.end(), host) != kSelf.end() ? host_ : host;
}

Result<std::unique_ptr<Listener>> SimNet::Listen(const Address& address,
                                                 const ListenOptions& options) {
  Address bound{.host = Resolve(address.host), .port = address.port};
  const bool is_file = address.host.starts_with("unix:");
  if ((bound.host != host_ && !is_file) || !loop_.alive()) {
    return Fail(Code::kUnavailable, fmt::format("cannot listen on {}: not an address of {}",
                                                address.ToString(), host_));
  }
  while (!is_file && address.port == 0 &&
         (bound.port == 0 || world_.listeners.contains({bound.host, bound.port}))) {
    bound.port = ++world_.next_port;
  }
  if (world_.listeners.contains({bound.host, bound.port})) {
    return Fail(Code::kUnavailable, fmt::format("cannot listen on {}: in use", address.ToString()));
  }
  return std::unique_ptr<Listener>(
      std::make_unique<SimListener>(*this, std::move(bound), options.backlog_max));
}

Task<Result<std::unique_ptr<Stream>>> SimNet::Connect(Address address, Time deadline) {
  auto attempt = std::make_shared<Attempt>(
      *this, Address{.host = Resolve(address.host), .port = address.port});

  struct Abandon {
    Attempt& attempt;

    ~Abandon() { attempt.abandoned = true; }
  };

  const Abandon abandon{*attempt};
  const SimOptions& options = world_.options;
  const Time arrival = world_.now + world_.RandomBetween(options.latency_min, options.latency_max);
  Transport(world_, host_, attempt->target.host, arrival,
            [&world = world_, attempt] { ReachListener(world, attempt); });
  while (!attempt->answer) {
    const bool woken = co_await attempt->waiters.Wait(deadline);
    if (!woken && !attempt->answer) {
      co_return Fail(Code::kDeadlineExceeded, fmt::format("no answer from {}", address.ToString()));
    }
  }
  co_return std::move(*attempt->answer);
}

void SimNet::ReachListener(SimState& world, const std::shared_ptr<Attempt>& attempt) {
  const SimOptions& options = world.options;
  const auto found = world.listeners.find({attempt->target.host, attempt->target.port});
  const bool refused =
      options.refuse_probability > 0 && world.random.Chance(options.refuse_probability);
  Result<std::unique_ptr<Stream>> answer = Fail(
      Code::kUnavailable, fmt::format("cannot connect to {}: refused", attempt->target.ToString()));
  const bool wanted = !attempt->abandoned && attempt->net.loop().alive();
  if (found != world.listeners.end() && !refused && wanted) {
    SimListener& listener = *found->second;
    auto connection = std::make_shared<SimConnection>(world, world.next_connection++);
    const Address from{.host = attempt->net.host(), .port = ++world.next_port};
    connection->ends[0] = std::make_unique<SimStreamEnd>(attempt->net, attempt->net.loop(), from);
    connection->ends[1] =
        std::make_unique<SimStreamEnd>(listener.net(), listener.net().loop(), listener.address());
    for (auto& end : connection->ends) {
      const std::uint64_t window_max = std::max<std::uint32_t>(options.window_size_bytes_max, 1);
      end->window_bytes = window_max - world.random.Below((window_max * 3 + 3) / 4);
    }
    auto client = std::make_unique<SimStream>(connection, 0);
    if (listener.Offer(std::make_unique<SimStream>(connection, 1))) {
      answer = std::unique_ptr<Stream>(std::move(client));
    }
  }
  world.Note(kNoteConnect, answer ? 1 : 0);
  const Time arrival = world.now + world.RandomBetween(options.latency_min, options.latency_max);
  Transport(world, attempt->target.host, attempt->net.host(), arrival,
            [&world, attempt, result = std::move(answer)]() mutable {
              Answer(world, attempt, std::move(result));
            });
}

void SimNet::Answer(SimState& /*world*/, const std::shared_ptr<Attempt>& attempt,
                    Result<std::unique_ptr<Stream>> answer) {
  if (!attempt->abandoned) {  // else the stream closes here
    attempt->answer = std::move(answer);
    attempt->waiters.WakeAll();
  }
}

void SimNet::Die() {
  while (streams_.linked()) {
    static_cast<SimStream&>(*streams_.next()).Close();
  }
  while (listeners_.linked()) {
    static_cast<SimListener&>(*listeners_.next()).Close();
  }
}

void SimNet::Vanish() {
  while (streams_.linked()) {
    auto& stream = static_cast<SimStream&>(*streams_.next());
    stream.mine().broken = true;  // what arrives is dropped, and nothing is said
    stream.Close();
  }
  while (listeners_.linked()) {
    static_cast<SimListener&>(*listeners_.next()).Close();
  }
}

}  // namespace pixii::rt
