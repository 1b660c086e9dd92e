#include "control/dynamo_import.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "config/parse.h"

namespace pixii::control {
namespace {

using config::Imported;
using config::ImportedKey;
using config::Option;

// Options of two commands, as many as the cases need.
struct Fields {
  std::string text;
  std::string role = "agg";
  std::string mode = "kv";
  std::int64_t number = 0;
  double real = 0;
  bool flag = false;

  std::vector<Option> Of(const std::string& command) {
    std::vector<Option> out;
    const auto add = [&](const char* name, config::Field field, const char* alias = nullptr,
                         const char* variable = nullptr) {
      Option& option = out.emplace_back();
      option.name = name;
      option.field = std::move(field);
      if (alias != nullptr) {
        option.flag_aliases.emplace_back(alias);
      }
      if (variable != nullptr) {
        option.environment_aliases.emplace_back(variable);
      }
    };
    if (command == "worker") {
      add("role", config::WordField{&role, {{"agg", "prefill", "decode", "encode"}}});
      add("served-model-name", config::TextField{&text, {}});
      add("extra-engine-args", config::TextField{&text, {}});
      add("component", config::TextField{&text, {}});
      add("endpoint", config::TextField{&text, {}});
      add("mock", config::BoolField{&flag});
      add("publish-kv-events", config::BoolField{&flag});
      add("block-size", config::IntegerField{&number, {8, 512}});
      add("max-batch", config::IntegerField{&number, {1, 4096}}, "max-batch-size");
      add("tensor-parallel-size", config::IntegerField{&number, {1, 64}});
      add("system-port", config::IntegerField{&number, {-1, 65535}}, nullptr, "DYN_SYSTEM_PORT");
    } else if (command == "frontend") {
      add("port", config::IntegerField{&number, {0, 65535}}, "http-port", "DYN_HTTP_PORT");
      add("router-mode", config::WordField{&mode, {{"kv", "random"}}}, nullptr, "DYN_ROUTER_MODE");
      add("router-kv-events", config::BoolField{&flag});
      add("router-kv-overlap-score-credit", config::RealField{&real, {0, 10}});
      add("tool-call-parser", config::TextField{&text, {}});
      add("router-url", config::TextField{&text, {}});
    }
    return out;
  }
};

class DynamoImportTest : public ::testing::Test {
 protected:
  GraphImportRules Rules() {
    return {.options = [this](const std::string& command) { return fields_.Of(command); },
            .engine_file = [](const std::string& path) -> Result<std::string> {
              if (path.ends_with("prefill.yaml")) {
                return std::string("max_batch_size: 4\nkv_cache_config:\n  use_uvm: true\n");
              }
              return Fail(Code::kNotFound, path + " is not here");
            },
            .engine_path = [](const std::string& name) { return "/out." + name + ".yaml"; }};
  }

  void Index(const Result<ImportedGraph>& imported) {
    ASSERT_TRUE(imported) << imported.error().detail();
    for (const ImportedKey& key : imported->keys) {
      keys_[key.key] = key;
    }
  }

  const GraphComponent& Component(const ImportedGraph& imported, const std::string& name) {
    for (const GraphComponent& one : imported.graph.components) {
      if (one.name == name) {
        return one;
      }
    }
    static const GraphComponent kNone;
    ADD_FAILURE() << "no component " << name << " in\n" << imported.text;
    return kNone;
  }

  // What pixii up reads again.
  void ExpectReadable(const ImportedGraph& imported) {
    const Result<Graph> read =
        ReadGraph(imported.text, "g.yaml",
                  {.commands = {"worker", "frontend", "router"},
                   .model_commands = {"worker"},
                   .check_flag = [this](const std::string& command, const std::string& flag,
                                        const std::string& value) -> Result<void> {
                     for (const Option& option : fields_.Of(command)) {
                       if (option.name == flag) {
                         return config::Assign(option, value);
                       }
                     }
                     return Fail(Code::kInvalidArgument, "no such flag");
                   },
                   .takes_many = [](const std::string&, const std::string&) { return false; }});
    ASSERT_TRUE(read) << read.error().detail() << "\n" << imported.text;
    EXPECT_EQ(GraphText(*read), imported.text);
  }

