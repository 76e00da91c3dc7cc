//! Per-core counters, tracing set-up, the access-log line. No locks shared by cores.
