//! Keywords that have no key in lyre.toml, block by block, and why. Those that have one are in [`super::map`].

use super::tree::Statement;
use crate::import::findings::Findings;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Ignored(&'static str),
    Refused(&'static str),
}

use Fate::{Ignored, Refused};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Block {
    Top,
    Global,
    Instance,
    Group,
    Script,
    VirtualServer,
    RealServer,
    Check,
    Url,
}

type Row = (&'static [&'static str], Fate);

/// Notes a statement that the mapper does not read itself. Its block goes with it.
pub(super) fn note(findings: &mut Findings, block: Block, statement: &Statement) {
    let (name, rows) = table(block);
    let row = rows.iter().find(|(keywords, _)| keywords.contains(&statement.name()));
    match row {
        Some((_, Ignored(why))) => findings.ignored(statement, *why),
        Some((_, Refused(why))) => findings.refused(statement, *why),
        None => findings.unknown(statement, name),
    }
}

fn table(block: Block) -> (&'static str, &'static [Row]) {
    match block {
        Block::Top => ("the top of the file", TOP),
        Block::Global => ("global_defs", GLOBAL),
        Block::Instance => ("vrrp_instance", INSTANCE),
        Block::Group => ("vrrp_sync_group", GROUP),
        Block::Script => ("vrrp_script", SCRIPT),
        Block::VirtualServer => ("virtual_server", VIRTUAL_SERVER),
        Block::RealServer => ("real_server", REAL_SERVER),
        Block::Check => ("a check", CHECK),
        Block::Url => ("url", URL),
    }
}

const HOOKS: &str = "there is no hook for that; notify.any is told of every change of state";
const MAIL: &str = "Lyre sends no mail; alert on its metrics or its log";
const STATIC: &str = "not Lyre's: configure it in the network configuration of the operating system";
const TRACKER: &str =
    "BFD is not in this version; adverts every 10 ms and a [[track]] of kind gateway find out as fast";
const SCHEDULING: &str = "Lyre's VRRP thread always runs with real-time priority and locked memory where it may";
const BUFFERS: &str = "Lyre sizes its sockets itself";
const HOUSEKEEPING: &str = "housekeeping of keepalived's own processes";
const OTHER_INTERFACE: &str = "Lyre announces its addresses on a schedule of its own, also later again";
const LVS: &str = "Lyre is a proxy and does not use the kernel's IPVS";
const SNMP: &str = "no SNMP and no D-Bus; read lyre metrics or lyre status --json";
const INCLUDE: &str = "keepalived does not follow an include behind a condition or out of a variable either";
const NAMESPACE: &str = "start lyre inside the network namespace instead, by NetworkNamespacePath= of its unit";

const TOP: &[Row] = &[
    (&["static_ipaddress", "static_routes", "static_rules", "track_group"], Refused(STATIC)),
    (&["garp_group"], Ignored(OTHER_INTERFACE)),
    (&["linkbeat_interfaces", "linkbeat_use_polling"], Ignored("the kernel's own link messages are used")),
    (&["interface_up_down_delays"], Refused("write up_delay and down_delay into a [[track]] of kind link")),
    (&["bfd_instance"], Refused(TRACKER)),
    (&["include", "includer", "includem", "includew", "includeb", "includea"], Refused(INCLUDE)),
    (&["net_namespace", "net_namespace_ipvs", "namespace_with_ipsets"], Refused(NAMESPACE)),
    (&["instance", "use_pid_dir", "child_wait_time"], Ignored(HOUSEKEEPING)),
    (&["SSL"], Refused("checks of servers by TLS are not in this version")),
];

