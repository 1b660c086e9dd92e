// One model folder, or a GGUF file in its place: reads its small files whole and maps its large
// ones; nothing outside it is ever opened.
//
// Thread: values, immutable after Open; maps may be shared between threads.
// Source: the cache layout of Hugging Face's hub client (snapshots/<revision>/file ->
// ../../blobs/<digest>).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "model/gguf.h"
#include "rt/file.h"

namespace pixii::model {

/// A mapped GGUF file and the texts of the folder it stands for.
struct OpenGguf {
  rt::FileMap map;
  GgufFile file;
  std::map<std::string, std::string, std::less<>> texts;  // config.json, tokenizer.json, …
};

class CheckpointFolder final {
 public:
  /// `path` is a folder, or a GGUF file, which then stands for the folder it was made from: its
  /// config.json, tokenizer.json and tokenizer_config.json can be read as if they were there.
  /// Errors: kNotFound if there is neither; those of the GGUF file.
  static Result<CheckpointFolder> Open(const std::string& path);

  /// The folder as given to Open.
  const std::string& path() const { return path_; }

  /// Of tokenizer.json also true where the folder has the tokenizer in another form
  /// (model/other_tokenizer.h), which ReadText then gives as tokenizer.json.
  bool Has(std::string_view name) const;

  /// The folder `name` directly inside, such as a module's. Errors: kNotFound, kDataCorrupt if the
  /// name or a link leaves this folder.
  Result<CheckpointFolder> Subfolder(std::string_view name) const;

  /// Whole content of a file. Errors: kNotFound, kTooLarge past `size_max` bytes, kDataCorrupt if
  /// `name` leaves the folder.
  Result<std::string> ReadText(std::string_view name, std::uint64_t size_max) const;

  /// Null of a real folder.
  const std::shared_ptr<const OpenGguf>& gguf() const { return gguf_; }

  /// Maps a file. Errors as ReadText, and kDataCorrupt if it is empty.
  Result<rt::FileMap> Map(std::string_view name) const;

 private:
  CheckpointFolder(std::string path, std::string real_path, std::string blob_folder)
      : path_(std::move(path)),
        real_path_(std::move(real_path)),
        blob_folder_(std::move(blob_folder)) {}

  /// The real path of `name`; refuses names with a directory and links that lead out.
  Result<std::string> Resolve(std::string_view name) const;

  static Result<CheckpointFolder> OpenGgufFile(const std::string& path,
                                               const std::string& real_path);

  std::string path_;
  std::string real_path_;
  std::string blob_folder_;  // where a hub cache's snapshot keeps its bytes; empty: no snapshot
  std::shared_ptr<const OpenGguf> gguf_;
};

}  // namespace pixii::model
