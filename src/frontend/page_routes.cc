// The web page at "/": files that the build embedded.
#include <utility>

#include "frontend/frontend.h"

namespace pixii::frontend {

namespace {

// Nothing from elsewhere, nothing inline, nothing evaluated. `data:` and `blob:` are pictures that
// the user chose and files of jobs, which need the key and so cannot be plain links.
constexpr std::string_view kContentPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'";

// The names of all but "/" change with their bytes.
constexpr std::string_view kAskAgain = "no-cache";
constexpr std::string_view kForGood = "public, max-age=31536000, immutable";

bool Lists(std::optional<std::string_view> field, std::string_view wanted) {
  return field && field->find(wanted) != std::string_view::npos;
}

}  // namespace

void Frontend::HandlePage(Call& call) {
  const wire::HttpRequest& request = call.exchange.request();
  const PageAsset* asset = nullptr;
  for (const PageAsset& one : options_.page) {
    asset = one.path == request.path ? &one : asset;
  }
  if (asset == nullptr && request.path == "/" && options_.page.empty()) {
    call.exchange.Respond({.status = 404,
                           .content_type = "text/plain; charset=utf-8",
                           .body = "this pixii was built without npm, so it has no web page; the "
                                   "API is at /v1, its routes are in /openapi.json\n",
                           .fields = std::move(call.fields)});
    return;
  }
  if (asset == nullptr) {
    Refuse(call, Error(Code::kNotFound, "the web page has no such file"));
    return;
  }
  Response response{
      .content_type = asset->content_type, .body = {}, .fields = std::move(call.fields)};
  const auto set = [&](std::string_view name, std::string_view value) {
    response.fields.push_back({std::string(name), std::string(value)});
  };
  set("ETag", asset->etag);
  set("Cache-Control", asset->path == "/" ? kAskAgain : kForGood);
  set("Vary", "Accept-Encoding");
  set("Content-Security-Policy", kContentPolicy);
  set("Referrer-Policy", "no-referrer");
  if (Lists(request.Field("If-None-Match"), asset->etag)) {
    response.status = 304;
  } else if (Lists(request.Field("Accept-Encoding"), "gzip")) {
    set("Content-Encoding", "gzip");
    response.body = asset->gzip;
  } else {
    response.body = asset->plain;
  }
  call.exchange.Respond(std::move(response));
}

}  // namespace pixii::frontend
