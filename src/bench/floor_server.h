// The least that an HTTP server can do: it counts empty lines and answers each with the same bytes.
//
// Thread: a loop and a thread of its own; the methods are for the thread that made it.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "rt/net.h"
#include "rt/thread.h"

namespace pixii::bench {

class FloorServer final {
 public:
  /// Listens on a free loopback port and answers every request (without a body) with `answer`, head
  /// included. Errors: those of rt::Net::Listen.
  static Result<std::unique_ptr<FloorServer>> Start(std::string answer);
  FloorServer() = default;  // for Start
  /// Ends the connections.
  ~FloorServer();

  rt::Address address() const { return listener_->address(); }

 private:
  rt::Task<void> Accept();
  rt::Task<void> Serve(std::unique_ptr<rt::Stream> stream);

  std::string answer_;
  std::unique_ptr<rt::Loop> loop_;
  std::unique_ptr<rt::Net> net_;
  std::unique_ptr<rt::Listener> listener_;
  rt::Thread thread_;
};

}  // namespace pixii::bench