const GLOBAL: &[Row] = &[
    (
        &[
            "notification_email",
            "notification_email_from",
            "smtp_server",
            "smtp_helo_name",
            "smtp_connect_timeout",
            "smtp_alert",
            "smtp_alert_vrrp",
            "smtp_alert_checker",
            "no_email_faults",
            "no_checker_emails",
        ],
        Ignored(MAIL),
    ),
    (
        &[
            "vrrp_garp_master_refresh_repeat",
            "vrrp_min_garp",
            "vrrp_garp_extra_if",
            "vrrp_vmac_garp_intvl",
            "vrrp_lower_prio_no_advert",
            "vrrp_higher_prio_send_advert",
            "vrrp_lower_prio_delay",
            "vrrp_lower_prio_repeat",
        ],
        Ignored(OTHER_INTERFACE),
    ),
    (
        &["vrrp_owner_ignore_adverts"],
        Refused("an owner hears adverts as everybody else does; give one node the lower priority"),
    ),
    (&["vrrp_check_unicast_src"], Ignored("always on")),
    (&["vrrp_skip_check_adv_addr"], Ignored("a differing address list is reported, and never stops the pair")),
    (
        &["vrrp_strict"],
        Ignored("Lyre follows RFC 9568, and never drops packets to its addresses as vrrp_strict makes keepalived do"),
    ),
    (&["vrrp_startup_delay", "vrrp_delay_after_boot"], Refused("write ExecStartPre=sleep 10 into lyre's unit instead")),
    (&["dynamic_interfaces"], Ignored("interfaces that come and go are always followed")),
    (
        &[
            "vrrp_iptables",
            "vrrp_ipsets",
            "nftables",
            "nftables_priority",
            "nftables_counters",
            "nftables_ifindex",
            "nftables_ipvs",
            "nftables_ipvs_priority",
            "nftables_ipvs_start_fwmark",
        ],
        Ignored("Lyre needs no packet filter rules"),
    ),
    (
        &["disable_local_igmp", "vmac_prefix", "vmac_addr_prefix"],
        Ignored("Lyre names its macvlans itself, and sends no group reports from them"),
    ),
    (
        &[
            "vrrp_priority",
            "vrrp_no_swap",
            "vrrp_rt_priority",
            "vrrp_rlimit_rttime",
            "vrrp_rlimit_rtime",
            "vrrp_cpu_affinity",
            "checker_priority",
            "checker_no_swap",
            "checker_rt_priority",
            "checker_rlimit_rttime",
            "checker_rlimit_rtime",
            "checker_cpu_affinity",
            "bfd_priority",
            "bfd_no_swap",
            "bfd_rt_priority",
            "bfd_rlimit_rttime",
            "bfd_rlimit_rtime",
            "bfd_cpu_affinity",
            "max_auto_priority",
            "min_auto_priority_delay",
        ],
        Ignored(SCHEDULING),
    ),
    (
        &[
            "vrrp_rx_bufs_policy",
            "vrrp_rx_bufs_multiplier",
            "vrrp_netlink_cmd_rcv_bufs",
            "vrrp_netlink_cmd_rcv_bufs_force",
            "vrrp_netlink_monitor_rcv_bufs",
            "vrrp_netlink_monitor_rcv_bufs_force",
            "lvs_netlink_cmd_rcv_bufs",
            "lvs_netlink_cmd_rcv_bufs_force",
            "lvs_netlink_monitor_rcv_bufs",
            "lvs_netlink_monitor_rcv_bufs_force",
            "process_monitor_rcv_bufs",
            "process_monitor_rcv_bufs_force",
        ],
        Ignored(BUFFERS),
    ),
    (&["log_unknown_vrids"], Ignored("adverts of other virtual routers are counted by reason")),
    (&["lvs_notify_fifo", "lvs_notify_fifo_script", "fifo_write_vrrp_states_on_reload"], Refused(HOOKS)),
    (
        &["script_user", "enable_script_security", "use_symlink_paths", "set_supplementary_groups"],
        Ignored("scripts run without privileges by default; see track.user and notify.user"),
    ),
    (
        &["startup_script", "shutdown_script", "startup_script_timeout", "shutdown_script_timeout"],
        Refused("write ExecStartPre= and ExecStopPost= into lyre's unit instead"),
    ),
    (
        &[
            "enable_snmp_keepalived",
            "enable_snmp_vrrp",
            "enable_snmp_rfc",
            "enable_snmp_rfcv2",
            "enable_snmp_rfcv3",
            "enable_snmp_checker",
            "enable_traps",
            "snmp_socket",
            "snmp_vs_stats_update_interval",
            "snmp_rs_stats_update_interval",
            "enable_dbus",
            "dbus_service_name",
            "dbus_no_interface_name",
        ],
        Ignored(SNMP),
    ),
    (
        &[
            "process_names",
            "process_name",
            "vrrp_process_name",
            "checker_process_name",
            "lvs_process_name",
            "bfd_process_name",
            "parent_process_name",
            "child_wait_time",
            "umask",
            "random_seed",
            "config_save_dir",
            "tmp_config_directory",
            "data_use_instance",
            "json_version",
            "state_dump_file",
            "stats_dump_file",
            "json_dump_file",
            "include_check",
            "iproute_usr_dir",
            "iproute_etc_dir",
            "instance",
            "use_pid_dir",
            "lvs_flush_onstop",
        ],
        Ignored(HOUSEKEEPING),
    ),
    (&["net_namespace", "net_namespace_ipvs", "namespace_with_ipsets"], Refused(NAMESPACE)),
    (
        &["reload_check_config", "reload_time_file", "reload_repeat", "reload_file"],
        Ignored("lyre reload always takes all of a valid file or nothing"),
    ),
    (
        &[
            "lvs_sync_daemon",
            "lvs_flush",
            "lvs_flush_on_stop",
            "lvs_timeouts",
            "rs_init_notifies",
            "checker_log_all_failures",
        ],
        Ignored(LVS),
    ),
    (&["linkbeat_use_polling"], Ignored("the kernel's own link messages are used")),
];

