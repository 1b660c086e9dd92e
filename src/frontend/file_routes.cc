// /v1/files: what clients upload for batches and what batches have written.
#include <fmt/format.h>

#include <utility>

#include "frontend/field_error.h"
#include "frontend/frontend.h"
#include "frontend/list_query.h"
#include "wire/multipart.h"

namespace pixii::frontend {

namespace {

constexpr std::string_view kBatchPurpose = "batch";
constexpr std::size_t kNameBytesMax = 255;
constexpr ListLimits kListLimits{.limit_default = 10'000, .limit_max = 10'000, .has_purpose = true};

Error NoFile(std::string_view id) {
  return Error(Code::kNotFound,
               fmt::format("there is no file {}", wire::Json(id.substr(0, 100)).Dump()), "file_id");
}

struct Form {
  const wire::FormPart* file = nullptr;
  std::string purpose;
  std::string anchor;
  std::string seconds;
};

Result<Form> ReadForm(const std::vector<wire::FormPart>& parts) {
  Form out;
  for (const wire::FormPart& part : parts) {
    if (part.name == "file") {
      if (out.file != nullptr) {
        return Bad("file", "one file an upload");
      }
      out.file = &part;
      continue;
    }
    std::string* field = part.name == "purpose"                  ? &out.purpose
                         : part.name == "expires_after[anchor]"  ? &out.anchor
                         : part.name == "expires_after[seconds]" ? &out.seconds
                                                                 : nullptr;
    if (field == nullptr) {
      const std::string shown = part.name.substr(0, 100);
      return Fail(Code::kInvalidArgument, fmt::format("unknown field \"{}\"", shown), shown);
    }
    if (!field->empty() || part.content.empty() || part.content.size() > kLabelBytesMax) {
      return Bad(part.name,
                 fmt::format("is needed once at most, with 1 to {} bytes", kLabelBytesMax));
    }
    *field = part.content;
  }
  if (out.file == nullptr || !out.file->filename || out.file->content.empty()) {
    return Bad("file", "a file with a name and something in it is needed");
  }
  if (out.purpose != kBatchPurpose) {
    return Bad("purpose", fmt::format("{} is not \"batch\", the one purpose that files have here",
                                      Shown(wire::Json(out.purpose))));
  }
  return out;
}

// Without what some clients put in front of it, and without anything that a header or a terminal
// could take for more than a name.
Result<std::string> NameOf(std::string_view given) {
  std::string out;
  for (char c : given.substr(given.find_last_of("/\\") + 1)) {
    out += static_cast<unsigned char>(c) < 0x20 || c == 0x7F || c == '"' ? '_' : c;
  }
  if (out.size() > kNameBytesMax) {
    return Bad("file", fmt::format("its name has {} bytes, allowed are at most {}", out.size(),
                                   kNameBytesMax));
  }
  return out;
}

}  // namespace

// A browser sends forms to other origins without asking, and says whose page it was.
Result<void> Frontend::CheckOrigin(const wire::HttpRequest& request) {
  const std::optional<std::string_view> origin = request.Field("origin");
  const std::optional<std::string_view> host = request.Field("host");
  if (!origin || !host) {
    return {};
  }
  const std::size_t scheme = origin->find("://");
  if (scheme == std::string_view::npos || origin->substr(scheme + 3) != *host) {
    return Fail(Code::kForbidden, "pages of other sites may not send forms without an API key");
  }
  return {};
}

struct Frontend::Waiting final : ExchangeWatcher {
  void OnClientGone() override { exchange = nullptr; }

  void OnRoom() override {}

