// Frames over one connection: control frames go first, data of all transfers take turns, chunk by
// chunk under credits, straight from and to registered memory where the stream is a socket.
//
// Thread: one loop. Owners are told of everything within the loop's turns and must not destroy a
// channel in what it calls.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "base/result.h"
#include "base/stream_hash.h"
#include "rt/loop.h"
#include "rt/net.h"
#include "rt/socket_parts.h"
#include "rt/sync.h"
#include "transport/frame.h"
#include "transport/pieces.h"
#include "transport/window.h"

namespace pixii::transport {

inline constexpr std::uint64_t kWindowBytes = 4 << 20;  // of one transfer, sent and not credited
inline constexpr std::uint64_t kCreditBytes = 1 << 20;  // taken before a credit is given

/// Bytes of one transfer that go out.
struct OutStream {
  std::uint64_t transfer = 0;
  Pieces pieces;
  Access access{};  // that windows must be open for; of own memory not looked at
  Pieces::Cursor at;
  std::uint64_t sent_bytes = 0;
  std::uint64_t credited_bytes = 0;
  bool dead = false;  // its memory is not touched any more: closed, or cancelled
};

/// Bytes of one transfer that come in.
struct InStream {
  std::uint64_t transfer = 0;
  Pieces pieces;
  Access access{};
  Pieces::Cursor at;
  std::uint64_t received_bytes = 0;
  std::uint64_t uncredited_bytes = 0;
  bool dead = false;
  bool corrupt = false;  // a checksum was wrong
};

class FrameChannel final {
 public:
  class Owner {
   public:
    /// Null: nobody wants them any more.
    virtual std::shared_ptr<InStream> Incoming(std::uint64_t transfer) = 0;
    /// A whole chunk of it has come.
    virtual void ChunkCame(const std::shared_ptr<InStream>& stream) = 0;
    /// All of it was sent, or it is dead.
    virtual void OutEnded(const std::shared_ptr<OutStream>& stream) = 0;
    /// Any other frame but pings. An error ends the connection.
    virtual Result<void> Control(const FrameHeader& header, std::string_view payload) = 0;
    /// The connection is over; once.
    virtual void Broken(const Error& error) = 0;

   protected:
    ~Owner() = default;
  };

  struct Options {
    Mac send_key{};
    Mac receive_key{};
    bool checksums = false;
    bool pings = false;                // this side asks whether the other one is there
    std::size_t unsent_bytes_max = 0;  // of control frames
  };

  FrameChannel(rt::Loop& loop, std::unique_ptr<rt::Stream> stream, const Options& options,
               std::shared_ptr<WriteLane> lane, Owner& owner);
  FrameChannel(const FrameChannel&) = delete;
  FrameChannel& operator=(const FrameChannel&) = delete;

  void Run();

  void Send(FrameKind kind, std::uint64_t transfer, std::string_view payload = {});
  void StartOut(std::shared_ptr<OutStream> stream);
  void Credit(OutStream& stream, std::uint64_t bytes);

  /// Nothing is sent or read any more; Broken follows soon.
  void End(Error error);

  std::string peer() const { return stream_->peer(); }

 private:
  struct Control {
    FrameKind kind{};
    std::uint64_t transfer = 0;
    std::string payload;
  };

  rt::Task<void> RunReader();
  rt::Task<void> RunWriter();
  rt::Task<void> RunKeeper();

  /// The memory where the next bytes belong. Pre: under the lane.
  void Targets();
  /// Appends where the next payload bytes belong, at most `size` of them; how many that is. Pre:
  /// under the lane.
  std::uint64_t PayloadTargets(std::uint64_t size);
  /// `count` bytes stand there. Pre: under the lane.
  void PayloadFilled(std::uint64_t count);
  Result<void> HeaderCame(const FrameHeaderBytes& bytes);
  Result<void> FrameCame();
  void DataCame(std::uint32_t payload_bytes);
  /// Deals with what was read ahead, and with frames that are complete.
  Result<void> Dispatch();
  /// Moves what was read ahead of the payload where it belongs.
  void TakeAhead();
  /// Whether what came of the chunk has its checksum. Pre: under the lane.
  bool ChunkIsWhole();
  std::uint64_t HashOf(std::span<const std::span<std::byte>> parts);

  /// Puts what goes next into controls_out_ or the chunk; false if there is nothing.
  bool Pack();
  void PackChunk(std::shared_ptr<OutStream> stream);
  void FinishParts();
  /// So many bytes of ChunkParts() have gone.
  void Sent(std::size_t count);
  /// Sends a part of it. 0: the socket is full.
  Result<std::size_t> SendParts();
  rt::Task<Result<void>> SendCopy();
  /// The rest of the chunk as memory that may be read. Pre: under the lane.
  void ChunkParts();

  rt::Loop& loop_;
  std::unique_ptr<rt::Stream> stream_;
  rt::SocketParts* parts_;  // null: bytes are copied through buffers
  Owner& owner_;
  bool checksums_;
  bool pings_;
  std::size_t unsent_bytes_max_;
  std::shared_ptr<WriteLane> lane_;
  StreamHash64 hash_;
  std::optional<Error> ended_;
  rt::Time heard_at_;

  // Reading.
  HashKey receive_key_;
  std::uint64_t frames_received_ = 0;
  std::vector<std::byte> ahead_;  // bytes behind the payload that were read with it
  std::size_t ahead_begin_ = 0;
  std::size_t ahead_end_ = 0;
  std::optional<FrameHeader> reading_;  // the frame whose payload comes
  std::uint64_t payload_left_ = 0;
  std::string control_in_;
  std::shared_ptr<InStream> in_;
  Pieces::Cursor chunk_begin_;
  std::vector<std::span<std::byte>> targets_;
  std::vector<std::byte> scratch_;

  // Writing.
  HashKey send_key_;
  std::uint64_t frames_sent_ = 0;
  std::deque<Control> controls_;
  std::uint64_t controls_bytes_ = 0;
  std::deque<std::shared_ptr<OutStream>> turns_;  // that have something to send and credit for it
  std::string controls_out_;
  std::size_t controls_sent_ = 0;
  std::shared_ptr<OutStream> out_;  // whose chunk is being sent
  FrameHeaderBytes header_out_{};
  std::size_t header_sent_ = 0;
  std::uint64_t chunk_left_ = 0;
  std::vector<std::span<std::byte>> sources_;
  std::vector<std::span<const std::byte>> send_parts_;
  rt::WaitList work_;

  rt::SpawnedTasks tasks_;  // last: they use what stands above
};

}  // namespace pixii::transport
