"""What GPUs do and how they feel: most of it only NVIDIA's DCGM exporter can tell."""

from __future__ import annotations

from inferry.render.grafana.panels import Panel, Query, View, dashboard


def gpu_dashboard() -> Panel:
    """Only of use where engines have GPUs."""
    name = "{{Hostname}} {{gpu}}"
    return dashboard(
        "inferry-gpus",
        "Inferry: GPUs",
        "From NVIDIA's DCGM exporter, and what engines say of their own GPUs.",
        (
            View("Busy", [Query("DCGM_FI_DEV_GPU_UTIL / 100", name)], "percentunit", most=1),
            View(
                "Memory used",
                [Query("DCGM_FI_DEV_FB_USED / (DCGM_FI_DEV_FB_USED + DCGM_FI_DEV_FB_FREE)", name)],
                "percentunit",
                most=1,
            ),
            View("Temperature", [Query("DCGM_FI_DEV_GPU_TEMP", name)], "celsius", bad_above=87),
            View("Power", [Query("DCGM_FI_DEV_POWER_USAGE", name)], "watt"),
            View(
                "Uncorrectable memory errors",
                [Query("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", name)],
                bad_above=1,
            ),
            View("Last XID error", [Query("DCGM_FI_DEV_XID_ERRORS", name)], bad_above=1),
            View(
                "Rows that can't be replaced",
                [Query("DCGM_FI_DEV_ROW_REMAP_FAILURE", name)],
                bad_above=1,
                width=12,
            ),
            View(
                "Busy, as engines' gateways see it",
                [Query("max by (deployment, replica) (inferry_engine_gpu_use)", "{{replica}}")],
                "percentunit",
                most=1,
                width=12,
            ),
        ),
    )