  Exchange* exchange = nullptr;
  std::vector<wire::HttpField> fields;
  const Route* route = nullptr;
};

std::shared_ptr<Frontend::Waiting> Frontend::Wait(Call& call) {
  auto out = std::make_shared<Waiting>();
  out->exchange = &call.exchange;
  out->fields = std::move(call.fields);
  out->route = call.route;
  call.exchange.Watch(out.get());
  return out;
}

void Frontend::AnswerLater(Waiting& waiting, Result<std::string> body) {
  if (waiting.exchange == nullptr) {
    return;
  }
  Exchange& exchange = *std::exchange(waiting.exchange, nullptr);
  exchange.Watch(nullptr);
  Call call{exchange, std::move(waiting.fields)};
  call.route = waiting.route;
  Answer(call, std::move(body));
}

// With the bytes of a blob, if there are any.
void Frontend::AnswerFile(Waiting& waiting, const Result<BlobStore::Bytes>& bytes,
                          const FileAnswer& answer) {
  if (!bytes || waiting.exchange == nullptr) {
    AnswerLater(waiting, Fail(bytes ? Error(Code::kCancelled, "") : bytes.error()));
    return;
  }
  Exchange& exchange = *std::exchange(waiting.exchange, nullptr);
  exchange.Watch(nullptr);
  Response response = answer(**bytes, exchange.request());
  response.fields.insert(response.fields.end(), waiting.fields.begin(), waiting.fields.end());
  exchange.Respond(std::move(response));
}

Result<void> Frontend::OpenFiles() {
  std::vector<FoundBlob> found;
  std::unique_ptr<BlobStore> blobs;
  if (options_.files.folder.empty()) {
    blobs = MakeMemoryBlobStore(environment_.loop);
  } else {
    PX_TRY(OpenedBlobs opened,
           OpenFolderBlobStore(environment_.loop, options_.files.folder, options_.files.bytes_max));
    blobs = std::move(opened.store);
    found = std::move(opened.found);
  }
  BatchHost& host = *this;
  files_ = std::make_unique<FileStore>(options_.files, std::move(blobs));
  batches_ = std::make_unique<BatchRunner>(environment_.loop, *files_, host, options_.batches);
  batches_->Restore(found);
  files_->Restore(found, UnixNow(), [this](std::string_view id) { return batches_->Claims(id); });
  return {};
}

Result<StoredFile> Frontend::ReadUpload(const Call& call, std::string& content) {
  if (draining_) {
    return Fail(Code::kShuttingDown, "the server shuts down; ask another");
  }
  const wire::HttpRequest& request = call.exchange.request();
  if (keys_->open()) {
    PX_CHECK_OK(CheckOrigin(request));
  }
  PX_TRY(const std::vector<wire::FormPart> parts,
         wire::ParseMultipart(request.Field("content-type").value_or(""), request.body));
  PX_TRY(const Form form, ReadForm(parts));
  PX_TRY(std::string name, NameOf(*form.file->filename));
  StoredFile out{.id = {},
                 .tenant = call.key->tenant,
                 .name = std::move(name),
                 .purpose = form.purpose,
                 .created_at = UnixNow()};
  if (!form.anchor.empty() || !form.seconds.empty()) {
    wire::Json expiry{wire::Json::Object{}};
    expiry.Set("anchor", form.anchor);
    const Result<wire::Json> seconds = wire::ParseJson(form.seconds);
    expiry.Set("seconds", seconds ? *seconds : wire::Json());
    PX_TRY(const std::int64_t lifetime, ReadExpiry(expiry, "expires_after"));
    out.expires_at = out.created_at + lifetime;
  }
  content = form.file->content;
  return out;
}

void Frontend::HandleUploadFile(Call& call) {
  std::string content;
  Result<StoredFile> file = ReadUpload(call, content);
  if (!file) {
    Refuse(call, file.error());
    return;
  }
  file->id = NewId("file-");
  std::shared_ptr<Waiting> waiting = Wait(call);
  files_->Add(std::move(*file), std::move(content),
              [this, waiting](const Result<StoredFile>& stored) {
                AnswerLater(*waiting, stored ? Result<std::string>(stored->Body())
                                             : Result<std::string>(Fail(stored.error())));
              });
}

void Frontend::HandleFiles(Call& call) {
  auto list = [&]() -> Result<std::string> {
    PX_TRY(const ListQuery query, ReadListQuery(call.exchange.request().query, kListLimits));
    std::vector<ListItem> items;
    for (const StoredFile* file : files_->List(call.key->tenant, UnixNow())) {
      if (query.purpose.empty() || file->purpose == query.purpose) {
        items.push_back({.id = file->id, .body = file->Body()});
      }
    }
    return ListPage(items, query);
  };
  Answer(call, list());
}

void Frontend::HandleFile(Call& call) {
  const std::string_view id = ParameterOf(*call.route, call.exchange.request());
  const StoredFile* file = files_->Find(call.key->tenant, id, UnixNow());
  Answer(call, file != nullptr ? Result<std::string>(file->Body())
                               : Result<std::string>(Fail(NoFile(id))));
}

void Frontend::HandleFileContent(Call& call) {
  const std::string_view id = ParameterOf(*call.route, call.exchange.request());
  const StoredFile* file = files_->Find(call.key->tenant, id, UnixNow());
  if (file == nullptr) {
    Refuse(call, NoFile(id));
    return;
  }
  std::shared_ptr<Waiting> waiting = Wait(call);
  files_->Read(*file, [this, waiting](const Result<BlobStore::Bytes>& bytes) {
    AnswerFile(*waiting, bytes, [](const std::string& content, const wire::HttpRequest&) {
      return Response{.content_type = "application/octet-stream", .body = content, .fields = {}};
    });
  });
}

void Frontend::HandleDeleteFile(Call& call) {
  const std::string_view id = ParameterOf(*call.route, call.exchange.request());
  if (!files_->Erase(call.key->tenant, id, UnixNow())) {
    Refuse(call, NoFile(id));
    return;
  }
  AnswerDeleted(call, "file", id);
}

}  // namespace pixii::frontend
