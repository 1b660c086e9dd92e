#include "media/url_policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

namespace pixii::media {

namespace {

constexpr std::size_t kShownMax = 120;  // bytes of a stranger's text in an error
constexpr std::uint16_t kHttpPort = 80;
constexpr std::uint16_t kHttpsPort = 443;

tl::unexpected<Error> Refuse(std::string detail) {
  return Fail(Code::kInvalidArgument, "media URL is refused: " + std::move(detail), "url");
}

std::string Shown(std::string_view text) { return std::string(text.substr(0, kShownMax)); }

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

std::string Lowered(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), Lower);
  return out;
}

bool SchemeIs(std::string_view url, std::string_view scheme) {
  return url.size() > scheme.size() && url[scheme.size()] == ':' &&
         Lowered(url.substr(0, scheme.size())) == scheme;
}

// Printable ASCII without what parsers read in different ways.
bool IsPlain(std::string_view text) {
  return std::ranges::all_of(text, [](char c) {
    return c > ' ' && c <= '~' && c != '\\' && c != '"' && c != '<' && c != '>' && c != '`' &&
           c != '{' && c != '}' && c != '|' && c != '^';
  });
}

// Whether `host` is `name`, or below it if that begins with a dot.
bool Matches(std::string_view host, std::string_view name) {
  return name.starts_with('.') ? host.ends_with(name) && host.size() > name.size() : host == name;
}

bool IsListed(const std::vector<std::string>& names, std::string_view host) {
  return std::ranges::any_of(names, [&](const std::string& name) { return Matches(host, name); });
}

bool AllowsInternal(const SourcePolicy& policy, std::string_view host) {
  return policy.allow_internal || IsListed(policy.internal_hosts, host);
}

bool IsInternalName(std::string_view host) {
  constexpr std::string_view kNames[] = {
      "localhost",     ".localhost",         "localhost.localdomain",
      "ip6-localhost", "ip6-loopback",       "metadata",
      ".internal",     "metadata.goog",      "instance-data",
      "kubernetes",    "kubernetes.default", ".svc",
      ".local",        ".localdomain",       ".cluster.local"};
  return std::ranges::any_of(kNames, [&](std::string_view name) { return Matches(host, name); });
}

Result<void> CheckLabels(std::string_view host) {
  constexpr std::size_t kLabelMax = 63;
  constexpr std::size_t kHostMax = 253;
  if (host.empty() || host.size() > kHostMax) {
    return Refuse(fmt::format("its host has {} bytes, not 1..{}", host.size(), kHostMax));
  }
  std::string_view rest = host;
  std::string_view label;
  while (!rest.empty()) {
    const std::size_t dot = std::min(rest.find('.'), rest.size());
    label = rest.substr(0, dot);
    rest.remove_prefix(std::min(dot + 1, rest.size()));
    const bool fine = std::ranges::all_of(
        label, [](char c) { return IsDigit(c) || (c >= 'a' && c <= 'z') || c == '-' || c == '_'; });
    if (label.empty() || label.size() > kLabelMax || !fine) {
      return Refuse(fmt::format("\"{}\" is no host name", Shown(host)));
    }
  }
  if (host.ends_with('.')) {
    return Refuse(fmt::format("\"{}\" ends with a dot", Shown(host)));
  }
  // 2130706433, 0x7f.1, 127.1: some readers take such a host for an address.
  if (IsDigit(label.front()) && (std::ranges::all_of(label, IsDigit) || label.starts_with("0x"))) {
    return Refuse(
        fmt::format("\"{}\" is no address of four decimal numbers, and no name", Shown(host)));
  }
  return {};
}

struct Authority {
  std::string host;
  std::string_view port;  // digits, or empty
};

