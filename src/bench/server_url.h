// The address of a server as a user gives it, and how it is reached: names and TLS.
//
// Thread: values; Reach blocks, before a loop runs.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "rt/loop.h"
#include "rt/net.h"

namespace pixii::bench {

struct ServerUrl {
  std::string host;  // a name or a numeric address, without brackets
  std::uint16_t port = 80;
  bool tls = false;
  std::string base_path;  // before /v1, mostly empty

  /// As the field Host has it: without the port that goes without saying.
  std::string HostField() const;
};

/// "https://host:port/path/v1"; the scheme and /v1 may be missing. Errors: kInvalidArgument.
Result<ServerUrl> ParseServerUrl(std::string_view url);

/// A net whose connections go to one server.
struct ServerNet {
  std::unique_ptr<rt::Net> plain;
  std::unique_ptr<rt::Net> tls;  // over `plain`; null: none is spoken
  rt::Address address;

  rt::Net& net() const { return tls ? *tls : *plain; }
};

/// `authorities`: a PEM file of whom an https server is believed. Errors: kUnavailable for a name
/// that nobody knows; kInvalidArgument for such a file.
Result<ServerNet> Reach(const ServerUrl& url, const std::string& authorities, rt::Loop& loop);

}  // namespace pixii::bench