  Fields fields_;
  std::map<std::string, ImportedKey> keys_;
};

constexpr const char* kScript = R"(#!/bin/bash
export MODEL=${MODEL:-"org/model"}
export DYN_ROUTER_MODE=kv
python3 -m dynamo.frontend --http-port 8123 --kv-overlap-score-weight 0.5 --no-kv-events &
CUDA_VISIBLE_DEVICES=0 DYN_SYSTEM_PORT=8081 python3 -m dynamo.trtllm \
  --model-path "$MODEL" \
  --extra-engine-args "engine_configs/prefill.yaml" \
  --disaggregation-mode prefill \
  --publish-events-and-metrics \
  --dyn-tool-call-parser hermes \
  --modality multimodal &
DYN_NO_SUCH=1 python3 -m dynamo.trtllm --model-path=$MODEL --disaggregation-mode decode --max_batch_size 7 --tensor-parallel-size 2 \
  --gpus-per-node 1 --extra-engine-args gone.yaml --custom-jinja-template x --no-such 3 --max-batch-size 0
if true; then python3 -m dynamo.trtllm; fi
wait
)";

TEST_F(DynamoImportTest, AScriptBecomesAGraphAndEachFlagIsSaid) {
  ASSERT_TRUE(IsDynamoScript(kScript));
  const Result<ImportedGraph> imported = ImportDynamoScript(kScript, "s.sh", {}, Rules());
  ASSERT_NO_FATAL_FAILURE(Index(imported));
  const GraphComponent& frontend = Component(*imported, "frontend");
  EXPECT_EQ(*frontend.Flag("port"), "8123");
  EXPECT_EQ(*frontend.Flag("router-kv-overlap-score-credit"), "0.5");
  EXPECT_EQ(*frontend.Flag("router-kv-events"), "false");
  EXPECT_EQ(*frontend.Flag("router-mode"), "kv");
  EXPECT_EQ(*frontend.Flag("tool-call-parser"), "hermes") << "a worker said it";
  const GraphComponent& prefill = Component(*imported, "prefill");
  EXPECT_EQ(prefill.model, "org/model");
  EXPECT_EQ(*prefill.Flag("role"), "prefill");
  EXPECT_EQ(*prefill.Flag("system-port"), "8081");
  EXPECT_EQ(*prefill.Flag("extra-engine-args"), "/out.prefill.yaml");
  EXPECT_EQ(*prefill.Flag("publish-kv-events"), "true");
  EXPECT_EQ(prefill.environment, (GraphValues{{"CUDA_VISIBLE_DEVICES", "0"}}));
  const GraphComponent& decode = Component(*imported, "decode");
  EXPECT_EQ(*decode.Flag("max-batch"), "7");
  EXPECT_EQ(*decode.Flag("tensor-parallel-size"), "2");
  EXPECT_EQ(decode.Flag("extra-engine-args"), nullptr);
  EXPECT_EQ(keys_["prefill --model-path"].outcome, Imported::kRenamed);
  EXPECT_EQ(keys_["prefill --modality"].outcome, Imported::kNoEffect);
  EXPECT_EQ(keys_["decode --gpus-per-node"].outcome, Imported::kNoEffect) << "an engine key";
  EXPECT_EQ(keys_["decode --tensor-parallel-size"].outcome, Imported::kTaken);
  for (const char* key :
       {"decode --extra-engine-args", "decode --custom-jinja-template", "decode --no-such",
        "decode --max-batch-size", "decode DYN_NO_SUCH", "a command", "kv_cache_config.use_uvm"}) {
    ASSERT_TRUE(keys_.contains(key)) << key;
    EXPECT_EQ(keys_[key].outcome, Imported::kRefused) << key;
  }
  EXPECT_TRUE(keys_["decode --no-such"].said.starts_with("s.sh:13: decode --no-such: "))
      << keys_["decode --no-such"].said;
  EXPECT_TRUE(keys_["a command"].said.starts_with("s.sh:14: ")) << keys_["a command"].said;
  ASSERT_EQ(imported->engines.size(), 1U);
  EXPECT_EQ(imported->engines[0].component, "prefill");
  EXPECT_EQ(imported->engines[0].text, "max_batch_size: 4\n");
  ExpectReadable(*imported);
}

TEST_F(DynamoImportTest, WhatOthersSetIsNamedAndMayBeGiven) {
  const std::string script =
      "source lib.sh\npython3 -m \"$MODULE\" --model-path m --served-model-name $NAME\n";
  Index(ImportDynamoScript(script, "s.sh", {}, Rules()));
  EXPECT_NE(keys_["a command"].said.find("--set MODULE=VALUE"), std::string::npos);
  const Result<ImportedGraph> given =
      ImportDynamoScript(script, "s.sh", {{"MODULE", "dynamo.trtllm"}, {"NAME", "n"}}, Rules());
  ASSERT_TRUE(given);
  EXPECT_EQ(*Component(*given, "worker").Flag("served-model-name"), "n");
}

constexpr const char* kAlpha = R"(apiVersion: v1
kind: ConfigMap
metadata: {name: c}
data:
  agg.yaml: |
    max_batch_size: 16
---
apiVersion: nvidia.com/v1alpha1
kind: DynamoGraphDeployment
metadata:
  name: trtllm-agg
spec:
  envs:
    - {name: DYN_SYSTEM_PORT, value: "9090"}
  services:
    Frontend:
      componentType: frontend
      replicas: 2
      extraPodSpec:
        mainContainer: {image: i}
    Worker:
      envFromSecret: hf-token-secret
      componentType: worker
      replicas: 3
      resources: {limits: {nvidia.com/gpu: "1"}}
      extraPodSpec:
        mainContainer:
          workingDir: /workspace
          env:
            - {name: TOKEN, valueFrom: {secretKeyRef: {name: a, key: b}}}
          command: [/bin/sh, -c]
          args:
            - "python3 -m dynamo.trtllm --model-path m --extra-engine-args ./x/agg.yaml"
    Planner:
      componentType: planner
      extraPodSpec: {mainContainer: {command: [python3], args: [-m, dynamo.planner]}}
)";