Result<Authority> ReadAuthority(std::string_view text) {
  if (text.find('@') != std::string_view::npos) {
    return Refuse("it has a user or a password");
  }
  Authority authority;
  if (text.starts_with('[')) {
    const std::size_t end = text.find(']');
    if (end == std::string_view::npos) {
      return Refuse("its host has no closing bracket");
    }
    authority.host = Lowered(text.substr(1, end - 1));
    const auto address = rt::ParseIpAddress(authority.host);
    if (!address || address->v4) {
      return Refuse(fmt::format("\"{}\" is no IPv6 address", Shown(authority.host)));
    }
    text.remove_prefix(end + 1);
  } else {
    const std::size_t colon = std::min(text.find(':'), text.size());
    authority.host = Lowered(text.substr(0, colon));
    if (!rt::ParseIpAddress(authority.host)) {
      PX_CHECK_OK(CheckLabels(authority.host));
    }
    text.remove_prefix(colon);
  }
  if (!text.empty()) {
    authority.port = text.substr(1);
    if (text[0] != ':' || authority.port.empty()) {
      return Refuse("what follows its host is no port");
    }
  }
  return authority;
}

Result<HttpUrl> ReadHttpUrl(std::string_view url) {
  if (url.size() > kUrlSizeMax) {
    return Refuse(fmt::format("it has {} bytes, more than {}", url.size(), kUrlSizeMax));
  }
  if (!IsPlain(url)) {
    return Refuse("it has characters that a URL must escape");
  }
  HttpUrl out;
  out.secure = SchemeIs(url, "https");
  if (!out.secure && !SchemeIs(url, "http")) {
    return Refuse(fmt::format("its scheme \"{}\" is not fetched",
                              Shown(url.substr(0, std::min(url.find(':'), url.size())))));
  }
  url.remove_prefix(out.secure ? 6 : 5);
  if (!url.starts_with("//")) {
    return Refuse("it has no host");
  }
  url.remove_prefix(2);
  url = url.substr(0, url.find('#'));  // a fragment stays with the client
  const std::size_t end = std::min(url.find_first_of("/?"), url.size());
  PX_TRY(Authority authority, ReadAuthority(url.substr(0, end)));
  out.host = std::move(authority.host);
  out.port = out.secure ? kHttpsPort : kHttpPort;
  if (!authority.port.empty()) {
    const char* last = authority.port.data() + authority.port.size();
    const auto read = std::from_chars(authority.port.data(), last, out.port);
    if (read.ec != std::errc() || read.ptr != last || out.port == 0) {
      return Refuse(fmt::format("\"{}\" is no port", Shown(authority.port)));
    }
  }
  out.target = std::string(url.substr(end));
  if (!out.target.starts_with('/')) {
    out.target.insert(out.target.begin(), '/');
  }
  return out;
}

Result<HttpUrl> Check(const SourcePolicy& policy, HttpUrl url) {
  if (!policy.urls) {
    return Refuse("this server fetches nothing");
  }
  const bool internal = AllowsInternal(policy, url.host);
  if (!policy.hosts.empty() && !internal && !IsListed(policy.hosts, url.host)) {
    return Refuse(fmt::format("its host \"{}\" is not one of the allowed ones", Shown(url.host)));
  }
  if (internal) {
    return url;
  }
  if (!url.secure) {
    return Refuse("http is for internal hosts; use https");
  }
  if (url.port != kHttpsPort) {
    return Refuse(fmt::format("port {} is not {}", url.port, kHttpsPort));
  }
  if (IsInternalName(url.host)) {
    return Refuse(fmt::format("its host \"{}\" is not public", Shown(url.host)));
  }
  if (const auto address = rt::ParseIpAddress(url.host); address && !IsPublic(*address)) {
    return Refuse("its host is not public");
  }
  return url;
}

struct Space {
  std::array<std::uint8_t, 16> prefix;
  int bits;
};

bool IsIn(const rt::IpAddress& address, const Space& space) {
  for (int i = 0; i < space.bits; ++i) {
    const int byte = i / 8;
    const int mask = 0x80 >> (i % 8);
    if (((address.bytes[byte] ^ space.prefix[byte]) & mask) != 0) {
      return false;
    }
  }
  return true;
}

constexpr Space V4(std::uint8_t a, std::uint8_t b, std::uint8_t c, int bits) {
  return {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, 0}, 96 + bits};
}

constexpr Space V6(std::uint16_t first, std::uint16_t second, int bits) {
  return {{static_cast<std::uint8_t>(first >> 8), static_cast<std::uint8_t>(first & 0xff),
           static_cast<std::uint8_t>(second >> 8), static_cast<std::uint8_t>(second & 0xff)},
          bits};
}

