// Adapters from the flags: what is loaded at the start, what may be loaded later, and how.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "apps/option_structs.h"
#include "base/result.h"
#include "engine/adapter_store.h"
#include "model/lora_adapter.h"
#include "worker/link_adapters.h"

namespace pixii::apps {

/// Whether any flag asks for adapters.
bool WantsAdapters(const EngineFlags& flags);

/// Slots are 0 unless WantsAdapters.
engine::AdapterOptions AdapterOptionsOf(const EngineFlags& flags);

/// NAME=FOLDER of each --lora. Errors name the flag.
Result<std::vector<worker::CatalogueEntry>> AdaptersAtStart(const EngineFlags& flags);

/// The subfolders of --lora-dir that hold an adapter, but those whose names begin with a dot.
/// Errors name the flag.
Result<std::vector<worker::CatalogueEntry>> AdapterCatalogue(const EngineFlags& flags);

/// Reads adapters for a model with these linears.
worker::AdapterLinkOptions::Reader MakeAdapterReader(
    std::span<const model::AdaptableLinear> linears, const EngineFlags& flags);

/// Whether the adapter in `source` can be read and is of these linears, but for its weights'
/// values.
Result<void> CheckAdapter(const std::string& source,
                          std::span<const model::AdaptableLinear> linears,
                          const EngineFlags& flags);

}  // namespace pixii::apps
