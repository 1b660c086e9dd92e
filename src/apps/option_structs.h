// The option structs of the commands and their rows, both made from the .def tables.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config/option.h"

#define PX_BOOL(field, name, value, help) bool field = value;
#define PX_INT(field, name, value, min, max, unit, help) std::int64_t field = value;
#define PX_SIZE(field, name, value, min, max, help) std::int64_t field = value;
#define PX_DURATION(field, name, value, min, max, help) std::int64_t field = value;
#define PX_REAL(field, name, value, min, max, unit, help) double field = value;
#define PX_TEXT(field, name, value, help) std::string field = value;
#define PX_WORD(field, name, value, words, help) std::string field = value;
#define PX_LIST(field, name, help) std::vector<std::string> field;

namespace pixii::apps {

struct EngineFlags {
#include "apps/engine_options.def"
};

struct ProcessFlags {
#include "apps/process_options.def"
};

struct AccessFlags {
#include "apps/access_options.def"
};

struct HttpFlags : AccessFlags {
#include "apps/http_options.def"
};

struct ModelFlags {
#include "apps/model_options.def"
};

struct MockFlags {
#include "apps/mock_options.def"
};

struct ClusterFlags {
#include "apps/cluster_options.def"
};

struct AttachFlags {
#include "apps/attach_options.def"
};

struct WorkerTlsFlags {
#include "apps/worker_tls_options.def"
};

struct KvZmqFlags {
#include "apps/kv_zmq_options.def"
};

struct WorkerFlags : ProcessFlags,
                     AccessFlags,
                     ModelFlags,
                     MockFlags,
                     KvZmqFlags,
                     ClusterFlags,
                     WorkerTlsFlags,
                     AttachFlags {
#include "apps/worker_options.def"
};

struct RouterFlags {
#include "apps/router_options.def"
};

struct FleetTlsFlags {
#include "apps/fleet_tls_options.def"
};

struct ReplicaFlags {
#include "apps/replica_options.def"
};

struct RemoteRouterFlags {
#include "apps/remote_router_options.def"
};

struct RouterProcessFlags : ProcessFlags,
                            AccessFlags,
                            ClusterFlags,
                            RouterFlags,
                            ReplicaFlags,
                            FleetTlsFlags,
                            WorkerTlsFlags {
#include "apps/router_process_options.def"
};

/// By default a router's process routes by what workers say that they have cached.
inline RouterProcessFlags RouterDefaults() {
  RouterProcessFlags out;
  out.mode = "kv";
  out.kv_events = true;
  return out;
}

struct FleetFlags {
#include "apps/fleet_options.def"
};

struct MediaFlags {
#include "apps/media_options.def"
};

struct ServeFlags : ProcessFlags,
                    HttpFlags,
                    ModelFlags,
                    MockFlags,
                    KvZmqFlags,
                    RouterFlags,
                    FleetFlags,
                    MediaFlags {
#include "apps/serve_options.def"
};

struct UpFlags : ProcessFlags {
#include "apps/up_options.def"
};

struct PlannerFlags : ProcessFlags, ClusterFlags {
#include "apps/planner_options.def"
};

struct ScaleFlags : ClusterFlags {
#include "apps/scale_options.def"
};

struct ProfileFlags : ModelFlags, MockFlags {
#include "apps/profile_options.def"
};

struct OperatorFlags : ProcessFlags {
#include "apps/operator_options.def"
};

struct FrontendFlags : ProcessFlags,
                       HttpFlags,
                       ClusterFlags,
                       RouterFlags,
                       FleetFlags,
                       FleetTlsFlags,
                       RemoteRouterFlags,
                       ReplicaFlags {
#include "apps/frontend_options.def"
};

struct PickerFlags {
#include "apps/epp_options.def"
};

struct EppFlags : FrontendFlags, PickerFlags {};

/// By default a picker routes as a router does, and says "full" as gateways know it.
inline EppFlags EppDefaults() {
  EppFlags out;
  out.port = 9090;
  out.mode = "kv";
  out.kv_events = true;
  out.overload_status = 429;
  return out;
}

struct ChatFlags {
#include "apps/chat_options.def"
};

struct ReplayFlags {
#include "apps/replay_options.def"
};

struct ConformanceFlags {
#include "apps/conformance_options.def"
};

struct BenchServeFlags {
#include "apps/bench_serve_options.def"
};

struct BenchEngineFlags {
#include "apps/bench_engine_options.def"
};

struct BenchFrontendFlags {
#include "apps/bench_frontend_options.def"
};

struct BenchKvFlags {
#include "apps/bench_kv_options.def"
};

struct BenchDiffusionFlags {
#include "apps/bench_diffusion_options.def"
};

struct BenchVideosFlags {
#include "apps/bench_videos_options.def"
};

struct BenchMediaFlags {
#include "apps/bench_media_options.def"
};

struct BenchTokenizerFlags {
#include "apps/bench_tokenizer_options.def"
};

struct BenchRouterFlags {
#include "apps/bench_router_options.def"
};

struct BenchClusterFlags {
#include "apps/bench_cluster_options.def"
};

struct BenchTransferFlags {
#include "apps/bench_transfer_options.def"
};

struct VideoFlags {
#include "apps/video_options.def"
};

struct RenderFlags {
#include "apps/render_options.def"
};

struct SimulateFlags {
#include "apps/simulate_options.def"
};

struct TraceFlags : RouterFlags {
#include "apps/trace_options.def"
};

/// Rows whose targets are the fields of the struct, which outlives them.
std::vector<config::Option> RowsOf(EngineFlags& flags);
std::vector<config::Option> RowsOf(ServeFlags& flags);
std::vector<config::Option> RowsOf(WorkerFlags& flags);
std::vector<config::Option> RowsOf(UpFlags& flags);
std::vector<config::Option> RowsOf(OperatorFlags& flags);
std::vector<config::Option> RowsOf(FrontendFlags& flags);
std::vector<config::Option> RowsOf(EppFlags& flags);
std::vector<config::Option> RowsOf(RouterProcessFlags& flags);
std::vector<config::Option> RowsOf(PlannerFlags& flags);
std::vector<config::Option> RowsOf(ScaleFlags& flags);
std::vector<config::Option> RowsOf(ProfileFlags& flags);
std::vector<config::Option> RowsOf(ChatFlags& flags);
std::vector<config::Option> RowsOf(ReplayFlags& flags);
std::vector<config::Option> RowsOf(ConformanceFlags& flags);
std::vector<config::Option> RowsOf(BenchServeFlags& flags);
std::vector<config::Option> RowsOf(BenchEngineFlags& flags);
std::vector<config::Option> RowsOf(BenchFrontendFlags& flags);
std::vector<config::Option> RowsOf(BenchKvFlags& flags);
std::vector<config::Option> RowsOf(BenchDiffusionFlags& flags);
std::vector<config::Option> RowsOf(BenchMediaFlags& flags);
std::vector<config::Option> RowsOf(BenchVideosFlags& flags);
std::vector<config::Option> RowsOf(BenchTokenizerFlags& flags);
std::vector<config::Option> RowsOf(BenchRouterFlags& flags);
std::vector<config::Option> RowsOf(BenchClusterFlags& flags);
std::vector<config::Option> RowsOf(BenchTransferFlags& flags);
std::vector<config::Option> RowsOf(RouterFlags& flags);
std::vector<config::Option> RowsOf(RenderFlags& flags);
std::vector<config::Option> RowsOf(VideoFlags& flags);
/// Those of `pixii image`: a video's without what a picture has not. Sets the defaults of one.
std::vector<config::Option> PictureRowsOf(VideoFlags& flags);
std::vector<config::Option> RowsOf(SimulateFlags& flags);
std::vector<config::Option> RowsOf(TraceFlags& flags);

}  // namespace pixii::apps

#undef PX_BOOL
#undef PX_INT
#undef PX_SIZE
#undef PX_DURATION
#undef PX_REAL
#undef PX_TEXT
#undef PX_WORD
#undef PX_LIST
