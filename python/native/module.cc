// The extension module `_pixii`: what the package `pixii` is built on. Nothing here is for users.
//
// Thread: each call holds the interpreter's lock; what waits gives it back meanwhile.
#include <fmt/format.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "apps/version.h"
#include "bind_streams.h"
#include "convert.h"
#include "endpoint_host.h"
#include "wire/engine_kv_translator.h"

namespace py = pybind11;

namespace pixii::python {

namespace {

class Endpoint final {
 public:
  Endpoint(int wake, EndpointOptions options) : host_(std::move(options), WakeBy(wake)) {}

  ~Endpoint() {
    const py::gil_scoped_release released;
    host_.Stop(false);
    host_.Join();
  }

  void Start() {
    StartHost(host_);
    translator_.emplace(
        wire::EngineKvTranslator::Options{.block_tokens = host_.card().block_tokens});
  }

  void Stop(bool patiently) {
    const py::gil_scoped_release released;
    host_.Stop(patiently);
  }

  void Join() {
    const py::gil_scoped_release released;
    host_.Join();
  }

  py::list Take() {
    py::list out;
    for (const Task& task : host_.inbox().Take()) {
      const auto key = static_cast<std::uint64_t>(task.key);
      switch (task.kind) {
        case Task::Kind::kBegin:
          out.append(py::make_tuple('b', key, RequestDict(*task.request, task.choice),
                                    static_cast<std::uint64_t>(task.request->id)));
          break;
        case Task::Kind::kCancel:
          out.append(py::make_tuple('c', key));
          break;
        case Task::Kind::kProve:
          out.append(py::make_tuple('p', key));
          break;
        case Task::Kind::kPing:
          break;
      }
    }
    return out;
  }

  // Items: (key, dict), or (key, None): it ended, or (key, None, code, detail): it failed.
  void Give(const py::list& items) {
    std::vector<Output> outputs;
    outputs.reserve(items.size());
    for (const py::handle item : items) {
      const auto tuple = py::reinterpret_borrow<py::tuple>(item);
      const CallKey key{tuple[0].cast<std::uint64_t>()};
      if (!tuple[1].is_none()) {
        outputs.push_back(OutputOf(key, tuple[1], host_));
      } else if (tuple.size() > 2) {
        outputs.push_back(
            {.key = key,
             .error = Error(CodeNamed(tuple[2].cast<std::string>()), tuple[3].cast<std::string>()),
             .ended = true});
      } else {
        outputs.push_back({.key = key, .ended = true});
      }
    }
    host_.Give(std::move(outputs));
  }

  void TellStored(std::vector<std::uint64_t> hashes, std::vector<TokenId> tokens,
                  std::optional<std::uint64_t> parent, std::uint32_t rank,
                  const std::string& adapter, const std::string& salt) {
    const std::uint32_t block_tokens = host_.card().block_tokens;
    if (tokens.size() != hashes.size() * block_tokens) {
      Raise(Error(Code::kInvalidArgument,
                  fmt::format("token_ids: {} tokens are not those of {} blocks of {}",
                              tokens.size(), hashes.size(), block_tokens),
                  "token_ids"));
    }
    wire::EngineKvEvent event;
    event.kind = wire::EngineKvEvent::Kind::kStored;
    event.hashes = std::move(hashes);
    event.tokens = std::move(tokens);
    event.parent = parent;
    event.block_tokens = block_tokens;
    event.adapter = adapter;
    event.salt = salt;
    Tell(event, rank);
  }

  void TellRemoved(std::vector<std::uint64_t> hashes, std::uint32_t rank) {
    wire::EngineKvEvent event;
    event.kind = wire::EngineKvEvent::Kind::kRemoved;
    event.hashes = std::move(hashes);
    Tell(event, rank);
  }

  void TellCleared(std::uint32_t rank) {
    wire::EngineKvEvent event;
    event.kind = wire::EngineKvEvent::Kind::kCleared;
    Tell(event, rank);
  }

  std::vector<TokenId> Encode(const std::string& text, bool special) const {
    Result<std::vector<TokenId>> ids =
        Text().Encode(text, {.add_special = special, .parse_special = special});
    if (!ids) {
      Raise(ids.error());
    }
    return std::move(*ids);
  }