constexpr Space kNotPublicV4[] = {V4(0, 0, 0, 8),      V4(10, 0, 0, 8),     V4(100, 64, 0, 10),
                                  V4(127, 0, 0, 8),    V4(169, 254, 0, 16), V4(172, 16, 0, 12),
                                  V4(192, 0, 0, 24),   V4(192, 0, 2, 24),   V4(192, 88, 99, 24),
                                  V4(192, 168, 0, 16), V4(198, 18, 0, 15),  V4(198, 51, 100, 24),
                                  V4(203, 0, 113, 24), V4(224, 0, 0, 4),    V4(240, 0, 0, 4)};
// Of IPv6 only 2000::/3 is given out; of that not: Teredo and others of 2001::/23, documentation,
// 6to4, which wraps an IPv4 address, and 3fff::/20.
constexpr Space kGivenOutV6 = V6(0x2000, 0, 3);
constexpr Space kNotPublicV6[] = {V6(0x2001, 0, 23), V6(0x2001, 0x0db8, 32), V6(0x2002, 0, 16),
                                  V6(0x3fff, 0, 20)};

int Base64Value(char c) {
  if (c >= 'A' && c <= 'Z') {
    return c - 'A';
  }
  if (c >= 'a' && c <= 'z') {
    return c - 'a' + 26;
  }
  if (IsDigit(c)) {
    return c - '0' + 52;
  }
  if (c == '+' || c == '-') {
    return 62;
  }
  return c == '/' || c == '_' ? 63 : -1;
}

int HexValue(char c) {
  if (IsDigit(c)) {
    return c - '0';
  }
  c = Lower(c);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

}  // namespace

std::string HttpUrl::Text() const {
  const bool v6 = host.find(':') != std::string::npos;
  const bool default_port = port == (secure ? kHttpsPort : kHttpPort);
  return fmt::format("{}://{}{}{}{}{}", secure ? "https" : "http", v6 ? "[" : "", host,
                     v6 ? "]" : "", default_port ? "" : fmt::format(":{}", port), target);
}

Result<std::vector<std::string>> ReadHosts(std::string_view flag, std::string_view list) {
  std::vector<std::string> out;
  while (!list.empty()) {
    const std::size_t comma = std::min(list.find(','), list.size());
    const std::string host = Lowered(list.substr(0, comma));
    const bool last = comma == list.size();
    list.remove_prefix(last ? comma : comma + 1);
    const std::string_view name = std::string_view(host).substr(host.starts_with('.') ? 1 : 0);
    const bool address = host == name && rt::ParseIpAddress(host).has_value();
    if ((!address && !CheckLabels(name)) || (!last && list.empty())) {
      const std::string_view wrong = address || CheckLabels(name) ? std::string_view() : host;
      return Fail(Code::kInvalidArgument,
                  fmt::format("{}: \"{}\" is no name of a host, no .NAME and no address", flag,
                              Shown(wrong)),
                  std::string(flag));
    }
    out.push_back(host);
  }
  return out;
}

Result<HttpUrl> CheckUrl(const SourcePolicy& policy, std::string_view url) {
  PX_TRY(HttpUrl read, ReadHttpUrl(url));
  return Check(policy, std::move(read));
}

Result<HttpUrl> CheckRedirect(const SourcePolicy& policy, const HttpUrl& from,
                              std::string_view location) {
  if (location.empty()) {
    return Refuse("a redirect leads nowhere");
  }
  std::string whole(location);
  const std::size_t colon = location.find(':');
  if (location.starts_with("//")) {
    whole = fmt::format("{}:{}", from.secure ? "https" : "http", location);
  } else if (colon == std::string_view::npos || colon > location.find_first_of("/?#")) {
    HttpUrl base = from;
    const std::string path = from.target.substr(0, from.target.find('?'));
    if (location.starts_with('/')) {
      base.target.clear();
    } else if (location.starts_with('?')) {
      base.target = path;
    } else {
      base.target = path.substr(0, path.rfind('/') + 1);
    }
    whole = base.Text() + whole;
  }
  PX_TRY(HttpUrl to, CheckUrl(policy, whole));
  if (from.secure && !to.secure) {
    return Refuse("a redirect leads from https to http");
  }
  return to;
}

