// A closed loop of one prepared request over a few connections: all the load that two cores can
// make and serve, where RunLoad (http_load.h) is about what a client feels.
//
// Thread: one loop; each connection is a coroutine. A connection asks again when its answer is
// whole, so nothing but that answer is ever unread, which makes looking for its end cheap.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "rt/net.h"

namespace pixii::bench {

/// A request as bytes, the same in every copy but for a number of kDigits digits.
struct FloodRequest {
  static constexpr std::size_t kDigits = 10;
  static constexpr std::size_t kSame = static_cast<std::size_t>(-1);

  std::string bytes;
  std::size_t number_at = kSame;  // where that many digits stand; kSame: all copies are equal
};

/// POST with a JSON body; a run of kDigits zeros in `body`, if there is one, is the number.
FloodRequest MakeFloodPost(const rt::Address& server, std::string_view path, std::string_view body);
FloodRequest MakeFloodGet(const rt::Address& server, std::string_view path);

struct FloodOptions {
  rt::Address server;
  FloodRequest request;
  std::uint32_t connections = 1;
  std::uint32_t pipeline = 1;  // requests sent at once, answered in order
  bool stream = false;         // answers are event streams; needs pipeline 1
  rt::Duration time{};         // for so long new requests are sent; zero: one round of them
  rt::Duration patience = std::chrono::seconds(30);  // for one answer
};

struct FloodResult {
  std::uint64_t requests = 0;  // answered, all with status 200
  double elapsed_s = 0;
  std::vector<double> first_ms;  // of each send: to its first byte, of streams to the first event
  std::uint64_t events = 0;      // of streams, [DONE] included
  std::string last_answer;       // head and body
};

/// Takes answers apart far enough to know where each ends.
class AnswerReader final {
 public:
  explicit AnswerReader(bool stream) : stream_(stream) {}

  /// Takes the next bytes in; how many answers ended. Errors: kUnavailable for another status than
  /// 200, kDataCorrupt.
  Result<std::uint32_t> Feed(std::string_view bytes);

  /// Whether the answer at hand has shown a byte, or an event if it is a stream.
  bool has_begun() const { return has_begun_; }

  std::uint64_t events() const { return events_; }

  const std::string& last_answer() const { return last_; }

 private:
  Result<std::uint32_t> FeedStream();
  Result<std::size_t> WholeSize(std::string_view rest);

  bool stream_;
  bool has_begun_ = false;
  std::uint64_t events_ = 0;
  std::string unread_;
  std::string head_;            // of the last answer: the next one's is mostly the same
  std::size_t head_total_ = 0;  // bytes of the answer with that head
  std::string last_;
};

/// Errors: kUnavailable if nobody listens or an answer is no 200; kDeadlineExceeded.
rt::Task<Result<FloodResult>> RunFlood(rt::Loop& loop, rt::Net& net, FloodOptions options);

}  // namespace pixii::bench
