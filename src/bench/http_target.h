// The servers that `pixii bench frontend` compares: ours with the mock engine, nginx and a floor of
// our own, each on a free loopback port.
//
// Thread: one.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "rt/child_process.h"
#include "rt/net.h"

namespace pixii::bench {

/// A server in another process, with its files.
class HttpTarget final {
 public:
  /// `program serve MODEL --engine mock`, without waiting for it. Errors: kNotFound.
  static Result<std::unique_ptr<HttpTarget>> StartMock(const std::string& program,
                                                       const std::string& model);
  /// One worker that returns `body` (JSON) for every path. Errors: kNotFound if there is no nginx.
  static Result<std::unique_ptr<HttpTarget>> StartNginx(const std::string& program,
                                                        const std::string& body,
                                                        std::uint16_t port);
  HttpTarget() = default;  // for the above
  /// Ends the server and removes its files.
  ~HttpTarget();

  /// Where it listens, once it does. Errors: kUnavailable while it does not yet; kNotFound with
  /// what it wrote if it has ended.
  Result<rt::Address> address();

  bool running() { return child_.running(); }

  /// Ends the server; its connections break.
  void Stop();

  rt::Duration CpuTime() const { return child_.CpuTime(); }

 private:
  Result<void> Start(std::vector<std::string> arguments);

  std::string folder_;
  std::uint16_t port_ = 0;  // 0: in the file port
  rt::ChildProcess child_;
};

}  // namespace pixii::bench
