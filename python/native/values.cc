#include "values.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

namespace py = pybind11;

namespace pixii::python {

std::string TypeOf(py::handle value) { return Py_TYPE(value.ptr())->tp_name; }

PyObject* Get(PyObject* dict, const char* name) {
  PyObject* value = PyDict_GetItemString(dict, name);  // borrowed
  return value == Py_None ? nullptr : value;
}

std::int64_t IntOf(PyObject* value, const char* field) {
  if (PyBool_Check(value) || !PyIndex_Check(value)) {
    throw Wrong{fmt::format("{} holds a {}, not an integer", field, TypeOf(value))};
  }
  const py::object index = py::reinterpret_steal<py::object>(PyNumber_Index(value));
  int overflow = 0;
  const long long number = index ? PyLong_AsLongLongAndOverflow(index.ptr(), &overflow) : -1;
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    throw Wrong{fmt::format("{} holds an integer that cannot be read", field)};
  }
  return overflow != 0 ? std::numeric_limits<std::int64_t>::max() : number;
}

float FloatOf(PyObject* value, const char* field) {
  const double number = PyFloat_AsDouble(value);
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    throw Wrong{fmt::format("{} holds a {}, not a number", field, TypeOf(value))};
  }
  return static_cast<float>(number);
}

bool BoolOf(PyObject* value, const char* field) {
  if (!PyBool_Check(value)) {
    throw Wrong{fmt::format("{} holds a {}, not True or False", field, TypeOf(value))};
  }
  return value == Py_True;
}

std::string TextOf(PyObject* value, const char* field) {
  Py_ssize_t size = 0;
  const char* text = PyUnicode_Check(value) ? PyUnicode_AsUTF8AndSize(value, &size) : nullptr;
  if (text == nullptr) {
    PyErr_Clear();
    throw Wrong{fmt::format("{} is a {}, not a text in UTF-8", field, TypeOf(value))};
  }
  return std::string(text, static_cast<std::size_t>(size));
}

py::object Items(PyObject* value, const char* field) {
  if (PyUnicode_Check(value) || PyBytes_Check(value) || PyDict_Check(value)) {
    throw Wrong{fmt::format("{} is a {}, not a list", field, TypeOf(value))};
  }
  py::object items = py::reinterpret_steal<py::object>(PySequence_Fast(value, "no sequence"));
  if (!items) {
    PyErr_Clear();
    throw Wrong{fmt::format("{} is a {}, not a list", field, TypeOf(value))};
  }
  if (static_cast<std::size_t>(PySequence_Fast_GET_SIZE(items.ptr())) > kItemsMax) {
    throw Wrong{fmt::format("{} has {} items, more than {}", field,
                            PySequence_Fast_GET_SIZE(items.ptr()), kItemsMax)};
  }
  return items;
}

TokenId TokenOf(PyObject* value, const char* field) {
  const std::int64_t token = IntOf(value, field);
  // What no vocabulary has is told apart later, by name.
  return token < 0 ? -1
                   : static_cast<TokenId>(
                         std::min<std::int64_t>(token, std::numeric_limits<TokenId>::max()));
}

std::vector<TokenId> TokensOf(PyObject* value, const char* field) {
  const py::object items = Items(value, field);
  const Py_ssize_t count = PySequence_Fast_GET_SIZE(items.ptr());
  std::vector<TokenId> out;
  out.reserve(static_cast<std::size_t>(count));
  for (Py_ssize_t i = 0; i < count; ++i) {
    out.push_back(TokenOf(PySequence_Fast_GET_ITEM(items.ptr(), i), field));
  }
  return out;
}

py::list Ints(const std::vector<TokenId>& ids) {
  py::list out(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    out[i] = py::int_(ids[i]);
  }
  return out;
}

}  // namespace pixii::python
