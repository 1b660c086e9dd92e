#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bind_streams.h"
#include "callable_processor.h"
#include "convert.h"
#include "engine_host.h"
#include "requests.h"

namespace py = pybind11;

namespace pixii::python {

namespace {

class Engine final {
 public:
  Engine(std::string model, std::vector<std::string> arguments)
      : callables_(std::make_shared<CallableTable>()),
        host_(std::make_unique<EngineHost>(
            std::move(model), std::move(arguments),
            [callables = callables_] { return MakeCallableProcessor(callables); })) {}

  ~Engine() { Close(); }

  void Start() { StartHost(*host_); }

  void Close() {
    callables_->Clear();
    const py::gil_scoped_release released;
    host_.reset();
  }

  // The key, the size of the prompt and the numbers of the processors.
  py::tuple Generate(const py::dict& request, const py::list& processors, int wake) {
    const frontend::SamplingDefaults& usual = Host().served().defaults;
    const wire::ModelCard& card = Host().card();
    RequestDefaults defaults{.eos_token_ids = card.eos_token_ids,
                             .context_tokens = card.context_tokens_max,
                             .vocab_size = card.vocab_size,
                             .seed = Host().random() >> 1U};
    defaults.sampling.temperature = static_cast<float>(usual.temperature);
    defaults.sampling.top_p = static_cast<float>(usual.top_p);
    defaults.sampling.top_k = static_cast<std::int32_t>(usual.top_k);
    defaults.sampling.min_p = static_cast<float>(usual.min_p);
    defaults.sampling.repetition_penalty = static_cast<float>(usual.repetition_penalty);
    wire::GenerateRequest read = RequestOf(request, defaults);
    const std::size_t prompt = read.prompt.size();
    py::list numbers;
    for (const py::handle processor : processors) {
      const std::uint64_t number = callables_->Add(py::reinterpret_borrow<py::object>(processor));
      numbers.append(number);
      read.processors.push_back(
          {.name = kCallableProcessor, .arguments = CallableArguments(number)});
    }
    const auto key = static_cast<std::uint64_t>(Host().Generate(std::move(read), WakeBy(wake)));
    return py::make_tuple(key, prompt, numbers);
  }

  py::list Take(std::uint64_t key, double seconds, std::size_t prompt_tokens) {
    return TakeAnswers(Host().streams(), key, seconds, prompt_tokens);
  }

  void Drop(std::uint64_t key, const std::vector<std::uint64_t>& processors) {
    for (const std::uint64_t number : processors) {
      callables_->Remove(number);
    }
    if (host_) {
      host_->Cancel(StreamKey{key});
    }
  }

  std::vector<TokenId> Encode(const std::string& text, bool special) {
    return Checked(Text().Encode(text, {.add_special = special, .parse_special = special}));
  }

  std::vector<TokenId> EncodeChat(const std::string& messages_json,
                                  const std::string& kwargs_json) {
    frontend::ChatPrompt prompt;
    prompt.messages = Checked(wire::ParseJson(messages_json));
    prompt.template_kwargs = Checked(wire::ParseJson(kwargs_json));
    return Checked(Text().EncodeChat(prompt));
  }

  py::str Decode(const std::vector<TokenId>& ids) {
    for (const TokenId id : ids) {
      if (id < 0 || static_cast<std::uint32_t>(id) >= Host().card().vocab_size) {
        Raise(Error(Code::kInvalidArgument, fmt::format("token_ids: there is no token {}", id),
                    "token_ids"));
      }
    }
    return frontend::DecodeAll(Text(), ids, false);
  }

  py::dict Card() {
    const wire::ModelCard& card = Host().card();
    py::dict out;
    out["name"] = card.name;
    out["vocab_size"] = card.vocab_size;
    out["context_length"] = card.context_tokens_max;
    out["kv_cache_block_size"] = card.block_tokens;
    out["total_kv_blocks"] = card.block_count;
    out["eos_token_ids"] = py::cast(card.eos_token_ids);
    out["bos_token_id"] = card.bos_token_id;
    return out;
  }

 private:
  template <class T>
  static T Checked(Result<T> result) {
    if (!result) {
      Raise(result.error());
    }
    return std::move(*result);
  }

  EngineHost& Host() {
    if (!host_) {
      Raise(Error(Code::kShuttingDown, "the engine is closed"));
    }
    return *host_;
  }

  const frontend::TextProcessor& Text() {
    if (!Host().served().text) {
      Raise(Error(Code::kNotFound, "the model has no tokenizer"));
    }
    return *Host().served().text;
  }

  std::shared_ptr<CallableTable> callables_;
  std::unique_ptr<EngineHost> host_;  // null: closed
};

}  // namespace

void BindEngine(py::module_& module) {
  BindTokens(module);
  py::class_<Engine>(module, "Engine")
      .def(py::init<std::string, std::vector<std::string>>(), py::kw_only(), py::arg("model"),
           py::arg("arguments"))
      .def("start", &Engine::Start)
      .def("close", &Engine::Close)
      .def("generate", &Engine::Generate, py::arg("request"), py::arg("processors"),
           py::arg("wake"))
      .def("take", &Engine::Take, py::arg("key"), py::arg("seconds"), py::arg("prompt_tokens"))
      .def("drop", &Engine::Drop, py::arg("key"), py::arg("processors"))
      .def("encode", &Engine::Encode, py::arg("text"), py::arg("special"))
      .def("encode_chat", &Engine::EncodeChat, py::arg("messages_json"), py::arg("kwargs_json"))
      .def("decode", &Engine::Decode, py::arg("token_ids"))
      .def("card", &Engine::Card);
}

}  // namespace pixii::python
