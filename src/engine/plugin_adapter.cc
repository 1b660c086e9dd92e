#include "engine/plugin_adapter.h"

#include <pixii/logits_processor.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "rt/foreign_call.h"
#include "rt/shared_library.h"
#include "wire/messages/generate.h"

namespace pixii::engine {

namespace {

static_assert(PIXII_LOGITS_STATE_BYTES_MAX == wire::kStateBytesMax);
static_assert(sizeof(TokenId) == sizeof(std::int32_t));

constexpr std::size_t kErrorBytes = 256;
constexpr std::size_t kNameBytesMax = 64;
using Entry = const pixii_logits_processor* (*)(std::uint32_t);

// Room for one text of an error, always terminated.
class ErrorRoom final {
 public:
  /// For the plug-in; good until this moves.
  pixii_error_text* text() {
    view_ = {bytes_.data(), bytes_.size()};
    return &view_;
  }

  std::string Said() {
    bytes_.back() = '\0';
    return bytes_[0] == '\0' ? "it does not say why" : bytes_.data();
  }

 private:
  std::array<char, kErrorBytes> bytes_{};
  pixii_error_text view_{};
};

// Calls into the plug-in.
template <class Body>
Result<void> Guarded(Body body) {
  return rt::CallForeign(Code::kProcessorFault, "it", std::move(body));
}

// Library and processor, which every open request shares.
struct Plugin {
  Plugin(rt::SharedLibrary loaded, const pixii_logits_processor* entry)
      : library(std::move(loaded)), table(entry) {}

  Plugin(const Plugin&) = delete;
  Plugin& operator=(const Plugin&) = delete;

  ~Plugin() {
    if (self != nullptr) {
      (void)Guarded([&] { table->destroy(self); });
    }
  }

  rt::SharedLibrary library;
  const pixii_logits_processor* table;
  void* self = nullptr;
};

struct PluginCall final : ProcessorCall {
  PluginCall(std::shared_ptr<Plugin> owner, void* opened)
      : plugin(std::move(owner)), request(opened) {}

  PluginCall(const PluginCall&) = delete;
  PluginCall& operator=(const PluginCall&) = delete;

  ~PluginCall() override {
    (void)Guarded([&] { plugin->table->close(plugin->self, request); });
  }

  std::shared_ptr<Plugin> plugin;
  void* request;
};

class PluginProcessor final : public LogitsProcessor {
 public:
  explicit PluginProcessor(std::shared_ptr<Plugin> plugin)
      : plugin_(std::move(plugin)), name_(plugin_->table->name) {}

  std::string_view name() const override { return name_; }

  Result<std::unique_ptr<ProcessorCall>> Open(const wire::Json& arguments,
                                              const ProcessorContext&) const override {
    std::string text = arguments.Dump();
    ErrorRoom error;
    void* request = nullptr;
    PX_CHECK_OK(Guarded([&] {
      request = plugin_->table->open(plugin_->self, text.data(), text.size(), error.text());
    }));
    if (request == nullptr) {
      return Fail(Code::kInvalidArgument, error.Said());
    }
    return std::unique_ptr<ProcessorCall>(std::make_unique<PluginCall>(plugin_, request));
  }

  void Process(std::span<ProcessorRow> rows) override {
    Lay(rows);
    Result<void> done =
        Guarded([&] { plugin_->table->process(plugin_->self, rows_.data(), rows.size()); });
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (!done) {
        rows[i].error = done.error();
        continue;
      }
      const pixii_logits_row& row = rows_[i];
      if (row.failed != 0) {
        rows[i].error = Error(Code::kProcessorFault, errors_[i].Said());
      } else if (row.state_size > wire::kStateBytesMax) {
        rows[i].error =
            Error(Code::kProcessorFault, fmt::format("it says it keeps {} bytes of state; at most "
                                                     "{} are allowed",
                                                     row.state_size, wire::kStateBytesMax));
      } else {
        rows[i].state->assign(StateOf(i), row.state_size);
      }
    }
  }

 private:
  char* StateOf(std::size_t row) { return states_.data() + row * wire::kStateBytesMax; }

  // The rows in the plug-in's form.
  void Lay(std::span<const ProcessorRow> rows) {
    rows_.assign(rows.size(), pixii_logits_row{});
    errors_.assign(rows.size(), ErrorRoom{});
    states_.resize(std::max(states_.size(), rows.size() * wire::kStateBytesMax));
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const ProcessorRow& from = rows[i];
      std::ranges::copy(*from.state, StateOf(i));
      pixii_logits_row& to = rows_[i];
      to.size = sizeof to;
      to.request_id = Raw(from.request);
      to.choice = from.choice;
      to.vocab_size = static_cast<std::uint32_t>(from.logits.size());
      to.request = static_cast<const PluginCall*>(from.call)->request;
      to.prompt = from.prompt.data();
      to.prompt_size = from.prompt.size();
      to.generated = from.generated.data();
      to.generated_size = from.generated.size();
      to.logits = from.logits.data();
      to.state = reinterpret_cast<std::uint8_t*>(StateOf(i));
      to.state_size = from.state->size();
      to.state_capacity = wire::kStateBytesMax;
      to.error = *errors_[i].text();
    }
  }

  std::shared_ptr<Plugin> plugin_;
  std::string name_;
  std::vector<pixii_logits_row> rows_;
  std::vector<ErrorRoom> errors_;
  std::vector<char> states_;
};

Result<const pixii_logits_processor*> ReadTable(const std::string& path,
                                                const rt::SharedLibrary& library) {
  PX_TRY(void* symbol, library.Symbol("pixii_logits_processor_entry"));
  auto entry = reinterpret_cast<Entry>(symbol);
  const pixii_logits_processor* table = nullptr;
  PX_CHECK_OK(Guarded([&] { table = entry(PIXII_LOGITS_PROCESSOR_ABI); }));
  if (table == nullptr || table->abi != PIXII_LOGITS_PROCESSOR_ABI) {
    return Fail(Code::kUnsupported,
                fmt::format("{} does not speak ABI {} of logits processors{}", path,
                            PIXII_LOGITS_PROCESSOR_ABI,
                            table == nullptr ? "" : fmt::format(" but {}", table->abi)));
  }
  bool whole = table->size >= sizeof *table && table->name != nullptr && table->name[0] != '\0' &&
               table->create != nullptr && table->destroy != nullptr && table->open != nullptr &&
               table->close != nullptr && table->process != nullptr;
  if (!whole || std::string_view(table->name).size() > kNameBytesMax) {
    return Fail(Code::kUnsupported,
                fmt::format("{} is no whole logits processor: it lacks a name of 1 to {} bytes or "
                            "a function",
                            path, kNameBytesMax));
  }
  return table;
}

}  // namespace

Result<std::unique_ptr<LogitsProcessor>> LoadPluginProcessor(const std::string& path,
                                                             const wire::Json& config,
                                                             std::uint32_t vocab_size) {
  PX_TRY(rt::SharedLibrary library, rt::SharedLibrary::Open(path));
  PX_TRY(const pixii_logits_processor* table, ReadTable(path, library));
  auto plugin = std::make_shared<Plugin>(std::move(library), table);
  std::string text = config.Dump();
  ErrorRoom error;
  PX_CHECK_OK(Guarded(
      [&] { plugin->self = table->create(text.data(), text.size(), vocab_size, error.text()); }));
  if (plugin->self == nullptr) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{}: \"{}\": {}", path, table->name, error.Said()));
  }
  return std::unique_ptr<LogitsProcessor>(std::make_unique<PluginProcessor>(std::move(plugin)));
}

}  // namespace pixii::engine
