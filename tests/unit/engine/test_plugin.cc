// Plug-ins for plugin_adapter_test.cc, one for each way to be wrong; PLUGIN_KIND chooses.
#include <pixii/logits_processor.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string_view>

namespace {

int g_object = 0;

void* Create(const char* config, size_t size, uint32_t vocab_size, pixii_error_text* error) {
  if (std::string_view(config, size).find("refuse") != std::string_view::npos) {
    std::snprintf(error->text, error->capacity, "the configuration says so (vocabulary %u)",
                  vocab_size);
    return nullptr;
  }
  return &g_object;
}

void Destroy(void*) {}

void* Open(void*, const char* arguments, size_t size, pixii_error_text* error) {
  std::string_view text(arguments, size);
  if (text.find("throw_in_open") != std::string_view::npos) {
    throw std::runtime_error("open threw");
  }
  if (text.find("refuse") != std::string_view::npos) {
    std::snprintf(error->text, error->capacity, "the arguments say so");
    return nullptr;
  }
  return new long(text.find("throw_at_2") != std::string_view::npos ? 2
                  : text.find("oversize") != std::string_view::npos ? -2
                                                                    : -1);
}

void Close(void*, void* request) { delete static_cast<long*>(request); }

// Forces the token at the position: 10, 11, 12, …; the first state byte counts too.
void Process(void*, pixii_logits_row* rows, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    pixii_logits_row& row = rows[i];
    long what = *static_cast<long*>(row.request);
    if (what >= 0 && row.generated_size == static_cast<size_t>(what)) {
      row.logits[0] = 1e30F;
      throw std::runtime_error("row threw");
    }
    uint8_t before = row.state_size == 0 ? uint8_t{0} : row.state[0];
    row.state[0] = static_cast<uint8_t>(before + 1);
    row.state_size = what == -2 ? row.state_capacity + 1 : 1;
    for (uint32_t id = 0; id < row.vocab_size; ++id) {
      row.logits[id] = id == 10U + before ? 1.0F : -1e30F;
    }
  }
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const pixii_logits_processor*
pixii_logits_processor_entry(uint32_t) {
#if PLUGIN_KIND == 2
  return nullptr;
#else
  static const pixii_logits_processor kProcessor = {
      PLUGIN_KIND == 1 ? PIXII_LOGITS_PROCESSOR_ABI + 1 : PIXII_LOGITS_PROCESSOR_ABI,
      sizeof kProcessor,
      "test_plugin",
      Create,
      Destroy,
      Open,
      PLUGIN_KIND == 3 ? nullptr : Close,
      Process};
  return &kProcessor;
#endif
}
