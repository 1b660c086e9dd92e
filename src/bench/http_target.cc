#include "bench/http_target.h"

#include <fmt/format.h>

#include <charconv>
#include <csignal>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "rt/file.h"
#include "rt/random.h"

namespace pixii::bench {

namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kOutputSizeMax = 1 << 20;  // bytes

// One process, no log of requests, connections that live for ever.
std::string NginxConfig(const std::string& folder, const std::string& body, std::uint16_t port) {
  std::string paths;
  for (const std::string_view kind : {"client_body", "proxy", "fastcgi", "uwsgi", "scgi"}) {
    paths += fmt::format("{}_temp_path {}/{};\n", kind, folder, kind);
  }
  return fmt::format(
      "daemon off;\nmaster_process off;\nworker_processes 1;\npid {0}/pid;\nerror_log stderr;\n"
      "events {{ worker_connections 4096; }}\n"
      "http {{\n{1}access_log off;\nkeepalive_requests 1000000000;\n"
      "server {{\nlisten 127.0.0.1:{2};\nlocation / {{\ndefault_type application/json;\n"
      "return 200 '{3}';\n}}\n}}\n}}\n",
      folder, paths, port, body);
}

}  // namespace

Result<BenchFolder> BenchFolder::Make() {
  std::error_code failed;
  const fs::path parent = fs::temp_directory_path(failed);
  const fs::path folder =
      parent / fmt::format("pixii-bench-{:016x}", rt::Random::FromSystem().Next());
  if (failed || !fs::create_directory(folder, failed)) {
    return Fail(Code::kUnavailable,
                fmt::format("cannot make the folder {}: {}", folder.string(), failed.message()));
  }
  BenchFolder out;
  out.path_ = folder.string();
  return out;
}

BenchFolder::~BenchFolder() {
  if (!path_.empty()) {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
}

Result<std::unique_ptr<HttpTarget>> HttpTarget::StartPixii(std::vector<std::string> arguments) {
  auto target = std::make_unique<HttpTarget>();
  PX_TRY(target->folder_, BenchFolder::Make());
  for (const std::string& added : {std::string("--port-file"), target->folder_.path() + "/port",
                                   std::string("--log-level"), std::string("warn")}) {
    arguments.push_back(added);
  }
  PX_CHECK_OK(target->Start(std::move(arguments)));
  return target;
}

Result<std::unique_ptr<HttpTarget>> HttpTarget::StartMock(const std::string& program,
                                                          const std::string& model) {
  return StartPixii({program, "serve", model, "--engine", "mock", "--port", "0"});
}

Result<std::unique_ptr<HttpTarget>> HttpTarget::StartNginx(const std::string& program,
                                                           const std::string& body,
                                                           std::uint16_t port) {
  auto target = std::make_unique<HttpTarget>();
  PX_TRY(target->folder_, BenchFolder::Make());
  target->port_ = port;
  const std::string config = target->folder_.path() + "/nginx.conf";
  PX_CHECK_OK(rt::WriteFileAtomic(config, NginxConfig(target->folder_.path(), body, port), 0644));
  Result<void> started = target->Start({program, "-p", target->folder_.path(), "-c", config});
  if (!started && started.error().code() == Code::kNotFound && program == "nginx") {
    started = target->Start({"/usr/sbin/nginx", "-p", target->folder_.path(), "-c", config});
  }
  if (!started) {
    return Fail(started.error());
  }
  return target;
}

void HttpTarget::Stop() {
  if (child_.running()) {
    child_.Stop(SIGTERM);
  }
}

HttpTarget::~HttpTarget() { Stop(); }

Result<void> HttpTarget::Start(std::vector<std::string> arguments) {
  PX_TRY(child_, rt::ChildProcess::Start(
                     {.arguments = std::move(arguments), .output = folder_.path() + "/output"}));
  return {};
}

Result<rt::Address> HttpTarget::address() {
  if (!child_.running()) {
    const Result<std::string> output = rt::ReadFile(folder_.path() + "/output", kOutputSizeMax);
    return Fail(Code::kNotFound,
                fmt::format("the server ended: {}", output ? *output : std::string()));
  }
  std::uint16_t port = port_;
  if (port == 0) {
    PX_TRY(const std::string text, rt::ReadFile(folder_.path() + "/port", kOutputSizeMax));
    std::from_chars(text.data(), text.data() + text.size(), port);
  }
  if (port == 0) {
    return Fail(Code::kUnavailable, "the server has no port yet");
  }
  return rt::Address{.host = "127.0.0.1", .port = port};
}

}  // namespace pixii::bench