bool IsPublic(const rt::IpAddress& address) {
  const auto contains = [&](const Space& space) { return IsIn(address, space); };
  if (address.v4) {
    return std::ranges::none_of(kNotPublicV4, contains);
  }
  return contains(kGivenOutV6) && std::ranges::none_of(kNotPublicV6, contains);
}

Result<void> CheckAddresses(const SourcePolicy& policy, const std::string& host,
                            const std::vector<std::string>& addresses) {
  if (addresses.empty()) {
    return Refuse("its host has no address");
  }
  if (AllowsInternal(policy, host)) {
    return {};
  }
  for (const std::string& text : addresses) {
    const auto address = rt::ParseIpAddress(text);
    if (!address || !IsPublic(*address)) {
      return Refuse(fmt::format("an address of its host \"{}\" is not public", Shown(host)));
    }
  }
  return {};
}

Result<std::string> DecodeDataUrl(const SourcePolicy& policy, std::string_view url) {
  const std::size_t comma = url.find(',');
  if (!SchemeIs(url, "data") || comma == std::string_view::npos) {
    return Refuse("it is no data:TYPE;base64,BYTES");
  }
  if (!Lowered(url.substr(0, comma)).ends_with(";base64")) {
    return Refuse("its data are not in base64");
  }
  const std::string_view text = url.substr(comma + 1);
  const auto is_space = [](char c) { return c == ' ' || (c >= '\t' && c <= '\r'); };
  const auto digits = static_cast<std::uint64_t>(text.size()) -
                      static_cast<std::uint64_t>(std::ranges::count_if(text, is_space));
  if (digits / 4 * 3 > policy.data_bytes_max + 3) {
    return Fail(Code::kTooLarge,
                fmt::format("media URL is too large: its data are {} bytes, more than {}",
                            digits / 4 * 3, policy.data_bytes_max),
                "url");
  }
  std::string bytes;
  bytes.reserve(digits / 4 * 3 + 3);
  std::uint32_t held = 0;
  int held_bits = 0;
  bool padded = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (is_space(c)) {
      continue;
    }
    padded = padded || c == '=';
    const int value = Base64Value(c);
    if ((padded && c != '=') || (!padded && value < 0)) {
      return Refuse(fmt::format("byte {} of its data is not base64", i));
    }
    if (padded) {
      continue;
    }
    held = held << 6 | static_cast<std::uint32_t>(value);
    held_bits += 6;
    if (held_bits >= 8) {
      held_bits -= 8;
      bytes.push_back(static_cast<char>(held >> held_bits & 0xff));
    }
  }
  if (held_bits == 6) {
    return Refuse("its data end within a byte");
  }
  if (bytes.size() > policy.data_bytes_max) {
    return Fail(Code::kTooLarge,
                fmt::format("media URL is too large: its data are {} bytes, more than {}",
                            bytes.size(), policy.data_bytes_max),
                "url");
  }
  return bytes;
}

Result<std::string> PathOfFileUrl(std::string_view url) {
  if (!SchemeIs(url, "file")) {
    return Refuse("it is no file:PATH");
  }
  url.remove_prefix(5);
  if (url.starts_with("//")) {
    url.remove_prefix(2);
    const std::string_view host = url.substr(0, url.find('/'));
    if (!host.empty() && Lowered(host) != "localhost") {
      return Refuse("a file: URL has no host");
    }
    url.remove_prefix(host.size());
  }
  std::string path;
  for (std::size_t i = 0; i < url.size(); ++i) {
    if (url[i] != '%') {
      path.push_back(url[i]);
      continue;
    }
    const int high = i + 2 < url.size() ? HexValue(url[i + 1]) : -1;
    const int low = i + 2 < url.size() ? HexValue(url[i + 2]) : -1;
    if (high < 0 || low < 0) {
      return Refuse("its path has an escape that is none");
    }
    path.push_back(static_cast<char>(high * 16 + low));
    i += 2;
  }
  if (!path.starts_with('/') || path.find('\0') != std::string::npos) {
    return Refuse("its path is not absolute");
  }
  return path;
}

}  // namespace pixii::media
