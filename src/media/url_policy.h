// Where media of strangers may come from. Pure: it decides, media/source.h acts.
//
// A request names an address, and whoever fetches it is this server, inside its network. So every
// form of address is refused that is not plainly public, of every host on the way, and the fetch
// connects to the very addresses that were looked at. The URL is read once, strictly, and what is
// fetched is written anew from what was read: no two parsers can differ about it.
//
// Thread: any; values.
// Source: spaces of IANA's special-purpose registries for IPv4 and IPv6; RFC 3986, RFC 2397.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "rt/ip_address.h"

namespace pixii::media {

struct SourcePolicy {
  bool urls = true;             // whether https: is fetched at all
  bool allow_internal = false;  // http:, any port and any address, for a network of friends
  std::vector<std::string> hosts =
      {};  // lower case; not empty: these alone, and what is below ".name"
  std::vector<std::string> internal_hosts = {};            // for these alone, as allow_internal
  std::string folder = {};                                 // file: of this one alone; empty: none
  std::uint64_t bytes_max = std::uint64_t{64} << 20;       // of what is fetched or read
  std::uint64_t data_bytes_max = std::uint64_t{16} << 20;  // of the bytes in a data: URL
  std::uint32_t redirects_max = 3;
  std::uint32_t time_max_ms = 10'000;  // of a fetch, redirects included
};

/// "cdn.example,.images.example" as names of hosts: addresses, names, and what is below ".name".
/// Errors, param `flag`: kInvalidArgument naming the entry that is none.
Result<std::vector<std::string>> ReadHosts(std::string_view flag, std::string_view list);

inline constexpr std::size_t kUrlSizeMax = 8'192;  // bytes, but for data:

/// An http or https URL, taken apart.
struct HttpUrl {
  bool secure = true;
  std::string host;  // lower case, or an address without brackets
  std::uint16_t port = 443;
  std::string target = "/";  // path and query

  /// As it is fetched.
  std::string Text() const;

  friend bool operator==(const HttpUrl&, const HttpUrl&) = default;
};

/// Reads `url` and applies what can be said without its addresses: scheme, port, form of the host,
/// names that are never public, allowed hosts. Errors, param "url": kInvalidArgument naming the
/// rule.
Result<HttpUrl> CheckUrl(const SourcePolicy& policy, std::string_view url);

/// Where an answer of `from` sends on to; `location` may be relative. Errors: as CheckUrl;
/// kInvalidArgument if it leads from https to http.
Result<HttpUrl> CheckRedirect(const SourcePolicy& policy, const HttpUrl& from,
                              std::string_view location);

/// Whether all of `addresses`, those of `host`, may be connected to; one that may not is enough.
/// Errors: kInvalidArgument, which does not say which.
Result<void> CheckAddresses(const SourcePolicy& policy, const std::string& host,
                            const std::vector<std::string>& addresses);

/// In no private, local, reserved, translated or multicast space.
bool IsPublic(const rt::IpAddress& address);

/// The bytes of a data: URL in base64; white space and missing padding are let through. Errors:
/// kInvalidArgument, kTooLarge before anything is decoded.
Result<std::string> DecodeDataUrl(const SourcePolicy& policy, std::string_view url);

/// The path of a file: URL. Errors: kInvalidArgument for a host other than localhost, a relative
/// path, and escapes that are none.
Result<std::string> PathOfFileUrl(std::string_view url);

}  // namespace pixii::media
