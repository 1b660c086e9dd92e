#include "model/hub.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>
#include <vector>

#include "base/digest.h"
#include "rt/file.h"
#include "wire/json.h"

namespace pixii::model {

namespace {

constexpr std::uint32_t kRedirectsMax = 5;
constexpr std::uint64_t kFileSizeMax = std::uint64_t{1} << 40;  // bytes of one file
constexpr std::uint64_t kListSizeMax = 64U << 20;  // bytes of the repository's file list
constexpr std::uint64_t kRefSizeMax = 256;         // bytes of a refs/ file
constexpr std::size_t kFilesMax = 100'000;

bool IsNameCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_' || c == '.';
}

bool IsSafeComponent(std::string_view text) {
  return !text.empty() && text.size() <= 200 && text != "." && text != ".." &&
         std::ranges::all_of(text, IsNameCharacter);
}

bool IsHex(std::string_view text, std::size_t size) {
  return text.size() == size && std::ranges::all_of(text, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

// What the hub says of one file.
struct RemoteFile {
  std::string path;
  std::string etag;  // 64 hex digits: SHA-256; 40: git's SHA-1
  std::uint64_t size = 0;
};

class Download final {
 public:
  Download(const HubName& name, rt::HttpClient& client, const HubOptions& options,
           const std::function<void(const HubProgress&)>& on_progress)
      : name_(name), client_(client), options_(options), on_progress_(on_progress) {
    std::string folder = "models--" + name.repository;
    folder.replace(folder.find('/'), 1, "--");
    root_ = options.cache_folder + "/" + folder;
  }

  Result<std::string> Run() {
    if (options_.offline) {
      return Cached("offline mode");
    }
    Result<wire::Json> listing = List();
    if (!listing) {
      // A network that is down must not stop a model that is there already.
      if (listing.error().code() == Code::kUnavailable ||
          listing.error().code() == Code::kDeadlineExceeded) {
        if (Result<std::string> cached = Cached("the hub cannot be reached")) {
          return cached;
        }
      }
      return Fail(listing.error());
    }
    const wire::Json* sha = listing->Find("sha");
    if (sha == nullptr || !sha->is_string() || !IsHex(sha->string(), 40)) {
      return Fail(Code::kDataCorrupt,
                  fmt::format("{} names no commit for {}", options_.endpoint, name_.repository));
    }
    commit_ = sha->string();
    PX_TRY(std::set<std::string> present, Siblings(*listing));
    PX_TRY(std::vector<std::string> wanted, Wanted(present));
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      PX_CHECK_OK(FetchFile(wanted[i], static_cast<std::uint32_t>(i),
                            static_cast<std::uint32_t>(wanted.size())));
    }
    PX_CHECK_OK(rt::CreateFolders(root_ + "/refs"));
    PX_CHECK_OK(rt::WriteFileAtomic(RefPath(), commit_, 0644));
    return SnapshotFolder(commit_);
  }

 private:
  std::string SnapshotFolder(const std::string& commit) const {
    return root_ + "/snapshots/" + commit;
  }

  std::string RefPath() const { return root_ + "/refs/" + name_.revision; }

  Result<std::string> Cached(std::string_view why) {
    std::string commit = name_.revision;
    if (!IsHex(commit, 40)) {
      Result<std::string> ref = rt::ReadFile(RefPath(), kRefSizeMax);
      commit = ref ? ref->substr(0, ref->find_first_of("\r\n ")) : "";
    }
    if (IsHex(commit, 40)) {
      PX_TRY(std::optional<rt::FileInfo> config,
             rt::StatFile(SnapshotFolder(commit) + "/config.json"));
      if (config) {
        return SnapshotFolder(commit);
      }
    }
    return Fail(Code::kUnavailable,
                fmt::format("{}@{} is not in the cache {} and {}", name_.repository, name_.revision,
                            options_.cache_folder, why));
  }

  rt::HttpFetchRequest Request(std::string url) const {
    rt::HttpFetchRequest request;
    request.url = std::move(url);
    if (!options_.token.empty()) {
      request.headers.emplace_back("Authorization", "Bearer " + options_.token);
    }
    request.headers.emplace_back("Accept-Encoding", "identity");  // digests are of the stored bytes
    return request;
  }

  Result<void> CheckStatus(int status, const std::string& what) const {
    if (status >= 200 && status < 300) {
      return {};
    }
    if (status == 401 || status == 403) {
      return Fail(
          Code::kUnauthenticated,
          fmt::format("the hub refuses {} (status {}): {}", what, status,
                      options_.token.empty() ? "it is private, gated or misspelled; set HF_TOKEN"
                                             : "the token in HF_TOKEN may not read it"));
    }
    if (status == 404) {
      return Fail(Code::kNotFound, fmt::format("the hub {} has no {}", options_.endpoint, what));
    }
    return Fail(Code::kUnavailable, fmt::format("the hub answered {} for {}", status, what));
  }

  Result<wire::Json> List() {
    rt::HttpFetchRequest request = Request(fmt::format(
        "{}/api/models/{}/revision/{}", options_.endpoint, name_.repository, name_.revision));
    request.body_size_max = kListSizeMax;
    PX_TRY(rt::HttpFetchResponse response, client_.Fetch(request));
    PX_CHECK_OK(
        CheckStatus(response.status, fmt::format("{}@{}", name_.repository, name_.revision)));
    return wire::ParseJson(response.body);
  }

  Result<std::set<std::string>> Siblings(const wire::Json& listing) const {
    std::set<std::string> names;
    const wire::Json* siblings = listing.Find("siblings");
    if (siblings == nullptr || !siblings->is_array() || siblings->array().size() > kFilesMax) {
      return Fail(Code::kDataCorrupt,
                  fmt::format("{}: the hub's file list is missing or too long", name_.repository));
    }
    for (const wire::Json& sibling : siblings->array()) {
      const wire::Json* file = sibling.Find("rfilename");
      // Only files at the top count; a name that could leave the folder is not one of them.
      if (file != nullptr && file->is_string() && IsSafeComponent(file->string())) {
        names.insert(file->string());
      }
    }
    return names;
  }

  // Small files first: a refused configuration costs no download of weights.
  Result<std::vector<std::string>> Wanted(const std::set<std::string>& present) {
    std::vector<std::string> wanted;
    for (const char* name :
         {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
          "special_tokens_map.json", "chat_template.jinja", "chat_template.json"}) {
      if (present.contains(name)) {
        wanted.emplace_back(name);
      }
    }
    if (!present.contains("tokenizer.json")) {  // what other_tokenizer reads in its place
      for (const std::string& name : present) {
        if (name == "tokenizer.model" || name == "spiece.model" || name == "tiktoken.model" ||
            name.ends_with(".tiktoken")) {
          wanted.push_back(name);
        }
      }
    }
    if (!present.contains("config.json")) {
      return Fail(
          Code::kNotFound,
          fmt::format("{} has no config.json: not a model in Hugging Face form", name_.repository));
    }
    constexpr const char* kIndex = "model.safetensors.index.json";
    if (!present.contains(kIndex)) {
      if (!present.contains("model.safetensors")) {
        return Fail(Code::kUnsupported,
                    fmt::format("{} has no safetensors weights", name_.repository));
      }
      wanted.emplace_back("model.safetensors");
      return wanted;
    }
    PX_CHECK_OK(FetchFile(kIndex, 0, 1));
    wanted.emplace_back(kIndex);
    PX_TRY(std::set<std::string> shards, ShardNames(SnapshotFolder(commit_) + "/" + kIndex));
    wanted.insert(wanted.end(), shards.begin(), shards.end());
    return wanted;
  }

  Result<std::set<std::string>> ShardNames(const std::string& index) const {
    PX_TRY(std::string text, rt::ReadFile(index, kListSizeMax));
    PX_TRY(wire::Json json, wire::ParseJson(text));
    const wire::Json* map = json.Find("weight_map");
    if (map == nullptr || !map->is_object()) {
      return Fail(Code::kDataCorrupt, fmt::format("{}: no weight_map", index));
    }
    std::set<std::string> shards;
    for (const auto& [tensor, file] : map->object()) {
      if (!file.is_string() || !IsSafeComponent(file.string())) {
        return Fail(Code::kDataCorrupt,
                    fmt::format("{}: tensor {} stands in a file that is no plain name", index,
                                tensor.substr(0, 200)));
      }
      shards.insert(file.string());
    }
    return shards;
  }

  // Digest and size of a file, from the hub's own answer and not from the storage it redirects to.
  Result<RemoteFile> Describe(const std::string& path) {
    std::string url = FileUrl(path);
    for (std::uint32_t hop = 0; hop <= kRedirectsMax; ++hop) {
      rt::HttpFetchRequest request = Request(url);
      request.head = true;
      request.follow_redirects = false;
      PX_TRY(rt::HttpFetchResponse response, client_.Fetch(request));
      std::string_view location = response.Header("location");
      std::string_view etag = response.Header("x-linked-etag");
      bool redirected = response.status >= 300 && response.status < 400;
      if (redirected && etag.empty() && location.starts_with('/') && !location.starts_with("//")) {
        url = options_.endpoint + std::string(location);  // a renamed repository
        continue;
      }
      if (!redirected) {
        PX_CHECK_OK(CheckStatus(response.status, fmt::format("{} of {}", path, name_.repository)));
      }
      return ReadDescription(path, response);
    }
    return Fail(Code::kUnavailable, fmt::format("{}: more than {} redirects", url, kRedirectsMax));
  }

  Result<RemoteFile> ReadDescription(const std::string& path,
                                     const rt::HttpFetchResponse& response) const {
    RemoteFile file{.path = path, .etag = {}, .size = 0};
    std::string_view etag = response.Header("x-linked-etag");
    std::string_view size = response.Header("x-linked-size");
    if (etag.empty()) {
      etag = response.Header("etag");
    }
    if (size.empty()) {
      size = response.Header("content-length");
    }
    if (etag.starts_with("W/")) {
      etag.remove_prefix(2);
    }
    if (etag.size() >= 2 && etag.front() == '"' && etag.back() == '"') {
      etag = etag.substr(1, etag.size() - 2);
    }
    if (!IsHex(etag, 64) && !IsHex(etag, 40)) {
      return Fail(Code::kDataCorrupt,
                  fmt::format("{}: the hub gives no digest to check it by", path));
    }
    file.etag = etag;
    auto [end, error] = std::from_chars(size.data(), size.data() + size.size(), file.size);
    if (error != std::errc{} || end != size.data() + size.size() || file.size > kFileSizeMax) {
      return Fail(Code::kDataCorrupt, fmt::format("{}: the hub gives no usable size", path));
    }
    return file;
  }

  std::string FileUrl(const std::string& path) const {
    return fmt::format("{}/{}/resolve/{}/{}", options_.endpoint, name_.repository, commit_, path);
  }

  Result<void> FetchFile(const std::string& path, std::uint32_t index, std::uint32_t count) {
    std::string link = SnapshotFolder(commit_) + "/" + path;
    PX_TRY(std::optional<rt::FileInfo> proven_before, rt::StatFile(link));
    if (proven_before) {
      return {};  // its blob was proven when the link was made
    }
    PX_TRY(RemoteFile file, WithAttempts([&] { return Describe(path); }));
    std::string blob = root_ + "/blobs/" + file.etag;
    PX_CHECK_OK(rt::CreateFolders(root_ + "/blobs"));
    PX_CHECK_OK(rt::CreateFolders(SnapshotFolder(commit_)));
    PX_TRY(std::optional<rt::FileInfo> there, rt::StatFile(blob));
    if (!there) {
      std::string partial = blob + ".incomplete";
      auto report = [&](std::uint64_t done) {
        on_progress_({.file = path,
                      .file_index = index,
                      .file_count = count,
                      .done_bytes = done,
                      .total_bytes = file.size});
      };
      PX_CHECK_OK(WithAttempts([&] { return FetchBytes(file, partial, report); }));
      if (Result<void> proven = Prove(file, partial); !proven) {
        PX_CHECK_OK(rt::RemoveFile(partial));
        return proven;
      }
      PX_CHECK_OK(rt::RenameFile(partial, blob));
    }
    return rt::CreateSymlink("../../blobs/" + file.etag, link);
  }

  // Network errors are tried again; a download goes on from the bytes that are there.
  template <class Try>
  auto WithAttempts(Try attempt) -> decltype(attempt()) {
    for (std::uint32_t i = 1;; ++i) {
      auto result = attempt();
      bool network = !result && (result.error().code() == Code::kUnavailable ||
                                 result.error().code() == Code::kDeadlineExceeded);
      if (!network || i >= options_.attempts_max) {
        return result;
      }
    }
  }

  template <class Report>
  Result<void> FetchBytes(const RemoteFile& file, const std::string& partial,
                          const Report& report) {
    PX_TRY(std::optional<rt::FileInfo> begun, rt::StatFile(partial));
    std::uint64_t have = begun && begun->size_bytes <= file.size ? begun->size_bytes : 0;
    if (have == file.size && file.size > 0) {
      return {};
    }
    PX_TRY(rt::FileWriter out, rt::FileWriter::Open(partial, have));
    rt::HttpFetchRequest request = Request(FileUrl(file.path));
    request.range_begin = have;
    request.body_size_max = file.size;
    request.on_body = [&](std::string_view piece, int status) -> Result<void> {
      if (status == 200 && have > 0) {
        PX_TRY(out, rt::FileWriter::Open(partial, 0));  // the server does not resume
        have = 0;
      }
      if (out.size_bytes() + piece.size() > file.size) {
        return Fail(Code::kDataCorrupt,
                    fmt::format("{}: more than the {} bytes announced", file.path, file.size));
      }
      PX_CHECK_OK(out.Append(piece));
      report(out.size_bytes());
      return {};
    };
    PX_TRY(rt::HttpFetchResponse response, client_.Fetch(request));
    PX_CHECK_OK(CheckStatus(response.status, fmt::format("{} of {}", file.path, name_.repository)));
    if (out.size_bytes() != file.size) {
      return Fail(Code::kUnavailable,
                  fmt::format("{}: {} of {} bytes came", file.path, out.size_bytes(), file.size));
    }
    return out.Sync();
  }

  Result<void> Prove(const RemoteFile& file, const std::string& partial) const {
    bool large = file.etag.size() == 64;
    Digest digest(large ? Digest::Kind::kSha256 : Digest::Kind::kSha1);
    if (!large) {
      digest.Update(fmt::format("blob {}", file.size));
      digest.Update(std::string_view("\0", 1));
    }
    PX_TRY(rt::FileMap bytes, rt::FileMap::Open(partial));
    digest.Update(bytes.text());
    std::string actual = digest.FinishHex();
    if (actual != file.etag) {
      return Fail(Code::kDataCorrupt,
                  fmt::format("{}: its digest is {}, the hub says {}; the download was dropped",
                              file.path, actual, file.etag));
    }
    return {};
  }

  const HubName& name_;
  rt::HttpClient& client_;
  const HubOptions& options_;
  const std::function<void(const HubProgress&)>& on_progress_;
  std::string root_;
  std::string commit_;
};

}  // namespace

Result<HubName> ParseHubName(std::string_view text) {
  HubName name{.repository = std::string(text), .revision = "main"};
  std::size_t at = text.find('@');
  if (at != std::string_view::npos) {
    name.repository = text.substr(0, at);
    name.revision = text.substr(at + 1);
  }
  std::size_t slash = name.repository.find('/');
  if (slash == std::string::npos ||
      !IsSafeComponent(std::string_view(name.repository).substr(0, slash)) ||
      !IsSafeComponent(std::string_view(name.repository).substr(slash + 1))) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("\"{}\" is no org/name[@revision]: letters, digits, '-', '_', '.' and one '/'",
                    text),
        "MODEL");
  }
  if (!IsSafeComponent(name.revision)) {
    return Fail(Code::kInvalidArgument,
                fmt::format("revision \"{}\" may hold letters, digits, '-', '_' and '.' only",
                            name.revision),
                "MODEL");
  }
  return name;
}

Result<std::string> FetchModel(const HubName& name, rt::HttpClient& client,
                               const HubOptions& options,
                               const std::function<void(const HubProgress&)>& on_progress) {
  return Download(name, client, options, on_progress).Run();
}

}  // namespace pixii::model
