// The servers that benches drive: ours in its several commands, nginx and a floor of our own, each
// on a free loopback port.
//
// Thread: one.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "rt/child_process.h"
#include "rt/net.h"

namespace pixii::bench {

/// A folder of its own that goes with it, and what is in it.
class BenchFolder final {
 public:
  /// Errors: kUnavailable.
  static Result<BenchFolder> Make();
  BenchFolder() = default;

  BenchFolder(BenchFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}

  BenchFolder& operator=(BenchFolder&& other) noexcept {
    std::swap(path_, other.path_);
    return *this;
  }

  ~BenchFolder();

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// A server in another process, with its files.
class HttpTarget final {
 public:
  /// `arguments`: the program and what it is told; --port-file and --log-level are added. Without
  /// waiting for it. Errors: kNotFound.
  static Result<std::unique_ptr<HttpTarget>> StartPixii(std::vector<std::string> arguments);
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

  BenchFolder folder_;
  std::uint16_t port_ = 0;  // 0: in the file port
  rt::ChildProcess child_;
};

}  // namespace pixii::bench