const INSTANCE: &[Row] = &[
    (&["no_virtual_ipaddress"], Refused("a virtual router without addresses has no part in Lyre")),
    (
        &["virtual_routes", "virtual_rules"],
        Refused("routes and rules that move with the address are not in this version; configure them on both nodes"),
    ),
    (&["check_unicast_src", "unicast_fault_no_peer", "track_src_ip"], Ignored("always on")),
    (&["unicast_ttl"], Ignored("adverts leave with 255, the most that there is")),
    (&["old_unicast_checksum"], Refused("only keepalived before 1.3.7 needs it; change both nodes at the same time")),
    (&["mcast_dst_ip"], Refused("Lyre sends to the group of RFC 9568; both nodes must be Lyre")),
    (&["track_bfd"], Refused(TRACKER)),
    (&["dont_track_primary"], Refused("Lyre always tracks the interface of its addresses")),
    (&["linkbeat_use_polling"], Ignored("the kernel's own link messages are used")),
    (
        &["use_vmac_addr"],
        Refused(
            "a virtual MAC for some of the addresses is not in this version; use virtual_mac for all of the [[vip]]",
        ),
    ),
    (&["use_ipvlan"], Refused("Lyre puts its addresses on the interface itself; remove ipvlan from the design")),
    (&["vrf"], Refused("VRFs are not in this version")),
    (&["native_ipv6", "debug", "kernel_rx_buf_size"], Ignored("has no effect that Lyre needs")),
    (&["garp_master_refresh_repeat", "garp_extra_if", "vmac_garp_intvl"], Ignored(OTHER_INTERFACE)),
    (
        &["lower_prio_no_advert", "higher_prio_send_advert"],
        Ignored("Lyre answers a losing advert at once and is silent to a winning one, as RFC 9568 has it"),
    ),
    (
        &["timer_expired_backup", "thread_timer_expired"],
        Ignored("always so: the kernel removes the addresses of a node that stalls"),
    ),
    (
        &["owner_ignore_adverts"],
        Refused("an owner hears adverts as everybody else does; give one node the lower priority"),
    ),
    (&["accept"], Ignored("always so: the proxy accepts what is sent to its addresses")),
    (
        &["no_accept"],
        Refused("Lyre answers on its addresses, it is the proxy behind them; filter with nftables what must not pass"),
    ),
    (&["skip_check_adv_addr"], Ignored("a differing address list is reported, and never stops the pair")),
    (&["strict_mode"], Ignored("Lyre follows RFC 9568")),
    (&["promote_secondaries"], Ignored("Lyre adds and removes each of its addresses by itself")),
    (&["smtp_alert"], Ignored(MAIL)),
    (&["lvs_sync_daemon_interface", "lvs_sync_daemon_inteface"], Refused(LVS)),
];

const GROUP: &[Row] = &[
    (&["track_bfd"], Refused(TRACKER)),
    (
        &["notify_deleted"],
        Ignored("keepalived tells nothing of a sync group that is removed; write it into the instances"),
    ),
    (&["smtp_alert"], Ignored(MAIL)),
    (&["global_tracking", "sync_group_tracking_weight"], Ignored("weights of members count, and members must agree")),
];

