#!/usr/bin/env python3
"""Writes the dashboards beside this file from the one table below; --check compares instead."""
import json
import pathlib
import sys

FOLDER = pathlib.Path(__file__).resolve().parent
RATE = "[$__rate_interval]"


def rate(name, by="", **labels):
    return f"sum{by_(by)}(rate({name}{where(labels)}{RATE}))"


def quantile(name, q, by=""):
    return f"histogram_quantile({q}, sum by ({', '.join(filter(None, ['le', by]))}) (rate({name}_bucket{RATE})))"


def mean(name, by=""):
    return f"sum{by_(by)}(rate({name}_sum{RATE})) / sum{by_(by)}(rate({name}_count{RATE}))"


def by_(by):
    return f" by ({by}) " if by else ""


def where(labels):
    return "{" + ", ".join(f'{key}{value}' if value[0] in "=!" else f'{key}="{value}"' for key, value in labels.items()) + "}" if labels else ""


def latency(name):
    return [(quantile(name, q), f"p{round(q * 100)}") for q in (0.5, 0.9, 0.99)]


F, C, T = "dynamo_frontend_", "dynamo_component_", "trtllm_"
# Dashboard -> panels: title, unit, [(query, legend)], what it tells.
DASHBOARDS = {
    "overview": ("Pixii: overview", [
        ("Requests ended", "reqps", [(rate(F + "requests_total", "status"), "{{status}}")], "By how they ended; error_type has why."),
        ("Errors by kind", "reqps", [(rate(F + "requests_total", "error_type"), "{{error_type}}")], "An empty kind is success."),
        ("Tokens to clients", "short", [(rate(F + "output_tokens_total", "model"), "{{model}}")], "Tokens a second."),
        ("Time to first token", "s", latency(F + "time_to_first_token_seconds"), "From the whole request."),
        ("Between tokens", "s", latency(F + "inter_token_latency_seconds"), ""),
        ("Request duration", "s", latency(F + "request_duration_seconds"), ""),
        ("Requests now", "short", [(f"sum by (model) ({F}active_requests)", "{{model}}")], "Received and not ended."),
        ("Stages", "s", [(quantile(F + "stage_duration_seconds", 0.9, "stage"), "{{stage}}")], "p90 of each stage of a request."),
        ("Prompt and output tokens", "short", [(mean(F + "input_sequence_tokens"), "prompt"), (mean(F + "output_sequence_tokens"), "output")], "Means."),
        ("Refused", "reqps", [(rate(F + "admission_rejection_total", "gate"), "{{gate}}"), (rate(F + "model_rejection_total"), "full")], ""),
        ("Engine batch and queue", "short", [("sum by (instance) (pixii_engine_running)", "runs at {{instance}}"), ("sum by (instance) (pixii_engine_waiting)", "waits at {{instance}}")], ""),
        ("Main loop lateness", "s", latency(F + "event_loop_delay_seconds"), "Tens of milliseconds: the frontend lacks a core."),
        ("Error events", "short", [("sum by (instance) (increase(pixii_error_events_total[10m]))", "{{instance}}")], "Each is a bug or lost data."),
    ]),
    "router": ("Pixii: router", [
        ("Decisions", "reqps", [(rate(C + "router_requests_started_total", "instance"), "{{instance}}")], ""),
        ("A decision takes", "ms", latency("dynamo_router_overhead_total_ms"), ""),
        ("Parts of a decision", "ms", [(mean(f"dynamo_router_overhead_{part}_ms"), part) for part in ("block_hashing", "indexer_find_matches", "scheduling")], "Means."),
        ("Hit rate the router expects", "percentunit", [(mean(C + "router_kv_hit_rate"), "mean")], "Share of a prompt at the chosen rank."),
        ("Hit rate the clients got", "percentunit", [(mean(F + "kv_hit_rate"), "mean")], "Far below the other: events come late or are lost."),
        ("KV events applied", "short", [(rate(C + "kv_cache_events_applied", "status, event_type"), "{{event_type}} {{status}}")], ""),
        ("Index", "short", [("sum by (instance) (pixii_router_index_blocks)", "{{instance}}")], "KV blocks that the router knows of."),
        ("Waiting", "short", [(f"sum by (policy_class) ({F}router_queue_pending_requests)", "{{policy_class}}")], ""),
        ("Workers", "short", [(f"sum by (state, reason) ({F}router_worker_state)", "{{state}} {{reason}}")], ""),
        ("Load of ranks", "short", [(f"max by (worker_id, dp_rank) ({F}worker_active_decode_blocks)", "{{worker_id}}/{{dp_rank}}")], "KV blocks of what frontends sent."),
        ("Last time to first token", "s", [(f"max by (worker_id, dp_rank) ({F}worker_last_time_to_first_token_seconds)", "{{worker_id}}/{{dp_rank}}")], ""),
        ("To the worker and back", "s", latency("dynamo_request_plane_roundtrip_ttft_seconds"), "From sent to the first token."),
        ("Moved to other workers", "reqps", [(rate(F + "model_migration_total", "migration_type"), "{{migration_type}}")], ""),
    ]),
    "kv": ("Pixii: KV cache", [
        ("Blocks in use", "percentunit", [(f"max by (instance) ({T}kv_cache_utilization)", "{{instance}}")], ""),
        ("Blocks", "short", [(f"sum(pixii_engine_blocks_{kind})", kind) for kind in ("pinned", "cached", "free")], ""),
        ("Prompt tokens found", "percentunit", [(f"sum by (instance) (rate({T}prompt_cached_tokens_total{RATE})) / sum by (instance) (rate({T}prompt_tokens_total{RATE}))", "{{instance}}")], ""),
        ("Reused and computed blocks", "short", [(rate(T + "kv_cache_reused_blocks_total"), "reused"), (rate(T + "kv_cache_missed_blocks_total"), "computed")], ""),
        ("Evictions", "short", [(rate("pixii_kv_evictions_total", "instance"), "{{instance}}")], ""),
        ("Preemptions", "short", [(rate("pixii_engine_preemptions_total", "instance"), "{{instance}}")], "Sequences put back because blocks ran out."),
        ("Host tier", "short", [("sum by (tier) (pixii_kv_tier_blocks)", "{{tier}}")], "Blocks of slower tiers."),
        ("To slower tiers", "short", [(rate("kvbm_offload_blocks_d2h"), "host"), (rate("kvbm_offload_blocks_h2d"), "disk")], "Blocks a second."),
        ("From slower tiers", "short", [(rate("kvbm_onboard_blocks_h2d"), "host"), (rate("kvbm_onboard_blocks_d2d"), "disk")], ""),
        ("Hit rate of the host tier", "percentunit", [("max by (instance) (kvbm_host_cache_hit_rate)", "{{instance}}")], ""),
        ("Dropped for what they were", "short", [("sum by (tier, reason) (increase(pixii_kv_integrity_failures_total[10m]))", "{{tier}} {{reason}}")], "Blocks that failed a check: computed again."),
    ]),
    "planner": ("Pixii: planner", [
        ("Workers", "short", [("max by (pool, count) (pixii_planner_workers)", "{{pool}} {{count}}")], "wanted by the load, decided, asked for at the connector, ready in discovery. asked above ready for long: they do not start."),
        ("Within both goals", "percentunit", [("min(pixii_planner_kept)", "kept"), ('max by (pool) (pixii_planner_attainment{fleet="decided"})', "expected, {{pool}}")], "Of the requests that ended since the last look, and what the model promised."),
        ("One worker fewer or more", "percentunit", [("max by (pool, fleet) (pixii_planner_attainment)", "{{pool}} {{fleet}}")], "Expected share within both goals: why it is not one fewer."),
        ("Requests a second", "reqps", [("max by (kind) (pixii_planner_requests_per_second)", "{{kind}}")], "Forecast: for when a worker that starts now is there."),
        ("Tokens of a request", "short", [("max by (kind) (pixii_planner_request_tokens)", "{{kind}}")], "Means that are forecast; input without what is cached."),
        ("First token", "ms", [('max(pixii_planner_seen_ms{kind="ttft"})', "seen"), ("max by (pool) (dynamo_planner_estimated_ttft_ms)", "expected, {{pool}}")], "Means."),
        ("Between tokens", "ms", [('max(pixii_planner_seen_ms{kind="itl"})', "seen"), ("max by (pool) (dynamo_planner_estimated_itl_ms)", "expected, {{pool}}")], "Means."),
        ("Waiting at workers", "short", [("max(pixii_planner_waiting_requests)", "requests")], ""),
        ("Decisions", "short", [("sum by (pool, direction) (increase(pixii_planner_decisions_total[10m]))", "{{pool}} {{direction}}")], "In ten minutes: one turn at most."),
        ("Changes asked for", "short", [("sum by (outcome) (increase(pixii_planner_scale_total[10m]))", "{{outcome}}")], ""),
        ("Status", "short", [("max by (status) (pixii_planner_status)", "{{status}}")], "stale: nothing is decided. infeasible: no fleet keeps the goal."),
        ("Frontends", "short", [("max by (state) (pixii_planner_frontends)", "{{state}}")], "silent: what it had counts as going on."),
        ("Correction", "short", [("max(pixii_planner_correction)", "factor on the rate")], "Above 1 the model promises too much."),
    ]),
    "transfers": ("Pixii: KV transfers", [
        ("Hand-overs", "reqps", [(rate("pixii_handover_ends_total", "side, state"), "{{side}} {{state}}")], ""),
        ("Where prompts were computed", "reqps", [(rate("pixii_disaggregation_total", "path"), "{{path}}")], ""),
        ("A transfer takes", "s", latency(T + "kv_transfer_latency_seconds"), ""),
        ("Bytes of a transfer", "bytes", [(mean(T + "kv_transfer_bytes"), "mean")], ""),
        ("Speed", "short", [(quantile(T + "kv_transfer_speed_gb_s", 0.5), "p50 GB/s")], ""),
        ("Failures", "reqps", [(rate(T + "kv_transfer_failure_total", "reason"), "{{reason}}")], ""),
        ("On their way", "short", [(f"sum by (instance) ({T}kv_transfer_inflight)", "{{instance}}")], ""),
        ("Blocks kept for others", "short", [(f'sum by (instance) ({T}kv_blocks_pinned{{reason="transfer"}})', "{{instance}}")], ""),
        ("Bytes by transport", "Bps", [(rate("pixii_transfer_bytes_total", "transport, operation"), "{{transport}} {{operation}}")], ""),
        ("Transports that had to be given up", "short", [(rate("pixii_transfer_fallbacks_total", "transport"), "{{transport}}")], ""),
        ("Strangers", "short", [(rate("pixii_transfer_strangers_refused_total", "instance"), "{{instance}}")], "Connections without the cluster key."),
    ]),
}


