#include "callable_processor.h"

#include <fmt/format.h>

#include <span>
#include <string>
#include <utility>

namespace py = pybind11;

namespace pixii::python {

namespace {

// The prompt and the output so far as one sequence, without a copy.
class Tokens final {
 public:
  Tokens(std::span<const TokenId> prompt, std::span<const TokenId> generated)
      : prompt_(prompt), generated_(generated) {}

  void End() { ended_ = true; }

  std::size_t size() const {
    Check();
    return prompt_.size() + generated_.size();
  }

  TokenId At(std::int64_t place) const {
    const auto count = static_cast<std::int64_t>(size());
    const std::int64_t index = place < 0 ? place + count : place;
    if (index < 0 || index >= count) {
      throw py::index_error("there is no such token");
    }
    const auto at = static_cast<std::size_t>(index);
    return at < prompt_.size() ? prompt_[at] : generated_[at - prompt_.size()];
  }

  py::list List() const {
    py::list out(size());
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] = py::int_(At(static_cast<std::int64_t>(i)));
    }
    return out;
  }

  std::size_t prompt_size() const {
    Check();
    return prompt_.size();
  }

 private:
  void Check() const {
    if (ended_) {
      throw py::value_error("tokens are there for the time of the processor's call alone");
    }
  }

  std::span<const TokenId> prompt_;
  std::span<const TokenId> generated_;
  bool ended_ = false;
};

class CallableCall final : public engine::ProcessorCall {
 public:
  explicit CallableCall(std::uint64_t number) : number_(number) {}

  std::uint64_t number() const { return number_; }

 private:
  std::uint64_t number_;
};

class CallableProcessor final : public engine::LogitsProcessor {
 public:
  explicit CallableProcessor(std::shared_ptr<CallableTable> callables)
      : callables_(std::move(callables)) {}

  std::string_view name() const override { return kCallableProcessor; }

  Result<std::unique_ptr<engine::ProcessorCall>> Open(
      const wire::Json& arguments, const engine::ProcessorContext& /*context*/) const override {
    const wire::Json* number = arguments.Find("call");
    const std::optional<std::int64_t> value = number != nullptr ? number->AsInt() : std::nullopt;
    if (value.value_or(0) <= 0) {
      return Fail(Code::kInvalidArgument, "call is no callable of this process", "call");
    }
    return std::make_unique<CallableCall>(static_cast<std::uint64_t>(*value));
  }

  void Process(std::span<engine::ProcessorRow> rows) override {
    const py::gil_scoped_acquire locked;
    for (engine::ProcessorRow& row : rows) {
      ProcessRow(row);
    }
  }

 private:
  static std::string NameOf(const py::object& callable) {
    const py::handle named = py::hasattr(callable, "__qualname__")
                                 ? py::handle(callable)
                                 : py::handle(reinterpret_cast<PyObject*>(Py_TYPE(callable.ptr())));
    return py::str(named.attr("__qualname__"));
  }

  void ProcessRow(engine::ProcessorRow& row) const {
    const std::uint64_t number = static_cast<const CallableCall*>(row.call)->number();
    const py::object callable = callables_->Find(number);
    if (!callable) {
      return;  // nobody wants more of its request
    }
    if (std::optional<std::string> what = Call(callable, row)) {
      row.error =
          Error(Code::kProcessorFault, fmt::format("the processor {} {}", NameOf(callable), *what));
    }
  }

  // What it did wrong.
  static std::optional<std::string> Call(const py::object& callable, engine::ProcessorRow& row) {
    const py::object tokens = py::cast(Tokens(row.prompt, row.generated));
    const py::object logits = py::memoryview::from_buffer(
        row.logits.data(), {static_cast<py::ssize_t>(row.logits.size())},
        {static_cast<py::ssize_t>(sizeof(float))});
    std::optional<std::string> what;
    try {
      callable(tokens, logits);
    } catch (py::error_already_set& error) {
      what = std::string("raised ") + error.what();
      what->resize(std::min(what->find('\n'), what->size()));
    }  // the frames that it was raised in may hold views of the row until here
    tokens.cast<Tokens&>().End();
    if (!Release(logits) && !what) {
      what = "keeps a view of the logits past its call; they change under it: copy what is to stay";
    }
    return what;
  }

  // False: something still looks at it. Whatever was made of a view, an array of NumPy's or another
  // view, holds the buffer behind it.
  static bool Release(const py::object& view) {
    const auto* const own = reinterpret_cast<const PyMemoryViewObject*>(view.ptr());
    const py::object buffer =
        py::reinterpret_borrow<py::object>(reinterpret_cast<PyObject*>(own->mbuf));
    try {
      view.attr("release")();
    } catch (py::error_already_set& error) {
      if (!error.matches(PyExc_BufferError)) {
        throw;
      }
      return false;
    }
    return reinterpret_cast<const _PyManagedBufferObject*>(buffer.ptr())->exports == 0;
  }

  std::shared_ptr<CallableTable> callables_;
};

}  // namespace

std::uint64_t CallableTable::Add(py::object callable) {
  callables_[++last_] = std::move(callable);
  return last_;
}

py::object CallableTable::Find(std::uint64_t number) const {
  const auto found = callables_.find(number);
  return found == callables_.end() ? py::object() : found->second;
}

std::string CallableArguments(std::uint64_t number) {
  return fmt::format("{{\"call\": {}}}", number);
}

std::unique_ptr<engine::LogitsProcessor> MakeCallableProcessor(
    std::shared_ptr<CallableTable> callables) {
  return std::make_unique<CallableProcessor>(std::move(callables));
}

void BindTokens(py::module_& module) {
  py::class_<Tokens>(module, "Tokens")
      .def("__len__", &Tokens::size)
      .def("__getitem__", &Tokens::At, py::arg("place"))
      .def(
          "__getitem__",
          [](const Tokens& tokens, const py::slice& slice) {
            return py::object(tokens.List()[slice]);
          },
          py::arg("slice"))
      .def("__iter__", [](const Tokens& tokens) { return tokens.List().attr("__iter__")(); })
      .def_property_readonly("prompt_size", &Tokens::prompt_size);
}

}  // namespace pixii::python
