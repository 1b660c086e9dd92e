// What a process has as part of a cluster: its discovery, and the texts of models it does not hold.
//
// Thread: one loop.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "apps/option_structs.h"
#include "apps/process_unit.h"
#include "base/result.h"
#include "control/discovery.h"
#include "frontend/served_model.h"
#include "wire/messages/worker.h"

namespace pixii::apps {

/// As --discovery says. Errors: kInvalidArgument, kUnsupported naming the flag.
Result<std::unique_ptr<control::Discovery>> OpenDiscovery(ProcessUnit& process,
                                                          const ClusterFlags& flags);

/// `host` is published: who looks for this process is sent there. Errors: kInvalidArgument naming
/// `flag` for an address that stands for all of this machine's.
Result<void> CheckPublished(std::string_view flag, const std::string& host);

/// Where a worker has what frontends need of its model.
struct ModelTexts {
  std::string folder;       // of the checkpoint: configuration, defaults
  std::string text_folder;  // of tokenizer and templates
  frontend::PoolingProfile pooling = {};
};

/// What a worker gives frontends. Errors: kTooLarge.
Result<wire::ModelFiles> ReadModelFiles(const ModelTexts& texts);

/// 16 hexadecimal digits: equal for equal files.
std::string DigestOf(const wire::ModelFiles& files);

/// The texts of a model whose files came from a worker. Errors: those of LoadServedModel,
/// kInvalidArgument for names that leave the folder.
Result<frontend::ServedModel> ServedModelOf(const wire::ModelFiles& files, std::string name);

}  // namespace pixii::apps