def panel(number, title, unit, queries, tells):
    return {
        "id": number + 1, "type": "timeseries", "title": title, "description": tells,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": {"h": 8, "w": 8, "x": 8 * (number % 3), "y": 8 * (number // 3)},
        "fieldConfig": {"defaults": {"unit": unit, "custom": {"fillOpacity": 8, "showPoints": "never"}, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [{"refId": chr(ord("A") + i), "expr": expr, "legendFormat": legend} for i, (expr, legend) in enumerate(queries)],
    }


def dashboard(name, title, panels):
    return {
        "uid": f"pixii-{name}", "title": title, "tags": ["pixii"], "schemaVersion": 39, "version": 1, "editable": True,
        "refresh": "10s", "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}]},
        "links": [{"type": "dashboards", "tags": ["pixii"], "title": "Pixii", "asDropdown": True}],
        "panels": [panel(number, *one) for number, one in enumerate(panels)],
    }


def main():
    stale = []
    for name, (title, panels) in DASHBOARDS.items():
        path, text = FOLDER / f"{name}.json", json.dumps(dashboard(name, title, panels), indent=1) + "\n"
        if "--check" not in sys.argv:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(path.name)
    if stale:
        sys.exit(f"not what make.py writes: {', '.join(stale)}; run deploy/grafana/make.py")


if __name__ == "__main__":
    main()
