//! Checks of this host: privileges, clock, interface, who else configures it.

use super::{Finding, Level, found, ok};
use crate::control::doctor::facts::{Manager, Peer, Privileges, Router, Ticks};

pub(super) const HOST: &str = "host";

/// Stolen time in percent that makes adverts late now and then, and that makes short intervals impossible.
const STOLEN_ODD: u64 = 1;
const STOLEN_BAD: u64 = 10;

pub(super) fn privileges(has: &Privileges) -> Finding {
    let check = "privileges";
    let missing: Vec<&str> = [
        (has.may_open_raw_sockets, "CAP_NET_RAW (to send and receive adverts)"),
        (has.may_change_addresses, "CAP_NET_ADMIN (to add and remove addresses)"),
    ]
    .iter()
    .filter(|(has, _)| !has)
    .map(|(_, what)| *what)
    .collect();
    if missing.is_empty() {
        return ok(check, HOST, "raw sockets and addresses are allowed");
    }
    let remedy =
        "run the doctor as root or with the service's capabilities; give the service those in docs/operations.md";
    found(Level::Fail, check, HOST, format!("this process lacks {}", missing.join(" and ")), remedy)
}

pub(super) fn realtime(has: &Privileges) -> Finding {
    let check = "realtime";
    let lacks = match (has.realtime_runtime_us, has.may_be_realtime, has.may_lock_memory) {
        (Some(0), ..) => ("kernel.sched_rt_runtime_us is 0, which forbids real-time threads", "set it to 950000"),
        (_, false, _) => ("real-time scheduling is refused", "give the service CAP_SYS_NICE (LimitRTPRIO=50)"),
        (_, _, false) => ("memory cannot be locked", "give the service CAP_IPC_LOCK (LimitMEMLOCK=infinity)"),
        _ => return ok(check, HOST, "the VRRP thread can be real-time and stay in memory"),
    };
    found(Level::Warn, check, HOST, format!("{}; adverts may be late on a busy machine", lacks.0), lacks.1)
}

pub(super) fn stolen_time(ticks: Option<Ticks>) -> Finding {
    let check = "clock";
    let Some(Ticks { all, stolen }) = ticks.filter(|ticks| ticks.all > 0) else {
        return found(Level::Warn, check, HOST, "/proc/stat tells nothing about stolen time", "look at the hypervisor");
    };
    let percent = stolen * 100 / all;
    let message = format!("the hypervisor took {percent} % of this machine's time");
    let remedy = "reserve CPU for this machine at the hypervisor, or set advert_interval to 1s";
    match percent {
        STOLEN_BAD.. => found(Level::Fail, check, HOST, message, remedy),
        STOLEN_ODD.. => found(Level::Warn, check, HOST, message, remedy),
        _ => ok(check, HOST, message),
    }
}

pub(super) fn peer(peer: &Peer) -> Finding {
    let subject = format!("node {}", peer.name);
    if peer.answers {
        return ok("peer", &subject, format!("{} answers", peer.address));
    }
    let message = format!("{} does not answer", peer.address);
    found(Level::Warn, "peer", &subject, message, "is it switched on, cabled, and its address in cluster.nodes right?")
}

pub(super) fn link(router: &Router) -> Finding {
    let (check, name, interface) = ("link", router.name.as_str(), &router.interface);
    let fail = |message: String, remedy: String| found(Level::Fail, check, name, message, remedy);
    let Some(link) = &router.link else {
        let message = format!("there is no interface {interface}");
        return fail(message, format!("correct vip.interface of {name}"));
    };
    if !link.is_up {
        return fail(format!("{interface} is down"), format!("ip link set {interface} up"));
    }
    if !link.has_carrier {
        return fail(format!("{interface} has no carrier"), "look at the cable and the switch port".to_owned());
    }
    match (link.sources.first(), router.is_v4) {
        (Some(source), _) => ok(check, name, format!("{interface} is up, adverts come from {source}")),
        (None, true) => {
            let message = format!("{interface} has no IPv4 address of its own, so adverts have no source");
            fail(message, "give it one beside the virtual address".to_owned())
        }
        (None, false) => {
            let message = format!("{interface} has no usable link-local address, so adverts have no source");
            fail(message, format!("set net.ipv6.conf.{interface}.addr_gen_mode to 0 or add an fe80:: address"))
        }
    }
}

pub(super) fn manager(router: &Router) -> Finding {
    let (check, name, interface) = ("manager", router.name.as_str(), &router.interface);
    let Some(manager) = router.link.as_ref().and_then(|link| link.manager) else {
        return ok(check, name, format!("no network service manages {interface}"));
    };
    let (who, remedy) = match manager {
        Manager::Networkd => ("systemd-networkd", "set KeepConfiguration=yes in the .network file, or Unmanaged=yes"),
        Manager::NetworkManager => {
            ("NetworkManager", "add unmanaged-devices=interface-name:… to NetworkManager.conf, or a static profile")
        }
    };
    // Many live with both for years; it is wrong only when addresses really vanish.
    let level = if router.removals > 0 { Level::Fail } else { Level::Warn };
    found(level, check, name, format!("{who} manages {interface} and may remove the virtual addresses"), remedy)
}
