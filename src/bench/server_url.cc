#include "bench/server_url.h"

#include <fmt/format.h>

#include <charconv>
#include <utility>

#include "rt/resolve.h"
#include "rt/tls.h"

namespace pixii::bench {

std::string ServerUrl::HostField() const {
  const std::string name = host.find(':') == host.npos ? host : "[" + host + "]";
  return port == (tls ? 443 : 80) ? name : fmt::format("{}:{}", name, port);
}

Result<ServerUrl> ParseServerUrl(std::string_view url) {
  const auto wrong = [&](std::string_view why) {
    return Fail(Code::kInvalidArgument, fmt::format("\"{}\" {}", url, why), "URL");
  };
  ServerUrl out;
  std::string_view rest = url;
  if (rest.starts_with("https://")) {
    rest.remove_prefix(8);
    out.tls = true;
    out.port = 443;
  } else if (rest.starts_with("http://")) {
    rest.remove_prefix(7);
  } else if (rest.find("://") != rest.npos) {
    return wrong("is neither http:// nor https://");
  }
  const std::size_t slash = rest.find('/');
  out.base_path = slash == rest.npos ? std::string_view() : rest.substr(slash);
  std::string_view place = rest.substr(0, slash);
  const std::size_t colon = place.rfind(':');
  if (colon != place.npos && !place.ends_with(']')) {
    const std::string_view port = place.substr(colon + 1);
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), out.port);
    if (error != std::errc() || end != port.data() + port.size() || out.port == 0) {
      return wrong(fmt::format("has a port that is not 1 .. 65535: \"{}\"", port));
    }
    place = place.substr(0, colon);
  }
  if (place.starts_with('[') && place.ends_with(']')) {
    place = place.substr(1, place.size() - 2);
  }
  if (place.empty()) {
    return wrong("names no host");
  }
  out.host = place;
  while (out.base_path.ends_with('/')) {
    out.base_path.pop_back();
  }
  if (out.base_path.ends_with("/v1")) {
    out.base_path.resize(out.base_path.size() - 3);
  }
  return out;
}

Result<ServerNet> Reach(const ServerUrl& url, const std::string& authorities, rt::Loop& loop) {
  ServerNet out;
  PX_TRY(std::string address, rt::ResolveHost(url.host));
  out.address = {.host = std::move(address), .port = url.port};
  out.plain = rt::MakeNet(loop);
  if (url.tls) {
    PX_TRY(std::shared_ptr<const rt::TlsContext> context,
           rt::TlsContext::ForClient({.authorities = authorities}, url.host));
    out.tls = rt::MakeTlsNet(loop, *out.plain, std::shared_ptr<const rt::TlsContext>(),
                             std::move(context));
  }
  return out;
}

}  // namespace pixii::bench