TEST_F(DynamoImportTest, ADeploymentOfTheOldKindWithItsConfigMap) {
  ASSERT_TRUE(IsDynamoDeployment(kAlpha));
  const Result<ImportedGraph> imported = ImportDynamoDeployment(kAlpha, "d.yaml", Rules());
  ASSERT_NO_FATAL_FAILURE(Index(imported));
  EXPECT_EQ(imported->graph.ns, "trtllm-agg");
  EXPECT_EQ(imported->graph.components.size(), 2U);
  EXPECT_EQ(Component(*imported, "Frontend").replicas, 1) << "one port";
  const GraphComponent& worker = Component(*imported, "Worker");
  EXPECT_EQ(worker.replicas, 3);
  EXPECT_EQ(worker.model, "m");
  EXPECT_EQ(*worker.Flag("system-port"), "0");
  ASSERT_EQ(imported->engines.size(), 1U);
  EXPECT_EQ(imported->engines[0].text, "max_batch_size: 16\n");
  EXPECT_EQ(keys_["max_batch_size"].file, "d.yaml(agg.yaml)");
  EXPECT_EQ(keys_["spec.services.Worker.resources"].outcome, Imported::kNoEffect);
  EXPECT_EQ(keys_["spec.services.Worker.envFromSecret"].outcome, Imported::kRefused);
  EXPECT_EQ(keys_["dynamo.planner"].outcome, Imported::kRefused);
  EXPECT_TRUE(keys_["spec.services.Worker.extraPodSpec.mainContainer.env.TOKEN"].said.starts_with(
      "d.yaml:30: "));
  ExpectReadable(*imported);
}

constexpr const char* kBeta = R"(apiVersion: nvidia.com/v1beta1
kind: DynamoGraphDeployment
metadata: {name: g}
spec:
  backendFramework: trtllm
  components:
  - name: Frontend
    type: frontend
    podTemplate:
      spec:
        containers:
        - name: main
          env: [{name: DYN_ROUTER_MODE, value: kv}]
        - name: sidecar
  - name: prefill
    type: prefill
    replicas: 2
    multinode: {nodeCount: 2}
    podTemplate:
      spec:
        containers:
        - name: main
          command: [python3, -m, dynamo.trtllm]
          args: [--model-path, m, --disaggregation-mode, prefill, --endpoint, dyn://g.pre.gen]
)";

TEST_F(DynamoImportTest, ADeploymentOfTheNewKind) {
  const Result<ImportedGraph> imported = ImportDynamoDeployment(kBeta, "d.yaml", Rules());
  ASSERT_NO_FATAL_FAILURE(Index(imported));
  EXPECT_EQ(*Component(*imported, "Frontend").Flag("router-mode"), "kv");
  const GraphComponent& prefill = Component(*imported, "prefill");
  EXPECT_EQ(prefill.replicas, 2);
  EXPECT_EQ(*prefill.Flag("component"), "pre");
  EXPECT_EQ(*prefill.Flag("endpoint"), "gen");
  EXPECT_EQ(imported->graph.ns, "g");
  EXPECT_EQ(keys_["spec.components.Frontend.podTemplate.spec.containers.sidecar"].outcome,
            Imported::kRefused);
  EXPECT_EQ(keys_["spec.components.prefill.multinode"].outcome, Imported::kRefused);
  ExpectReadable(*imported);
}

TEST_F(DynamoImportTest, AMockerAndARouter) {
  const Result<ImportedGraph> imported = ImportDynamoScript(
      "python -m dynamo.router --endpoint dyn://a.b.c\n"
      "python -m dynamo.mocker --model-path m --num-workers 4\npython -m dynamo.frontend\n"
      "python -m dynamo.vllm --model m\n",
      "s.sh", {}, Rules());
  ASSERT_NO_FATAL_FAILURE(Index(imported));
  EXPECT_EQ(Component(*imported, "worker").replicas, 4);
  EXPECT_EQ(*Component(*imported, "worker").Flag("mock"), "true");
  EXPECT_EQ(*Component(*imported, "frontend").Flag("router-url"), "discovery");
  EXPECT_EQ(Component(*imported, "frontend").needs, std::vector<std::string>{"router"});
  EXPECT_EQ(keys_["dynamo.vllm"].outcome, Imported::kRefused);
}

TEST_F(DynamoImportTest, OtherKindsAndVersionsAreErrors) {
  EXPECT_FALSE(IsDynamoDeployment("kind: Deployment\n"));
  EXPECT_FALSE(IsDynamoDeployment("max_batch_size: 3\n"));
  EXPECT_FALSE(
      ImportDynamoDeployment("apiVersion: v2\nkind: DynamoGraphDeployment\n", "d", Rules()));
}

}  // namespace
}  // namespace pixii::control