const SCRIPT: &[Row] = &[(&["init_fail"], Ignored("always so: bad until its first result"))];

const VIRTUAL_SERVER: &[Row] = &[
    (
        &["persistence_engine", "persistence_granularity", "persistence_timeout"],
        Refused("stickiness is not in this version; Nextcloud needs none, its sessions are in Redis or the database"),
    ),
    (&["quorum_up", "quorum_down", "notify_up", "notify_down"], Refused(HOOKS)),
    (
        &["quorum", "hysteresis"],
        Refused("a smallest number of servers is not in this version; one that works is enough"),
    ),
    (
        &["sorry_server", "sorry_server_inhibit", "sorry_server_lvs_method"],
        Refused("Lyre answers 503 with a page of its own when no server works"),
    ),
    (&["alpha"], Ignored("a server gets requests once its first checks passed")),
    (&["omega", "inhibit_on_failure"], Ignored("requests that run are finished, new ones go to the other servers")),
    (&["ha_suspend"], Ignored("both nodes check always, so that the Backup knows the servers when it takes over")),
    (
        &[
            "ops",
            "lvs_flush",
            "syn_proxy",
            "hashed",
            "flag-1",
            "flag-2",
            "flag-3",
            "sh-port",
            "sh-fallback",
            "mh-port",
            "mh-fallback",
        ],
        Ignored(LVS),
    ),
    (&["log_all_failures", "smtp_alert", "retry_before_alert", "quorum_alert"], Ignored(MAIL)),
    (&["warmup", "delay_before_retry"], Ignored("checks are spread over the interval")),
    (&["ip_family"], Ignored("the addresses say it")),
    (&["weight"], Ignored("all servers have the same weight; the one with fewer requests is taken")),
    (&["snmp_name"], Ignored(SNMP)),
    (
        &["connect_ip", "connect_port", "bindto", "bind_if", "bind_port", "fwmark"],
        Refused("checks go to the server itself, from the node's own address"),
    ),
];

const REAL_SERVER: &[Row] = &[
    (
        &["uthreshold", "lthreshold"],
        Refused("write max_requests_per_server into the pool, it counts requests, not connections"),
    ),
    (&["notify_up", "notify_down"], Refused(HOOKS)),
    (&["inhibit_on_failure"], Ignored("requests that run are finished, new ones go to the other servers")),
    (&["alpha"], Ignored("a server gets requests once its first checks passed")),
    (&["smtp_alert", "log_all_failures"], Ignored(MAIL)),
    (&["lvs_method", "lb_kind"], Refused("a proxy cannot let the server answer the client by itself")),
    (&["virtualhost"], Refused("write check.host into the pool if the check needs another one")),
    (&["warmup", "delay_before_retry"], Ignored("checks are spread over the interval")),
    (&["snmp_name"], Ignored(SNMP)),
];

const CHECK: &[Row] = &[
    (&["delay_before_retry", "warmup"], Ignored("checks are spread over the interval")),
    (
        &["connect_ip", "connect_port", "bindto", "bind_to", "bind_if", "bind_port", "fwmark", "host"],
        Refused("checks go to the server itself, from the node's own address"),
    ),
    (&["log_all_failures", "alpha", "smtp_alert"], Ignored("has no part in Lyre's checks")),
    (&["http_protocol", "fast_recovery"], Ignored("HTTP/1.1 is used")),
    (&["enable_sni", "sni_name", "tls_compliant"], Refused("checks of servers by TLS are not in this version")),
];

const URL: &[Row] = &[
    (&["digest"], Refused("no digest of the body is compared; check a path that answers 200 only when all is well")),
    (
        &["regex", "regex_no_match", "regex_min_offset", "regex_max_offset", "regex_options", "regex_stack"],
        Refused("the body is not looked at in this version"),
    ),
    (&["tls_compliant"], Ignored("has no part in Lyre's checks")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_keyword_has_two_fates() {
        use Block::*;
        for block in [Top, Global, Instance, Group, Script, VirtualServer, RealServer, Check, Url] {
            let (name, rows) = table(block);
            let mut all: Vec<&str> = rows.iter().flat_map(|(keywords, _)| keywords.iter().copied()).collect();
            let count = all.len();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), count, "{name}");
        }
    }
}
