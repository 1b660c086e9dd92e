// A server on loopback that answers each path with bytes of the test's, and counts who connects.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "rt/fd.h"
#include "rt/thread.h"

namespace pixii::media {

struct CannedAnswer {
  std::string bytes;     // as sent, headers and all
  bool repeats = false;  // the last byte again and again, until the client goes away
  bool holds = false;    // then nothing, until the client goes away
};

class LoopbackServer final {
 public:
  /// `answers`: by path; any other is 404. The port is known only here, so they are made with it.
  explicit LoopbackServer(
      const std::function<std::map<std::string, CannedAnswer>(std::uint16_t port)>& answers);
  ~LoopbackServer();

  std::uint16_t port() const { return port_; }

  int connections() const;
  /// The requests' texts, in order.
  std::vector<std::string> requests() const;

 private:
  void Serve();
  void Answer(const rt::Fd& client);

  rt::Fd listener_;
  std::uint16_t port_ = 0;
  std::map<std::string, CannedAnswer> answers_;
  mutable rt::Mutex mutex_;
  int connections_ PX_GUARDED_BY(mutex_) = 0;
  std::vector<std::string> requests_ PX_GUARDED_BY(mutex_);
  rt::Thread thread_;  // last: it uses what stands above
};

/// An answer with headers that fit `body`.
CannedAnswer Ok(const std::string& body);
CannedAnswer RedirectTo(const std::string& location);

}  // namespace pixii::media
