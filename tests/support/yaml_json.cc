#include "support/yaml_json.h"

#include <yaml-cpp/yaml.h>

#include <charconv>

namespace pixii::test {

namespace {

using wire::Json;

Json JsonOf(const YAML::Node& node) {
  if (node.IsMap()) {
    Json out = Json::Object{};
    for (const auto& member : node) {
      out.Set(member.first.Scalar(), JsonOf(member.second));
    }
    return out;
  }
  if (node.IsSequence()) {
    Json::Array out;
    for (const auto& item : node) {
      out.push_back(JsonOf(item));
    }
    return out;
  }
  if (!node.IsScalar()) {
    return {};
  }
  const std::string& text = node.Scalar();
  if (node.Tag() == "!") {  // in quotes
    return text;
  }
  if (text == "true" || text == "false") {
    return text == "true";
  }
  std::int64_t number = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && stop == text.data() + text.size() ? Json(number) : Json(text);
}

}  // namespace

std::vector<Json> ReadYamlFile(const std::string& path) {
  std::vector<Json> out;
  for (const YAML::Node& document : YAML::LoadAllFromFile(path)) {
    out.push_back(JsonOf(document));
  }
  return out;
}

std::vector<Json> ReadManifest(const std::string& name) {
  return ReadYamlFile(std::string(PIXII_SOURCE_DIR) + "/deploy/kubernetes/" + name);
}

}  // namespace pixii::test
