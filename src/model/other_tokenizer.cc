#include "model/other_tokenizer.h"

#include <algorithm>
#include <array>

#include "rt/file.h"
#include "text/tokenizer/sentence_piece.h"
#include "text/tokenizer/tiktoken.h"
#include "text/tokenizer/tokenizer.h"
#include "text/tokenizer/tokenizer_config.h"

namespace pixii::model {

namespace {

constexpr std::uint64_t kConfigSizeMax = 64 << 20;  // bytes of tokenizer_config.json
constexpr std::size_t kFolderEntriesMax = 16'384;   // entries looked at
constexpr std::array kFileNames = {"tokenizer.model", "spiece.model", "tiktoken.model"};

}  // namespace

std::string OtherTokenizerFile(const CheckpointFolder& folder) {
  for (const char* name : kFileNames) {
    if (folder.Has(name)) {
      return name;
    }
  }
  std::string first;
  const auto entries = rt::ListFolder(folder.path(), kFolderEntriesMax);
  for (std::size_t i = 0; entries && i < entries->size(); ++i) {
    const std::string& name = (*entries)[i].name;
    if (name.ends_with(".tiktoken") && (first.empty() || name < first)) {
      first = name;
    }
  }
  return first;
}

Result<std::string> OtherTokenizerJson(const CheckpointFolder& folder, const std::string& file) {
  constexpr const char* kConfig = "tokenizer_config.json";
  std::string config_json;
  if (folder.Has(kConfig)) {
    PX_TRY(config_json, folder.ReadText(kConfig, kConfigSizeMax));
  }
  PX_TRY(const text::TokenizerConfig config,
         text::ReadTokenizerConfig(config_json, folder.path() + "/" + kConfig));
  PX_TRY(const std::string bytes, folder.ReadText(file, text::kTokenizerJsonBytesMax));
  const std::string path = folder.path() + "/" + file;
  return text::LooksLikeTiktoken(bytes) ? text::TiktokenToJson(bytes, config, path)
                                        : text::SentencePieceToJson(bytes, config, path);
}

}  // namespace pixii::model
