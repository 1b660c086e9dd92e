// The simulated network: one ordered byte stream per connection and direction, and what can go
// wrong with it.
#pragma once

#include <deque>
#include <memory>
#include <string>

#include "rt/intrusive_list.h"
#include "rt/net.h"
#include "rt/sim_loop.h"
#include "rt/sync.h"

namespace pixii::rt {

struct SimConnection;
class SimNet;

/// Where one end's bytes wait, and what it knows of the other end.
struct SimStreamEnd {
  SimStreamEnd(SimNet& net_in, Loop& loop, Address address_in)
      : net(net_in), address(std::move(address_in)), readers(loop), writers(loop) {}

  struct Piece {
    enum class Kind : std::uint8_t { kBytes, kEnd, kReset } kind = Kind::kBytes;
    std::string bytes;
  };

  std::size_t unread_bytes() const { return inbox.size() - inbox_begin; }

  SimNet& net;
  Address address;
  bool open = true;     // our side has not closed
  bool broken = false;  // the peer or the network reset it
  bool peer_ended = false;
  bool ended = false;  // we sent our end
  std::string inbox;
  std::size_t inbox_begin = 0;
  std::deque<Piece> under_way;        // sent by this end, not yet arrived
  std::size_t outstanding_bytes = 0;  // sent by this end, not yet read
  std::size_t window_bytes = 0;
  Time line_free_at{};  // bandwidth
  Time last_arrival{};  // order
  WaitList readers;
  WaitList writers;
};

struct SimConnection : std::enable_shared_from_this<SimConnection> {
  SimConnection(SimState& world_in, std::uint64_t id_in) : world(world_in), id(id_in) {}

  void Send(int side, SimStreamEnd::Piece piece);
  void Arrive(int side);
  void Close(int side, bool abruptly);

  SimState& world;
  std::uint64_t id;
  std::unique_ptr<SimStreamEnd> ends[2];  // 0: who connected
};

class SimStream final : public Stream, ListNode {
 public:
  SimStream(std::shared_ptr<SimConnection> connection, int side);

  ~SimStream() override { SimStream::Close(); }

  Task<Result<std::size_t>> Read(std::span<char> out, Time deadline) override;
  Task<Result<void>> Write(std::string_view bytes, Time deadline) override;
  Result<std::size_t> TryWrite(std::string_view bytes) override;
  void ShutdownWrite() override;
  void Close() override;
  std::string peer() const override;

 private:
  friend class SimNet;

  SimStreamEnd& mine() const { return *connection_->ends[side_]; }

  SimStreamEnd& theirs() const { return *connection_->ends[1 - side_]; }

  std::size_t Take(std::span<char> out);

  std::shared_ptr<SimConnection> connection_;
  int side_;
};

class SimListener final : public Listener, ListNode {
 public:
  SimListener(SimNet& net, Address address, std::size_t backlog_max);

  ~SimListener() override { SimListener::Close(); }

  Task<Result<std::unique_ptr<Stream>>> Accept() override;

  Address address() const override { return address_; }

  void Close() override;

  /// A connection arrives; false: the queue is full.
  bool Offer(std::unique_ptr<Stream> stream);

  SimNet& net() const { return net_; }

 private:
  friend class SimNet;

  SimNet& net_;
  Address address_;
  std::size_t backlog_max_;
  bool open_ = true;
  std::deque<std::unique_ptr<Stream>> backlog_;
  WaitList waiters_;
};

class SimNet final : public Net {
 public:
  SimNet(SimState& world, SimLoop& loop, std::string host)
      : world_(world), loop_(loop), host_(std::move(host)) {}

  Result<std::unique_ptr<Listener>> Listen(const Address& address,
                                           const ListenOptions& options) override;
  Task<Result<std::unique_ptr<Stream>>> Connect(Address address, Time deadline) override;

  /// The node's process ends: peers see resets.
  void Die();
  /// The node's machine goes dark: peers hear nothing.
  void Vanish();

  SimState& world() const { return world_; }

  SimLoop& loop() const { return loop_; }

  const std::string& host() const { return host_; }

  ListNode& streams() { return streams_; }

  ListNode& listeners() { return listeners_; }

 private:
  struct Attempt;

  std::string Resolve(const std::string& host) const;
  static void ReachListener(SimState& world, const std::shared_ptr<Attempt>& attempt);
  static void Answer(SimState& world, const std::shared_ptr<Attempt>& attempt,
                     Result<std::unique_ptr<Stream>> answer);

  SimState& world_;
  SimLoop& loop_;
  std::string host_;
  ListNode streams_;
  ListNode listeners_;
};

}  // namespace pixii::rt
