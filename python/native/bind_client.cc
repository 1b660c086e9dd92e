#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bind_streams.h"
#include "client_host.h"
#include "convert.h"
#include "requests.h"

namespace py = pybind11;

namespace pixii::python {

namespace {

class Client final {
 public:
  Client(std::vector<std::string> arguments, std::string ns, std::string component,
         std::string endpoint)
      : host_(std::make_unique<ClientHost>(ClientOptions{.arguments = std::move(arguments),
                                                         .ns = std::move(ns),
                                                         .component = std::move(component),
                                                         .endpoint = std::move(endpoint)})) {}

  ~Client() { Close(); }

  void Start() { StartHost(*host_); }

  void Close() {
    const py::gil_scoped_release released;
    host_.reset();
  }

  std::vector<std::uint64_t> Instances() { return Host().instances(); }

  py::tuple Generate(const py::dict& request, const std::string& pick, std::uint64_t instance,
                     int wake) {
    const std::optional<wire::ModelCard> card = Host().card();
    if (!card) {
      Raise(Error(Code::kUnavailable, "the endpoint has no instance that takes requests"));
    }
    wire::GenerateRequest read = RequestOf(request, {.eos_token_ids = card->eos_token_ids,
                                                     .context_tokens = card->context_tokens_max,
                                                     .vocab_size = card->vocab_size,
                                                     .seed = Host().random() >> 1U});
    if (read.model.empty()) {
      read.model = card->name;
    }
    const std::size_t prompt = read.prompt.size();
    const Pick chosen = pick == "random"   ? Pick::kRandom
                        : pick == "direct" ? Pick::kDirect
                                           : Pick::kRoundRobin;
    const auto key = static_cast<std::uint64_t>(
        Host().Generate(std::move(read), chosen, instance, WakeBy(wake)));
    return py::make_tuple(key, prompt);
  }

  py::list Take(std::uint64_t key, double seconds, std::size_t prompt_tokens) {
    return TakeAnswers(Host().streams(), key, seconds, prompt_tokens);
  }

  void Cancel(std::uint64_t key) {
    if (host_) {
      host_->Cancel(StreamKey{key});
    }
  }

 private:
  ClientHost& Host() {
    if (!host_) {
      Raise(Error(Code::kShuttingDown, "the client is closed"));
    }
    return *host_;
  }

  std::unique_ptr<ClientHost> host_;  // null: closed
};

}  // namespace

void BindClient(py::module_& module) {
  py::class_<Client>(module, "Client")
      .def(py::init<std::vector<std::string>, std::string, std::string, std::string>(),
           py::kw_only(), py::arg("arguments"), py::arg("namespace"), py::arg("component"),
           py::arg("endpoint"))
      .def("start", &Client::Start)
      .def("close", &Client::Close)
      .def("instances", &Client::Instances)
      .def("generate", &Client::Generate, py::arg("request"), py::arg("pick"), py::arg("instance"),
           py::arg("wake"))
      .def("take", &Client::Take, py::arg("key"), py::arg("seconds"), py::arg("prompt_tokens"))
      .def("cancel", &Client::Cancel, py::arg("key"));
}

}  // namespace pixii::python
