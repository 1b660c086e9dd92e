#include "apps/image_source.h"

#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "apps/supervisor.h"
#include "media/decoder_child.h"
#include "media/decoder_pool.h"
#include "media/source.h"
#include "rt/http_client.h"
#include "rt/resolve.h"

namespace pixii::apps {

Result<media::SourcePolicy> SourcePolicyOf(const HttpFlags& flags) {
  media::SourcePolicy policy{.urls = flags.media_urls,
                             .allow_internal = flags.media_allow_internal,
                             .folder = flags.media_folder};
  for (std::string_view rest = flags.media_hosts; !rest.empty();) {
    const std::size_t comma = rest.find(',');
    std::string host(rest.substr(0, comma));
    rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
    for (char& letter : host) {
      letter = static_cast<char>(letter >= 'A' && letter <= 'Z' ? letter - 'A' + 'a' : letter);
    }
    if (host.empty() || host.find_first_of(" /:") != std::string::npos) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("media-hosts: \"{}\" is no name of a host", host), "media-hosts");
    }
    policy.hosts.push_back(std::move(host));
  }
  std::error_code error;
  if (!policy.folder.empty() && !std::filesystem::is_directory(policy.folder, error)) {
    return Fail(Code::kInvalidArgument, fmt::format("media-folder: {} is no folder", policy.folder),
                "media-folder");
  }
  return policy;
}

frontend::ImageGetter MakeImageGetter(media::SourcePolicy policy) {
  auto source = std::make_shared<const media::Source>(media::SourceParts{
      .policy = std::move(policy), .resolve = rt::ResolveAll, .make_client = rt::MakeCurlClient});
  auto pool = std::make_shared<media::DecoderPool>(
      media::DecoderPoolOptions{.command = {kOwnProgram, std::string(media::kDecoderCommand)}});
  return [source, pool](const std::string& url) -> Result<media::Image> {
    PX_TRY(const std::string file, source->Get(url));
    const media::Bytes bytes(reinterpret_cast<const std::uint8_t*>(file.data()), file.size());
    return pool->Decode(bytes, {});
  };
}

}  // namespace pixii::apps
