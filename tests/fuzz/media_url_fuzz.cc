// Any bytes as a media URL, a redirect, a data: URL and a file: URL. What is let through reads as
// itself, is what curl reads, and is public.
#include <curl/curl.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/assert.h"
#include "media/url_policy.h"

namespace {

using pixii::media::HttpUrl;
using pixii::media::SourcePolicy;

struct UrlFree {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};

struct TextFree {
  void operator()(char* text) const { curl_free(text); }
};

std::string Part(CURLU* url, CURLUPart part) {
  char* text = nullptr;
  PX_ASSERT(curl_url_get(url, part, &text, CURLU_DEFAULT_PORT) == CURLUE_OK);
  const std::unique_ptr<char, TextFree> own(text);
  return text;
}

void ExpectCurlAgrees(const HttpUrl& read) {
  const std::unique_ptr<CURLU, UrlFree> url(curl_url());
  if (curl_url_set(url.get(), CURLUPART_URL, read.Text().c_str(), 0) != CURLUE_OK) {
    return;  // then it fetches nothing
  }
  std::string host = Part(url.get(), CURLUPART_HOST);
  if (host.starts_with('[')) {
    host = host.substr(1, host.size() - 2);
  }
  const auto ours = pixii::rt::ParseIpAddress(read.host);
  PX_ASSERT(host == read.host || (ours && pixii::rt::ParseIpAddress(host) == ours));
  PX_ASSERT(Part(url.get(), CURLUPART_SCHEME) == (read.secure ? "https" : "http"));
  PX_ASSERT(Part(url.get(), CURLUPART_PORT) == std::to_string(read.port));
  char* user = nullptr;
  PX_ASSERT(curl_url_get(url.get(), CURLUPART_USER, &user, 0) == CURLUE_NO_USER);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const SourcePolicy strict;
  SourcePolicy open;
  open.allow_internal = true;
  for (const SourcePolicy& policy : {strict, open}) {
    if (const auto read = CheckUrl(policy, text)) {
      const auto again = CheckUrl(policy, read->Text());
      PX_ASSERT(again && *again == *read);
      ExpectCurlAgrees(*read);
      const auto address = pixii::rt::ParseIpAddress(read->host);
      PX_ASSERT(policy.allow_internal || !address || pixii::media::IsPublic(*address));
    }
    if (const auto to = CheckRedirect(policy, {.host = "a.example", .target = "/b/c?d"}, text)) {
      ExpectCurlAgrees(*to);
      PX_ASSERT(to->secure);
    }
  }
  SourcePolicy small;
  small.data_bytes_max = 100;
  const auto bytes = DecodeDataUrl(small, text);
  PX_ASSERT(!bytes || bytes->size() <= 100);
  const auto path = pixii::media::PathOfFileUrl(text);
  PX_ASSERT(!path || path->starts_with('/'));
  return 0;
}