  py::str Decode(const std::vector<TokenId>& ids) const {
    for (const TokenId id : ids) {
      if (id < 0 || static_cast<std::uint32_t>(id) >= host_.card().vocab_size) {
        Raise(Error(Code::kInvalidArgument, fmt::format("token_ids: there is no token {}", id),
                    "token_ids"));
      }
    }
    return frontend::DecodeAll(Text(), ids, false);
  }

  py::dict Card() const {
    const wire::ModelCard& card = host_.card();
    py::dict out;
    out["name"] = card.name;
    out["vocab_size"] = card.vocab_size;
    out["context_length"] = card.context_tokens_max;
    out["kv_cache_block_size"] = card.block_tokens;
    out["eos_token_ids"] = py::cast(card.eos_token_ids);
    out["bos_token_id"] = card.bos_token_id;
    out["instance_id"] = host_.instance();
    return out;
  }

  bool stopped() const { return host_.stopped(); }

 private:
  const frontend::TextProcessor& Text() const {
    if (host_.text() == nullptr) {
      Raise(Error(Code::kNotFound, "the model has no tokenizer"));
    }
    return *host_.text();
  }

  void Tell(const wire::EngineKvEvent& event, std::uint32_t rank) {
    std::vector<wire::KvEvent> events;
    translator_->Translate(event, rank, events);
    host_.TellKvEvents(std::move(events));
  }

  EndpointHost host_;
  std::optional<wire::EngineKvTranslator> translator_;
};

std::unique_ptr<Endpoint> MakeEndpoint(int wake, std::vector<std::string> arguments,
                                       const std::string& model, const std::string& name,
                                       std::int64_t context_tokens, std::int64_t block_tokens,
                                       std::int64_t block_count, std::int64_t batch_sequences,
                                       std::int64_t batch_tokens, std::uint32_t choices_max,
                                       double silence_s, bool proves, double prove_interval_s,
                                       double prove_timeout_s) {
  return std::make_unique<Endpoint>(wake,
                                    EndpointOptions{.arguments = std::move(arguments),
                                                    .model = {.model = model,
                                                              .name = name,
                                                              .context_tokens = context_tokens,
                                                              .block_tokens = block_tokens,
                                                              .block_count = block_count,
                                                              .batch_sequences = batch_sequences,
                                                              .batch_tokens = batch_tokens},
                                                    .choices_max = choices_max,
                                                    .silence_s = silence_s,
                                                    .proves = proves,
                                                    .prove_interval_s = prove_interval_s,
                                                    .prove_timeout_s = prove_timeout_s});
}

}  // namespace

}  // namespace pixii::python

PYBIND11_MODULE(_pixii, module) {
  using pixii::python::Endpoint;
  PyModule_AddStringConstant(module.ptr(), "version", std::string(pixii::apps::kVersion).c_str());
  py::class_<Endpoint>(module, "Endpoint")
      .def(py::init(&pixii::python::MakeEndpoint), py::kw_only(), py::arg("wake"),
           py::arg("arguments"), py::arg("model"), py::arg("name"), py::arg("context_tokens"),
           py::arg("block_tokens"), py::arg("block_count"), py::arg("batch_sequences"),
           py::arg("batch_tokens"), py::arg("choices_max"), py::arg("silence_s"), py::arg("proves"),
           py::arg("prove_interval_s"), py::arg("prove_timeout_s"))
      .def("start", &Endpoint::Start)
      .def("stop", &Endpoint::Stop)
      .def("join", &Endpoint::Join)
      .def("take", &Endpoint::Take)
      .def("give", &Endpoint::Give)
      .def("tell_stored", &Endpoint::TellStored)
      .def("tell_removed", &Endpoint::TellRemoved)
      .def("tell_cleared", &Endpoint::TellCleared)
      .def("encode", &Endpoint::Encode)
      .def("decode", &Endpoint::Decode)
      .def("card", &Endpoint::Card)
      .def_property_readonly("stopped", &Endpoint::stopped);
  pixii::python::BindClient(module);
  pixii::python::BindEngine(module);
}
